"""What the teaching mode asks of the server: sessions in which a person corrects many images, and their curve."""

from __future__ import annotations

import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from ibd.app.page.answers import Asked, as_json, get, post
from ibd.app.page.examining import read_split
from ibd.app.page.oracle import oracle_of
from ibd.app.page.site import GoneError, Served, Site, split_named
from ibd.app.page.split_answers import Answers
from ibd.app.teaching.curve import Point, agreement, curve_csv, taught_images, teaching_curve
from ibd.app.teaching.orders import check_orders, image_order
from ibd.app.teaching.record import FOLDER, Record, Settings, sessions
from ibd.app.teaching.session import TeachingSession, require_teachable
from ibd.errors import ConfigError, IbdError
from ibd.models.calibration.calibration import checksum
from ibd.models.prediction import Prediction


class _Kept:
    """The sessions that are open: one object for each, whoever looks at it."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str], TeachingSession] = {}
        self.lock = threading.RLock()

    def session(self, asked: Asked) -> TeachingSession:
        """Return the session in the address, opened where its record ends.

        Raises:
            IbdError: there is none, or it is of another model or other data.
        """
        run, stamp = asked.run, str(asked.path["session"])
        run.check_there()
        with self.lock:
            known = self._open.get((run.key, stamp))
            if known is None or known.record.stale:  # another server of the same run went on with it
                known = self._open[run.key, stamp] = _opened(asked, Record(run.folder, stamp))
            return known

    def keep(self, asked: Asked, session: TeachingSession) -> None:
        """Keep a new session open."""
        with self.lock:
            self._open[asked.run.key, session.record.stamp] = session


def routes(site: Site) -> list[Route]:
    """Return the routes of this mode."""
    kept = _Kept()

    def changing(path: str, change: Any) -> Route:
        return post(site, f"/api/runs/{{run}}/teaching/{{session}}/{path}", lambda asked: _changed(asked, kept, change))

    def reading(path: str, answer: Any) -> Route:
        return get(site, f"/api/runs/{{run}}/teaching/{{session}}{path}", lambda asked: answer(asked, kept))

    return [
        get(site, "/api/runs/{run}/teaching", _about),
        post(site, "/api/runs/{run}/teaching", lambda asked: _begun(asked, kept)),
        reading("", lambda asked, kept: _state(asked, kept.session(asked))),
        reading("/curve", _curve),
        reading("/curve.csv", _curve_file),
        reading("/session.json", _session_file),
        reading("/record.csv", _record_file),
        changing("answer", _answer),
        changing("undo", lambda session, asked: session.undo(asked.text("group"), _seconds(asked))),
        changing("finish", lambda session, asked: session.finish(_seconds(asked), bool(asked.given.get("skip")))),
    ]


def _opened(asked: Asked, record: Record) -> TeachingSession:
    run, split = asked.run, record.settings.split

    def predict(index: int) -> Prediction:
        return run.entry(f"{split}:{index}", asked.site.uploads, "").prediction

    return TeachingSession(record, run.network, run.dataset(split), predict)


def _about(asked: Asked) -> dict[str, Any]:
    """Return whether this run can be taught, and the sessions that it has."""
    run = asked.run
    run.check_there()
    try:
        require_teachable(run.network)
    except IbdError as error:
        return {"why_not": str(error)}
    return {
        "why_not": None,
        "splits": {split: len(run.dataset(split)) for split in ("test", "val")},
        "folder": str(run.folder / FOLDER),
        "thresholds": run.model.thresholds is not None,
        "sessions": [_listed(run.folder, stamp) for stamp in sessions(run.folder)],
    }


def _listed(folder: Path, stamp: str) -> dict[str, Any]:
    try:
        record = Record(folder, stamp)
    except IbdError as error:
        return {"session": stamp, "error": str(error)}
    events = [row.event for row in record.rows]
    counts = {"done": events.count("done"), "skipped": events.count("skipped"), "total": len(record.settings.images)}
    return {"session": stamp, "error": None, **_told_settings(record.settings), **counts}


def _told_settings(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in ("split", "order", "groups", "seed", "blind")}


def _begun(asked: Asked, kept: _Kept) -> dict[str, Any]:
    """Begin a session; where the model must read the split first, return how far that is, to be asked again."""
    run, split = asked.run, split_named(asked.text("split", "test"))
    order, groups = asked.text("order", "random"), asked.text("groups", "uncertain")
    check_orders(order, groups)
    require_teachable(run.network)
    run.check_there()
    count, seed = len(run.dataset(split)), asked.count("seed", len(sessions(run.folder)))
    if order == "random":
        images = image_order(order, count, seed, None, None)
    else:
        read = read_split(run, split)
        if not isinstance(read, Answers):
            return {"session": None, "work": read}
        right = read.predicted == read.read.labels
        rows = image_order(order, len(read), seed, read.probabilities, right)
        images = read.index[rows].tolist()
    blind = bool(asked.given.get("blind", True))
    settings = Settings(split, order, groups, seed, blind, checksum(run.network), images, count)
    session = _opened(asked, Record.begin(run.folder, settings))
    kept.keep(asked, session)
    return {"session": session.record.stamp, "work": None}


def _changed(asked: Asked, kept: _Kept, change: Any) -> dict[str, Any]:
    """Take a step, unless another window took one meanwhile, and return how the session stands then."""
    session = kept.session(asked)
    with kept.lock, asked.run.lock:
        if (asked.count("place"), asked.count("step")) != (session.place, session.step):
            raise ConfigError("this session went on in another window: here is where it is now")
        change(session, asked)
        return _state(asked, session)


def _answer(session: TeachingSession, asked: Asked) -> None:
    values = asked.given.get("values")
    numbers = isinstance(values, dict) and all(type(value) in (int, float) for value in values.values())
    if values is not None and not numbers:
        raise ConfigError("'values': numbers by the names of units are needed, or null where nobody knows")
    session.answer(asked.text("group"), values, _seconds(asked))


def _seconds(asked: Asked) -> float:
    return asked.number("seconds", 0.0, least=0.0)


def _state(asked: Asked, session: TeachingSession) -> dict[str, Any]:
    """Return all that the page shows of a session; the truth only where it is not hidden."""
    settings, rows = session.record.settings, session.record.rows
    events = [row.event for row in rows]
    found = {
        "session": session.record.stamp,
        **_told_settings(settings),
        "record": str(session.record.table),
        "place": session.place,
        "step": session.step,
        "total": len(settings.images),
        "done": events.count("done"),
        "skipped": events.count("skipped"),
        "image": None,
    }
    if session.image is None:
        return found
    with asked.run.lock:
        entry = asked.run.entry(f"{settings.split}:{session.image}", asked.site.uploads, "")
        image = {
            "image": entry.name,
            # The name of a file often holds the folder of its class.
            "title": f"{settings.split} image {session.image}" if settings.blind else entry.title,
            "truth": None
            if settings.blind or entry.sample is None
            else session.network.class_names[entry.sample.label],
            "groups": [_group(session, name) for name in session.groups()],
            "before": _said(session.base),
            "now": _said(session.now),
        }
    return found | {"image": image}


def _group(session: TeachingSession, name: str) -> dict[str, Any]:
    network, given = session.network, session.answers.get(name)
    units = network.unit_groups[name]
    said = None if given is None else {network.unit_names[unit]: value for unit, value in given.items()}
    exclusive = len(units) > 1 and list(units) in network.exclusive_groups
    return {"name": name, "units": list(units), "exclusive": exclusive, "answer": said}


def _said(prediction: Prediction) -> dict[str, Any]:
    return {
        "label": int(prediction.labels[0]),
        "abstains": bool(prediction.abstains[0]),
        "order": prediction.ranking[0].argsort(descending=True),
        "probabilities": prediction.probabilities[0],
        "values": prediction.unit_values[0],
    }


def _curve(asked: Asked, kept: _Kept) -> dict[str, Any]:
    """Return the curve of what is finished, and how far its oracle is."""
    session = kept.session(asked)
    points, work = _points(asked.run, session)
    agrees, known = agreement(session.record.rows)
    return {
        "points": [asdict(point) for point in points],
        "groups": len(session.network.unit_groups),
        "oracle": None if work is None else work,
        "agrees": agrees,
        "known": known,
    }


def _points(run: Served, session: TeachingSession) -> tuple[list[Point], dict[str, Any] | None]:
    settings = session.record.settings
    oracle, work = oracle_of(run, settings.split, settings.groups)
    images = taught_images(session.record.rows)
    return teaching_curve(images, len(session.network.unit_groups), oracle), work


def _curve_file(asked: Asked, kept: _Kept) -> Response:
    session = kept.session(asked)
    return _download(curve_csv(_points(asked.run, session)[0]), "text/csv", f"curve_{session.record.stamp}.csv")


def _record_file(asked: Asked, kept: _Kept) -> Response:
    record = kept.session(asked).record
    if not record.table.is_file():
        raise GoneError(f"'{record.table}' is gone: this session was deleted while it went on")
    return _download(record.table.read_text(encoding="utf-8"), "text/csv", f"teaching_{record.stamp}.csv")


def _session_file(asked: Asked, kept: _Kept) -> Response:
    """Return all of a session as JSON: its settings, every step, and the curve."""
    session = kept.session(asked)
    record, name = session.record, f"teaching_{session.record.stamp}.json"
    steps = [asdict(row) for row in record.rows]
    points = [asdict(point) for point in _points(asked.run, session)[0]]
    answer = as_json({"settings": asdict(record.settings), "steps": steps, "curve": points})
    answer.headers["content-disposition"] = f'attachment; filename="{name}"'
    return answer


def _download(text: str, kind: str, name: str) -> Response:
    return Response(text, media_type=kind, headers={"content-disposition": f'attachment; filename="{name}"'})
