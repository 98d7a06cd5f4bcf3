"""``ibd explain ... concepts=5``: a class by the units, or the channels of a layer, that carried it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from ibd.app.terminal import save_figure
from ibd.comparison.images import balanced
from ibd.data.base import ImageDataModule
from ibd.errors import ConfigError, DataError
from ibd.explain.concept_figures import concept_figure
from ibd.explain.concepts import ConceptRelevance, concept_relevance, concept_sheet
from ibd.explain.targets import Target
from ibd.types import Batch, stack_samples

SEARCHED = 512
"""Images that patches are searched in, unless another number is asked for."""
_PATCHES = 4


def show_concepts(
    model: nn.Module,
    picture: Tensor,
    target: Target,
    title: str,
    given: dict[str, str],
    data: ImageDataModule | None,
    path: Path,
) -> Iterator[str]:
    """Draw which units or channels carried a class in an image, and yield lines on it for a person.

    Args:
        model: the model.
        picture: (1, 3, H, W) in [0, 1].
        target: class.
        title: class in words.
        given: options: "concepts", how many; "layer", whose channels, by default the units of a run; "search", in how
            many images patches are looked for.
        data: source of these; None draws no patches.
        path: file of the picture.

    Raises:
        ConfigError: a number that is none.
    """
    found = concept_relevance(model, picture, target, given.get("layer"), _number(given, "concepts", 5))
    sheet = None
    if data is not None:
        dataset, loader = _searched(data, _number(given, "search", SEARCHED))
        sheet = concept_sheet(model, found, loader, dataset, _PATCHES)
    yield f"{title} = {found.value:+.3f}"
    yield from _table(found)
    yield f"figure: {save_figure(concept_figure(picture[0], found, sheet, title), path)}"


def _table(found: ConceptRelevance) -> Iterator[str]:
    width = max(len("all others"), *(len(name) for name in found.names))
    for name, relevance in zip(found.names, found.relevance.tolist(), strict=True):
        yield f"  {name:<{width}}  {relevance:+.3f}"
    yield f"  {'all others':<{width}}  {found.rest:+.3f}"


def _searched(data: ImageDataModule, count: int) -> tuple[Any, DataLoader[Batch]]:
    """Return the data set that patches are searched in, training images where there are any, and a loader of some."""
    try:
        dataset: Any = data.dataset("train")
    except DataError:
        dataset = data.dataset("test")
    some: Sequence[int] = sorted(balanced(torch.as_tensor(dataset.labels), count, seed=0))
    loader: Any = DataLoader(Subset(dataset, some), batch_size=data.batch_size, collate_fn=stack_samples)
    return dataset, loader


def _number(given: dict[str, str], key: str, default: int) -> int:
    text = given.get(key, str(default))
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"explain: {key}: '{text}' given, a whole number from 1 is needed")
    return int(text)
