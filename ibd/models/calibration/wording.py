"""What a calibration says to a reader, and by what guarantee."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ibd.models.calibration.abstention import Abstention
from ibd.models.calibration.calibration import Calibration
from ibd.models.calibration.conformal import SetRule
from ibd.models.calibration.scaling import Scaling

_SHOWN = 8


def set_line(rule: SetRule, inside: Tensor, class_names: Sequence[str]) -> str:
    """Return the line on the set of one image, from its (C,) bool."""
    names = [class_names[index] for index in inside.nonzero().flatten().tolist()]
    few = ", ".join(names[:_SHOWN]) + (f", ... ({len(names)} in all)" if len(names) > _SHOWN else "")
    return f"  at coverage {100 * rule.coverage:g} %: {few or 'no class'}"


def of_prediction(calibration: Calibration, edited: bool) -> list[str]:
    """Return the notes below a prediction: what is calibrated, and what that promises.

    Args:
        calibration: calibration of the model.
        edited: whether units were set by hand.
    """
    notes = []
    if calibration.classes.method != "none":
        notes.append(
            f"class probabilities are calibrated on {calibration.split} images ({_method(calibration.classes)})"
        )
    if calibration.concepts is not None and calibration.concepts.method != "none":
        notes.append("concepts are calibrated for reading; what they add to a logit is by the values as trained")
    if edited:
        return [
            *notes,
            "calibrated on images without corrections: of corrected ones neither set nor threshold promises anything",
        ]
    if calibration.sets is not None:
        notes.append(coverage_promise(calibration.sets, calibration.apart))
    if calibration.abstention is not None:
        notes.append(accuracy_promise(calibration.abstention))
    return notes


def coverage_promise(rule: SetRule, apart: bool) -> str:
    """Return what the sets promise."""
    each = " of each class" if rule.per_class else ""
    about = "" if apart else "about "
    return (
        f"sets ({rule.score}) hold the true class for {about}{100 * rule.coverage:g} % or more{each} of images like "
        f"the {rule.images} that the threshold was chosen on"
    )


def accuracy_promise(abstention: Abstention) -> str:
    """Return what abstaining promises."""
    share = f"{abstention.right} of the {abstention.kept} answers for {abstention.images} images were right"
    below = f"abstains below {100 * abstention.threshold:.1f} %: {share}"
    if abstention.certainty is None:
        return f"{below}, chosen on these for {100 * abstention.accuracy:g} %, without a promise for others"
    return (
        f"{below}; answers for images like these are right in {100 * abstention.accuracy:g} % or more, "
        f"with certainty {100 * abstention.certainty:g} %"
    )


def _method(scaling: Scaling) -> str:
    return f"temperature {scaling.temperature:.3g}" if scaling.method == "temperature" else scaling.method


def summary(calibration: Calibration) -> str:
    """Return what was chosen, a line for each part."""
    lines = []
    for what, scaling in (("classes", calibration.classes), ("concepts", calibration.concepts)):
        if scaling is not None:
            lines.append(f"{what}: {_method(scaling)}, on {scaling.images} {calibration.split} images")
    if calibration.sets is not None:
        lines.append(coverage_promise(calibration.sets, calibration.apart))
    if calibration.abstention is not None:
        lines.append(accuracy_promise(calibration.abstention))
    return "\n".join(lines)
