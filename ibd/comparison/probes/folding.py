"""Folding batch normalization into the convolutions before it, in place: for a copy that is only evaluated.

In evaluation ``z = s (W * x + b - m) + c`` is a convolution again, with ``s W`` and ``s (b - m) + c``. The modules stay
where they are, so that everything else of a network (cuts, names, hooks of others) goes on working.
"""

from __future__ import annotations

import copy
from collections import Counter

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ibd.models.concept_whitening.folding import is_watched


@torch.no_grad()
def fold_batch_norm(module: nn.Module) -> int:
    """Fold every batch normalization whose input a convolution computes for it alone.

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


def _pair(module: nn.Module, node: fx.Node, calls: Counter[fx.node.Target]) -> tuple[nn.Conv2d, nn.BatchNorm2d] | None:
    """Return the convolution and the normalization of a node of the graph, if they can be one."""
    if node.op != "call_module" or len(node.args) != 1 or not isinstance(node.args[0], fx.Node):
        return None
    before = node.args[0]
    if before.op != "call_module" or len(before.users) != 1:
        return None
    norm, convolution = module.get_submodule(str(node.target)), module.get_submodule(str(before.target))
    plain = type(norm) is nn.BatchNorm2d and type(convolution) is nn.Conv2d  # a subclass may do anything else
    if not plain or norm.running_mean is None or any(map(is_watched, (norm, convolution))):
        return None
    weights = [f"{before.target}.{name}" for name in ("weight", "bias")]
    once = calls[node.target] == calls[before.target] == 1 and not any(calls[name] for name in weights)
    alone = sum(other is convolution for _, other in module.named_modules(remove_duplicate=False)) == 1
    return (convolution, norm) if once and alone else None  # type: ignore[return-value]


def _merge(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
    """Make a convolution compute what the normalization returns; in float64, rounded once."""
    kept = convolution.weight
    precise = copy.deepcopy(convolution).cpu().double(), copy.deepcopy(norm).cpu().double()
    fused = fuse_conv_bn_eval(*precise)
    assert fused.bias is not None
    convolution.weight = nn.Parameter(fused.weight.to(kept), requires_grad=False)
    convolution.bias = nn.Parameter(fused.bias.to(kept), requires_grad=False)
