"""What a run shows of its model when it has ended: the intervention curve of a concept bottleneck."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ibd.comparison.intervention import InterventionCurve, Policy, intervention_curve
from ibd.data.base import ImageDataModule
from ibd.models.cbm.lightning import ConceptBottleneck
from ibd.models.lightning import InterpretableModule

CURVE = "intervention_curve_val"
_POLICIES: tuple[Policy, ...] = ("random", "uncertainty", "expected_change")
"""Without the order learned on validation images, on which it would be measured."""


def report_curve(model: InterpretableModule, data: ImageDataModule, folder: Path, loggers: Sequence[Any]) -> None:
    """Draw a concept bottleneck's intervention curve on the validation images, and log it.

    Args:
        model: as finished; nothing happens where it has no concepts, or the images none that are known.
        data: what it was trained on.
        folder: the run folder; the curve goes to its ``figures/``.
        loggers: of the run; those that take images and tables get it, too.
    """
    if not isinstance(model, ConceptBottleneck) or bool(data.dataset("val").concepts.isnan().all()):
        return
    curve = intervention_curve(model, data, policies=_POLICIES, split="val")
    path = folder / "figures" / f"{CURVE}.png"
    path.parent.mkdir(exist_ok=True)
    curve.figure().savefig(path, dpi=120)
    curve.save_csv(path.with_suffix(".csv"))
    for logger in loggers:
        if hasattr(logger, "log_image"):
            logger.log_image("intervention/curve", [str(path)])
            logger.log_table("intervention/accuracy", *_table(curve))


def _table(curve: InterventionCurve) -> tuple[list[str], list[list[Any]]]:
    columns = ["groups corrected", *curve.accuracy]
    means = [curve.mean(policy).tolist() for policy in curve.accuracy]
    return columns, [[budget, *row] for budget, row in enumerate(zip(*means, strict=True))]
