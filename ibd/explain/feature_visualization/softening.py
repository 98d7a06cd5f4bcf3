"""Gradients out of focus: an image that large shapes are drawn into before fine ones (Oygard 2015)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ibd.errors import check_range
from ibd.explain.baselines import blurred

_LEAST = 0.2
"""A smaller sigma, in pixels, changes nothing."""


def softening(sigma: float | tuple[float, float], steps: int) -> Callable[[Tensor, int], Tensor]:
    """Return image and step -> the same image, whose gradient is convolved with a Gaussian on its way back.

    Args:
        sigma: sigma in pixels, at all steps; or at the first and the last, and evenly less, or more, between them.
        steps: number of steps.

    Raises:
        ConfigError: a negative sigma.
    """
    first, last = sigma if isinstance(sigma, tuple) else (sigma, sigma)
    check_range("gradient_blur", min(first, last), least=0.0)

    def softened(image: Tensor, step: int) -> Tensor:
        width = first + (last - first) * step / max(1, steps - 1)
        if width >= _LEAST and image.requires_grad:
            image.register_hook(lambda gradient: blurred(gradient, width))  # type: ignore[no-untyped-call]
        return image

    return softened
