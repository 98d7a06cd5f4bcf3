"""The penalties of images that are being made: those with a share are weighed when there is something to see."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ibd.errors import ConfigError
from ibd.explain.feature_visualization.penalties import Penalty, Weighted

_LEAD = 1 / 8
"""Share of the steps that are made without penalties, before what they take away is known."""


class Penalties:
    """The sum of penalties of B images, step by step.

    Args:
        penalties: penalties; of those with a share, the weight comes from the gain of each image over the first eighth
            of the steps, in which they are 0.
        steps: number of steps.
        ramp: share of the steps over which all grow from nothing.
        gray: the (B,) objective of gray images, asked once. Noise that is taken for the class from the start gains
            nothing on itself: what is gained counts from gray, or from the start, whichever is lower.

    Raises:
        ConfigError: shares of more than 1 in all, which would leave a gray image.
    """

    def __init__(
        self,
        penalties: Sequence[Penalty],
        steps: int,
        ramp: float = 0.0,
        gray: Callable[[], Tensor] | None = None,
    ) -> None:
        self._shared = [each for each in penalties if isinstance(each, Weighted) and each.weight is None]
        self._fixed = [each for each in penalties if not (isinstance(each, Weighted) and each.weight is None)]
        whole = sum(each.share for each in self._shared)
        if whole > 1 + 1e-6:
            raise ConfigError(f"penalties: their shares are {whole:g} in all: at most 1 can be taken away")
        self._lead, self._ramp = max(1, round(_LEAD * steps)), ramp * steps
        self._gray = gray
        self._first: Tensor | None = None
        self._best: Tensor | None = None
        self._weights: list[Tensor] = []

    def __call__(self, image: Tensor, values: Tensor, step: int) -> Tensor:
        """Return the sum over penalties and images.

        Args:
            image: (B, C, H, W) in [0, 1].
            values: (B,) objective of these.
            step: number of the step, from 0.
        """
        total = image.new_zeros(())
        for penalty in self._fixed:
            total = total + penalty(image).sum()
        if self._shared:
            sizes = [penalty.size(image) for penalty in self._shared]
            self._weigh(values.detach(), [size.detach() for size in sizes], step)
            total = total + sum((weight * size).sum() for weight, size in zip(self._weights, sizes, strict=True))
        return total * (min(1.0, step / self._ramp) if self._ramp else 1.0)

    def _weigh(self, values: Tensor, sizes: Sequence[Tensor], step: int) -> None:
        """Set the weights of images that have none once the lead is over; an image that gained nothing has to wait."""
        if self._first is None or self._best is None:
            self._first = values if self._gray is None else torch.minimum(values, self._gray().to(values))
            self._best = values
            self._weights = [torch.zeros_like(size) for size in sizes]
        self._best = torch.maximum(self._best, values)
        if step < self._lead:
            return
        gain = (self._best - self._first).to(sizes[0].dtype)
        for number, (penalty, size) in enumerate(zip(self._shared, sizes, strict=True)):
            weight = penalty.share * gain / size.clamp(min=torch.finfo(size.dtype).tiny)
            known = self._weights[number]
            self._weights[number] = torch.where((known == 0) & (size > 0), weight, known)
