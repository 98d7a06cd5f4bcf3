"""What each place and each channel of a hidden layer accounts for (Olah et al. 2018, The Building Blocks)."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ibd.errors import UnsupportedError
from ibd.explain.base import Call, Explainer, Explanation, undisturbed
from ibd.explain.gradients import GradientTimesInput
from ibd.explain.layers import LayerCut
from ibd.explain.layouts import Layout, check_layout
from ibd.explain.targets import Target
from ibd.registry import resolve

_METHODS = (
    *("gradient_input", "integrated_gradients", "lrp", "saliency", "sensitivity", "guided_backprop", "deconvnet"),
    "smoothgrad of a gradient",
)


@dataclass(frozen=True)
class LayerAttribution:
    """A score divided among the D channels of a layer and the (h, w) places of its map; signed, not normalized.

    With a target of K scores each tensor has a dimension K after the first.

    Attributes:
        spatial: (B, h, w), sums over the channels; None of a layer that is no map.
        channels: (B, D), sums over the places.
        both: (B, D, h, w), or (B, D) of a layer that is no map.
        value: (B,) the explained score.
        offset: (B,) the part of the score that is none of the layer's: what it is where the layer puts out 0 (gradient
            x activation) or what it puts out for the baseline (integrated gradients), or what biases after it took
            (LRP). None of methods whose numbers are not meant to add up to anything.
        completeness: (B,) ``sum + offset - value``: 0 where the method is exact. None where there is no offset.
        layer: name of the layer.
        target: target that was explained, resolved.
        method: name of the explainer.
    """

    spatial: Tensor | None
    channels: Tensor
    both: Tensor
    value: Tensor
    offset: Tensor | None
    completeness: Tensor | None
    layer: str
    target: Target
    method: str


def layer_attribution(
    model: nn.Module,
    image: Tensor,
    layer: str,
    target: Target | int | str | None = None,
    method: str | dict[str, Any] = "gradient_input",
    layout: Layout = "auto",
) -> LayerAttribution:
    """Return what each place and each channel of a layer accounts for. The model is left as it was.

    By default each activation times the gradient of the score by it. That is exact, ``completeness`` is 0, where what
    comes after the layer is affine, such as a linear head on pooled features: then the part of a channel is its weight
    times its mean activation, and the offset is the bias.

    Args:
        model: ours, or any classifier of (B, 3, H, W) images.
        image: (B, 3, H, W) float, on the model's device.
        layer: name, such as ``backbone.layer4``.
        target: target to explain; a number or name is that class, None the predicted class.
        method: name of an explainer that takes a layer and gives a number for every value of it, or a dict of its name
            and options: gradients, ``{"name": "integrated_gradients", "steps": 20}``, SmoothGrad of these, or ``lrp``.
        layout: "channels_first" or "channels_last", of the layer's output; "auto" tells it by what made the output and
            what takes it. The answer has the channels first.

    Raises:
        ConfigError: no such layer, class, unit, method, layout or option.
        DataError: an image that is no such tensor, or not finite.
        UnsupportedError: the method gives no number for every value of a layer, or cannot explain this model; or it
            cannot be told which axis holds the channels.
    """
    explainer = _made(method, layer)
    explainer.layout = check_layout(layout)
    attribution = explainer(model, image, target)
    if attribution.units is None or (attribution.map is not None and attribution.unit_maps is None):
        raise _useless(explainer.name)
    offset, completeness = _accounts(model, image, explainer, attribution)
    maps, channels = attribution.unit_maps, attribution.units
    return LayerAttribution(
        spatial=None if maps is None else maps.sum(-3),
        channels=channels,
        both=channels if maps is None else maps,
        value=attribution.value,
        offset=offset,
        completeness=completeness,
        layer=layer,
        target=attribution.target,
        method=attribution.method,
    )


def _made(method: str | dict[str, Any], layer: str) -> Explainer:
    """Return the explainer of a name, or of a dict of its name and options, by a layer."""
    options = {"name": method} if isinstance(method, str) else dict(method)
    name = options.pop("name", "gradient_input")
    kind = resolve("explainers", name)
    if "layer" not in inspect.signature(kind).parameters:
        raise _useless(name)
    made: Explainer = kind(**options, layer=layer)
    return made


def _useless(name: str) -> UnsupportedError:
    return UnsupportedError(f"'{name}' gives no number for every value of a layer: take one of {', '.join(_METHODS)}")


def _accounts(
    model: nn.Module, image: Tensor, explainer: Explainer, attribution: Explanation
) -> tuple[Tensor | None, Tensor | None]:
    """Return the offset and the completeness."""
    assert attribution.units is not None
    total = attribution.units.sum(-1)
    if "completeness" in attribution.extra:
        completeness = attribution.extra["completeness"]
        return completeness - total + attribution.value, completeness
    if "conservation" in attribution.extra:
        offset = attribution.extra["bias"]
    elif isinstance(explainer, GradientTimesInput):
        offset = _without(model, image, explainer, attribution)
    else:
        return None, None
    return offset, total + offset - attribution.value


def _without(model: nn.Module, image: Tensor, explainer: Explainer, attribution: Explanation) -> Tensor:
    """Return the scores where a layer puts out 0, (B,) or (B, K)."""
    with undisturbed(model):
        at = _cut(model, image, explainer, attribution)
        with torch.no_grad():
            scores = at.at(torch.zeros_like(at.value)).detach()
    return scores if attribution.target.many else scores[:, 0]


def _cut(model: nn.Module, image: Tensor, explainer: Explainer, attribution: Explanation) -> LayerCut:
    """Return the model cut at the layer of an explanation."""
    with undisturbed(model):
        call = Call(model, attribution.target, explainer.layout, image)
        return LayerCut(call, image.detach().clone(), attribution.layer)
