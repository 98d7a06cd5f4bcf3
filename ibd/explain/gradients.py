"""Explanations from the gradient of a score, by the pixels or by the output of a layer."""

from __future__ import annotations

import abc
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ibd.distributed import progress
from ibd.errors import ConfigError, UnsupportedError, check_range
from ibd.explain.base import Call, Explainer, Explanation
from ibd.explain.baselines import Baseline, checked_baseline, covered_with, warn_of_scale
from ibd.explain.layers import Cut, cut, precise
from ibd.explain.targets import Target

Reduce = Literal["sum", "abs", "max_abs"]


class GradientExplainer(Explainer):
    """A number for every value of the input, or of a layer's output; the map is their sum over the channels.

    By a layer the channels' sums over the positions are the explanation's ``units`` (channel attribution), beside the
    map (spatial attribution).

    Args:
        layer: name of a module by whose output the score is explained; None takes the pixels.
        reduce: way in which channels become one map: "sum" keeps the sign, "abs" adds absolute values, "max_abs" takes
            the largest.
    """

    def __init__(self, layer: str | None = None, reduce: Reduce = "sum") -> None:
        if reduce not in ("sum", "abs", "max_abs"):
            raise ConfigError(f"reduce: '{reduce}' is not one of sum, abs, max_abs")
        self.layer, self.reduce = layer, reduce

    def explain(self, call: Call, image: Tensor) -> Explanation:
        """Return the map of each image."""
        attribution, at, extra = self.numbers(call, image)
        return self.finish(call, image, attribution, at.scores, extra)

    def numbers(self, call: Call, image: Tensor, target: Target | None = None) -> tuple[Tensor, Cut, dict[str, Tensor]]:
        """Return what every value accounts for, (B, K, C, h, w), the cut it was computed at, and further figures.

        Args:
            call: call with the model.
            image: (B, C, H, W).
            target: target, where it is not the call's.
        """
        with self.rules():
            at = cut(call, image, self.layer, target)
        return self.values(precise(at.gradients()), precise(at.value)), at, {}

    def rules(self) -> AbstractContextManager[Any]:
        """Return what the model runs under."""
        return nullcontext()

    @abc.abstractmethod
    def values(self, gradient: Tensor, value: Tensor) -> Tensor:
        """Return the numbers of (B, K, C, h, w) gradients by (B, C, h, w) values."""

    def finish(
        self, call: Call, image: Tensor, attribution: Tensor, scores: Tensor, extra: dict[str, Tensor] | None = None
    ) -> Explanation:
        """Return the explanation made of (B, K, C, h, w) numbers."""
        single = not call.target.many
        more: dict[str, Any] = {name: value[:, 0] if single else value for name, value in (extra or {}).items()}
        more = {"extra": more, **(layer_fields(self.layer, attribution, single) if self.layer is not None else {})}
        maps = self._reduced(attribution) if attribution.dim() == 5 else None
        return self.answer(call, maps, scores, size=(image.shape[2], image.shape[3]), **more)

    def _reduced(self, attribution: Tensor) -> Tensor:
        """Return the (B, K, h, w) maps of (B, K, C, h, w) numbers."""
        if self.reduce == "sum":
            return attribution.sum(2)
        return attribution.abs().sum(2) if self.reduce == "abs" else attribution.abs().amax(2)


def layer_fields(layer: str, attribution: Tensor, single: bool) -> dict[str, object]:
    """Return the fields of an `Explanation` that say what each channel of a layer accounts for.

    Args:
        layer: name of the layer.
        attribution: (B, K, C, h, w), or (B, K, D) of a layer that is no map.
        single: whether the dimension of the targets is left out.

    Raises:
        UnsupportedError: numbers of another shape.
    """
    if attribution.dim() not in (3, 5):
        shape = tuple(attribution.shape[:1] + attribution.shape[2:])
        raise UnsupportedError(
            f"layer '{layer}' returns a tensor of shape {shape}: a map (B, C, h, w) or a vector (B, D) is needed"
        )
    attribution = attribution.detach()
    units = attribution.flatten(3).sum(3) if attribution.dim() == 5 else attribution
    return {
        "units": units[:, 0] if single else units,
        "unit_names": [f"{layer} channel {index}" for index in range(units.shape[2])],
        "unit_maps": None if attribution.dim() == 3 else attribution[:, 0] if single else attribution,
    }


