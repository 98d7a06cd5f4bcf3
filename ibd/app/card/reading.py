"""What lies in a run and in a report: read once, and found fresh or stale. Nothing is computed by a network."""

from __future__ import annotations

import csv
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ibd.app.card.report import ReportOf, read_report
from ibd.app.edited_run import EDITED
from ibd.config.sources import read_yaml
from ibd.errors import CheckpointError
from ibd.io import CALIBRATION_KEY, MODEL_KEY, find_checkpoint, find_run, read_checkpoint, sha256
from ibd.models.calibration.calibration import checksum_of
from ibd.models.thresholds import FILE, number_of
from ibd.training.record import RECORD

_NETWORK = "network."
_CORRECTABLE = ("cbm", "cem", "scbm")
"""The kinds of models whose concepts can be corrected, whatever their options."""
Rows = list[dict[str, str]]


@dataclass(frozen=True)
class Kept:
    """A measurement on disk.

    Attributes:
        source: where it lies, below the run.
        plain: what its JSON file says.
        tables: name of a CSV file without its ending -> rows.
        stale: why it does not count; "" where it does.
    """

    source: str
    plain: dict[str, Any]
    tables: dict[str, Rows] = field(default_factory=dict)
    stale: str = ""


@dataclass(frozen=True)
class CardRun:
    """A run as a card sees it.

    Attributes:
        given: RUN as the user gave it, as a shell takes it, for commands.
        folder: the run folder.
        checkpoint: its checkpoint.
        sha256: SHA-256 of that file.
        weights: checksum of the network's weights.
        content: content of the checkpoint.
        config: the run's config as plain values; {} where there is none.
        edited: what was done to it by hand after its training; {} where nothing was.
        record: what the training says of itself; {} where it says nothing.
        tested: split -> its test.
        curves: name -> intervention curve.
        teaching: sessions in which a person corrected images.
        thresholds: thresholds that were set, or None.
        repeated: the other trainings of the same command, or None.
        report: what a comparison says of the run, or None.
    """

    given: str
    folder: Path
    checkpoint: Path
    sha256: str
    weights: int
    content: dict[str, Any]
    config: dict[str, Any]
    edited: dict[str, Any]
    record: dict[str, Any]
    tested: dict[str, Kept]
    curves: dict[str, Kept]
    teaching: list[Kept]
    thresholds: Kept | None
    repeated: Kept | None
    report: ReportOf | None

    @property
    def spec(self) -> dict[str, Any]:
        """What the checkpoint says of its data: classes, concepts, image size."""
        return self._given("spec")

    @property
    def correctable(self) -> bool:
        """Whether a person can correct its concepts: of a bottleneck made afterwards those that were labelled alone."""
        return self.family in _CORRECTABLE or bool(self._given("units").get("truth"))

    def _given(self, block: str) -> dict[str, Any]:
        values = self.content.get("hyper_parameters", {})
        found = values.get(block, {}) if isinstance(values, dict) else {}
        return found if isinstance(found, dict) else {}

    @property
    def family(self) -> str:
        """The name of its kind of model, such as "cbm"; "" where neither checkpoint nor config says it."""
        model = self.config.get("model")
        named = model.get("name") if isinstance(model, Mapping) else model
        return str(self.content.get(MODEL_KEY) or named or "")

    @property
    def calibration(self) -> dict[str, Any] | None:
        """The calibration in the checkpoint, if it is of its weights."""
        return _calibration(self.content, self.weights)


def read_run(run: str, report: Path | None) -> CardRun:
    """Read what there is of a run.

    Args:
        run: RUN of the command line.
        report: folder of a comparison's report, if one is given.

    Raises:
        CheckpointError: there is no such run, or a file of it cannot be read.
        ConfigError: the report is none, or not of this run.
    """
    checkpoint, folder = find_checkpoint(run), find_run(run)
    content = read_checkpoint(checkpoint)
    state = content["state_dict"]
    weights = checksum_of({k.removeprefix(_NETWORK): v for k, v in state.items() if k.startswith(_NETWORK)})
    digest, written = sha256(checkpoint), checkpoint.stat().st_mtime
    return CardRun(
        given=shlex.quote(run),
        folder=folder,
        checkpoint=checkpoint,
        sha256=digest,
        weights=weights,
        content=content,
        config=read_yaml(folder / "config.yaml") if (folder / "config.yaml").exists() else {},
        edited=read_json(folder / EDITED) or {},
        record=read_json(folder / RECORD) or {},
        tested=_tests(folder, digest, written),
        curves=_curves(folder, weights, written),
        teaching=_sessions(folder, weights),
        thresholds=_thresholds(folder, checkpoint.name, weights, _calibration(content, weights)),
        repeated=_repeated(folder, digest),
        report=None if report is None else read_report(report, folder, digest, written),
    )


