"""One change that fools a model on most images, and other models, too (Moosavi-Dezfooli et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ibd.distributed import progress
from ibd.errors import ConfigError, DataError, check_range
from ibd.explain.activations import device_of, images_of
from ibd.explain.base import Call, Cost, undisturbed
from ibd.explain.fooling.attacks import Norm, gradient_of, margin, predicted, sizes, two_logits, within
from ibd.explain.fooling.minimal import nearest_boundary
from ibd.explain.targets import Target

Method = Literal["gradient", "deepfool"]
_BATCH = 64
"""Images of a step along the gradient."""
_FOOLED = 1.0
"""Margin, in logits, from which on an image counts as fooled and is left alone."""


@dataclass(frozen=True)
class Universal:
    """A change of all images alike.

    Attributes:
        change: (3, H, W), on the CPU: of those after each time through the images, the one that fools on most.
        norm: norm of its budget.
        radius: largest size that was allowed.
        rates: share of the images that it was made of whose prediction it changes, after each time through them.
        images: number of these images.
        cost: passes of one image.
    """

    change: Tensor
    norm: Norm
    radius: float
    rates: list[float]
    images: int
    cost: Cost


def universal_perturbation(
    model: nn.Module,
    images: Iterable[object],
    radius: float,
    norm: Norm = "linf",
    method: Method = "gradient",
    enough: float = 0.95,
    epochs: int = 10,
    classes: int = 5,
    seed: int = 0,
) -> Universal:
    """Return a change that fools a model on as many images as can be found.

    "deepfool", as published: image after image that it does not fool yet, the smallest change that would (in L2,
    whatever the norm of the budget) is added, and the sum is brought back into the budget. An image takes two passes
    each time, and where it is not fooled yet `classes` + 2 for each of some steps of DeepFool. "gradient" (Shafahi et
    al. 2020): steps along the gradient of the mean margin of 64 images, of which those that are fooled by a logit have
    none; two passes forth and one back for an image each time.

    Args:
        model: ours, or any classifier of (B, 3, H, W) images in [0, 1], of two logits at least; it is left as it was.
        images: loader of a `Batch`, or of images (B, 3, H, W) of one size; all are kept in memory.
        radius: largest change, such as 10 / 255.
        norm: norm in which it is measured.
        method: "gradient" or "deepfool".
        enough: share of fooled images at which it stops.
        epochs: most times through the images.
        classes: classes of each image whose boundaries DeepFool looks at.
        seed: seed of the order of the images.

    Raises:
        ConfigError: a number, norm or method that cannot be.
        DataError: no images.
        UnsupportedError: a model of one logit, or without gradients.
    """
    check_range("radius", radius, above=0)
    check_range("epochs", epochs, least=1)
    for key, given, known in (("norm", norm, get_args(Norm)), ("method", method, get_args(Method))):
        if given not in known:
            raise ConfigError(f"fool: {key}: '{given}' is not one of {', '.join(known)}")
    every = [images_of(batch) for batch in progress(images, "images")]
    if not every:
        raise DataError("a universal perturbation needs at least one image")
    pixels, generator = torch.cat(every), torch.Generator().manual_seed(seed)
    change, rates = torch.zeros_like(pixels[:1], device=device_of(model)), list[float]()
    size = 5 * radius / (epochs * math.ceil(len(pixels) / _BATCH))
    with undisturbed(model):
        call, best = Call(model, Target.predicted()), change
        for epoch in range(epochs):
            order = torch.randperm(len(pixels), generator=generator)
            parts = torch.split(order, 1 if method == "deepfool" else _BATCH)
            for some in progress(parts, f"universal perturbation, time {epoch + 1}"):
                if method == "deepfool":
                    change = _improved(call, pixels[some], change, radius, norm, classes)
                else:
                    change = _ascended(call, pixels[some], change, radius, norm, size)
            rates.append(_rate(call, pixels, change))
            best = change if rates[-1] >= max(rates) else best
            if rates[-1] >= enough:
                break
    return Universal(best[0].detach().cpu(), norm, radius, rates, len(pixels), call.cost)


def _ascended(call: Call, image: Tensor, change: Tensor, radius: float, norm: Norm, size: float) -> Tensor:
    """Return a change one step further along the gradient of the mean margin of some images."""
    clean = image.to(change.device)
    own = predicted(call, clean)
    at = (clean + change).clamp(0, 1).requires_grad_()
    gained = margin(two_logits(call, at), own).clamp(max=_FOOLED)
    gradient = gradient_of(call, gained, at).sum(0, keepdim=True)
    if norm == "linf":
        return within(change + size * gradient.sign(), radius, norm)
    length = sizes(gradient, "l2").clamp(min=torch.finfo(gradient.dtype).tiny)
    return within(change + size * gradient / length, radius, norm)


def _improved(call: Call, image: Tensor, change: Tensor, radius: float, norm: Norm, classes: int) -> Tensor:
    """Return a change that also fools one more image, as far as the budget allows."""
    clean = image.to(change.device)
    moved = (clean + change).clamp(0, 1)
    if int(predicted(call, moved)) != int(predicted(call, clean)):
        return change
    further, _, _ = nearest_boundary(call, moved, "l2", classes, steps=10, overshoot=0.1)
    return within(change + (further - moved), radius, norm)


def _rate(call: Call, pixels: Tensor, change: Tensor, batch_size: int = 64) -> float:
    """Return the share of images whose prediction a change changes."""
    return float(
        torch.cat([_changed(call, part.to(change.device), change) for part in torch.split(pixels, batch_size)]).mean()
    )


def _changed(call: Call, image: Tensor, change: Tensor) -> Tensor:
    return (predicted(call, (image + change).clamp(0, 1)) != predicted(call, image)).double().cpu()


@dataclass(frozen=True)
class Transfer:
    """How often the change made for one model fools another, on images that none was made of.

    Attributes:
        names: names of the M models.
        rates: (M + 1, M) share of the images whose prediction changes: a row for each model that the change was made
            for, and the last one for noise of the same size; a column for each model that it was tried on.
        images: number of images.
    """

    names: list[str]
    rates: Tensor
    images: int

    def table(self) -> str:
        """Return the rates as text, in percent."""
        wide = max(8, *(len(name) for name in self.names))
        head = " ".join(f"{name:>{wide}}" for name in ("made for", *self.names))
        lines = [
            " ".join([f"{name:>{wide}}", *(f"{100 * rate:>{wide}.0f}" for rate in row)])
            for name, row in zip([*self.names, "noise"], self.rates.tolist(), strict=True)
        ]
        return "\n".join([head, *lines])


def transfer_table(
    models: Sequence[nn.Module],
    names: Sequence[str],
    changes: Sequence[Universal],
    images: Iterable[object],
    seed: int = 0,
) -> Transfer:
    """Return how often each model's universal perturbation fools each model.

    Args:
        models: M models of the same classes and images, which are left as they were.
        names: their names.
        changes: a perturbation made for each, with one budget.
        images: loader of a `Batch`, or of images: others than the perturbations were made of.
        seed: seed of the noise: random signs, or a random direction, of the whole budget.

    Raises:
        ConfigError: other numbers of models, names and changes, or budgets that differ.
        DataError: no images.
    """
    if not len(models) == len(names) == len(changes) or not models:
        raise ConfigError(f"{len(models)} models, {len(names)} names, {len(changes)} perturbations: one of each needed")
    if len({(change.norm, change.radius) for change in changes}) > 1:
        raise ConfigError("perturbations of one budget are needed: others cannot be compared")
    first = changes[0]
    noise = torch.randn(first.change.shape, generator=torch.Generator().manual_seed(seed))
    whole = noise.sign() if first.norm == "linf" else noise / sizes(noise[None], "l2")[0]
    rows = [*(change.change for change in changes), first.radius * whole]
    fooled = torch.zeros(len(rows), len(models), dtype=torch.float64)
    count = 0
    for batch in progress(images, "unseen images"):
        clean = images_of(batch)
        count += len(clean)
        for column, model in enumerate(models):
            there = clean.to(device_of(model))
            with undisturbed(model):
                call = Call(model, Target.predicted())
                own = predicted(call, there)
                for row, change in enumerate(rows):
                    moved = (there + change.to(there.device, there.dtype)).clamp(0, 1)
                    fooled[row, column] += float((predicted(call, moved) != own).sum())
    if not count:
        raise DataError("a transfer table needs images")
    return Transfer(list(names), fooled / count, count)
