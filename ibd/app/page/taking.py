"""Taking a result along, as the page asks for it: pictures, JSON, CSV, and the lines that do the same."""

from __future__ import annotations

from typing import Any

import torch
from starlette.responses import Response
from starlette.routing import Route

from ibd.app.page.answers import Asked, get, post
from ibd.app.page.explaining import on_scale
from ibd.app.page.explanations import maps_of, scale_of
from ibd.app.page.intervening import corrected
from ibd.app.page.maps import gray, unit_look
from ibd.app.page.oracle import served_module
from ibd.app.page.results import figure_png, file_of, map_png, survives_png
from ibd.app.page.site import Entry, Served, Site, as_png
from ibd.app.records import as_csv, as_record, named_rows
from ibd.errors import CheckpointError, ConfigError, DataError
from ibd.io import find_checkpoint
from ibd.models.prediction import Prediction
from ibd.models.protopnet.network import PrototypeNetwork


def routes(site: Site) -> list[Route]:
    """Return the routes of what is taken along."""
    return [
        post(site, "/api/runs/{run}/result", _result),
        post(site, "/api/runs/{run}/summary", _summary),
        post(site, "/api/runs/{run}/map", _map),
        get(site, "/api/runs/{run}/file", _file),
    ]


def _result(asked: Asked) -> dict[str, Any]:
    """Return a result as JSON, as CSV, and as the lines that do the same, with what must be known of their image."""
    run, entry = asked.run, asked.image()
    edits, after = _corrected(asked, entry)
    file, note = file_in_lines(run, entry)
    if run.was_replaced():
        note += (
            f" The lines no longer give what is shown: '{run.checkpoint}' is gone or was trained on since it is served."
        )
    record = as_record(entry.prediction, after, entry.title, edits, run_in_lines(run), file)
    return {
        "record": record,
        "csv": as_csv(entry.prediction, after, entry.title),
        "shell": record["shell"],
        "python": record["python"],
        "note": note.strip(),
        "name": _plain_name(entry),
    }


def run_in_lines(run: Served) -> str:
    """Return what RUN of the lines is: the folder, or the checkpoint where another one of the folder is served."""
    try:
        own = find_checkpoint(run.folder).absolute() == run.checkpoint
    except CheckpointError:  # it was deleted
        own = False
    return str(run.folder if own else run.checkpoint)


def file_in_lines(run: Served, entry: Entry) -> tuple[str, str]:
    """Return which file of an image stands in the lines that do the same, and a note on it."""
    if entry.sample is None:
        return (
            entry.title,
            f"The lines read '{entry.title}' from the folder that they run in: the file that was brought.",
        )
    split, _, number = entry.name.partition(":")
    if (path := file_of(run.dataset(split), int(number))) is not None:
        return str(path), ""
    name = f"{split}_{number}.png"
    said = f"The image is of no file: save it as {name} into the folder that the lines run in."
    exact = survives_png(entry.image)
    return name, said if exact else f"{said} Its colors are rounded there, so logits may differ in the last digits."


def _corrected(asked: Asked, entry: Entry) -> tuple[dict[str, Any], Prediction | None]:
    """Return the corrections that were made, and the prediction with them; None without."""
    edits = asked.given.get("edits") or {}
    if not edits:
        return {}, None
    with asked.run.lock:
        after = corrected(entry.prediction, edits)
    return dict(edits), after


def _summary(asked: Asked) -> Response:
    """Return the picture that ``ibd intervene --figure`` draws: the prediction before and after."""
    from ibd.app.pictures import figure_of

    run, entry = asked.run, asked.image()
    _, after = _corrected(asked, entry)
    rows = named_rows(entry.prediction, after, entry.title)
    with run.lock:
        model = run.model
        if isinstance(run.network, PrototypeNetwork):  # their picture shows where they are from
            model = served_module(run)
        figure = figure_of(str(run.folder), model, rows, torch.cat([entry.image] * len(rows)))
    return Response(figure_png(figure), media_type="image/png")


def _map(asked: Asked) -> Response:
    """Return the image with the map that the page shows: of ``unit``, or of ``explainer`` for ``target``."""
    run, entry = asked.run, asked.image()
    opacity = asked.number("opacity", 0.75, least=0.0, most=1.0)
    if asked.given.get("unit") is not None:
        unit = run.network.unit_index(asked.count("unit"))
        with run.lock:
            look = unit_look(run.model, entry.prediction, entry.image, unit)
        layer, box = look.picture, look.box
    else:
        name, shown = asked.text("explainer"), asked.given.get("names", [])
        if not isinstance(shown, list):
            raise ConfigError("'names': a list of explainers is needed")
        maps = maps_of(run, entry.name, asked.text("target"), [str(each) for each in (*shown, name)])
        if name not in maps:
            raise DataError(f"the map of '{name}' is not there any more: ask for it again")
        layer = on_scale(entry.image[0].cpu(), maps, scale_of(asked))[name]
        box = None
    return Response(map_png(gray(entry.image[0]), layer, opacity, box), media_type="image/png")


def _file(asked: Asked) -> Response:
    """Return the image as the network is fed with it, as a file to be saved."""
    entry = asked.image()
    name = f"{_plain_name(entry)}.png"
    headers = {"content-disposition": f'attachment; filename="{name}"'}
    return Response(as_png(entry.image[0]), media_type="image/png", headers=headers)


def _plain_name(entry: Entry) -> str:
    """Return the name of a file for what is saved of an image, without folders, ending or what a name cannot hold."""
    if entry.sample is not None:
        return entry.name.replace(":", "_")
    stem = entry.title.rpartition(".")[0] or entry.title
    kept = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "_" for letter in stem)
    return kept.strip("_")[:80] or "image"
