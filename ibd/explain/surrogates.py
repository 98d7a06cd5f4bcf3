"""Explanations by a linear model of which regions of the image are seen: LIME and KernelSHAP, computed by captum.

captum is an optional extra, ``pip install "ibd[captum]"``, imported when one of these is called. Its linear models need
scikit-learn; the weighted least squares here do not.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ibd.distributed import progress
from ibd.errors import ConfigError, DataError, UnsupportedError, check_range
from ibd.explain.base import Call, Explainer, Explanation
from ibd.explain.baselines import Baseline, checked_baseline, covered_with, warn_of_scale
from ibd.explain.layers import precise


def rectangles(size: tuple[int, int], rows: int, columns: int) -> Tensor:
    """Return (H, W) int64: the number of the rectangle of a grid in which each pixel lies."""
    down = torch.arange(size[0]) * rows // size[0]
    across = torch.arange(size[1]) * columns // size[1]
    return down[:, None] * columns + across


class _Surrogate(Explainer):
    """What LIME and KernelSHAP share: regions, samples, and captum."""

    _class: str
    ridge = 0.0

    def __init__(
        self,
        samples: int = 500,
        grid: int | tuple[int, int] = 8,
        segments: Tensor | None = None,
        baseline: Baseline = "mean",
        seed: int = 0,
        batch_size: int = 64,
    ) -> None:
        rows, columns = (grid, grid) if isinstance(grid, int) else grid
        for key, value in (("samples", samples), ("grid", min(rows, columns)), ("batch_size", batch_size)):
            check_range(key, value, least=1)
        self.samples, self.grid, self.segments = samples, (rows, columns), segments
        self.baseline = checked_baseline(baseline)
        self.seed, self.batch_size = seed, batch_size

    def check_scale(self, image: Tensor) -> None:
        """Warn where a black or gray baseline is not what it says."""
        warn_of_scale(self.name, image, self.baseline)

    def explain(self, call: Call, image: Tensor) -> Explanation:
        """Return maps that hold for each pixel the weight of its region.

        Raises:
            UnsupportedError: captum is not installed.
            DataError: segments that do not fit the images.
        """
        made = getattr(_captum(), self._class)
        segments, cover = self._segments(image), covered_with(image, self.baseline)
        with torch.no_grad(), torch.random.fork_rng():  # captum draws from the global generator
            output = call.output(image)
            target = call.target.pin(output)
            clean = precise(target.scores(output))
            maps = clean.new_zeros(*clean.shape, *image.shape[2:])
            pairs = [(row, k) for row in range(len(image)) for k in range(clean.shape[1])]
            for row, k in progress(pairs, self.name):
                torch.manual_seed(self.seed)
                method = made(_score(call, target.select(slice(row, row + 1)), k))
                fitted = method.interpretable_model = LeastSquares(self.ridge)
                method.attribute(
                    image[row : row + 1],
                    baselines=cover[row : row + 1],
                    feature_mask=segments[row : row + 1].unsqueeze(1),
                    n_samples=self.samples,
                    perturbations_per_eval=self.batch_size,
                )  # in float32: read from the linear model itself
                maps[row, k] = fitted.coefficients[segments[row]]
            return self.answer(call, maps, clean)

    def _segments(self, image: Tensor) -> Tensor:
        """Return (B, H, W): the regions of each image, numbered from 0 without gaps, as captum wants them."""
        batch, size = len(image), (image.shape[2], image.shape[3])
        if self.segments is None:
            rows, columns = (min(number, side) for number, side in zip(self.grid, size, strict=True))
            return rectangles(size, rows, columns).to(image.device).expand(batch, *size)
        given = self.segments if self.segments.dim() == 3 else self.segments.expand(batch, *self.segments.shape)
        if tuple(given.shape) != (batch, *size) or given.is_floating_point():
            raise DataError(
                f"segments of shape {tuple(self.segments.shape)} and {self.segments.dtype}: whole numbers "
                f"({batch}, {size[0]}, {size[1]}), or for all images alike ({size[0]}, {size[1]}), are needed"
            )
        return torch.stack([labels.unique(return_inverse=True)[1] for labels in given]).to(image.device)


class Lime(_Surrogate):
    """The weights of a local linear model of the score on which regions are seen (Ribeiro et al. 2016).

    Samples that are more alike the image weigh more: captum's exponential of the cosine distance. The linear model is
    ridge regression, as in the authors' code for images.

    Args:
        samples: perturbed images, for each image and target.
        grid: rectangles along each side of the image, or rows and columns.
        segments: (H, W) or (B, H, W) whole numbers: other regions than rectangles.
        baseline: values that a hidden region shows, see `ibd.explain.baselines.covered_with`.
        seed: seed of the samples.
        batch_size: perturbed images in one pass.
        ridge: weight of the squared coefficients.

    Raises:
        ConfigError: a number out of its range, or an unknown baseline.
    """

    name = "lime"
    _class = "Lime"

    def __init__(
        self,
        samples: int = 500,
        grid: int | tuple[int, int] = 8,
        segments: Tensor | None = None,
        baseline: Baseline = "mean",
        seed: int = 0,
        batch_size: int = 64,
        ridge: float = 1.0,
    ) -> None:
        super().__init__(samples, grid, segments, baseline, seed, batch_size)
        check_range("ridge", ridge, least=0.0)
        self.ridge = ridge


class KernelShap(_Surrogate):
    """Shapley values of the regions, by weighted regression on samples (Lundberg & Lee 2017).

    captum gives the full and the empty image a weight of 1e6, so that the map of one region each adds up to the score
    less that of the fully covered image. More samples than regions are needed.

    Args: those of `Lime` but for `ridge`.

    Raises:
        ConfigError: a number out of its range, or fewer samples than a regression needs.
    """

    name = "kernel_shap"
    _class = "KernelShap"

    def explain(self, call: Call, image: Tensor) -> Explanation:
        """Return maps that hold for each pixel the Shapley value of its region."""
        regions = int(self._segments(image).amax()) + 1
        if regions < 2 or self.samples <= regions:
            raise ConfigError(
                f"kernel_shap: {self.samples} samples of {regions} regions; at least two regions and more samples than "
                "regions are needed"
            )
        return super().explain(call, image)


class LeastSquares:
    """Weighted ridge regression with a free constant, in the shape of captum's linear models.

    Attributes:
        coefficients: (F,) in float64, once fitted.
    """

    def __init__(self, ridge: float) -> None:
        self.ridge = ridge
        self.coefficients = torch.empty(0)

    def fit(self, train_data: DataLoader[Any], **_: object) -> None:
        """Fit ``sum w (y - x b - c)^2 + ridge |b|^2`` to batches of x (N, F), y (N, 1) and w (N, 1)."""
        x, y, weight = (torch.cat(part).double() for part in zip(*train_data, strict=True))
        root = weight.view(-1, 1).sqrt()
        design = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        penalty = self.ridge**0.5 * torch.eye(x.shape[1] + 1, dtype=x.dtype, device=x.device)[:-1]
        left, right = torch.cat([design * root, penalty]), torch.cat([y.view(-1, 1) * root, penalty[:, :1] * 0])
        solution = torch.linalg.lstsq(left.cpu(), right.cpu(), driver="gelsd").solution
        self.coefficients = solution[:-1, 0].to(x.device)

    def representation(self) -> Tensor:
        """Return the coefficients, (1, F)."""
        return self.coefficients.float().unsqueeze(0)


def _score(call: Call, target: Any, k: int) -> Callable[[Tensor], Tensor]:
    """Return what captum explains: one score of copies of one image."""
    return lambda images: precise(call.scores(images, target.repeat(len(images)))[:, k])


def _captum() -> object:
    try:
        captum = importlib.import_module("captum.attr")
    except ImportError:
        raise UnsupportedError('LIME and KernelSHAP need captum: pip install "ibd[captum]"') from None
    return SimpleNamespace(Lime=captum.Lime, KernelShap=captum.KernelShap)
