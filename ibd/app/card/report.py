"""What the report of a comparison says of one run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ibd.errors import ConfigError

SUMMARY = "summary.json"
_DIGITS = 16
"""Of the SHA-256 of its checkpoint that a comparison keeps of a model."""


@dataclass(frozen=True)
class ReportOf:
    """A comparison, as far as it is of a run.

    Attributes:
        source: its file.
        plain: what that says, see `ibd.comparison.report.files.summary`.
        model: name of the run's model in it.
        family: family of the model, over whose trainings verdicts are.
        stale: why it does not count; "" where it does.
    """

    source: str
    plain: dict[str, Any]
    model: str
    family: str
    stale: str = ""

    @property
    def trainings(self) -> int:
        """How many trainings of the family were compared."""
        return sum(model.get("family") == self.family for model in self.plain["models"])


def read_report(report: Path, run: Path, digest: str, written: float) -> ReportOf:
    """Return what a report says of a run.

    Args:
        report: folder that ``ibd compare`` wrote.
        run: the run folder.
        digest: SHA-256 of its checkpoint.
        written: when that was written.

    Raises:
        ConfigError: there is no report, or none of this run.
    """
    path = report / SUMMARY if report.is_dir() else report
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        models = plain["models"]
        named = [str(model["run"]) for model in models]
    except FileNotFoundError:
        raise ConfigError(f"--compare: there is no report in '{report}': no {SUMMARY} of ibd compare") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"--compare: '{path}' is no summary of ibd compare ({type(error).__name__})") from None
    same = [model for model in models if model.get("checkpoint") == digest[:_DIGITS]]
    placed = [model for model in models if _is(str(model["run"]), run)]
    if not same and not placed:
        raise ConfigError(f"--compare: no model of '{report}' is '{run}': it compares {', '.join(named)}")
    model = (same or placed)[0]
    stale = ""
    if not same and model.get("checkpoint"):
        stale = (
            f"of another checkpoint (its SHA-256 begins with {model['checkpoint'][:8]}, this one's with {digest[:8]})"
        )
    elif not same and path.stat().st_mtime < written:
        stale = "written before the checkpoint"
    return ReportOf(str(path), plain, str(model["name"]), str(model["family"]), stale)


def _is(place: str, run: Path) -> bool:
    """Return whether a run of a report is this one: the same folder, or the same name and time wherever it lies."""
    other = Path(place)
    return other.resolve() == run.resolve() or other.parts[-2:] == run.resolve().parts[-2:]


def of_model(report: ReportOf, key: str) -> Mapping[str, Any]:
    """Return what a report says under a key of the run's model; nothing where it says nothing."""
    found = report.plain.get(key)
    own = found.get(report.model) if isinstance(found, Mapping) else None
    return own if isinstance(own, Mapping) else {}
