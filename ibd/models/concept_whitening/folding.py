"""Folding whitened layers away: in evaluation a layer is an affine map, and so is the convolution before it.

With W and b of the convolution and the layer ``z = A y + c`` at every position,

    z = A (W * x + b) + c = (A W) * x + (A b + c),

whatever the convolution's stride, dilation or padding: what is padded is its input. Its groups must be one, because A
mixes all channels; a grouped convolution, and any other step before the layer, keeps a 1x1 convolution after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from ibd.models.concept_whitening.layer import ConceptWhiteningLayer
from ibd.models.concept_whitening.placement import replace_module
from ibd.models.concept_whitening.split import source, trace


@torch.no_grad()
def fold(backbone: nn.Module, layer_names: Sequence[str]) -> None:
    """Put a convolution in the place of every whitened layer, or nothing at all; in place.

    The axes and the logits are the same to rounding, and so is all that is made of them: maps, edits, contributions.
    No statistics and no rotation are left: it cannot be trained or aligned, and folding again changes nothing. Under
    autocast its axes are no longer computed in float32.

    Args:
        backbone: a copy, in evaluation mode.
        layer_names: the places in which the axes are read, whitened or folded before.
    """
    graph = trace(backbone, layer_names, training=False)
    for name in layer_names:
        layer = backbone.get_submodule(name)
        if not isinstance(layer, ConceptWhiteningLayer):
            continue
        convolution = _convolution_before(backbone, graph, name)
        if convolution is None:
            replace_module(backbone, name, _as_convolution(layer))
        else:
            _merge(convolution, layer)
            replace_module(backbone, name, nn.Identity())
    backbone.eval()


def _convolution_before(backbone: nn.Module, graph: fx.Graph, layer: str) -> nn.Conv2d | None:
    """Return the convolution whose output the layer alone reads, if the layer can be merged into it."""
    name = source(graph, layer)
    if name is None:
        return None
    module = backbone.get_submodule(name)
    if type(module) is not nn.Conv2d or module.groups != 1 or is_watched(module):  # a subclass may do anything else
        return None
    names = {name for name, known in backbone.named_modules(remove_duplicate=False) if known is module}
    weights = {f"{name}.{weight}" for name in names for weight in ("weight", "bias")}
    calls: list[Any] = [node for node in graph.nodes if node.op in ("call_module", "get_attr")]
    used = sum(node.target in names or node.target in weights for node in calls)
    return module if len(names) == 1 and used == 1 else None


def is_watched(module: nn.Module) -> bool:
    """Return whether a module has hooks, which may change what it computes (``nn.utils.weight_norm``)."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _merge(convolution: nn.Conv2d, layer: ConceptWhiteningLayer) -> None:
    """Make a convolution compute what the layer returns; in float64, rounded once."""
    matrix, shift = (part.cpu().double() for part in layer.affine())
    weight = convolution.weight.detach().cpu().double()
    if convolution.bias is not None:
        shift = shift + matrix @ convolution.bias.detach().cpu().double()
    product = (matrix @ weight.flatten(1)).view(weight.shape)
    convolution.bias = nn.Parameter(shift.to(convolution.weight))
    convolution.weight = _like(convolution.weight, product)


def _like(weight: Tensor, values: Tensor) -> nn.Parameter:
    """Return a parameter with these values in the memory layout of another; it may be shared, and stays as it is."""
    return nn.Parameter(torch.empty_like(weight).copy_(values))


def _as_convolution(layer: ConceptWhiteningLayer) -> nn.Conv2d:
    """Return the 1x1 convolution that the layer is in evaluation."""
    matrix, shift = layer.affine()
    convolution = nn.Conv2d(layer.channels, layer.channels, 1, device=matrix.device, dtype=matrix.dtype)
    convolution.weight.copy_(matrix[:, :, None, None])
    assert convolution.bias is not None
    convolution.bias.copy_(shift)
    return convolution
