"""Asking an explainer, on any model, for the maps of many images a batch at a time, and for their signs."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ibd.errors import UnsupportedError
from ibd.explain.base import Explainer, Explanation
from ibd.explain.targets import Target

Explain = Callable[[nn.Module, Tensor, Target], Explanation]
"""Every `Explainer` is one."""


def unrectified(explain: Explain) -> Explain:
    """Return the explainer with what speaks against the class left in its maps; itself if nothing is left out.

    ``relu=True`` of an explainer, such as Grad-CAM as published, or of the one that it averages (``base``), becomes
    False on a copy. Where all of a network speaks against a class, its rectified maps are 0, whatever it has learned.
    """
    changed: dict[str, object] = {}
    if getattr(explain, "relu", False) is True:
        changed["relu"] = False
    base = getattr(explain, "base", None)
    if isinstance(base, Explainer) and (signed := unrectified(base)) is not base:
        changed["base"] = signed
    if not changed:
        return explain
    explainer = copy.copy(explain)
    vars(explainer).update(changed)
    return explainer


def centered_target(classes: Tensor) -> Target:
    """Return what a comparison explains, and measures, of the classes (B,): their logit less the mean of all logits."""
    return Target.cls(classes.tolist(), "centered_logit")


def maps_of(explain: Explain, model: nn.Module, images: Tensor, classes: Tensor, batch_size: int = 64) -> Tensor:
    """Return the (B, H, W) float32 maps of the centered logits of the classes (B,) of (B, 3, H, W) images.

    The model may be on another device than the images; the maps are where the images are.

    Raises:
        UnsupportedError: the explainer gives no map.
    """
    parts = []
    device = next((parameter.device for parameter in model.parameters()), images.device)
    for some in torch.split(torch.arange(len(images), device=images.device), batch_size):
        maps = explain(model, images[some].to(device), centered_target(classes[some.to(classes.device)])).map
        if maps is None:
            raise UnsupportedError(f"'{getattr(explain, 'name', explain)}' gives no map, so none can be compared")
        parts.append(maps.detach().float().to(images.device))
    return torch.cat(parts) if parts else images.new_zeros(0, *images.shape[2:])
