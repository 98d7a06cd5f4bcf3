"""Maps of explainers, as the page asks for them: which fit, those that were made, and how far the others are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.routing import Route
from torch import Tensor

from ibd import registry
from ibd.app.page.answers import Asked, get, post
from ibd.app.page.explaining import Fitting, ScaleOf, cost_in_words, explained, fitting, on_scale
from ibd.app.page.long_work import Told
from ibd.app.page.looking import PATIENCE, Said, held, under_way
from ibd.app.page.maps import as_address
from ibd.app.page.remarks import remarks
from ibd.app.page.site import Entry, Served, Site
from ibd.errors import ConfigError, DataError, did_you_mean
from ibd.explain.targets import Target

_MOST = 12
"""Explainers that are asked at once."""


def routes(site: Site) -> list[Route]:
    """Return the routes of explainers."""
    return [
        get(site, "/api/runs/{run}/explainers", _explainers),
        post(site, "/api/runs/{run}/explanations", _explanations),
    ]


def maps_of(run: Served, image: str, target: str, names: Sequence[str]) -> dict[str, Tensor]:
    """Return the maps that were made already, by the names of their explainers."""
    found = {name: run.looked.maps.get((image, target, name)) for name in names}
    return {name: said.map for name, said in found.items() if said is not None}


def _explainers(asked: Asked) -> dict[str, Any]:
    """Return which explainers fit the model, or how far it is to know that."""
    run, entry = asked.run, asked.image()

    def try_all(told: Told) -> list[Fitting]:
        with held(run.explaining, told), remarks(told):  # of maps that nobody has asked for
            return fitting(run.explained, entry.image, told)

    if run.looked.fitting is None:
        work = under_way(run.works, "explainers", try_all, "trying the explainers")
        if work.result is None:
            return {"ready": False, "work": work.state()}
        run.looked.fitting = work.result
    rows = [
        {"name": fit.name, "kind": fit.kind, "says": fit.says, "why_not": fit.why_not} for fit in run.looked.fitting
    ]
    return {"ready": True, "explainers": rows}


def _explanations(asked: Asked) -> dict[str, Any]:
    """Return the maps of explainers for a class or unit on one scale, or how far each is; others are given up.

    What is asked for by the same ``tab`` of a browser next takes the place of what it asked for before: with no names
    all is given up.
    """
    run, entry = asked.run, asked.image()
    target, names, lane = asked.text("target"), _names(asked), lane_of(asked, "map")
    wanted = {name: f"{lane}{entry.name} {target} {name}" for name in names}
    run.works.only(lane, list(wanted.values()))
    rows = {name: _row(run, entry, target, name, work) for name, work in wanted.items()}
    pictures = on_scale(entry.image[0].cpu(), maps_of(run, entry.name, target, names), scale_of(asked))
    for name, picture in pictures.items():
        rows[name]["picture"] = as_address(picture)
    return {"target": target, "rows": list(rows.values())}


def _row(run: Served, entry: Entry, target: str, name: str, title: str) -> dict[str, Any]:
    """Return what is known of one explainer's map, which is begun where nobody has."""
    key, row = (entry.name, target, name), {"name": name, "picture": None, "cost": None, "error": None, "work": None}
    found = run.looked.maps.get(key)
    if found is None:

        def explain(told: Told) -> Said:
            with held(run.explaining, told), remarks(told) as lines:
                found = explained(run.explained, entry.image, name, target_of(run, target), told)
            assert found.map is not None  # or it was refused
            cost = cost_in_words(found)
            return Said(found.map[0], float(found.value[0]), cost, found.layer, found.kind, tuple(lines))

        try:
            work = under_way(run.works, title, explain, name, patience=PATIENCE)
        except DataError as error:
            return row | {"error": str(error)}
        if work.result is None:
            return row | {"work": work.state()}
        found = run.looked.maps.put(key, work.result)
        run.works.stop(title)
    return row | {name: getattr(found, name) for name in ("value", "cost", "layer", "kind", "remarks")}


def lane_of(asked: Asked, kind: str) -> str:
    """Return the lane of what one tab of a browser waits for, see `ibd.app.page.long_work.Works`."""
    return f"{kind} {asked.session} {asked.text('tab', '')[:40]} "


def scale_of(asked: Asked) -> ScaleOf:
    """Return how maps are scaled, see `on_scale`."""
    return "own" if asked.text("scale", "one") == "own" else "one"


def target_of(run: Served, text: str) -> Target:
    """Return the target that a text means: ``class:3`` or ``unit:17``.

    Raises:
        ConfigError: it is written otherwise, or there is no such class or unit.
    """
    kind, _, number = text.partition(":")
    known = {"class": run.network.class_names, "unit": run.network.unit_names}
    if kind not in known or not number.isdecimal() or len(number) > 9 or int(number) >= len(known[kind]):
        raise ConfigError(f"target: '{text}' given, class:NUMBER or unit:NUMBER is needed, counted from 0")
    return Target.cls(int(number)) if kind == "class" else Target.unit(int(number))


def _names(asked: Asked) -> list[str]:
    """Return the explainers that are asked for, each once."""
    given, known = asked.given.get("names", []), registry.names("explainers")
    if not isinstance(given, list) or len(given) > _MOST:
        raise ConfigError(f"'names': a list of at most {_MOST} explainers is needed")
    for name in given:
        if name not in known:
            raise ConfigError(f"unknown explainer '{name}'.{did_you_mean(str(name), known)}")
    target_of(asked.run, asked.text("target"))
    return list(dict.fromkeys(given))
