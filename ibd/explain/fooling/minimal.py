"""The smallest change that changes a prediction: DeepFool (Moosavi-Dezfooli et al. 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibd.errors import ConfigError, check_range
from ibd.explain.base import Call, check_image, undisturbed
from ibd.explain.fooling.attacks import Fooled, Norm, gradient_of, predicted, sizes, two_logits
from ibd.explain.targets import Target


def deepfool(
    model: nn.Module,
    image: Tensor,
    norm: Norm = "l2",
    classes: int = 10,
    steps: int = 50,
    overshoot: float = 0.02,
) -> Fooled:
    """Return images changed just enough for another class to be predicted.

    The logits are taken to be linear, the nearest boundary to another class is gone to, and so on until it is crossed.
    Of a linear model, away from 0 and 1, the change is the smallest there is: ``|f| / |w|_2`` along w in L2, ``|f| /
    |w|_1`` along sign(w) in L-infinity, with f and w the differences of two logits and of their gradients. Of others it
    is an upper bound of it. A step takes a forward pass, and a backward pass for each class that is looked at.

    Args:
        model: ours, or any classifier of (B, 3, H, W) images in [0, 1], of two logits at least; it is left as it was.
        image: (B, 3, H, W) in [0, 1], on the model's device.
        norm: norm in which the change is small.
        classes: classes that are looked at: the predicted one, and the next of the highest logits.
        steps: most steps; what is not fooled by then stays unfooled.
        overshoot: share by which the boundary is overstepped.

    Raises:
        ConfigError: a number or norm that cannot be.
        DataError: an image that is no such tensor, or not finite.
        UnsupportedError: a model of one logit, or without gradients.
    """
    check_image(image)
    check_range("steps", steps, least=1)
    check_range("classes", classes, least=2)
    check_range("overshoot", overshoot, least=0)
    if norm not in ("linf", "l2"):
        raise ConfigError(f"fool: norm: '{norm}' is not one of linf, l2")
    clean = image.detach().clone()
    with undisturbed(model):
        call = Call(model, Target.predicted())
        changed, before, after = nearest_boundary(call, clean, norm, classes, steps, overshoot)
    return Fooled(clean, changed, before, after, sizes(changed - clean, norm), norm, None, None, call.cost)


def nearest_boundary(
    call: Call, clean: Tensor, norm: Norm, classes: int, steps: int, overshoot: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return changed images, and the classes before and after; the model is in the right mode."""
    with torch.no_grad():
        logits = two_logits(call, clean)
    looked = logits.topk(min(classes, logits.shape[1])).indices
    before, after = looked[:, 0], looked[:, 0].clone()
    change, changed = torch.zeros_like(clean), clean.clone()
    left = torch.arange(len(clean), device=clean.device)
    for _ in range(steps):
        change[left] += _to_boundary(call, changed[left], looked[left], norm)
        changed[left] = (clean[left] + (1 + overshoot) * change[left]).clamp(0, 1)
        after[left] = predicted(call, changed[left])
        left = left[after[left] == before[left]]
        if not len(left):
            break
    return changed, before, after


def _to_boundary(call: Call, image: Tensor, looked: Tensor, norm: Norm) -> Tensor:
    """Return the change to the nearest boundary, the logits being taken to be linear."""
    at = image.detach().requires_grad_()
    logits = two_logits(call, at).gather(1, looked)
    count = logits.shape[1]
    gradients = torch.stack([gradient_of(call, logits[:, k], at, keep=k < count - 1) for k in range(count)], 1)
    slopes = gradients[:, 1:] - gradients[:, :1]  # (B, K - 1, 3, H, W)
    gaps = (logits[:, :1] - logits[:, 1:]).detach()  # of the first class above the others
    flat = slopes.flatten(2)
    tiny = torch.finfo(flat.dtype).tiny
    dual = flat.norm(dim=2) if norm == "l2" else flat.abs().sum(2)
    nearest = (gaps.abs() / dual.clamp(min=tiny)).argmin(1)
    rows = torch.arange(len(image), device=image.device)
    slope, gap, length = slopes[rows, nearest], gaps[rows, nearest].abs(), dual[rows, nearest].clamp(min=tiny)
    if norm == "l2":
        return slope * ((gap + _AWAY) / length.square()).clamp(max=_FAR / length).view(-1, 1, 1, 1)
    return slope.sign() * ((gap + _AWAY) / length).clamp(max=1).view(-1, 1, 1, 1)


_AWAY = 1e-6
"""Added to a difference of logits, so that a step from the boundary itself leads over it."""
_FAR = 1e3
"""Longest step: where a gradient is next to nothing, the boundary may be nowhere."""
