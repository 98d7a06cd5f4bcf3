"""Explanations by a mask that is learned: the least that must be covered, or the part of a stated area that says most.

Fong & Vedaldi 2017 (meaningful perturbation), Fong, Patrick & Vedaldi 2019 (extremal perturbation). A coarse mask for
each image and target is fitted by gradient steps through the model, a pass there and back for each. Scores are counted
in what they lose where all is covered, so that a weight means the same for a logit of any size. A step is as long for
all masks, the gradient over its root mean square: no optimizer's state is shared, and a mask is the same in any batch.
"""

from __future__ import annotations

import abc
import math

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from ibd.distributed import progress
from ibd.errors import ConfigError, check_range
from ibd.explain.activations import chunked
from ibd.explain.base import Call, Explainer, Explanation
from ibd.explain.baselines import Baseline, checked_baseline, covered_with, warn_of_scale
from ibd.explain.layers import precise
from ibd.explain.scalars import dependent
from ibd.explain.targets import Target

_MOMENTUM = 0.9
_LEAST = 1e-12
_EARLY = 1e-3
"""Share of the weight of an area at the first step: what counts must stand out before the rest is cut away."""


class _LearnedMask(Explainer):
    """What both share: how a mask is fitted; what it is, and what is good, subclasses say.

    Args:
        steps: steps for each mask.
        cells: cells of the mask along each side of the image.
        baseline: values that are seen where the mask is 0, see `ibd.explain.baselines.covered_with`.
        rate: length of the first step; it falls to nothing.
        jitter: pixels by which the image is shifted at random in each step; None takes a 56th of its shorter side.
        seed: seed of these.
        batch_size: masks that are fitted together.
    """

    def __init__(
        self,
        steps: int,
        cells: int,
        baseline: Baseline,
        rate: float,
        jitter: int | None,
        seed: int,
        batch_size: int,
    ) -> None:
        for key, value in (("steps", steps), ("cells", cells), ("batch_size", batch_size)):
            check_range(key, value, least=1)
        check_range("rate", rate, above=0)
        check_range("jitter", jitter or 0, least=0)
        self.steps, self.cells, self.baseline = steps, cells, checked_baseline(baseline)
        self.rate, self.jitter, self.seed, self.batch_size = rate, jitter, seed, batch_size

    def check_scale(self, image: Tensor) -> None:
        """Warn where a black or gray baseline is not what it says."""
        warn_of_scale(self.name, image, self.baseline)

    def explain(self, call: Call, image: Tensor) -> Explanation:
        """Return the masks as maps; beside them the share of the image that they are, and of the score that is kept."""
        cover = covered_with(image, self.baseline)
        with torch.no_grad():
            output = call.output(image)
            target = call.target.pin(output)
            clean, none = precise(target.scores(output)), precise(call.scores(cover, target))
        count = clean.shape[1]
        rows = target.repeat(count)
        scale = (clean - none).abs().clamp(min=_LEAST)
        parts = list(chunked(len(image) * count, self.batch_size))
        masks, kept = [], []
        with progress(range(len(parts) * self.steps), self.name) as bar:
            for part in parts:
                index = torch.arange(part.start, part.stop, device=image.device)
                source, column = index // count, index % count
                fit = _Fit(call, image[source], cover[source], rows.select(part), column, scale[source, column])
                masks.append(self._fitted(fit, bar))
                kept.append((fit.score(masks[-1]) - none[source, column] / fit.scale).detach())
        shape = clean.shape
        maps, share = torch.cat(masks).view(*shape, *image.shape[2:]), torch.cat(kept).view(shape)
        shown = self._shown(maps)
        figures = {"area": shown.mean((2, 3)), "score_kept": torch.where(clean < none, -share, share)}
        extra = {name: values if call.target.many else values[:, 0] for name, values in figures.items()}
        return self.answer(call, shown, clean, extra=extra)

    def _fitted(self, fit: _Fit, bar: tqdm[int]) -> Tensor:
        """Return the fitted masks, (n, H, W), 1 where the image is seen."""
        generator = torch.Generator().manual_seed(self.seed)
        reach = min(fit.image.shape[2:]) // 56 if self.jitter is None else self.jitter
        shifts = torch.randint(-reach, reach + 1, (self.steps, 2), generator=generator).tolist()
        shape, like = (len(fit.image), self.cells, self.cells), fit.scale
        grid = torch.full(shape, self._start(), device=like.device, dtype=like.dtype)
        speed = torch.zeros_like(grid)
        for step, shift in enumerate(shifts):
            done = step / self.steps
            grid.requires_grad_()
            with torch.autocast(grid.device.type, enabled=False):
                mask = self._mask(grid, fit.image)
            score = dependent(fit.score(mask, (shift[0], shift[1])))
            loss = self._loss(score, grid, mask, done)
            fit.call.cost.backwards += len(grid)
            with torch.autocast(grid.device.type, enabled=False):
                slope = torch.autograd.grad(loss.sum(), grid)[0]
            speed = _MOMENTUM * speed + slope / slope.square().mean((1, 2), keepdim=True).sqrt().clamp(min=_LEAST)
            grid = (grid.detach() - self.rate * (1 - done) * speed).clamp(0, 1)
            bar.update()
        with torch.no_grad(), torch.autocast(grid.device.type, enabled=False):
            return self._mask(grid, fit.image)

    @abc.abstractmethod
    def _start(self) -> float:
        """Return what the cells are at first."""

    @abc.abstractmethod
    def _mask(self, grid: Tensor, image: Tensor) -> Tensor:
        """Return the (n, H, W) masks of (n, cells, cells)."""

    @abc.abstractmethod
    def _loss(self, score: Tensor, grid: Tensor, mask: Tensor, done: float) -> Tensor:
        """Return what is to be small, (n,), of the (n,) scores of the masked images; `done` goes from 0 to 1."""

    @abc.abstractmethod
    def _shown(self, mask: Tensor) -> Tensor:
        """Return the maps, large where it matters, of masks."""


