"""What would change the answer, as the page asks for it."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from starlette.routing import Route

from ibd.app.page.answers import Asked, post
from ibd.app.page.changes import as_one, enough_in_words, unit_changes, why_in_words
from ibd.app.page.explanations import lane_of
from ibd.app.page.intervening import as_float, corrected
from ibd.app.page.long_work import Told
from ibd.app.page.looking import PATIENCE, held, under_way
from ibd.app.page.site import Site
from ibd.errors import ConfigError, UnsupportedError
from ibd.models.counterfactual import Why, why
from ibd.models.counterfactual.program import Smallest
from ibd.models.prediction import Prediction


def routes(site: Site) -> list[Route]:
    """Return the routes of what would change the answer."""
    return [post(site, "/api/runs/{run}/why", _why)]


def _why(asked: Asked) -> dict[str, Any]:
    """Return the smallest change after which an image is another class, and what is enough for its own.

    ``edits`` are corrections that were made; ``is`` is the wanted class, by its number, and without it any other one
    will do; ``smallest`` is "count" or "amount". A new question of the same ``tab`` of a browser takes the place of an
    older one.
    """
    run, entry = asked.run, asked.image()
    edits, smallest = _numbers(asked.given.get("edits") or {}), _smallest(asked)
    wanted = None if asked.given.get("is") is None else asked.count("is", most=len(run.network.class_names) - 1)
    lane = lane_of(asked, "why")
    name = f"{lane}{entry.name} {wanted} {smallest} {json.dumps(edits, sort_keys=True)}"

    def find(told: Told) -> dict[str, Any]:
        with held(run.lock, told):  # who looks at a unit's map hangs other tensors into the network for a moment
            network = copy.deepcopy(run.network)  # many sets of units are decoded, and nobody waits for that meanwhile
        plain = dataclasses.replace(entry.prediction, network=network)
        start = corrected(plain, edits) if edits else plain
        told(0, 0)
        return said_why(plain, edits, why(start, 0, is_class=wanted, smallest=smallest))

    work = under_way(run.works, name, find, "looking for the smallest change", lane, PATIENCE)
    if work.result is None:
        return {"ready": False, "work": work.state()}
    run.works.stop(name)
    return {"ready": True, **work.result}


def said_why(plain: Prediction, edits: Mapping[str, float], found: Why) -> dict[str, Any]:
    """Return what was found as plain values, with what `Prediction.intervene` is given for all of it.

    Args:
        plain: the prediction with nothing edited.
        edits: the corrections that it was asked with.
        found: the answer.
    """
    label = plain.network.class_names[int(found.before.labels[0])]
    change: dict[str, Any] | None = None
    enough: dict[str, Any] = {"kept": list(found.kept), "size": enough_in_words(found), "edits": None, "why_not": None}
    if found.after is not None:
        both, why_not = _at_once(plain, edits, found.values, found.after)
        rows = [dataclasses.asdict(row) for row in unit_changes(plain, edits, found)]
        change = {"rows": rows, "edits": both, "why_not": why_not, "then": _top(found.after)}
    if found.others:
        enough["edits"], enough["why_not"] = _at_once(plain, edits, found.others, found.alone)
    enough["then"] = _top(found.alone)
    said = {"label": label, "asked": found.asked, "size": why_in_words(found)}
    return {**said, "now": _top(found.before), "change": change, "enough": enough}


def _at_once(
    plain: Prediction, edits: Mapping[str, float], values: Mapping[str, float], then: Prediction
) -> tuple[dict[str, float] | None, str | None]:
    """Return corrections as one, or why they cannot be made as one."""
    try:
        return as_one(plain, edits, values, then), None
    except UnsupportedError as error:
        return None, str(error)


def _top(prediction: Prediction, count: int = 2) -> list[dict[str, Any]]:
    """Return the most probable classes of the one image."""
    order = prediction.ranking[0].argsort(descending=True)[:count].tolist()
    shares, names = prediction.probabilities[0].tolist(), prediction.network.class_names
    return [{"class": names[index], "probability": shares[index]} for index in order]


def _numbers(edits: Any) -> dict[str, float]:
    """Return corrections that are all numbers.

    Raises:
        ConfigError: they are not.
    """
    if not isinstance(edits, Mapping) or not all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in edits.values()
    ):
        raise ConfigError("'edits': numbers by the names of units are needed")
    return {str(name): as_float(value) for name, value in edits.items()}


def _smallest(asked: Asked) -> Smallest:
    return "amount" if asked.text("smallest", "count") == "amount" else "count"
