"""Cutting a pass at the output of a module, the names of what modules put out, and whether one cut is enough."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ibd.errors import UnsupportedError
from ibd.explain.activations import network_of
from ibd.explain.flow import Spot
from ibd.explain.tape import Watch


def is_cut(watch: Watch, spot: Spot, columns: list[Tensor], replay: bool) -> bool:
    """Return whether a pass was cut at a spot such that all of the scores comes through there.

    Not where other places were cut as well that a score depends on, nor where the model had used the map before.
    """
    place = next((other for other in watch.places if other.spot == spot), None)
    if place is None or (replay and place is not watch.places[-1]):
        return False
    if spot.kind == "run":
        return True
    assert watch.flow is not None
    flow, node = watch.flow, place.node
    for column in columns:
        score = flow.of(column)
        needed = flow.needed(score) if score is not None else set()
        early = any(node in flow.nodes[leaf].parents for leaf in needed if leaf < place.since)
        if early or reached_by(column) != {id(place.leaf)}:
            return False
    return True


@contextmanager
def hooked(module: nn.Module | None, watch: Watch, optional: bool) -> Iterator[None]:
    """Cut at the output of a module; what comes after it is not looked through for maps.

    Args:
        module: module, or None for none.
        watch: hook that cuts.
        optional: whether an output that is no map of several positions is passed over, and what was found within kept.
    """
    if module is None:
        yield
        return

    def hook(_: nn.Module, __: object, output: object) -> object:
        with watch.alone():
            if optional and not watch.is_map(output):
                return None
            if not isinstance(output, Tensor) or not output.is_floating_point():
                raise UnsupportedError(f"the layer returns a {type(output).__name__}, but a tensor is needed")
            watch.automatic = False
            return watch.run(output)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def named(model: nn.Module, watch: Watch) -> Iterator[None]:
    """Note which modules put out what, where a map is looked for."""
    flow, handles = watch.flow, []

    def noting(name: str) -> Callable[[nn.Module, object, object], None]:
        def hook(_: nn.Module, __: object, output: object) -> None:
            node = flow.of(output) if flow is not None and isinstance(output, Tensor) else None
            if flow is not None and node is not None:
                flow.names[node] = name

        return hook

    try:
        if flow is not None and watch.automatic:
            for name, layer in network_of(model).named_modules():
                if name and not isinstance(layer, torch.jit.ScriptModule):
                    handles.append(layer.register_forward_hook(noting(name)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def reached_by(scores: Tensor) -> set[int]:
    """Return the identities of the leaves that scores are computed from."""
    reached, seen = set(), set()
    waiting = [scores.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            reached.add(id(node.variable))
        waiting += [below for below, _ in node.next_functions]
    return reached
