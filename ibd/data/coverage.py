"""What a split does not show: classes without an image, concepts that are never known or never differ."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from torch import Tensor

from ibd.errors import DataError
from ibd.printing import shown

_LONG = 8
"""More names than this are cut short in a message."""


class SilentConcepts(NamedTuple):
    """The names of the concepts from which nothing can be learned, by why."""

    unknown: list[str]
    """Known of no image."""
    absent: list[str]
    """Present in no image of which they are known."""
    present: list[str]
    """Absent from no image of which they are known."""
    constant: list[str]
    """Quantities that are the same in all images of which they are known."""


def silent_concepts(concepts: Tensor, names: Sequence[str], numbers: Collection[int] = ()) -> SilentConcepts:
    """Return the concepts that are not present in some images and absent from others, or do not differ.

    Args:
        concepts: (N, K), present above 0.5, absent below; NaN and 0.5, unknown and undecided, are neither.
        names: the K concepts.
        numbers: which of them are quantities.
    """
    positive, negative = (concepts > 0.5).any(0), (concepts < 0.5).any(0)
    constant = positive.new_zeros(positive.shape)
    for number in numbers:
        known = concepts[:, number][~concepts[:, number].isnan()]
        constant[number] = len(known) > 0 and bool(known.min() == known.max())
        positive[number] = negative[number] = len(known) > 0
    flags = (~(positive | negative), negative & ~positive, positive & ~negative, constant)
    return SilentConcepts(
        *([name for name, silent in zip(names, flag.tolist(), strict=True) if silent] for flag in flags)
    )


def untaught(
    concepts: Tensor, names: Sequence[str], unknown_differs: bool = False, numbers: Collection[int] = ()
) -> str:
    """Return in words which concepts teach nothing, and why; nothing where all teach something.

    Args:
        concepts: (N, K), as of `silent_concepts`, of the training images.
        names: the K concepts.
        unknown_differs: a concept that is present in some images and unknown in the others teaches what they show, as
            for a model that learns from examples alone.
        numbers: which of them are quantities.

    Raises:
        DataError: none teaches anything.
    """
    silent = silent_concepts(concepts, names, numbers)
    if unknown_differs:
        everywhere = {name for name, always in zip(names, (concepts > 0.5).all(0).tolist(), strict=True) if always}
        silent = silent._replace(present=[name for name in silent.present if name in everywhere])
    reasons = ("never known", "never present", "never absent", "never different")
    said = "; ".join(f"{why}: {listed(some)}" for some, why in zip(silent, reasons, strict=True) if some)
    if sum(map(len, silent)) == len(names):
        raise DataError(f"the concepts of the training images teach nothing: {said}")
    return f"the training images teach nothing about these concepts: {said}" if said else ""


def missing_classes(labels: Tensor, names: Sequence[str]) -> list[str]:
    """Return the classes of which (N,) `labels` has no image."""
    there = set(labels.tolist())
    return [name for label, name in enumerate(names) if label not in there]


def listed(names: Sequence[str]) -> str:
    """Return names for a message, cut short where there are many."""
    more = f", ... ({len(names)} in all)" if len(names) > _LONG else ""
    return ", ".join(f"'{shown(name)}'" for name in names[:_LONG]) + more
