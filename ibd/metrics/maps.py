"""Measures of any explanation's maps, as torchmetrics has them, and as Quantus calls its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ibd.errors import ConfigError, did_you_mean
from ibd.metrics.base import DetailedMetric
from ibd.metrics.functional import localization, properties

LOCALIZATION: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mass_accuracy": localization.mass_accuracy,
    "rank_accuracy": localization.rank_accuracy,
    "iou_at_size": localization.iou_at_size,
    "pointing_game": localization.pointing_game,
    "roc_auc": localization.roc_auc,
}
"""name -> measure of (B, H, W) maps against (B, H, W) masks of where they should lie, (B,)."""
PROPERTIES: dict[str, Callable[[Tensor], Tensor]] = {
    "sparseness": properties.sparseness,
    "complexity": properties.complexity,
    "negative_share": properties.negative_share,
}
"""name -> measure of (B, H, W) maps alone, (B,)."""


def measured(measure: str, maps: Tensor, masks: Tensor | None = None) -> Tensor:
    """Return what each map scores, (B,) float64, NaN where that is not defined for it: no mass, an empty mask.

    Args:
        measure: a name in `LOCALIZATION` or `PROPERTIES`.
        maps: (B, H, W), or (B, C, H, W), whose channels are added up: signed, as the method gives them.
        masks: (B, H, W) or (B, 1, H, W) bool, where the maps should lie; needed by the measures of localization alone.

    Raises:
        ConfigError: no such measure; maps or masks that are no tensors, or of shapes that do not fit; maps with values
            that are not numbers; masks that are missing, or hold more than true and false.
    """
    _check(measure)
    maps = as_maps(measure, maps)
    if measure in PROPERTIES:
        return PROPERTIES[measure](maps)
    if masks is None:
        raise ConfigError(f"{measure}: masks of where the maps should lie are needed, (B, H, W)")
    _check_masks(measure, masks)
    if masks.dim() == 4 and masks.shape[1] == 1:
        masks = masks[:, 0]
    return LOCALIZATION[measure](maps, masks.bool())


def _check(measure: str) -> None:
    known = [*LOCALIZATION, *PROPERTIES]
    if measure not in known:
        raise ConfigError(f"there is no measure of maps '{measure}'.{did_you_mean(measure, known)}")


def as_maps(measure: str, maps: Tensor) -> Tensor:
    """Return (B, H, W) of maps (B, H, W), or (B, C, H, W), whose channels are added up.

    Args:
        measure: what they are for, as a message begins.
        maps: maps of any type.

    Raises:
        ConfigError: they are no such tensor, or hold values that are not numbers.
    """
    if not isinstance(maps, Tensor):
        raise ConfigError(f"{measure}: maps are a {type(maps).__name__}, a tensor (B, H, W) or (B, C, H, W) is needed")
    if maps.dim() not in (3, 4):
        raise ConfigError(f"{measure}: maps of shape {tuple(maps.shape)} given, (B, H, W) or (B, C, H, W) is needed")
    if broken := (~maps.isfinite()).flatten(1).any(1).nonzero().flatten().tolist():
        raise ConfigError(
            f"{measure}: {len(broken)} of {len(maps)} maps hold values that are no numbers, map {broken[0]}"
        )
    return maps.sum(1) if maps.dim() == 4 else maps


def _check_masks(measure: str, masks: Tensor) -> None:
    if not isinstance(masks, Tensor):
        raise ConfigError(f"{measure}: masks are a {type(masks).__name__}, a bool tensor (B, H, W) is needed")
    if not bool(((masks == 0) | (masks == 1)).all()):
        raise ConfigError(f"{measure}: masks hold more than 0 and 1: say where they begin, as in `masks > 0.5`")


class MapScore(DetailedMetric):
    """The mean over images of what their maps score, whatever made the maps; NaN of a single image is left out.

    Args:
        measure: a name in `LOCALIZATION` or `PROPERTIES`: "mass_accuracy", "rank_accuracy", "iou_at_size",
            "pointing_game", "roc_auc", "sparseness", "complexity", "negative_share".
        **kwargs: arguments of torchmetrics.

    Raises:
        ConfigError: another one.
    """

    total: Tensor
    images: Tensor

    def __init__(self, measure: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _check(measure)
        self.measure = measure
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, maps: Tensor, masks: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            maps: (B, H, W), or (B, C, H, W), whose channels are added up.
            masks: (B, H, W) or (B, 1, H, W) bool, for the measures of localization.
        """
        values = measured(self.measure, maps, masks)
        self.total += values.nansum()
        self.images += (~values.isnan()).sum()

    def compute(self) -> Tensor:
        """Return the mean over the images for which the measure is defined; NaN where there are none."""
        return self.total / self.images.where(self.images > 0, torch.nan)


def quantus_metric(measure: str) -> Callable[..., list[float]]:
    """Return a measure that is called as a metric of Quantus is, in ``quantus.evaluate`` too.

    It returns a score for every image, NaN where it is not defined; maps are taken as they are, neither made absolute
    nor normalized. ``ibd.quantus_metric`` has these and those that ask the model: deletion and
    others.

    Args:
        measure: a name in `LOCALIZATION` or `PROPERTIES`.

    Raises:
        ConfigError: another one.
    """
    _check(measure)

    def metric(
        model: object = None,
        x_batch: Any = None,
        y_batch: Any = None,
        a_batch: Any = None,
        s_batch: Any = None,
        explain_func: Callable[..., Any] | None = None,
        explain_func_kwargs: dict[str, Any] | None = None,
        **others: object,
    ) -> list[float]:
        """Return a score for every image, of the maps that are given, or else of what the function explains."""
        if a_batch is None:
            if explain_func is None:
                raise ConfigError(f"{measure}: explanations (a_batch) or an explain_func are needed")
            a_batch = explain_func(model=model, inputs=x_batch, targets=y_batch, **(explain_func_kwargs or {}))
        masks = None if s_batch is None else torch.as_tensor(np.asarray(s_batch))
        scores: list[float] = measured(measure, torch.as_tensor(np.asarray(a_batch)), masks).tolist()
        return scores

    return metric