def read_json(path: Path) -> dict[str, Any] | None:
    """Return what a JSON file says; None where there is none.

    Raises:
        CheckpointError: it holds something else.
    """
    if not path.is_file():
        return None
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"'{path}' cannot be read ({type(error).__name__}); delete it, or write it anew"
        ) from None
    if not isinstance(plain, dict):
        raise CheckpointError(f"'{path}' is not what ibd writes; delete it, or write it anew")
    return plain


def read_table(path: Path) -> Rows:
    """Return the rows of a CSV file.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise CheckpointError(
            f"'{path}' cannot be read ({type(error).__name__}); delete it, or write it anew"
        ) from None


def day(seconds: float) -> str:
    """Return a time of a file as a person reads it, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def by_time(path: Path, written: float) -> str:
    """Return why a file without a word on its weights does not count: it is older than the checkpoint; else ""."""
    own = path.stat().st_mtime
    if own >= written:
        return ""
    return f"written {day(own)}, before the checkpoint ({day(written)})"


def _tests(folder: Path, digest: str, written: float) -> dict[str, Kept]:
    found = {}
    for path in sorted(folder.glob("tested/*/summary.json")):
        plain, place = read_json(path) or {}, path.parent
        if place.name.startswith("."):  # what a test is writing just now
            continue
        about = plain.get("about") or {}
        named = about.get("sha256")
        other = f"of another checkpoint (its SHA-256 begins with {str(named)[:8]}, this one's with {digest[:8]})"
        stale = (other if named != digest else "") if named else by_time(path, written)
        tables = {file.stem: read_table(file) for file in sorted(place.glob("*.csv")) if file.stem != "images"}
        found[place.name] = Kept(f"tested/{place.name}", plain, tables, stale)
    return found


def _curves(folder: Path, weights: int, written: float) -> dict[str, Kept]:
    found = {}
    for path in sorted((folder / "figures").glob("intervention_curve*.csv")):
        plain = read_json(path.with_suffix(".json")) or {}
        stale = _of_weights(plain, weights) if plain else by_time(path, written)
        found[path.stem] = Kept(f"figures/{path.name}", plain, {"curve": read_table(path)}, stale)
    return found


def _sessions(folder: Path, weights: int) -> list[Kept]:
    found = []
    for path in sorted((folder / "teaching").glob("*.json")):
        table = path.with_suffix(".csv")
        if table.is_file():
            plain = read_json(path) or {}
            rows = {"steps": read_table(table)}
            found.append(Kept(f"teaching/{table.name}", plain, rows, _of_weights(plain, weights)))
    return found


def _calibration(content: Mapping[str, Any], weights: int) -> dict[str, Any] | None:
    found = content.get(CALIBRATION_KEY)
    return found if isinstance(found, dict) and found.get("weights") == weights else None


def _thresholds(folder: Path, checkpoint: str, weights: int, calibration: dict[str, Any] | None) -> Kept | None:
    """Return the thresholds of a checkpoint; stale where the model itself would leave them out, see `TrainedModel`."""
    plain = (read_json(folder / FILE) or {}).get(checkpoint)
    if not isinstance(plain, dict):
        return None
    stale = _of_weights(plain, weights)
    if not stale and plain.get("calibration") != number_of(calibration):
        stale = "of probabilities before the last calibration"
    return Kept(FILE, plain, {}, stale)


def _repeated(folder: Path, digest: str) -> Kept | None:
    plain = read_json(folder.parent / "repeat.json")
    kept = plain.get("checkpoints") if plain else None
    if plain is None or not isinstance(kept, Mapping) or folder.name not in kept:
        return None
    return Kept("../repeat.json", plain, {}, "" if kept[folder.name] == digest else "of another checkpoint of this run")


def _of_weights(plain: Mapping[str, Any], weights: int) -> str:
    return "" if plain.get("weights") == weights else "of other weights than the checkpoint's"
