"""Cutting a backbone in two at one of its layers, so that what comes after it can run again by itself.

The computation is traced once (torch.fx). What the second part needs of the first, beside the layer's output, is
carried over: the input of a residual block, say. Both parts are made of the backbone's own modules.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from torch import fx, nn

from ibd.errors import UnsupportedError

_OUT_OF_PLACE: dict[Any, Any] = {operator.iadd: operator.add, operator.imul: operator.mul, operator.isub: operator.sub}


class Halves(NamedTuple):
    """A backbone in two parts. Neither owns its modules, so neither belongs into a `state_dict`."""

    first: fx.GraphModule
    """image -> the layer's output, then whatever else the second part needs."""
    second: fx.GraphModule
    """These -> the feature map."""

    def current(self, backbone: nn.Module) -> bool:
        """Return whether these are still the modules of the backbone: some may have been replaced since."""
        called = [(part, str(n.target)) for part in self for n in part.graph.nodes if n.op == "call_module"]
        try:
            return all(part.get_submodule(name) is backbone.get_submodule(name) for part, name in called)
        except AttributeError:  # there is no such module any more
            return False


def trace(backbone: nn.Module, layers: Sequence[str], training: bool) -> fx.Graph:
    """Return what the backbone computes, step by step; only modules around one of the layers are looked into.

    Args:
        backbone: backbone of one input and one output; its modules no longer write over what the layers return.
        layers: names of modules in it.
        training: mode to run in; code that looks at ``self.training`` differs.

    Raises:
        UnsupportedError: its code depends on the values of tensors, or is otherwise beyond torch.fx.
    """
    try:
        with _mode(backbone, training):
            graph = _Tracer(layers).trace(backbone)
    except Exception as error:  # the tracer runs the code of a stranger's module
        name, reason = getattr(backbone, "name", type(backbone).__name__), " ".join(str(error).split())[:120]
        place = ", ".join(layers)
        raise UnsupportedError(f"{name} cannot be cut at {place}: torch.fx cannot follow it ({reason})") from error
    _keep_outputs(backbone, graph, layers)
    return graph


@contextmanager
def _mode(module: nn.Module, training: bool) -> Iterator[None]:
    """Put a module into a mode for a while; each of its parts gets back the one that it had."""
    modes = [(part, part.training) for part in module.modules()]
    module.train(training)
    try:
        yield
    finally:
        for part, before in modes:
            part.training = before


def in_order(graph: fx.Graph, layers: Sequence[str]) -> list[str]:
    """Return the layers in the order in which they run.

    Raises:
        UnsupportedError: one of them never runs, or more than once.
    """
    called = [str(node.target) for node in graph.nodes if _calls(node, layers)]
    for name in layers:
        if called.count(name) != 1:
            raise UnsupportedError(f"layer '{name}' runs {called.count(name)} times in a pass: it must run once")
    return called


def halve(backbone: nn.Module, graph: fx.Graph, layer: str) -> Halves:
    """Return the backbone in two parts: until just after a layer, and the rest."""
    nodes = list(graph.nodes)
    place = next(index for index, node in enumerate(nodes) if _calls(node, [layer]))
    before, after = nodes[: place + 1], nodes[place + 1 :]
    needed = [node for node in before[:-1] if not set(after).isdisjoint(node.users)]
    carried = [nodes[place], *(node for node in needed if node.op != "get_attr")]
    first, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in before:
        copies[node] = first.node_copy(node, copies.__getitem__)
    first.output(tuple(copies[node] for node in carried))
    second, copies = fx.Graph(), {}
    for index, node in enumerate(carried):
        copies[node] = second.placeholder(f"carried_{index}")
    for node in [*(node for node in needed if node.op == "get_attr"), *after]:
        copies[node] = second.node_copy(node, copies.__getitem__)
    return Halves(fx.GraphModule(backbone, first), fx.GraphModule(backbone, second))


def drop_last_rectifiers(backbone: nn.Module, rest: fx.GraphModule) -> None:
    """Take the rectifiers away that follow a layer, if nothing else does; in place, in the backbone.

    Args:
        backbone: backbone whose modules the rest is made of.
        rest: what runs after the layer, of `halve`.
    """
    steps = [node for node in rest.graph.nodes if node.op not in ("placeholder", "output")]
    names = [str(node.target) for node in steps if node.op == "call_module"]
    if len(names) == len(steps) and all(isinstance(rest.get_submodule(name), nn.ReLU | nn.Identity) for name in names):
        for name in names:
            path, _, last = name.rpartition(".")
            setattr(backbone.get_submodule(path), last, nn.Identity())


def does_nothing(part: fx.GraphModule) -> bool:
    """Return whether a part of a network hands on the one thing that it is given."""
    nodes = [node for node in part.graph.nodes if not _is_identity(part, node)]
    return [node.op for node in nodes] == ["placeholder", "output"]


def _is_identity(part: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "call_module" and isinstance(part.get_submodule(str(node.target)), nn.Identity)


def source(graph: fx.Graph, layer: str) -> str | None:
    """Return the name of the module whose output a layer alone reads, or None: no module's, or others read it too."""
    feeding: Any = next(node for node in graph.nodes if _calls(node, [layer])).args[0]
    if feeding.op != "call_module" or len(feeding.users) != 1:
        return None
    return str(feeding.target)


def _keep_outputs(backbone: nn.Module, graph: fx.Graph, layers: Sequence[str]) -> None:
    """See to it that what the layers return, and what is carried over beside it, is not written over later.

    Modules that would (ReLUs, mostly) are told to work out of place; ``a += b`` becomes ``a + b``.
    """
    nodes = list(graph.nodes)
    place = {node: index for index, node in enumerate(nodes)}
    kept: set[fx.Node] = set()
    for index, node in enumerate(nodes):
        if _calls(node, layers):
            kept.add(node)
            kept |= {node for node in nodes[:index] if any(place[user] > index for user in node.users)}
        elif not kept.isdisjoint(node.all_input_nodes):
            if node.op == "call_module":
                for module in backbone.get_submodule(str(node.target)).modules():
                    if getattr(module, "inplace", False):
                        module.inplace = False  # type: ignore[assignment]
            elif node.target in _OUT_OF_PLACE:
                node.target = _OUT_OF_PLACE[node.target]
            if node.kwargs.get("inplace"):
                node.kwargs = {**node.kwargs, "inplace": False}


def _calls(node: fx.Node, layers: Sequence[str]) -> bool:
    return node.op == "call_module" and node.target in layers


class _Tracer(fx.Tracer):
    """Looks into a module only where one of the layers is inside of it."""

    def __init__(self, layers: Sequence[str]) -> None:
        super().__init__()
        self.layers = layers

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether a module is one step of the computation."""
        return not any(layer.startswith(f"{module_qualified_name}.") for layer in self.layers)
