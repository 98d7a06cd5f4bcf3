"""The axes of a whitened latent space as data: which network has them, and the images that an axis responds to most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ibd.errors import UnsupportedError


@dataclass(frozen=True)
class TopImage:
    """An image that is among those of a split that activate an axis most.

    Attributes:
        axis: its index.
        name: of the axis: its concept's, for the first K.
        rank: 0 for the most activating.
        index: of the image in its split.
        sample: what names the image.
        score: the pooled activation.
        class_name: of the image.
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


def require_axes(model: Any) -> None:
    """Check that a model's units are axes of which the first are named for concepts.

    Raises:
        UnsupportedError: they are not.
    """
    network = getattr(model, "network", None)
    kind = getattr(network, "unit_kind", "unit")
    kinds = getattr(network, "unit_plural", "other")
    if kind != "axis" or not hasattr(network, "concept_names"):
        raise UnsupportedError(
            f"a {type(model).__name__} has no axes that stand for concepts (its units are {kinds}); a ConceptWhitening "
            "has"
        )
