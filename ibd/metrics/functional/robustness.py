"""How an explanation moves with the image, from explanations of it and of R changed versions of it.

Maps are a (B, H, W) and a' (B, R, H, W), un-normalized: a normalization by the maximum of a batch would let a sample's
value depend on its neighbors. ``valid`` (B, R) says which changed versions count: those whose prediction is the same.
A sample without one is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ibd.errors import ConfigError
from ibd.metrics.functional.checks import check_maps, check_same, double, ratio
from ibd.metrics.functional.ranks import spearman


def local_lipschitz(maps: Tensor, changed: Tensor, distance: Tensor, valid: Tensor | None = None) -> Tensor:
    """The steepest relative change of the explanation, in [0, inf); - lower is better.

    max_r ||a - a'_r|| / (||a|| ||x - x'_r||). Alvarez-Melis and Jaakkola 2018 do not divide by the size of the map,
    ||a||: theirs is in units of the map, so that the same picture in smaller numbers scores better. Here a map and its
    multiple have the same score.

    Args:
        maps: (B, H, W).
        changed: (B, R, H, W).
        distance: (B, R), ||x - x'_r||; a version at distance 0 does not count.
        valid: (B, R) bool; all if None.

    Returns:
        (B,) float64; NaN also for a map that is 0 everywhere.
    """
    return _highest(ratio(_moved(maps, changed), double(distance)), valid)


def continuity(maps: Tensor, changed: Tensor, distance: Tensor, valid: Tensor | None = None) -> Tensor:
    """The mean relative change of the explanation by that of the image, in [0, inf); - lower is better.

    mean_r ||a - a'_r|| / (||a|| ||x - x'_r||): the explanation continuity of Montavon et al. 2018, with the mean in
    place of the maximum, and divided by the size of the map. Arguments and units as `local_lipschitz`.
    """
    return _kept(ratio(_moved(maps, changed), double(distance)), valid).nanmean(1)


def max_l1_change(maps: Tensor, changed: Tensor, distance: Tensor, valid: Tensor | None = None) -> Tensor:
    """The strongest change of the explanation by that of the image, in [0, inf); - lower is better.

    max_r ||a - a'_r||_1 / (||a||_1 ||x - x'_r||_2): explanation continuity as Montavon et al. 2018 define it, with the
    L1 norm and the maximum, but divided by the size of the map so that its unit does not count. A method that jumps
    where the function does not, as the gradient of max(x_1, x_2) does, has no bound. Arguments and NaN as
    `local_lipschitz`.
    """
    _check(maps, changed)
    own, others = double(maps).flatten(1).unsqueeze(1), double(changed).flatten(2)
    unit = own.abs().amax(2, keepdim=True)  # sums of very large numbers would be infinite
    own, others = ratio(own, unit), ratio(others, unit)
    return _highest(ratio((own - others).abs().sum(2) / own.abs().sum(2), double(distance)), valid)


def max_sensitivity(maps: Tensor, changed: Tensor, valid: Tensor | None = None) -> Tensor:
    """The largest change of the explanation relative to it, in [0, inf); - lower is better (Yeh et al. 2019).

    max_r ||a - a'_r|| / ||a||. NaN for a map that is 0 everywhere.
    """
    return _highest(_moved(maps, changed), valid)


def translation_equivariance(
    maps: Tensor, changed: Tensor, shifts: Sequence[tuple[int, int]], valid: Tensor | None = None
) -> Tensor:
    """Whether the explanation goes with a thing that is moved, in [-1, 1], 0 by chance; + higher is better.

    The mean over r of Spearman's correlation between the map moved by the r-th shift and the map of the moved image,
    over the pixels that both have.

    Args:
        maps: (B, H, W).
        changed: (B, R, H, W), of the images moved by the shifts.
        shifts: R whole numbers of pixels (down, right).
        valid: (B, R) bool; all if None.

    Returns:
        (B,) float64; NaN where all maps are constant.

    Raises:
        ConfigError: another number of shifts, or one that moves everything out of the image.
    """
    _check(maps, changed)
    height, width = maps.shape[1:]
    if len(shifts) != changed.shape[1]:
        raise ConfigError(f"{len(shifts)} shifts given for {changed.shape[1]} moved maps")
    scores = []
    for r, (down, right) in enumerate(shifts):
        if abs(down) >= height or abs(right) >= width:
            raise ConfigError(f"a shift by ({down}, {right}) leaves nothing of {height} x {width} pixels")
        before = maps[:, max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
        behind = changed[:, r, max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)]
        scores.append(spearman(before.flatten(1), behind.flatten(1)))
    return _kept(torch.stack(scores, 1), valid).nanmean(1) if scores else double(maps)[:, 0, 0] * torch.nan


def _moved(maps: Tensor, changed: Tensor) -> Tensor:
    """Return (B, R): the Euclidean distance of each changed map, in sizes of the map; NaN for a map of zeros."""
    _check(maps, changed)
    own, others = double(maps).flatten(1).unsqueeze(1), double(changed).flatten(2)
    unit = own.abs().amax(2, keepdim=True)  # the squares of very small numbers would be 0
    own, others = ratio(own, unit), ratio(others, unit)
    return (own - others).square().sum(2).sqrt() / own.square().sum(2).sqrt()


def _check(maps: Tensor, changed: Tensor) -> None:
    check_maps(maps)
    if changed.dim() != 4:
        raise ConfigError(f"changed maps of shape {tuple(changed.shape)} given, (images, draws, height, width) needed")
    check_same("changed maps", changed[:, :0].sum(1), "maps", maps)


def _kept(value: Tensor, valid: Tensor | None) -> Tensor:
    """Return (B, R) values with NaN where they do not count."""
    return value if valid is None else value.where(valid.bool().to(value.device), torch.nan)


def _highest(value: Tensor, valid: Tensor | None) -> Tensor:
    """Return (B,): the highest value that counts; NaN without one."""
    value = _kept(value, valid)
    none = value.isnan().all(1)
    if not value.shape[1]:
        return value.sum(1) * torch.nan
    return value.nan_to_num(-1.0, posinf=torch.inf).amax(1).where(~none, torch.nan)
