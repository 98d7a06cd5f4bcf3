"""What a model puts out for a whole split: all that calibration is computed from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ibd.data.base import ImageDataModule, Split
from ibd.models.cbm.finish import outputs
from ibd.types import Output

if TYPE_CHECKING:
    from ibd.models.lightning import InterpretableModule


class ReadOutputs(NamedTuple):
    """All of a split after one pass of a model."""

    scores: Tensor
    """(N, U) scores of the units."""
    concepts: Tensor
    """(N, K) true concepts, NaN where unknown."""
    labels: Tensor
    """(N,) int64."""
    logits: Tensor
    """(N, C) class logits."""

    def to(self, device: torch.device) -> ReadOutputs:
        """Return it on a device."""
        return ReadOutputs(*(part.to(device) for part in self))


@torch.no_grad()
def read_outputs(module: InterpretableModule, data: ImageDataModule, split: Split) -> ReadOutputs:
    """Return what a model puts out for every image of a split, in order, without augmentation; on the CPU."""
    return gathered(outputs(module, data, split), data, split)


def gathered(parts: Iterable[Output], data: ImageDataModule, split: Split) -> ReadOutputs:
    """Return the outputs of the batches of a split, which are all of it in order, together; on the CPU."""
    kept = [(output.units.scores.float().cpu(), output.logits.float().cpu()) for output in parts]
    scores, logits = (torch.cat(same) for same in zip(*kept, strict=True))
    dataset = data.dataset(split)
    return ReadOutputs(scores, dataset.concepts, dataset.labels, logits)
