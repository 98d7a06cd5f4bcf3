"""What a calibration says to a reader, and by what guarantee."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ibd.models.calibration.calibration import Abstention, Calibration
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
    parts = {"classes": calibration.classes, "concepts": calibration.concepts}
    done = [f"{what} ({_method(part)})" for what, part in parts.items() if part is not None and part.method != "none"]
    if done:
        notes.append(f"calibrated probabilities of {' and '.join(done)}; the logit is made of the values as trained")
    if edited:
        return [*notes, "all this was chosen on images without corrections: of corrected ones it promises nothing"]
    if calibration.sets is not None:
        notes.append(coverage_promise(calibration.sets, calibration.apart))
    if calibration.abstention is not None:
        notes.append(accuracy_promise(calibration.abstention, calibration.apart))
    return notes


def coverage_promise(rule: SetRule, apart: bool) -> str:
    """Return what the sets promise."""
    each, about = " of each class" if rule.per_class else "", "" if apart else "about "
    return (
        f"sets ({rule.score}) hold the true class for {about}{100 * rule.coverage:g} % or more{each} of images like "
        f"the {rule.images} that chose them"
    )


def accuracy_promise(abstention: Abstention, apart: bool) -> str:
    """Return what abstaining promises."""
    below, wanted = f"abstains below {100 * abstention.threshold:.1f} %", f"{100 * abstention.accuracy:g} %"
    if abstention.certainty is None:
        share = f"{abstention.right} of {abstention.kept} answers for the {abstention.images} images that chose it"
        return f"{below}: {share} were right; for others {wanted} is not promised"
    return (
        f"{below}: answers for images like the {abstention.images} that chose it are right in {wanted} or more, with "
        f"certainty {'' if apart else 'of about '}{100 * abstention.certainty:g} %"
    )


def _method(scaling: Scaling) -> str:
    return f"temperature {scaling.temperature:.3g}" if scaling.method == "temperature" else scaling.method


def summary(calibration: Calibration) -> str:
    """Return what was chosen, and by what guarantee, a line for each part."""
    lines = []
    for what, scaling in (("classes", calibration.classes), ("concepts", calibration.concepts)):
        if scaling is not None:
            lines.append(f"{what}: {_method(scaling)}, on {scaling.images} {calibration.split} images")
    if calibration.sets is not None:
        sets = calibration.sets
        lines.append(f"{coverage_promise(sets, calibration.apart)}, on average over such choices ({_spread(sets)})")
    if calibration.abstention is not None:
        rule, share = calibration.abstention, calibration.abstention.kept / calibration.abstention.images
        lines.append(f"{accuracy_promise(rule, calibration.apart)} ({100 * share:.0f} % of these were answered)")
    return "\n".join(lines)


def _spread(rule: SetRule) -> str:
    """Return how far one choice is off: the coverage that it has is Beta((n + 1) coverage, (n + 1) (1 - coverage)).

    That is its distribution over choices where scores have no ties (Vovk 2012); here, twice its standard deviation.
    """
    count = rule.images / len(rule.thresholds)
    deviation = (rule.coverage * (1 - rule.coverage) / (count + 2)) ** 0.5
    of_class = " for a class of middling size" if rule.per_class else ""
    return f"one is off by up to {200 * deviation:.0f} points{of_class}"
