"""What a model says while the pixels of an image are taken away by the order of a map, from either end.

One table serves several metrics: taking the highest first (MoRF) is deletion and pixel flipping; taking the lowest
first (LeRF) up to a share of 1 - t leaves the image that insertion has reached at t, before the same baseline. Both
begin with the whole image and end with the baseline, which all explainers share: each distinct image is asked once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ibd.comparison.probes.imputation import linear_imputation, pull_push
from ibd.comparison.probes.network import Predictor, Values
from ibd.comparison.probes.seeding import Id, seeded_normal
from ibd.errors import ConfigError, DataError, check_range, did_you_mean
from ibd.explain.baselines import covered_with
from ibd.metrics.functional.ranks import Order

Baseline = Literal["blur", "pull_push"]
ROAD_FRACTIONS = (0.1, 0.3, 0.5, 0.7, 0.9)
ROAD_NOISE = 0.01
CELLS = 8
"""Regions along each side of the image: 8 pixels each at 64 pixels."""

_Fill = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(n,) images of the batch, (n,) columns of the plan, (n, H, W) bool what is removed -> (n, 3, H, W)."""


@dataclass(frozen=True)
class PixelTables:
    """What the model says after each step, (B, n + 1) float64; NaN for an image whose map holds a NaN.

    Attributes:
        fractions: (n + 1,) of the pixels removed by then.
        morf: values with the highest removed first.
        lerf: values with the lowest removed first.
    """

    fractions: Tensor
    morf: Values
    lerf: Values

    @property
    def inserted(self) -> Tensor:
        """The (n + 1,) fractions that are there at the steps of `insertion`."""
        return 1 - self.fractions.flip(0)

    @property
    def insertion(self) -> Values:
        """What the model says while the highest pixels are put into the baseline, (B, n + 1)."""
        return Values(*(table.flip(1) for table in self.lerf))


