"""What a closer look at one image asks of the server: choosing it, maps of units, and what units look like."""

from __future__ import annotations

import base64
import time
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from ibd.app.page import explanations, other_answers, taking
from ibd.app.page.answers import Asked, get
from ibd.app.page.examples import UnitExample, unit_examples
from ibd.app.page.long_work import Told
from ibd.app.page.looking import under_way
from ibd.app.page.maps import as_address, gray, in_shares, png, unit_look
from ibd.app.page.results import lay_over
from ibd.app.page.site import SPLIT_WORDS, Entry, Served, Site, as_png, split_named
from ibd.app.page.split_answers import Answers
from ibd.data.base import Split

_STRENGTH = 0.75
"""Of the maps of examples, as everywhere in the library."""


def routes(site: Site) -> list[Route]:
    """Return the routes of this mode."""
    return [
        get(site, "/api/runs/{run}/images", _images),
        get(site, "/api/runs/{run}/gray", _gray),
        get(site, "/api/runs/{run}/unit", _unit),
        get(site, "/api/runs/{run}/examples", _examples),
        *explanations.routes(site),
        *other_answers.routes(site),
        *taking.routes(site),
    ]


def read_split(run: Served, split: Split) -> Answers | dict[str, Any]:
    """Return what the model says of a split, or how far its reading is, which is begun if nobody has.

    Raises:
        DataError: it failed; the next who asks begins anew.
    """
    answers = run.answers
    if (ready := answers.ready(split)) is not None:
        return ready

    def read(told: Told) -> Answers:
        started = time.perf_counter()
        found = answers.get(split, told)
        run.looked.seconds[split] = time.perf_counter() - started
        return found

    work = under_way(run.works, f"answers {split}", read, f"reading the {SPLIT_WORDS[split]} images")
    return work.state() if work.result is None else work.result


def split_of(asked: Asked) -> Split:
    """Return the split that is asked for.

    Raises:
        NotFoundError: there is none of this name.
    """
    return split_named(asked.text("split", "test"))


def unit_of(asked: Asked) -> int:
    """Return the number of the unit that is asked for.

    Raises:
        ConfigError: there is none.
    """
    return asked.run.network.unit_index(asked.count("unit"))


def _images(asked: Asked) -> dict[str, Any]:
    """Return images of a split, the wrong and unsure ones first; ``read=0`` only says how many there are."""
    run, split = asked.run, split_of(asked)
    dataset = run.dataset(split)
    if not asked.count("read", 1) and run.answers.ready(split) is None:
        return {"ready": False, "of": len(dataset), "work": None}
    found = read_split(run, split)
    if not isinstance(found, Answers):
        return {"ready": False, "of": len(dataset), "work": found}
    wrong = found.wrong.tolist()
    order = [row for row in found.order() if wrong[row] or asked.text("only", "all") != "wrong"]
    start, count = asked.count("start", 0), asked.count("count", 24, least=1, most=200)
    return {
        "ready": True,
        "of": found.of,
        "read": len(found),
        "wrong": sum(wrong),
        "seconds": run.looked.seconds.get(split),
        "total": len(order),
        "rows": [_described(run, found, row) for row in order[start : start + count]],
    }


def _described(run: Served, found: Answers, row: int) -> dict[str, Any]:
    names, predicted = run.network.class_names, int(found.predicted[row])
    return {
        "image": f"{found.split}:{int(found.index[row])}",
        "title": found.names[row],
        "truth": names[int(found.read.labels[row])],
        "predicted": names[predicted],
        "confidence": float(found.probabilities[row, predicted]),
        "wrong": bool(found.wrong[row]),
        "abstains": bool(found.abstains[row]),
    }


def _gray(asked: Asked) -> Response:
    """Return what lies under the maps of an image."""
    return Response(png(gray(asked.image().image[0])), media_type="image/png")


def _unit(asked: Asked) -> dict[str, Any]:
    """Return where a unit was seen in an image, by the model's own map: as the model saw it, without corrections."""
    entry, run, unit = asked.image(), asked.run, unit_of(asked)
    with run.lock:
        look = unit_look(run.model, entry.prediction, entry.image, unit)
    return {
        "name": run.network.unit_names[unit],
        "picture": as_address(look.picture),
        "box": in_shares(look.box, _size(entry)),
        "note": look.note,
    }


def _examples(asked: Asked) -> dict[str, Any]:
    """Return what a unit looks like in the training images, or how far the pass over these is."""
    run, unit = asked.run, unit_of(asked)
    if (kept := run.looked.examples.get(unit)) is not None:
        return kept
    found = read_split(run, "train")
    if not isinstance(found, Answers):
        return {"ready": False, "work": found}
    with run.lock:
        rows = unit_examples(run.model, run.data, found, unit)
    seconds = run.looked.seconds.get("train")
    once = f"one pass over {len(found)} training images" + ("" if seconds is None else f" in {seconds:.3g} s")
    part = "" if len(found) == found.of else f", which are a part of all {found.of}"
    said = {
        "ready": True,
        "name": run.network.unit_names[unit],
        "examples": [_shown(row) for row in rows],
        "note": rows[-1].look.note if rows else "",
        "passes": f"{once}{part}, for all {run.network.unit_plural} together; {len(rows)} images for this one",
    }
    return run.looked.examples.put(unit, said)


def _shown(example: UnitExample) -> dict[str, Any]:
    size = (example.image.shape[1], example.image.shape[2])
    return {
        "image": f"train:{example.index}",
        "title": example.name,
        "class": example.class_name,
        "value": example.value,
        "truth": example.truth,
        "source": example.is_source,
        "picture": f"data:image/png;base64,{base64.b64encode(as_png(example.image)).decode()}",
        "map": as_address(lay_over(gray(example.image), example.look.picture, _STRENGTH)),
        "box": in_shares(example.look.box, size),
    }


def _size(entry: Entry) -> tuple[int, int]:
    return (entry.image.shape[2], entry.image.shape[3])
