"""What the model mode asks of the server to edit prototypes: other patches."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from starlette.routing import Route

from ibd.app.edited_run import save_prototypes_run
from ibd.app.page.answers import Asked, get, post
from ibd.app.page.gallery import framed_in
from ibd.app.page.long_work import Told, Work
from ibd.app.page.looking import under_way
from ibd.app.page.oracle import served_module
from ibd.app.page.site import NotFoundError, Site
from ibd.distributed import heard_by
from ibd.errors import ConfigError
from ibd.metrics.functional.shares import share_interval
from ibd.models.protopnet.editing import EditReport, Patch, PrototypeEdits
from ibd.models.protopnet.evaluation import nearest_patches
from ibd.models.protopnet.explanations import require_prototypes
from ibd.models.protopnet.network import PrototypeNetwork
from ibd.models.protopnet.push import sources
from ibd.models.prototypes import LinearPrototypes

_OFFERED = 8


def routes(site: Site) -> list[Route]:
    """Return the routes of this part of the model mode."""
    return [
        get(site, "/api/runs/{run}/model/patches", _patches),
        post(site, "/api/runs/{run}/model/edits", _edit),
        get(site, "/api/runs/{run}/model/edits/{work}", _edited),
    ]


def waiting_for(work: Work[Any]) -> dict[str, Any] | None:
    """Return how far a work is; None where it is done.

    Raises:
        ConfigError: it failed.
    """
    if work.error is not None:
        raise ConfigError(work.error)
    return None if work.ended and work.result is not None else {"work": work.state()}


def _patches(asked: Asked) -> dict[str, Any]:
    """Return the training patches of its class that are nearest to a prototype, but for what it is now."""
    run, unit = asked.run, asked.count("unit")
    network = run.network
    if not isinstance(network, PrototypeNetwork):
        raise ConfigError(f"its {network.unit_plural} are no training patches: none can take another's place")
    network.unit_index(unit)

    def search(told: Told) -> list[Any]:
        with heard_by(lambda title, done, total: told(done, total)):
            module = require_prototypes(served_module(run))
            return nearest_patches(module, run.data, "train", _OFFERED + 1, own_class=True)

    work = under_way(run.works, "patches", search, "comparing the training images with the prototypes")
    if (waiting := waiting_for(work)) is not None or work.result is None:
        return waiting or {}
    now = {(source.prototype, source.index) for source in sources(network)}
    others = (patch for patch in work.result if patch.prototype == unit and (unit, patch.index) not in now)
    offered = list(islice(others, _OFFERED))
    with run.explaining:
        boxes = framed_in(run.explained, run.data, unit, [patch.index for patch in offered])
    rows = zip(offered, boxes, strict=True)
    return {
        "patches": [
            {"image": patch.index, "name": patch.sample, "row": patch.row, "column": patch.column, "box": box}
            | {"similarity": patch.similarity}
            for patch, box in rows
        ]
    }


def _edit(asked: Asked) -> dict[str, Any]:
    """Begin to make a new run with edited prototypes; return the name of the work, which is asked for how far it is."""
    run, edits = asked.run, _edits(asked)
    edits.check(run.network)  # type: ignore[arg-type]  # what has no prototypes was refused
    text = json.dumps(
        [sorted(edits.forget), sorted(edits.keep), sorted((k, asdict(v)) for k, v in edits.replace.items())]
    )
    name = hashlib.sha256(text.encode()).hexdigest()[:16]

    def make(told: Told) -> dict[str, Any]:
        with heard_by(lambda title, done, total: told(done, total)):
            made = save_prototypes_run(run.checkpoint, served_module(run), run.data, edits)
        return {"folder": str(made.folder), "run": asked.site.add(str(made.folder)), **_told_report(made.report)}

    known = run.works.get(f"edit:{name}")
    if known is not None and (known.error is not None or _gone(known)):
        run.works.stop(f"edit:{name}")  # what failed, or was deleted, is made anew
    run.works.start(f"edit:{name}", make, "solving the last layer again")
    return {"work": name}


def _gone(work: Work[dict[str, Any]]) -> bool:
    """Return whether the run that an edit has made was deleted since."""
    return work.result is not None and not Path(work.result["folder"]).is_dir()


def _edits(asked: Asked) -> PrototypeEdits:
    """Return what is wanted of prototypes.

    Raises:
        ConfigError: the model has none, or this is no such wish.
    """
    if not isinstance(asked.run.network, LinearPrototypes):
        raise ConfigError(f"its units are {asked.run.network.unit_plural}: only prototypes can be edited")
    try:
        forget, keep = (frozenset(map(int, asked.given.get(key, []))) for key in ("forget", "keep"))
        given = asked.given.get("replace", {})
        replace = {
            int(unit): Patch(**{name: int(value) for name, value in patch.items()}) for unit, patch in given.items()
        }
    except (TypeError, ValueError, AttributeError):
        raise ConfigError(
            "'forget' and 'keep': numbers of prototypes are needed; 'replace': for each an image, row and column"
        ) from None
    return PrototypeEdits(forget, keep, replace)


def _told_report(report: EditReport) -> dict[str, Any]:
    """Return what an edit did to the validation images."""
    before, after = report.before, report.after
    shares = {
        name: asdict(share_interval(int(right.sum()), len(right)))
        for name, right in (("before", before), ("after", after))
    }
    mended, broken = int((after & ~before).sum()), int((before & ~after).sum())
    return shares | {"mended": mended, "broken": broken, "kept": report.kept, "solved": report.solved}


def _edited(asked: Asked) -> dict[str, Any]:
    work = asked.run.works.get(f"edit:{asked.path['work']}")
    if work is None:
        raise NotFoundError("this edit is not known here: the server was started again since it began")
    return waiting_for(work) or {"edited": work.result}