class PixelProbe:
    """Takes pixels away from some images, by the maps of any number of explainers.

    Args:
        predictor: the model.
        images: (B, 3, H, W) in [0, 1].
        classes: (B,) the explained class of each.
        ids: ids of the images: what is random depends on them alone; their places by default.
        steps: n, each of the same share of the pixels as far as it goes.
        seed: seed of the random orders and values.

    Raises:
        ConfigError: no step.
        DataError: other than one class, or id, for each image.
    """

    def __init__(
        self,
        predictor: Predictor,
        images: Tensor,
        classes: Tensor,
        ids: Sequence[Id] | None = None,
        steps: int = 16,
        seed: int = 0,
    ) -> None:
        check_range("steps", steps, least=1)
        self.ids: list[Id] = list(range(len(images)) if ids is None else ids)
        if len(classes) != len(images) or len(self.ids) != len(images):
            raise DataError(f"{len(images)} images, {len(classes)} classes, {len(self.ids)} ids: as many are needed")
        self.predictor, self.images, self.classes = predictor, images, classes.to(images.device)
        self.steps, self.seed = steps, seed
        self._ends: dict[str, Values] = {}
        self._blurred: Tensor | None = None

    @property
    def clean(self) -> Values:
        """What the model says of the images as they are, (B,) each; asked once."""
        return self._end("clean", lambda: self.images)

    def baseline(self, name: Baseline) -> Tensor:
        """Return the (B, 3, H, W) images without any pixel of theirs.

        "blur" is the image out of focus, by a Gaussian of a tenth of its shorter side. "pull_push" is filled from what
        is left; where nothing is, it is the mean color.

        Raises:
            ConfigError: another name.
        """
        if name == "blur":
            if self._blurred is None:
                self._blurred = covered_with(self.images, "blur").clamp(0, 1)
            return self._blurred
        if name == "pull_push":
            return covered_with(self.images, "mean")
        raise ConfigError(f"unknown baseline '{name}'.{did_you_mean(name, get_args(Baseline))}")

    def pixels(self, maps: Tensor | Order, baseline: Baseline = "blur") -> PixelTables:
        """Return tables of single pixels removed by (B, H, W) maps: deletion, insertion, pixel flipping."""
        order = self._order(maps)
        return self._tables(order.place(), order, baseline)

    def regions(self, maps: Tensor, baseline: Baseline = "blur", cells: int = CELLS) -> PixelTables:
        """Return tables of regions removed by the means of (B, H, W) maps over them: AOPC, selectivity.

        Args:
            maps: maps in any unit.
            baseline: baseline that takes the place of the pixels.
            cells: regions along each side; no more than there are pixels.
        """
        self._check(maps)
        order = Order.of(region_means(maps, cells).unsqueeze(1), self.seed)
        region, _ = regions_of((maps.shape[1], maps.shape[2]), cells)
        return self._tables(order.place()[:, 0, region.to(maps.device)], order, baseline)

    def road(self, maps: Tensor | Order, fractions: Sequence[float] = ROAD_FRACTIONS) -> PixelTables:
        """Return tables of pixels replaced by noisy linear imputation (Rong et al. 2022), n columns, without ends.

        Raises:
            ConfigError: fractions that do not increase between 0 and 1, or that no pixel lies between.
        """
        order = self._order(maps)
        counts = [round(fraction * order.pixels) for fraction in fractions]
        if not counts or sorted(set(counts)) != counts or counts[0] < 1 or counts[-1] >= order.pixels:
            raise ConfigError(f"fractions {list(fractions)} given, increasing ones between 0 and 1 are needed")
        values = self._inner(order.place(), order, counts, self._impute)
        return PixelTables(_fractions(counts, order.pixels, self.images.device), *values)

    def _order(self, maps: Tensor | Order) -> Order:
        if isinstance(maps, Order):
            return maps
        self._check(maps)
        return Order.of(maps, self.seed)

    def _check(self, maps: Tensor) -> None:
        if maps.shape != (len(self.images), *self.images.shape[2:]):
            raise DataError(f"maps of shape {tuple(maps.shape)} given for images of {tuple(self.images.shape)}")

    def _end(self, name: str, images: Callable[[], Tensor]) -> Values:
        if name not in self._ends:
            self._ends[name] = self.predictor.values(self.predictor.logits(images()), self.classes)
        return self._ends[name]

    def _tables(self, place: Tensor, order: Order, name: Baseline) -> PixelTables:
        """Return tables with both ends, of (B, H, W) places below ``order.pixels`` (the number of regions)."""
        counts = _counts(order.pixels, self.steps)
        baseline = self.baseline(name)
        fill = self._covered(baseline) if name == "blur" else self._pull_push
        inner = self._inner(place, order, counts[1:-1], fill)
        ends = self.clean, self._end(name, lambda: baseline)
        whole = []
        for part in inner:
            columns = (
                torch.cat([first.unsqueeze(1), middle, last.unsqueeze(1)], 1)
                for first, middle, last in zip(ends[0], part, ends[1], strict=True)
            )
            defined = order.defined.to(self.images.device).unsqueeze(1)
            whole.append(Values(*(column.where(defined.to(column.device), torch.nan) for column in columns)))
        return PixelTables(_fractions(counts, order.pixels, self.images.device), *whole)

    def _inner(self, place: Tensor, order: Order, counts: Sequence[int], fill: _Fill) -> tuple[Values, Values]:
        """Return the (B, n) values of both directions with so many removed."""
        device, columns = self.images.device, 2 * len(counts)
        place = place.to(device, torch.int32)
        rows = order.defined.to(device).nonzero().squeeze(1)
        below = torch.tensor([*counts, *(order.pixels - k for k in counts)], dtype=torch.int32, device=device)

        def make(some: Tensor) -> Tensor:
            row, column = rows[some // columns], some % columns
            high = place[row] < below[column].view(-1, 1, 1)
            return fill(row, column, high ^ (column >= len(counts)).view(-1, 1, 1))

        logits = self.predictor.made(make, len(rows) * columns, self.images)
        table = torch.full((3, len(self.images), columns), torch.nan, dtype=torch.float64, device=logits.device)
        if len(rows) and columns:
            values = self.predictor.values(logits, self.classes[rows].repeat_interleave(columns))
            table[:, rows] = torch.stack(list(values)).view(3, len(rows), columns).to(table.device)
        return Values(*table[:, :, : len(counts)]), Values(*table[:, :, len(counts) :])

    def _covered(self, baseline: Tensor) -> _Fill:
        return lambda row, _, removed: torch.where(removed.unsqueeze(1), baseline[row], self.images[row])

    def _pull_push(self, row: Tensor, _: Tensor, removed: Tensor) -> Tensor:
        return pull_push(self.images[row], ~removed)

    def _impute(self, row: Tensor, column: Tensor, removed: Tensor) -> Tensor:
        filled = linear_imputation(self.images[row], ~removed)
        noise = [
            seeded_normal(self.images.shape[1:], [self.ids[i]], self.seed, "road", j)
            for i, j in zip(row.tolist(), column.tolist(), strict=True)
        ]
        return filled + ROAD_NOISE * torch.cat(noise).to(filled) * removed.unsqueeze(1)


def regions_of(size: tuple[int, int], cells: int) -> tuple[Tensor, Tensor]:
    """Return the (H, W) int64 number of each pixel's region, and the pixels of each region, of a grid of cells."""
    check_range("cells", cells, least=1)
    rows, columns = (torch.arange(side) * min(cells, side) // side for side in size)
    region = rows.unsqueeze(1) * min(cells, size[1]) + columns
    return region, region.flatten().bincount()


def region_means(maps: Tensor, cells: int = CELLS) -> Tensor:
    """Return the means of (B, H, W) maps over the regions of `regions_of`, (B, R) float64."""
    region, counts = (weights.to(maps.device) for weights in regions_of((maps.shape[1], maps.shape[2]), cells))
    sums = torch.zeros(len(maps), counts.numel(), dtype=torch.float64, device=maps.device)
    sums.index_add_(1, region.flatten(), maps.detach().double().flatten(1))
    return sums / counts


def _counts(total: int, steps: int) -> list[int]:
    """Return how many are removed after each step, from none to all; fewer steps than asked for if there are fewer."""
    steps = min(steps, total)
    return [round(step * total / steps) for step in range(steps + 1)]


def _fractions(counts: Sequence[int], total: int, device: torch.device) -> Tensor:
    fractions = torch.tensor(counts, dtype=torch.float64) / total
    return fractions if device.type == "mps" else fractions.to(device)