class Saliency(GradientExplainer):
    """``max_c |ds/dx_c|``: which pixels, when changed, change the score (Simonyan et al. 2014).

    Args:
        layer: name of a module by whose output the score is explained; None takes the pixels.
        reduce: way in which channels become one map: "max_abs" as published, "abs" adds absolute values, "sum" keeps
            the sign.
    """

    name = "saliency"

    def __init__(self, layer: str | None = None, reduce: Reduce = "max_abs") -> None:
        super().__init__(layer, reduce)

    def values(self, gradient: Tensor, value: Tensor) -> Tensor:
        """Return the gradient."""
        return gradient


class GradientTimesInput(GradientExplainer):
    """``sum_c x_c ds/dx_c``, signed; adds up to the score for a network of ReLUs without biases."""

    name = "gradient_input"

    def values(self, gradient: Tensor, value: Tensor) -> Tensor:
        """Return the gradient times the value."""
        return gradient * value.unsqueeze(1)


class Sensitivity(GradientExplainer):
    """``sum_c (ds/dx_c)^2``: explains how the score varies, not what it is made of (Montavon et al. 2018)."""

    name = "sensitivity"

    def values(self, gradient: Tensor, value: Tensor) -> Tensor:
        """Return the squared gradient."""
        return gradient.square()


class IntegratedGradients(GradientExplainer):
    """``(x - x') * mean of ds/dx`` on the straight way from x' to x (Sundararajan et al. 2017); signed.

    ``extra["completeness"]`` is how far the attributions are from adding up to the difference of the scores of x and
    x', in units of the score. By a layer, x is the output of the layer for the image, and x' that for the baseline.

    Args:
        layer: name of a module by whose output the score is explained; None takes the pixels.
        reduce: way in which channels become one map: "sum" keeps the sign, "abs" adds absolute values, "max_abs" takes
            the largest.
        steps: nodes of the Gauss-Legendre quadrature.
        baseline: x': a value of every pixel, 0 is black; one for each channel; an image (C, H, W); or "black", "mean",
            the mean color of each image, or "blur", see `ibd.explain.baselines.covered_with`.

    Raises:
        ConfigError: none of these, or fewer than one step.
    """

    name = "integrated_gradients"

    def __init__(
        self, layer: str | None = None, reduce: Reduce = "sum", steps: int = 50, baseline: Baseline = 0.0
    ) -> None:
        super().__init__(layer, reduce)
        check_range("steps", steps, least=1)
        self.steps, self.baseline = steps, checked_baseline(baseline)

    def check_scale(self, image: Tensor) -> None:
        """Warn where a black or gray baseline is not what it says."""
        warn_of_scale(self.name, image, self.baseline)

    def values(self, gradient: Tensor, value: Tensor) -> Tensor:
        """Return the mean gradient times the way."""
        return gradient * value.unsqueeze(1)

    def numbers(self, call: Call, image: Tensor, target: Target | None = None) -> tuple[Tensor, Cut, dict[str, Tensor]]:
        """Return what every value accounts for, the cut, and the completeness."""
        at = cut(call, image, self.layer, target, replay=True)
        value = at.value.detach()
        start = covered_with(image, self.baseline)
        if self.layer is not None:
            start = cut(call, start, self.layer, at.target).value.detach()
        nodes, weights = np.polynomial.legendre.leggauss(self.steps)
        mean: Tensor | None = None
        for node, weight in progress(list(zip(nodes.tolist(), weights.tolist(), strict=True)), self.name):
            part = precise(at.gradients_at(start + (node + 1) / 2 * (value - start))[1]) * (weight / 2)
            mean = part if mean is None else mean.add_(part)
        assert mean is not None
        values = self.values(mean, precise(value - start))
        with torch.no_grad():
            difference = at.scores - at.at(start)
        return values, at, {"completeness": values.flatten(2).sum(2) - difference.detach()}
