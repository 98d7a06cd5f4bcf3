"""How much of a model's accuracy is left under changes of its images, by their size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ibd.distributed import progress
from ibd.errors import ConfigError, DataError
from ibd.explain.activations import device_of
from ibd.explain.base import Call, Cost, undisturbed
from ibd.explain.fooling.attacks import Norm, fgsm, pgd, predicted, sizes
from ibd.explain.fooling.minimal import deepfool
from ibd.explain.layer_features import batch_of
from ibd.explain.targets import Target

COLUMNS = ("noise", "fgsm", "pgd", "pgd, rounded")
"""What images are changed by; the last one after rounding to 256 levels, as a file has them."""


@dataclass(frozen=True)
class Robustness:
    """What is left of a model's accuracy.

    Attributes:
        norm: norm in which changes are measured.
        radii: (R,) sizes of the changes.
        clean: accuracy on the images as they are.
        accuracy: (R, 4) accuracy by size and `COLUMNS`.
        smallest: (n,) sizes of the smallest changes found that change the prediction (DeepFool); those of images that
            are not fooled at all are left out.
        images: number of images.
        cost: passes of one image.
    """

    norm: Norm
    radii: list[float]
    clean: float
    accuracy: Tensor
    smallest: Tensor
    images: int
    cost: Cost

    def within(self, share: float) -> float | None:
        """Return the size within which a share of all predictions change (DeepFool); None where fewer were changed."""
        count = max(1, math.ceil(share * self.images))
        return float(self.smallest.sort().values[count - 1]) if len(self.smallest) >= count else None

    def table(self) -> str:
        """Return the accuracies as text."""
        lines = [" ".join(f"{name:>12}" for name in ("size", *COLUMNS))]
        for radius, row in zip(self.radii, self.accuracy.tolist(), strict=True):
            size = f"{255 * radius:.3g}/255" if self.norm == "linf" else f"{radius:.3g}"
            lines.append(" ".join([f"{size:>12}", *(f"{value:>12.1%}" for value in row)]))
        return "\n".join(lines)


def robustness(
    model: nn.Module,
    images: Iterable[object],
    radii: Sequence[float],
    norm: Norm = "linf",
    steps: int = 10,
    seed: int = 0,
) -> Robustness:
    """Return how much of the accuracy is left when images are changed by so much.

    What PGD leaves is an upper bound of what the worst change of that size leaves. For each size an image takes
    steps + 7 forward and steps + 1 backward passes, and then those of `deepfool`.

    Args:
        model: ours, or any classifier of (B, 3, H, W) images in [0, 1], of two logits at least; it is left as it was.
        images: loader of a `Batch` with labels.
        radii: sizes of the changes.
        norm: norm in which they are measured.
        steps: steps of PGD.
        seed: seed of the noise and of where PGD begins.

    Raises:
        ConfigError: no size, or one that cannot be.
        DataError: no images.
        UnsupportedError: a model of one logit, or without gradients.
    """
    if not len(radii):
        raise ConfigError("robustness: at least one size of changes is needed")
    cost, right, kept, smallest = Cost(), list[Tensor](), list[Tensor](), list[Tensor]()
    for batch in progress(images, "changing images"):
        given = batch_of(batch)
        clean, label = given.image.to(device_of(model)), given.label.to(device_of(model))
        right.append((_predicted(model, clean, cost) == label).cpu())
        rows = [_accuracies(model, clean, label, radius, norm, steps, seed, cost) for radius in radii]
        kept.append(torch.stack(rows))
        least = deepfool(model, clean, norm)
        smallest.append(least.size[least.fooled].cpu())
        _add(cost, least.cost)
    if not right:
        raise DataError("robustness: there are no images")
    accuracy = torch.cat(kept, 2).double().mean(2)
    clean_share = float(torch.cat(right).double().mean())
    count = sum(map(len, right))
    return Robustness(norm, list(radii), clean_share, accuracy, torch.cat(smallest), count, cost)


def _accuracies(
    model: nn.Module, clean: Tensor, label: Tensor, radius: float, norm: Norm, steps: int, seed: int, cost: Cost
) -> Tensor:
    """Return which predictions are still right, (4, B) bool, by `COLUMNS`."""
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed)).sign().to(clean)
    noisy = (clean + radius * noise / sizes(noise, norm).view(-1, 1, 1, 1)).clamp(0, 1)
    once = fgsm(model, clean, radius, norm, label)
    worst = pgd(model, clean, radius, norm, label, steps=steps, seed=seed)
    for found in (once, worst):
        _add(cost, found.cost)
    said = [_predicted(model, noisy, cost), once.after, worst.after]
    said.append(_predicted(model, (255 * worst.image).round() / 255, cost))
    return torch.stack([classes == label for classes in said]).cpu()


def _predicted(model: nn.Module, image: Tensor, cost: Cost) -> Tensor:
    with undisturbed(model):
        call = Call(model, Target.predicted())
        classes = predicted(call, image)
    _add(cost, call.cost)
    return classes


def _add(total: Cost, more: Cost) -> None:
    total.forwards += more.forwards
    total.backwards += more.backwards