class _Fit:
    """Images that are masked, and what is asked of each.

    Args:
        call: the call.
        image: (n, C, H, W).
        cover: (n, C, H, W) what is seen where nothing is.
        target: target of these images.
        column: (n,) which of its scores is each one's.
        scale: (n,) what scores are counted in.
    """

    def __init__(self, call: Call, image: Tensor, cover: Tensor, target: Target, column: Tensor, scale: Tensor) -> None:
        self.call, self.image, self.cover = call, image, cover
        self.target, self.column, self.scale = target, column, scale

    def score(self, mask: Tensor, shift: tuple[int, int] = (0, 0)) -> Tensor:
        """Return the scores, (n,), of images under masks (n, H, W), shifted by pixels down and to the right."""
        seen = mask.unsqueeze(1)
        mixed = _shifted(seen * self.image + (1 - seen) * self.cover, *shift)
        scores = self.call.scores(mixed.to(self.image.dtype), self.target)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        return scores.gather(1, self.column.unsqueeze(1))[:, 0] / self.scale


class MeaningfulPerturbation(_LearnedMask):
    """The least that must be covered so that the score falls (Fong & Vedaldi 2017): large where it must be.

    ``area mean(d) + smooth mean |grad d|^3 + score(d image covered)``, d from 0 to 1, with the score counted in what it
    loses where all is covered: covering a share of the image must take ``area`` times that share of the score.

    Args:
        steps: steps for each image and target.
        area: weight of what is covered. More covers less.
        smooth: weight of the differences between neighboring cells.
        cells: cells of the mask along each side of the image; between them it is interpolated.
        baseline: values that are seen where it is covered, see `ibd.explain.baselines.covered_with`.
        rate: length of the first step.
        jitter: pixels by which the image is shifted at random in each step; None takes a 56th of its shorter side.
        seed: seed of these.
        batch_size: masks that are fitted together.

    Raises:
        ConfigError: a number out of its range, or an unknown baseline.
    """

    name = "meaningful_perturbation"

    def __init__(
        self,
        steps: int = 100,
        area: float = 2.0,
        smooth: float = 0.2,
        cells: int = 16,
        baseline: Baseline = "blur",
        rate: float = 0.02,
        jitter: int | None = None,
        seed: int = 0,
        batch_size: int = 16,
    ) -> None:
        super().__init__(steps, cells, baseline, rate, jitter, seed, batch_size)
        check_range("area", area, least=0)
        check_range("smooth", smooth, least=0)
        self.area, self.smooth = area, smooth

    def _start(self) -> float:
        return 1.0

    def _mask(self, grid: Tensor, image: Tensor) -> Tensor:
        return _enlarged(grid, image)

    def _loss(self, score: Tensor, grid: Tensor, mask: Tensor, done: float) -> Tensor:
        differences = [(grid[:, 1:] - grid[:, :-1]), (grid[:, :, 1:] - grid[:, :, :-1])]
        rough = sum((each.abs().pow(3).flatten(1).sum(1) for each in differences), torch.zeros_like(score))
        return score + self.area * (1 - mask).mean((1, 2)) + self.smooth * rough / self.cells**2

    def _shown(self, mask: Tensor) -> Tensor:
        return 1 - mask


