"""DeepDream (Mordvintsev et al. 2015): what a layer sees in an image, made stronger, at several scales one by one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.distributed import progress as progress_bar
from ibd.errors import ConfigError, UnsupportedError, check_range
from ibd.explain.base import check_image, undisturbed
from ibd.explain.feature_visualization.maximize import Visualization, maximize_activation, scorer
from ibd.explain.feature_visualization.objectives import Objective
from ibd.explain.layouts import Layout

_SMALLEST = 16
"""Pixels of the shorter side at the smallest scale, at least."""


def deep_dream(
    model: nn.Module,
    image: Tensor,
    objective: Objective,
    octaves: int = 4,
    scale: float = 1.4,
    steps: int = 20,
    lr: float = 0.01,
    jitter: float = 1 / 8,
    seed: int = 0,
    progress: bool = True,
    layout: Layout = "auto",
) -> Visualization:
    """Return images in which an objective was raised, first at a small size, then in finer and finer detail.

    At each scale, what was added at the last one is enlarged and laid over the image; then come steps along the
    gradient, which is divided by its mean absolute value. The model is left as it was; a step is a pass forth and back.
    An interrupt (Ctrl-C) ends the steps; what was dreamed by then is returned, at the size of the image.

    Args:
        model: ours, or any of (B, C, H, W) images in [0, 1] that takes images of several sizes, else `octaves` is 1.
        image: (C, H, W) or (B, C, H, W) to dream of; of any size that fits the memory.
        objective: objective that is raised; ``Objective.layer(NAME)``, the mean square of a layer, is DeepDream's.
        octaves: number of scales, each larger than the one before by `scale`; fewer where an image would get small.
        scale: ratio of two scales.
        steps: steps at each.
        lr: mean change of a pixel by a step.
        jitter: largest shift of the image before a step, around its edges, as a share of its sides.
        seed: seed of the shifts.
        progress: whether to show a bar, if it takes more than two seconds.
        layout: axis of the layers' output that holds the channels, as of `maximize_activation`.

    Raises:
        ConfigError: a number out of its range, or no such layer, channel or class.
        UnsupportedError: the model does not take images of the smaller sizes, or the objective does not depend on them.
    """
    image = image if image.dim() == 4 else image.unsqueeze(0)
    check_image(image)
    check_range("octaves", octaves, least=1)
    check_range("scale", scale, above=1.0)
    check_range("steps", steps, least=1)
    check_range("lr", lr, above=0.0)
    check_range("jitter", jitter, least=0.0)
    generator, resolved = torch.Generator().manual_seed(seed), objective.resolve(model)
    sizes = _sizes((image.shape[2], image.shape[3]), octaves, scale)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(undisturbed(model))
        score = _told(scorer(model, resolved, layout), len(sizes) > 1)
        base = image.detach().clone().float()
        added, trace = torch.zeros_like(base), []
        bar = progress_bar(range(len(sizes) * steps), "dreaming", shown=progress)
        try:
            for step in bar:
                if step % steps == 0:
                    small = _resized(base, sizes[step // steps])
                    dreamed = (small + _resized(added, sizes[step // steps])).clamp(0, 1)
                dreamed, values = _step(dreamed, score, lr, jitter, generator)
                added = dreamed - small
                trace.append(values)
        except KeyboardInterrupt:
            if not trace:
                raise
        dreamed = (base + _resized(added, sizes[-1])).clamp(0, 1)
        with torch.no_grad():
            value = score(dreamed)
            probable = resolved.probability
            probability = None if probable is None else scorer(model, probable, layout)(dreamed)
    settings = {"objective": str(objective), "octaves": len(sizes), "scale": scale, "steps": steps, "lr": lr}
    settings |= {"seed": seed, "size": sizes[-1]}
    complete = len(trace) == len(sizes) * steps
    return Visualization(dreamed, value, torch.stack(trace), settings, probability, complete)


def maximize_in_octaves(
    model: nn.Module,
    objective: Objective,
    size: int | tuple[int, int],
    octaves: int = 3,
    scale: float = 1.4,
    steps: int = 128,
    **options: Any,
) -> Visualization:
    """Return images as of `maximize_activation`, made small, enlarged and made on: few large shapes, then their detail.

    Args:
        model: model, which takes images of several sizes.
        objective: objective to maximize.
        size: H and W of the last images, or one number for both.
        octaves: number of sizes; fewer where an image would get small.
        scale: ratio of two sizes.
        steps: steps at each.
        options: other options of `maximize_activation`; no penalty that is made for one size.

    Raises:
        ConfigError: as of `maximize_activation`; or an image to start from.
    """
    check_range("octaves", octaves, least=1)
    check_range("scale", scale, above=1.0)
    if "start" in options:
        raise ConfigError("start: octaves start from noise; deep_dream starts from an image")
    whole = (size, size) if isinstance(size, int) else (size[0], size[1])
    made: Visualization | None = None
    for small in _sizes(whole, octaves, scale):
        start: Literal["noise"] | Tensor = "noise" if made is None else _resized(made.image, small).clamp(0, 1)
        made = maximize_activation(model, objective, small, steps=steps, start=start, **options)
    assert made is not None
    return made


def _step(
    image: Tensor, score: Callable[[Tensor], Tensor], lr: float, jitter: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return images after a step along the gradient, and the (B,) objective before it."""
    share = 2 * torch.rand(2, generator=generator) - 1
    shift = [round(float(part) * jitter * side) for part, side in zip(share, image.shape[2:], strict=True)]
    moved = image.roll(shift, (2, 3)).requires_grad_()
    values = score(moved)
    if not values.requires_grad:
        raise UnsupportedError("the objective does not depend on the image: nothing can be maximized")
    (gradient,) = torch.autograd.grad(values.sum(), moved)
    mean = gradient.abs().flatten(1).mean(1).clamp(min=torch.finfo(gradient.dtype).tiny)
    stepped = (moved.detach() + lr * gradient / mean.view(-1, 1, 1, 1)).clamp(0, 1)
    return stepped.roll([-places for places in shift], (2, 3)), values.detach()


def _sizes(size: tuple[int, int], octaves: int, scale: float) -> list[tuple[int, int]]:
    """Return heights and widths from the smallest scale to the whole."""
    sizes = [(round(size[0] / scale**step), round(size[1] / scale**step)) for step in range(octaves)]
    return [small for small in reversed(sizes) if small == size or min(small) >= _SMALLEST]


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    if image.shape[2:] == size:
        return image
    return F.interpolate(image, size=size, mode="bilinear", antialias=True, align_corners=False)


def _told(score: Callable[[Tensor], Tensor], several: bool) -> Callable[[Tensor], Tensor]:
    """Return a scorer that says what to do where a model takes one size of images alone."""

    def asked(image: Tensor) -> Tensor:
        try:
            return score(image)
        except (RuntimeError, AssertionError, ValueError) as error:
            if not several:
                raise
            size = " x ".join(map(str, image.shape[2:]))
            raise UnsupportedError(
                f"octaves: the model does not take images of {size}: octaves=1 dreams at one size ({str(error)[:80]})"
            ) from error

    return asked
