"""Explanations by looking at less: what the score loses where the image is covered.

Zeiler & Fergus 2014 (occlusion), Petsiuk et al. 2018 (RISE). No gradient is taken: any model will do. A few hundred to
a few thousand passes for each image, `batch_size` at a time, so that memory does not grow with their number; several
targets share them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.distributed import progress
from ibd.errors import ConfigError, check_range
from ibd.explain.activations import chunked
from ibd.explain.base import Call, Explainer, Explanation
from ibd.explain.baselines import Baseline, checked_baseline, covered_with, warn_of_scale
from ibd.explain.layers import einsum, precise


class Occlusion(Explainer):
    """The score that is lost where a window covers the image, averaged over the windows that cover a pixel.

    Windows start every `stride` pixels, and the last ones end at the border: every pixel is covered.

    Args:
        window: side in pixels, or rows and columns; None takes an eighth of each side of the image.
        stride: pixels between windows, or two numbers; None takes half a window.
        baseline: values that the window shows, see `ibd.explain.baselines.covered_with`.
        batch_size: covered images in one pass.

    Raises:
        ConfigError: a size that is not positive, a stride that leaves gaps, an unknown baseline.
    """

    name = "occlusion"

    def __init__(
        self,
        window: int | tuple[int, int] | None = None,
        stride: int | tuple[int, int] | None = None,
        baseline: Baseline = "mean",
        batch_size: int = 64,
    ) -> None:
        check_range("batch_size", batch_size, least=1)
        for key, value in (("window", window), ("stride", stride)):
            for side in () if value is None else _pair(value):
                check_range(key, side, least=1)
        self.baseline = checked_baseline(baseline)
        self.window, self.stride, self.batch_size = window, stride, batch_size

    def check_scale(self, image: Tensor) -> None:
        """Warn where a black or gray baseline is not what it says."""
        warn_of_scale(self.name, image, self.baseline)

    def explain(self, call: Call, image: Tensor) -> Explanation:
        """Return the maps, of one pass on the clean images and one for each window."""
        rows, columns = self._spans(image)
        with torch.no_grad():
            output = call.output(image)
            target = call.target.pin(output)
            clean = precise(target.scores(output))
            cover, count = covered_with(image, self.baseline), len(rows) * len(columns)
            pinned, lost = target.repeat(count), []
            for part in _progress(len(image) * count, self.batch_size, "occlusion"):
                index = torch.arange(part.start, part.stop, device=image.device)
                source, place = index // count, index % count
                hidden = rows[place // len(columns)].unsqueeze(2) & columns[place % len(columns)].unsqueeze(1)
                mixed = torch.where(hidden.unsqueeze(1), cover[source], image[source])
                lost.append(clean[source] - precise(call.scores(mixed, pinned.select(part))))
            losses = torch.cat(lost).view(len(image), len(rows), len(columns), -1)
            down, across = rows.to(losses.dtype), columns.to(losses.dtype)
            total = einsum("brck,rh,cw->bkhw", losses, down, across)
            return self.answer(call, total / (down.sum(0)[:, None] * across.sum(0)), clean)

    def _spans(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return which rows each of R windows covers, (R, H) bool, and which columns, (C, W)."""
        sides = (image.shape[2], image.shape[3])
        windows = tuple(max(1, side // 8) for side in sides) if self.window is None else _pair(self.window)
        windows = tuple(min(window, side) for window, side in zip(windows, sides, strict=True))
        strides = tuple(max(1, window // 2) for window in windows) if self.stride is None else _pair(self.stride)
        spans = []
        for side, window, stride in zip(sides, windows, strides, strict=True):
            if stride > window:
                raise ConfigError(f"occlusion: a stride of {stride} leaves gaps between windows of {window} pixels")
            starts = sorted({*range(0, side - window, stride), side - window})
            start, pixel = torch.tensor(starts)[:, None], torch.arange(side)
            spans.append(((pixel >= start) & (pixel < start + window)).to(image.device))
        return spans[0], spans[1]


class Rise(Explainer):
    """The mean score of randomly covered images, over those in which a pixel is seen: sum(score * mask) / (N * keep).

    A mask is a coarse random grid of ones and zeros, enlarged bilinearly and shifted at random. All images see the
    same masks. The published map has a large constant part, the mean score, so that only its differences
    mean something. Here scores count from their mean: above 0, seeing a pixel makes the score higher than it mostly is.

    Args:
        masks: number of masks N. The noise of the map falls with its square root.
        cells: cells of the coarse grid, along each side of the image.
        keep: probability of a one.
        baseline: values that are seen where a mask is 0, see `ibd.explain.baselines.covered_with`; the authors' code
            multiplies normalized images, which shows the mean.
        seed: seed of the masks.
        batch_size: covered images in one pass.
        centered: whether scores are counted from their mean; False gives the published map.

    Raises:
        ConfigError: a number out of its range, or an unknown baseline.
    """

    name = "rise"

    def __init__(
        self,
        masks: int = 4000,
        cells: int = 7,
        keep: float = 0.5,
        baseline: Baseline = "mean",
        seed: int = 0,
        batch_size: int = 64,
        centered: bool = True,
    ) -> None:
        for key, value in (("masks", masks), ("cells", cells), ("batch_size", batch_size)):
            check_range(key, value, least=1)
        if not 0 < keep < 1:
            raise ConfigError(f"keep: {keep} given, a probability between 0 and 1 is needed")
        self.masks, self.cells, self.keep, self.baseline = masks, cells, keep, checked_baseline(baseline)
        self.seed, self.batch_size, self.centered = seed, batch_size, centered

    def check_scale(self, image: Tensor) -> None:
        """Warn where a black or gray baseline is not what it says."""
        warn_of_scale(self.name, image, self.baseline)

    def explain(self, call: Call, image: Tensor) -> Explanation:
        """Return the maps, of one pass on the clean images and one for each mask."""
        grids, shifts = self._draw((image.shape[2], image.shape[3]))
        with torch.no_grad():
            output = call.output(image)
            target = call.target.pin(output)
            clean = precise(target.scores(output))
            cover, together = covered_with(image, self.baseline), min(len(image), self.batch_size)
            maps = clean.new_zeros(*clean.shape, *image.shape[2:])
            mean, seen_often = torch.zeros_like(clean), torch.zeros_like(maps)
            per_batch = max(1, self.batch_size // together)
            steps = [(some, part) for some in chunked(len(image), together) for part in chunked(self.masks, per_batch)]
            for some, part in progress(steps, "rise"):
                masks = enlarge(grids[part], shifts[part], (image.shape[2], image.shape[3])).to(image)
                seen = masks[None, :, None]
                mixed = (seen * image[some, None] + (1 - seen) * cover[some, None]).flatten(0, 1)
                scores = precise(call.scores(mixed, target.select(some).repeat(len(masks))))
                scores = scores.view(-1, len(masks), scores.shape[1])
                maps[some] += einsum("nmk,mhw->nkhw", scores, masks.to(scores.dtype))
                mean[some] += scores.sum(1) / self.masks
                seen_often[some] += masks.to(scores.dtype).sum(0)
            if self.centered:
                maps -= mean[:, :, None, None] * seen_often
            return self.answer(call, maps / (self.masks * self.keep), clean)

    def _draw(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return the coarse grids (N, cells, cells) in {0, 1} and the shifts (N, 2) in pixels."""
        generator = torch.Generator().manual_seed(self.seed)
        grids = (torch.rand(self.masks, self.cells, self.cells, generator=generator) < self.keep).float()
        cell = torch.tensor([math.ceil(side / self.cells) for side in size])
        return grids, (torch.rand(self.masks, 2, generator=generator) * cell).long()


def enlarge(grids: Tensor, shifts: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the (N, H, W) masks in [0, 1] of coarse grids, enlarged by one cell more than the image and cut out.

    Args:
        grids: (N, s, s).
        shifts: (N, 2), rows and columns at which the cut begins; less than a cell.
        size: size H, W of the masks.
    """
    cells = grids.shape[1]
    whole = [(cells + 1) * math.ceil(side / cells) for side in size]
    large = F.interpolate(grids.unsqueeze(1), size=whole, mode="bilinear", align_corners=False).squeeze(1)
    rows = shifts[:, 0, None] + torch.arange(size[0])
    columns = shifts[:, 1, None] + torch.arange(size[1])
    return large[torch.arange(len(grids))[:, None, None], rows[:, :, None], columns[:, None, :]]


def _progress(total: int, size: int, title: str) -> Iterator[slice]:
    return iter(progress(list(chunked(total, size)), title))


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
