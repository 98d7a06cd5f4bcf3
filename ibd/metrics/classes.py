"""Measures of predicted classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class BalancedAccuracy(Metric):
    """The mean over classes of the share of a class's images that is predicted right.

    Over the classes that have images: one that is absent has no share, and would count as 0 as soon as a single image
    is taken for it. NaN before the first image.

    Args:
        classes: number of classes.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    right: Tensor
    images: Tensor

    def __init__(self, classes: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name in ("right", "images"):
            self.add_state(name, torch.zeros(classes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Count a batch.

        Args:
            predicted: (B, C) logits, or (B,) classes.
            labels: (B,) int64.
        """
        chosen = predicted.argmax(1) if predicted.ndim > 1 else predicted
        of_class = labels.unsqueeze(1) == torch.arange(len(self.images), device=labels.device)
        self.images += of_class.sum(0)
        self.right += (of_class & (chosen == labels).unsqueeze(1)).sum(0)

    def compute(self) -> Tensor:
        """Return the mean share."""
        there = self.images > 0
        return (self.right[there] / self.images[there]).mean()


class AccuracyByHead(Metric):
    """The accuracy of each of several heads on the same images, and its mean over them.

    Args:
        names: names of the M heads, to which "accuracy_" is put.
        mean: name of the mean over them.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    right: Tensor
    images: Tensor

    def __init__(self, names: Sequence[str], mean: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.names, self.mean = list(names), mean
        self.add_state("right", torch.zeros(len(self.names), dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("images", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, predicted: Tensor, labels: Tensor) -> None:
        """Count a batch.

        Args:
            predicted: (M, B, C) logits.
            labels: (B,) int64.
        """
        self.right += (predicted.argmax(2) == labels).sum(1)
        self.images += len(labels)

    def compute(self) -> dict[str, Tensor]:
        """Return the share that is right by ``accuracy_NAME``, and the mean over heads."""
        share = self.right / self.images
        return {
            **{f"accuracy_{name}": value for name, value in zip(self.names, share, strict=True)},
            self.mean: share.mean(),
        }
