"""Folding batch normalisation into the convolutions before it, in place: for a copy that is only evaluated.

In evaluation ``z = s (W * x + b - m) + c`` is a convolution again, with ``s W`` and ``s (b - m) + c``. The modules stay
where they are, so that everything else of a network (cuts, names, hooks of others) goes on working.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor, fx, nn


@torch.no_grad()
def fold_batch_norm(module: nn.Module) -> int:
    """Fold every batch normalisation whose input a convolution computes for it alone.

    Args:
        module: a copy, in evaluation mode, which is changed; what torch.fx cannot follow is left as it is.

    Returns:
        How many were folded.
    """
    try:
        graph = fx.Tracer().trace(module)
    except Exception:  # the tracer runs the code of a stranger's module
        return 0
    calls = Counter(node.target for node in graph.nodes if node.op in ("call_module", "get_attr"))
    folded = 0
    for node in graph.nodes:
        pair = _pair(module, node, calls)
        if pair is not None:
            _merge(*pair)
            parent, _, name = str(node.target).rpartition(".")
            setattr(module.get_submodule(parent), name, nn.Identity())
            folded += 1
    return folded


def _pair(module: nn.Module, node: Any, calls: Counter[Any]) -> tuple[nn.Conv2d, nn.BatchNorm2d] | None:
    """Return the convolution and the normalisation of a node of the graph, if they can be one."""
    if node.op != "call_module" or len(node.args) != 1 or not isinstance(node.args[0], fx.Node):
        return None
    before = node.args[0]
    if before.op != "call_module" or len(before.users) != 1:
        return None
    norm, convolution = module.get_submodule(str(node.target)), module.get_submodule(str(before.target))
    plain = type(norm) is nn.BatchNorm2d and type(convolution) is nn.Conv2d  # a subclass may do anything else
    if not plain or norm.running_mean is None or any(map(_is_watched, (norm, convolution))):
        return None
    weights = [f"{before.target}.{name}" for name in ("weight", "bias")]
    once = calls[node.target] == calls[before.target] == 1 and not any(calls[name] for name in weights)
    alone = sum(each is convolution for _, each in module.named_modules(remove_duplicate=False)) == 1
    return (convolution, norm) if once and alone else None  # type: ignore[return-value]


def _is_watched(module: nn.Module) -> bool:
    """Return whether a module has hooks, which may change what it computes."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _merge(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Make a convolution compute what the normalisation returns; in float64, rounded once."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (_double(norm.running_var) + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * _double(norm.weight)
    shift = -_double(norm.running_mean) * scale
    if norm.bias is not None:
        shift = shift + _double(norm.bias)
    if convolution.bias is not None:
        shift = shift + _double(convolution.bias) * scale
    weight = _double(convolution.weight) * scale.view(-1, 1, 1, 1)
    convolution.weight = nn.Parameter(weight.to(convolution.weight), requires_grad=False)
    convolution.bias = nn.Parameter(shift.to(convolution.weight), requires_grad=False)


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double()
