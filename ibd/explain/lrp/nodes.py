"""What is known of the tensors of a model while it runs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from ibd.explain import calls
from ibd.explain.lrp import operations as ops
from ibd.explain.lrp.functions import Shared
from ibd.explain.lrp.linear import LinearMap
from ibd.explain.lrp.rules import Rule


@dataclass(frozen=True)
class Operation:
    """A linear operation, as a composite sees it.

    Attributes:
        index: number of linear operations that came before it.
        kind: "conv", or "linear" for everything else.
        first: whether its input is the image, or the normalized image.
        place: name of the module it happens in, such as ``layer4.1.conv2``.
    """

    index: int
    kind: str
    first: bool
    place: str


@dataclass
class Pending:
    """A linear operation whose rule waits for a batch normalization that may be part of it."""

    operation: Operation
    map: LinearMap
    rule: Rule
    source: Node
    version: int
    """Version of the input's surrogate, whose memory may be the model's own."""


@dataclass
class Node:
    """The surrogate of a tensor of the model: of the same value, but its gradient is relevance / value.

    Attributes:
        surrogate: surrogate of the tensor; None while pending, carried or unknown.
        nonnegative: whether no value is below 0, for certain.
        gate: whether it says how much of something else there is to be; nothing need be known of its own relevance.
        weights: whether it is the gate that a softmax makes: the weights of an attention.
        batch: axis of the images.
        start: value at an input of 0, such as 0.5 behind a sigmoid.
        pending: the operation it comes from.
        carried: ones whose gradient is its *relevance*: each value is a function of the relevance's bearer alone.
        unknown: reason for which nothing can be said about its relevance.
        image: whether it is the image, or made of it pixel by pixel; then the surrogate is a leaf.
        box: box of the image: what pixels of 0 and 1 become, (1, ..., H, W) each.
        untouched: whether it is the image as it was given.
        shared: memory of the tensor that a backward pass will read.
        version: version of the tensor when this was written down.
    """

    surrogate: Tensor | None = None
    nonnegative: bool = False
    gate: bool = False
    weights: bool = False
    batch: int = 0
    start: float = 0.0
    pending: Pending | None = None
    carried: Tensor | None = None
    unknown: str | None = None
    image: bool = False
    box: tuple[Tensor, Tensor] | None = None
    untouched: bool = False
    shared: Shared | None = None
    version: int = 0


@dataclass(frozen=True)
class Call(calls.Call):
    """A call of a torch function by the model.

    Attributes:
        nodes: nodes of those of its tensors that depend on the image, one at least.
    """

    nodes: list[Node]

    @property
    def input(self) -> Tensor:
        """The first argument."""
        tensor: Tensor = self.args[0] if self.args else self.kwargs["input"]
        return tensor

    @property
    def draws(self) -> bool:
        """Whether it draws random numbers: dropout and its like only in training, or so they are told."""
        return ops.draws(self.name, self.args, self.kwargs)

    def again(self, replace: Callable[[Tensor], Tensor]) -> Any:
        """Return what the function makes of other tensors, with a graph and never in place."""
        args, kwargs = tree_map_only(Tensor, replace, (self.args, self.kwargs))
        func, kwargs = ops.out_of_place(self.func, kwargs)
        with torch.enable_grad():
            return func(*args, **kwargs)


def pixel_range(node: Node, rule: Rule) -> tuple[Tensor, Tensor]:
    """Return the least and the largest that pixels can be at the first operation; see `ZBox`.

    (1, C, H, W) each, or (B, C, H, W) where it is an image's own range that counts: never that of its neighbors in the
    batch.

    Args:
        node: node of its input: the image, of which it knows what 0 and 1 became.
        rule: rule of the operation, which may have numbers that were given.
    """
    assert node.surrogate is not None
    assert node.box is not None
    x = node.surrogate.detach()
    dims = tuple(range(2, x.dim())) if x.dim() > 2 else (1,)
    least, most = x.amin(dims, keepdim=True), x.amax(dims, keepdim=True)
    low, high = torch.minimum(*node.box), torch.maximum(*node.box)
    if node.untouched:  # the model does not normalize: it is given normalized images, for all one knows
        low, high = least.expand_as(x), most.expand_as(x)
    given = getattr(rule, "low", None), getattr(rule, "high", None)
    low, high = (
        edge if number is None else x.new_tensor(number).view(-1, *[1] * (x.dim() - 2)).expand_as(edge)
        for number, edge in zip(given, (low, high), strict=True)
    )
    if bool((low <= least).all()) and bool((most <= high).all()):
        return low, high
    return torch.minimum(low, least).expand_as(x), torch.maximum(high, most).expand_as(x)


def place_in(names: dict[nn.Module, str]) -> str:
    """Return the name of the innermost module of a model that is running now; "" in none but itself.

    Read from the call stack: hooks would be a change of the model.
    """
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_locals.get("self") if "self" in frame.f_code.co_varnames else None
        if isinstance(module, nn.Module) and module in names:
            return names[module]
        frame = frame.f_back  # type: ignore[assignment]
    return ""
