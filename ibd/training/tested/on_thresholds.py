"""What the thresholds of a run come to on the images of a test, which are not those that they were set on."""

from __future__ import annotations

from dataclasses import dataclass

from ibd.models.calibration.reading import ReadOutputs
from ibd.models.thresholding import at, statements
from ibd.models.thresholds import CONFIDENCE, Threshold
from ibd.models.trained import TrainedModel


@dataclass(frozen=True)
class OnImages:
    """A threshold, and what it comes to.

    Attributes:
        name: the concept, or `CONFIDENCE`.
        chosen: what it came to on the images that it was set on.
        here: what it comes to on these.
    """

    name: str
    chosen: Threshold
    here: Threshold

    @property
    def reached(self) -> bool | None:
        """Whether it has the precision here that it was chosen for; None where it was set by hand, or calls nothing."""
        if self.chosen.wanted is None or not self.here.called:
            return None
        return self.here.precision.mean >= self.chosen.wanted


def on_thresholds(model: TrainedModel, read: ReadOutputs, split: str) -> tuple[OnImages, ...]:
    """Return what a model's thresholds come to on images, in the order in which they are kept.

    Args:
        model: the model, with its thresholds, if any.
        read: what it has put out for the images; concepts that are known of none of these are left out.
        split: name of the split that they are of; of the one that the thresholds were set on nothing new is known.
    """
    if model.thresholds is None or model.thresholds.split == split:
        return ()
    said, chosen = statements(model, read), dict(model.thresholds.concepts)
    readings = dict(said.concepts)
    if model.thresholds.confidence is not None:
        chosen = {CONFIDENCE: model.thresholds.confidence, **chosen}
        readings[CONFIDENCE] = said.confidence
    return tuple(
        OnImages(name, one, at(readings[name], one.value, one.wanted))
        for name, one in chosen.items()
        if name in readings
    )
