"""What the model mode asks of the server: the gallery of units, their names, the head, and prototypes to be edited."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.routing import Route
from torch.nn import functional as F

from ibd.app import unit_names
from ibd.app.discovery.found import NAMES
from ibd.app.discovery.naming import Proposal
from ibd.app.edited_run import EDITED
from ibd.app.page import prototypes
from ibd.app.page.answers import Asked, get, post
from ibd.app.page.examining import read_split
from ibd.app.page.gallery import framed_sources, strongest, usage_of
from ibd.app.page.head import head_weights, mean_contributions
from ibd.app.page.long_work import Told
from ibd.app.page.looking import under_way
from ibd.app.page.oracle import served_module
from ibd.app.page.prototypes import waiting_for
from ibd.app.page.site import SPLIT_WORDS, NotFoundError, Site, as_png
from ibd.app.page.split_answers import Answers
from ibd.data.base import Split
from ibd.errors import ConfigError
from ibd.models.concept_whitening.network import ConceptWhiteningNetwork
from ibd.models.posthoc_cbm.network import PosthocNetwork
from ibd.models.protopnet.network import PrototypeNetwork
from ibd.models.prototypes import LinearPrototypes

_EXAMPLES = 6
_SMALLEST = 160
"""Pixels of a picture's shorter side, for those of fewer: a patch of 18 pixels is too small to look at."""
_USED_ON: Split = "val"
_PROPOSED = "proposals"


def routes(site: Site) -> list[Route]:
    """Return the routes of this mode."""
    return [
        get(site, "/api/runs/{run}/model", _about),
        get(site, "/api/runs/{run}/model/image", _image),
        get(site, "/api/runs/{run}/model/weights", _weights),
        get(site, "/api/runs/{run}/model/usage", _usage),
        get(site, "/api/runs/{run}/model/sources", _sources),
        get(site, "/api/runs/{run}/model/strongest", _strongest),
        get(site, "/api/runs/{run}/model/contributions", _contributions),
        get(site, "/api/runs/{run}/model/proposals", _proposals),
        post(site, "/api/runs/{run}/model/names", _name),
        post(site, "/api/runs/{run}/model/named", _named_run),
        *prototypes.routes(site),
    ]


def _about(asked: Asked) -> dict[str, Any]:
    """Return what the units are, what can be done with them, and what they count for the classes."""
    run = asked.run
    run.check_there()
    network = run.network
    with run.lock:
        weight = head_weights(network)
        details = {
            "prototypes": isinstance(network, LinearPrototypes),
            "patches": isinstance(network, PrototypeNetwork) and bool(network.provenance.valid),
            "on": (network.mask & (network.factor != 0)) if isinstance(network, LinearPrototypes) else None,
            "owner": network.classes if isinstance(network, PrototypeNetwork) else None,
            "linear": weight is not None,
            "counts": None if weight is None else {"most": weight.amax(0), "class": weight.argmax(0)},
        }
    return details | {
        "axes": len(network.concept_names) if isinstance(network, ConceptWhiteningNetwork) else None,
        "found": isinstance(network, PosthocNetwork) and not network.truth_values,
        "nameless": unit_names.nameless(network),
        "names": unit_names.given_names(run.folder, network),
        "names_file": str(run.folder / NAMES),
        "edited": _history(run.folder),
    }


def _weights(asked: Asked) -> dict[str, Any]:
    """Return what the units count for each class, (C, U); null where the head is not linear."""
    with asked.run.lock:
        return {"weight": head_weights(asked.run.network)}


