"""The mean of explanations of noisy images."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import torch
from torch import Tensor

from ibd.distributed import progress
from ibd.errors import ConfigError, check_range
from ibd.explain.base import Call, Explainer, Explanation
from ibd.explain.gradients import GradientExplainer
from ibd.explain.targets import Target
from ibd.registry import resolve

Kind = Literal["mean", "squared", "variance"]


class SmoothGrad(Explainer):
    """``1/n sum_i g(x + noise_i)`` (Smilkov et al. 2017), or the mean of the squares, or the variance.

    The targets are those of the clean image, also "the predicted class", and so is the explained value. Memory does not
    depend on n: samples are added up as they come. A gradient is averaged before its channels become one map.

    Args:
        base: name of the explainer that is averaged, or a dict of its name and options, such as
            ``{"name": "saliency", "reduce": "sum"}``.
        n: number of noisy images.
        noise: standard deviation of the noise, as a share of each image's range of values.
        kind: "mean", "squared" (the mean of squares) or "variance" (VarGrad, Adebayo et al. 2018).
        seed: seed of the noise, which is the same for every image, so that a batch and its images one by one agree.
        chunk: noisy images of each image that are run at a time.
        layer: layer of the base, as its own option; None as the base has it.

    Raises:
        ConfigError: an unknown kind or base, a number out of its range, or a layer beside a base that is an explainer.
    """

    name = "smoothgrad"

    def __init__(
        self,
        base: str | dict[str, Any] | Explainer = "saliency",
        n: int = 25,
        noise: float = 0.15,
        kind: Kind = "mean",
        seed: int = 0,
        chunk: int = 1,
        layer: str | None = None,
    ) -> None:
        if kind not in ("mean", "squared", "variance"):
            raise ConfigError(f"kind: '{kind}' is not one of mean, squared, variance")
        check_range("n", n, least=2 if kind == "variance" else 1)
        check_range("noise", noise, least=0)
        check_range("chunk", chunk, least=1)
        if layer is not None and isinstance(base, Explainer):
            raise ConfigError(f"layer: '{layer}' needs a base given by name; '{base.name}' was made with its own layer")
        self.base = base if isinstance(base, Explainer) else _made(base, {} if layer is None else {"layer": layer})
        self.n, self.noise, self.mode, self.seed, self.chunk = n, noise, kind, seed, chunk

    def check_scale(self, image: Tensor) -> None:
        """Warn as the base would of the clean image: noisy ones leave its range."""
        self.base.check_scale(image)

    def explain(self, call: Call, image: Tensor) -> Explanation:
        """Return the mean map of each image."""
        asked = call.target
        with torch.no_grad():
            output = call.output(image)
            pinned = asked.pin(output)
            scores = pinned.scores(output)
        total = self._streamed(call, image, pinned)
        call.target = asked
        if isinstance(self.base, GradientExplainer):
            answer = self.base.finish(call, image, total, scores)
        else:
            answer = self.answer(call, total, scores, size=(image.shape[2], image.shape[3]))
        return dataclasses.replace(answer, method=self.name)

    def _streamed(self, call: Call, image: Tensor, target: Target) -> Tensor:
        """Return the mean, the mean of squares or the variance over the noisy images, added up one by one."""
        mean = squares = torch.zeros(())
        spread = self.noise * (image.amax((1, 2, 3), keepdim=True) - image.amin((1, 2, 3), keepdim=True))
        generator = torch.Generator().manual_seed(self.seed)
        for done in progress(range(0, self.n, self.chunk), self.name):
            count = min(self.chunk, self.n - done)
            noise = torch.stack([torch.randn(image.shape[1:], generator=generator) for _ in range(count)])
            noisy = image.unsqueeze(1) + spread.unsqueeze(1) * noise.to(image)
            maps = self._one(call, noisy.flatten(0, 1), target.repeat(count))
            for index, sample in enumerate(maps.view(len(image), count, *maps.shape[1:]).unbind(1), done + 1):
                if self.mode == "squared":
                    sample = sample.square()
                if index == 1:
                    mean, squares = sample.clone(), torch.zeros_like(sample)
                    continue
                off = sample - mean
                mean.add_(off, alpha=1 / index)
                if self.mode == "variance":
                    squares.addcmul_(off, sample - mean)
        return squares / self.n if self.mode == "variance" else mean

    def _one(self, call: Call, noisy: Tensor, target: Target) -> Tensor:
        """Return the attributions (b, K, C, h, w) or maps (b, K, H, W) of noisy images."""
        if isinstance(self.base, GradientExplainer):
            return self.base.numbers(call, noisy, target)[0]
        call.target = target
        maps = self.base.explain(call, noisy).map
        if maps is None:
            raise ConfigError(f"smoothgrad: '{self.base.name}' has no maps to average")
        return maps if target.many else maps.unsqueeze(1)


def _made(base: str | dict[str, Any], more: dict[str, Any]) -> Explainer:
    """Return the explainer that a name, or a dict of its name and options, stands for."""
    options = {"name": base} if isinstance(base, str) else dict(base)
    name = options.pop("name", "saliency")
    made: Explainer = resolve("explainers", name)(**options, **more)
    return made
