"""What a run shows of its model when it has ended: an intervention curve, or what its axes mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ibd.data.base import ImageDataModule
from ibd.models.cbm.intervention import InterventionCurve, Policy, intervention_curve
from ibd.models.cbm.training import ConceptModule
from ibd.models.concept_whitening.charts import auc_figure
from ibd.models.concept_whitening.evaluation import evaluate_axes, top_images
from ibd.models.concept_whitening.figures import top_images_figure
from ibd.models.concept_whitening.lightning import ConceptWhitening
from ibd.models.lightning import InterpretableModule
from ibd.training.origin import save_origin

_AXES, _TOP = 10, 6
CURVE = "intervention_curve_val"
_POLICIES: tuple[Policy, ...] = ("random", "uncertainty", "expected_change")
"""Without the order learned on validation images, on which it would be measured."""


def report(model: InterpretableModule, data: ImageDataModule, folder: Path, loggers: Sequence[Any]) -> None:
    """Draw what there is to draw of a finished model on the validation images, and log it.

    Args:
        model: as finished.
        data: what it was trained on.
        folder: the run folder; pictures go to its ``figures/``.
        loggers: loggers of the run; those that take images and tables get them, too.
    """
    if isinstance(model, ConceptModule):
        _report_curve(model, data, folder, loggers)
    if isinstance(model, ConceptWhitening):
        _report_axes(model, data, folder, loggers)


def _report_axes(model: ConceptWhitening, data: ImageDataModule, folder: Path, loggers: Sequence[object]) -> None:
    """Draw which axis tells which concept, and the images that activate the first ten axes most."""
    measured = evaluate_axes(model, data, "val")
    names = measured.concept_names
    shown = top_images(model, data, "val", _TOP, axes=list(range(min(_AXES, len(names)))), report=measured)
    figures = {"axes/top_images": top_images_figure(shown, data.dataset("val"))}
    if "axis_purity" in measured.figures:
        figures["axes/auc"] = auc_figure(measured.auc, names)
    for key, figure in figures.items():
        path = folder / "figures" / f"{key.replace('/', '_')}_val.png"
        path.parent.mkdir(exist_ok=True)
        figure.savefig(path, dpi=120)
        for logger in loggers:
            if hasattr(logger, "log_image"):
                logger.log_image(key, [str(path)])


def _report_curve(model: ConceptModule, data: ImageDataModule, folder: Path, loggers: Sequence[Any]) -> None:
    """Draw the intervention curve, where any concept is known."""
    if bool(data.dataset("val").concepts.isnan().all()):
        return
    curve = intervention_curve(model, data, policies=_POLICIES, split="val")
    path = folder / "figures" / f"{CURVE}.png"
    path.parent.mkdir(exist_ok=True)
    curve.figure().savefig(path, dpi=120)
    curve.save_csv(path.with_suffix(".csv"))
    save_origin(path.with_suffix(".csv"), model, "val")
    for logger in loggers:
        if hasattr(logger, "log_image"):
            logger.log_image("intervention/curve", [str(path)])
            logger.log_table("intervention/accuracy", *_table(curve))


def _table(curve: InterventionCurve) -> tuple[list[str], list[list[Any]]]:
    columns = ["groups corrected", *curve.accuracy]
    means = [curve.mean(policy).tolist() for policy in curve.accuracy]
    return columns, [[budget, *row] for budget, row in enumerate(zip(*means, strict=True))]
