"""Objects pasted on scenes: relative importance that is known because the training made it so (Yang and Kim 2019).

What an explanation gives to the object is the mean over its pixels of the positive part of the map, in [0, 1]: as in
the authors' code 1 is the map's 99th percentile, and more is cut off. Images that do not count, because a prediction is
not right, are NaN.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ibd.errors import ConfigError
from ibd.metrics.functional.checks import check_maps, check_same, double, ratio

_PERCENTILE = 0.99
_THRESHOLD = 0.1
"""Share by which an attribution may change and still counts as unchanged, as in the authors' code."""


def object_attribution(maps: Tensor, mask: Tensor) -> Tensor:
    """Return what maps give to an object, (B,) float64 in [0, 1]; NaN without a pixel of it.

    Args:
        maps: (B, H, W), signed: what is negative counts as 0.
        mask: (B, H, W) bool, the object.
    """
    check_maps(maps)
    check_same("mask", mask, "maps", maps)
    positive = double(maps).clamp(min=0)
    full = positive.flatten(1).quantile(_PERCENTILE, dim=1)
    # A map of a few pixels alone has no 99th percentile above 0: its maximum takes the place.
    full = torch.where(full > 0, full, positive.flatten(1).amax(1))[:, None, None]
    share = ratio(positive, full).nan_to_num(0.0, posinf=1.0).clamp(max=1)
    inside = mask.to(share.device)
    return ratio(share.where(inside, 0.0).sum((1, 2)), inside.sum((1, 2)))


def model_contrast(objects: Tensor, scenes: Tensor, mask: Tensor, valid: Tensor | None = None) -> Tensor:
    """Model contrast score: more is given to the object where it decides than where it does not, in [-1, 1]; + higher.

    The attribution of the object by the network that is trained on objects, less that by the one trained on scenes, of
    the same image: + higher is better, 0 where the explanation does not look at the network (Yang and Kim 2019).

    Args:
        objects: (B, H, W) maps of the first network.
        scenes: (B, H, W) maps of the second.
        mask: (B, H, W) bool, the object.
        valid: (B,) bool, both predict rightly; all if None.

    Returns:
        (B,) float64.
    """
    return _kept(object_attribution(objects, mask) - object_attribution(scenes, mask), valid)


def input_dependence_rate(pasted: Tensor, bare: Tensor, mask: Tensor, valid: Tensor | None = None) -> Tensor:
    """Input dependence rate: the object gets less than the place that it covers, by a network of scenes; + higher.

    1 where the attribution of the object's pixels is lower with the object than without it, 0.5 where it is equal
    (there the paper has 0), else 0. What does not decide, and hides what does, should get less: + higher is better; 1
    less the mean is the rate of false positives (Yang and Kim 2019).

    Args:
        pasted: (B, H, W) maps of images with the object.
        bare: (B, H, W) maps of the same without it.
        mask: (B, H, W) bool, the object.
        valid: (B,) bool, both predictions are right; all if None.

    Returns:
        (B,) float64 in [0, 1].
    """
    own, without = object_attribution(pasted, mask), object_attribution(bare, mask)
    less = (own < without).double() + (own == without).double() / 2
    return _kept(less.where(~(own - without).isnan(), torch.nan), valid)


def input_independence_rate(bare: Tensor, patched: Tensor, mask: Tensor, valid: Tensor | None = None) -> Tensor:
    """Input independence rate: a patch that changes nothing of what the network says changes no attribution; + higher.

    1 where the attribution of the patch's pixels differs by a tenth of that without the patch, or by less; else 0.
    + higher is better (Yang and Kim 2019).

    Args:
        bare: (B, H, W) maps of images.
        patched: (B, H, W) maps of the same with a patch by which the network's answer stays the same.
        mask: (B, H, W) bool, the patch.
        valid: (B,) bool, the answer does stay the same; all if None.

    Returns:
        (B,) float64 in {0, 1}.
    """
    before, after = object_attribution(bare, mask), object_attribution(patched, mask)
    same = ((before - after).abs() <= _THRESHOLD * before).double()
    return _kept(same.where(~(before - after).isnan(), torch.nan), valid)


def _kept(value: Tensor, valid: Tensor | None) -> Tensor:
    if valid is None:
        return value
    if valid.shape != value.shape:
        raise ConfigError(f"valid of shape {tuple(valid.shape)} given for {len(value)} images")
    return value.where(valid.bool().to(value.device), torch.nan)