def _history(folder: Path) -> Any:
    """Return what was edited to make this run; None where nothing was, or nobody can read it."""
    try:
        return json.loads((folder / EDITED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _image(asked: Asked) -> Response:
    """Return an image of the data, or the part of it in a ``box`` (top,left,bottom,right in shares), as a PNG file."""
    run = asked.run
    split, _, number = asked.text("image").partition(":")
    dataset = run.dataset(split)
    if not number.isdecimal() or len(number) > 12 or int(number) >= len(dataset):
        raise NotFoundError(f"there is no image '{split}:{number}'")
    picture = dataset[int(number)].image
    if "box" in asked.given:
        top, left, bottom, right = _box(asked.text("box"))
        height, width = picture.shape[1:]
        rows = slice(int(top * height), max(int(top * height) + 1, round(bottom * height)))
        columns = slice(int(left * width), max(int(left * width) + 1, round(right * width)))
        picture = picture[:, rows, columns]
    times = -(-_SMALLEST // min(picture.shape[1:]))
    if times > 1:
        picture = F.interpolate(picture[None], scale_factor=times, mode="nearest")[0]
    return Response(as_png(picture), media_type="image/png", headers={"cache-control": "private, max-age=3600"})


def _box(text: str) -> tuple[float, float, float, float]:
    try:
        top, left, bottom, right = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigError("'box': four numbers are needed") from None
    if not (0 <= top < bottom <= 1 and 0 <= left < right <= 1):
        raise ConfigError("'box': shares of the image from 0 to 1 are needed: top,left,bottom,right")
    return top, left, bottom, right


# What takes a pass over a split: asked for again and again, until it is there


def _usage(asked: Asked) -> dict[str, Any]:
    found = read_split(asked.run, _USED_ON)
    if not isinstance(found, Answers):
        return {"work": found}
    usage = usage_of(asked.run.network, found)
    return {"split": _USED_ON, "usage": None if usage is None else asdict(usage)}


def _strongest(asked: Asked) -> dict[str, Any]:
    """Return the training images in which each unit is highest, and their score."""
    found = read_split(asked.run, "train")
    if not isinstance(found, Answers):
        return {"work": found}
    scores = found.read.scores.sort(dim=0, descending=True, stable=True).values[:_EXAMPLES].t()
    return {"images": strongest(found, _EXAMPLES), "scores": scores}


def _sources(asked: Asked) -> dict[str, Any]:
    """Return the training patches that prototypes are."""
    run = asked.run

    def frame(told: Told) -> dict[int, Any]:
        with run.explaining:
            return {unit: asdict(framed) for unit, framed in framed_sources(run.explained, run.data, told).items()}

    work = under_way(run.works, "sources", frame, "finding the patches in their images")
    return waiting_for(work) or {"sources": work.result}


def _contributions(asked: Asked) -> dict[str, Any]:
    """Return what units add to a class in the mean over its images."""
    run = asked.run

    def measure(told: Told) -> Any:
        with run.explaining:
            return mean_contributions(run.explained, run.data, _USED_ON, told)

    work = under_way(run.works, "contributions", measure, f"reading the {SPLIT_WORDS[_USED_ON]} images")
    if (waiting := waiting_for(work)) is not None or work.result is None:
        return waiting or {}
    mean, seen = work.result
    return {"mean": mean, "images": seen, "split": _USED_ON, "additive": run.network.additive}


def _proposals(asked: Asked) -> dict[str, Any]:
    """Return names for units that labelled concepts of the data speak for."""
    run = asked.run
    columns = list(run.data.spec.truths)
    names = [run.data.spec.concept_names[column] for column in columns]

    def propose(told: Told) -> dict[str, Proposal]:
        read = run.answers.get("train", told).read
        return unit_names.proposed_names(run.network, read.scores, read.concepts[:, columns], names)

    work = under_way(run.works, _PROPOSED, propose, "comparing the units with the labels of the training images")
    if (waiting := waiting_for(work)) is not None or work.result is None:
        return waiting or {}
    return {"proposals": {unit: asdict(found) for unit, found in work.result.items()}}


# Names


def _name(asked: Asked) -> dict[str, Any]:
    run = asked.run
    run.check_there()
    work = run.works.get(_PROPOSED)
    proposals = None if work is None else work.result
    names = unit_names.give_name(run.folder, run.network, asked.text("unit"), asked.text("name", ""), proposals)
    return {"names": names}


def _named_run(asked: Asked) -> dict[str, Any]:
    """Save the model with the names that were given as a new run, and serve it, too."""
    run = asked.run
    names = unit_names.given_names(run.folder, run.network)
    folder = unit_names.save_named_run(run.checkpoint, served_module(run), names)
    return {"folder": str(folder), "run": asked.site.add(str(folder))}