class ExtremalPerturbation(_LearnedMask):
    """The part of a stated area that keeps most of the score, or gives most (Fong, Patrick & Vedaldi 2019).

    The mask is smooth: every cell spreads as a kernel that is flat up to half of `sigma` and then falls as
    ``exp(-2 (u - 1/2)^2)``, and what is seen is the (soft) largest of these. Its values, sorted, are drawn to zeros and
    `area` ones, with a weight that grows: ``extra["area"]`` says what came out, ``extra["score_kept"]`` which share of
    the score is left.

    Args:
        steps: steps for each image and target.
        area: share of the image that is seen, above 0 and below 1.
        weight: weight of the area at the end, against a score counted in what it loses where all is covered.
        sigma: size of the kernel, as a share of the image's sides.
        cells: cells of the mask along each side of the image.
        baseline: values that are seen where it is covered, see `ibd.explain.baselines.covered_with`.
        rate: length of the first step.
        jitter: pixels by which the image is shifted at random in each step; None takes a 56th of its shorter side.
        seed: seed of these.
        batch_size: masks that are fitted together.

    Raises:
        ConfigError: a number out of its range, or an unknown baseline.
    """

    name = "extremal_perturbation"

    def __init__(
        self,
        steps: int = 100,
        area: float = 0.1,
        weight: float = 100.0,
        sigma: float = 0.1,
        cells: int = 16,
        baseline: Baseline = "blur",
        rate: float = 0.02,
        jitter: int | None = None,
        seed: int = 0,
        batch_size: int = 16,
    ) -> None:
        super().__init__(steps, cells, baseline, rate, jitter, seed, batch_size)
        if not 0 < area < 1:
            raise ConfigError(f"area: {area} given, a share above 0 and below 1 is needed")
        check_range("weight", weight, least=0)
        check_range("sigma", sigma, above=0)
        self.area, self.weight, self.sigma = area, weight, sigma

    def _start(self) -> float:
        return 0.5

    def _mask(self, grid: Tensor, image: Tensor) -> Tensor:
        return _enlarged(spread(grid, self.sigma * self.cells), image)

    def _loss(self, score: Tensor, grid: Tensor, mask: Tensor, done: float) -> Tensor:
        ranked = mask.flatten(1).sort(1).values
        wanted = torch.arange(ranked.shape[1], device=mask.device) >= round((1 - self.area) * ranked.shape[1])
        apart = (ranked - wanted.to(ranked.dtype)).square().mean(1)
        weight: float = self.weight * _EARLY ** (1 - done)
        return weight * apart - score

    def _shown(self, mask: Tensor) -> Tensor:
        return mask


def spread(grid: Tensor, sigma: float) -> Tensor:
    """Return the soft largest of the kernels of all cells, (n, s, s) of (n, s, s) in [0, 1].

    Args:
        grid: cells.
        sigma: size of the kernel in cells.
    """
    reach = max(1, math.ceil(2 * sigma))
    place = torch.arange(-reach, reach + 1, device=grid.device, dtype=grid.dtype)
    away = (place[:, None].square() + place.square()).sqrt() / sigma
    kernel = (-2 * (away - 0.5).clamp(min=0).square()).exp().flatten()
    around = F.unfold(grid.unsqueeze(1), 2 * reach + 1, padding=reach).view(len(grid), len(kernel), *grid.shape[1:])
    heard = around * kernel[:, None, None]
    loud = (20 * heard).softmax(1)
    return ((heard * loud).sum(1) / _most(kernel)).clamp(max=1)


def _most(kernel: Tensor) -> Tensor:
    """Return what the soft largest is where all cells are 1, so that a mask of ones is one."""
    return (kernel * (20 * kernel).softmax(0)).sum()


def _enlarged(grid: Tensor, image: Tensor) -> Tensor:
    return F.interpolate(grid.unsqueeze(1), size=image.shape[2:], mode="bilinear", align_corners=False).squeeze(1)


def _shifted(image: Tensor, down: int, right: int) -> Tensor:
    """Return images moved by pixels; what comes in at a border is the border."""
    reach = max(abs(down), abs(right))
    if not reach:
        return image
    height, width = image.shape[2:]
    padded = F.pad(image, (reach,) * 4, mode="replicate")
    return padded[:, :, reach - down : reach - down + height, reach - right : reach - right + width]
