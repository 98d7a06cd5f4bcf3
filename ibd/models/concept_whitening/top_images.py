"""The axes of a whitened latent space as data: which network has them, and the images that an axis responds to most."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ibd.errors import UnsupportedError
from ibd.models.concept_whitening.lightning import ConceptWhitening
from ibd.models.lightning import InterpretableModule


@dataclass(frozen=True)
class TopImage:
    """An image that is among those of a split that activate an axis most.

    Attributes:
        axis: index of the axis.
        name: name of the axis: its concept's, for the first K.
        rank: 0 for the most activating.
        index: index of the image in its split.
        sample: name of the image.
        score: the pooled activation.
        class_name: class name of the image.
        annotated: 1 where the image holds the axis's concept, 0 where it does not, NaN where nobody knows.
    """

    axis: int
    name: str
    rank: int
    index: int
    sample: str
    score: float
    class_name: str
    annotated: float


def require_axes(model: nn.Module) -> ConceptWhitening:
    """Return a model, whose units are axes of which the first are named for concepts.

    Raises:
        UnsupportedError: they are not.
    """
    if not isinstance(model, ConceptWhitening):
        kinds = model.network.unit_plural if isinstance(model, InterpretableModule) else "other"
        raise UnsupportedError(
            f"a {type(model).__name__} has no axes that stand for concepts (its units are {kinds}); a ConceptWhitening "
            "has"
        )
    return model
