"""What the one-image mode asks of the server: the runs, uploads, and predictions with units set by hand."""

from __future__ import annotations

from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ibd.app.page.answers import Asked, as_json, get, post, read_body, session
from ibd.app.page.describing import described_run, described_units
from ibd.app.page.intervening import corrected, said
from ibd.app.page.site import Site, as_png
from ibd.app.page.uploads import MOST_BYTES


def routes(site: Site) -> list[Route]:
    """Return the routes of this mode."""

    async def upload(request: Request) -> Response:
        content = await read_body(request, MOST_BYTES)
        name = request.query_params.get("name", "")
        identifier = await run_in_threadpool(site.uploads.add, session(request), name, content)
        kept = site.uploads.get(session(request), identifier)
        return as_json({"image": f"upload:{identifier}", "title": kept.name, "size": list(kept.size)})

    return [
        get(site, "/api/runs", _runs),
        get(site, "/api/runs/{run}", _run),
        get(site, "/api/runs/{run}/picture", _picture),
        post(site, "/api/runs/{run}/predict", _predict),
        Route("/api/uploads", upload, methods=["POST"]),
    ]


def _runs(asked: Asked) -> dict[str, Any]:
    return {"runs": [described_run(run) for run in asked.site.runs.values()]}


def _run(asked: Asked) -> dict[str, Any]:
    return described_run(asked.run) | described_units(asked.run)


def _picture(asked: Asked) -> Response:
    """Return the image as the network is fed with it."""
    return Response(as_png(asked.image().image[0]), media_type="image/png")


def _predict(asked: Asked) -> dict[str, Any]:
    """Return what the model says of an image, and what it says with ``edits`` (unit -> value).

    With ``target``, the number of a class, units are said to add to its logit; ``after`` says too what they added to it
    without edits; its ``details`` are null where they are those of ``before``. ``before`` false leaves that prediction
    out: who moves a slider knows it.
    """
    entry, run = asked.image(), asked.run
    edits = asked.given.get("edits") or {}
    classes = run.network.class_names
    target = None if asked.given.get("target") is None else asked.count("target", most=len(classes) - 1)
    before = after = None
    with run.lock:
        if edits:
            edited = corrected(entry.prediction, edits)
            same = target is not None or bool(edited.labels[0] == entry.prediction.labels[0])
            after = said(edited, target, details=not same or edited.thresholds is not None)
            after["contributions_before"] = entry.contributions[0, :, after["target"]]
        if asked.given.get("before", True):
            before = said(entry.prediction, target, entry.contributions)
    truth = None if entry.sample is None else classes[entry.sample.label]
    return {"image": entry.name, "title": entry.title, "truth": truth, "before": before, "after": after}
