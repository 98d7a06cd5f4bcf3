"""What was computed from what: the calls of a pass as a graph, without the tensors, and what all of a score passes.

A node is a tensor that depends on the image, in one state: what is written over becomes another node.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Literal, NamedTuple

from torch import Tensor, nn

from ibd.explain.calls import Call, tensors_in
from ibd.explain.layouts import Links
from ibd.explain.moved_axes import Moved, moved, reach
from ibd.explain.tokens import Grid, begin, follow

_MIXERS = (
    *("conv", "linear", "matmul", "rmatmul", "mm", "bmm", "addmm", "addbmm", "baddbmm", "einsum", "tensordot"),
    *("bilinear", "multi_head_attention", "scaled_dot_product", "lstm", "gru", "rnn"),
)
"""What names of functions begin with that make features of colors, or of other features."""
_SHAPE_ALONE = ("new_empty", "new_full", "new_ones", "new_tensor", "new_zeros")
"""Functions of a tensor's shape and type, beside those that end with ``_like``."""
_ARITHMETIC = ("add", "sub", "mul", "multiply", "div", "true_divide", "truediv", "iadd", "isub", "imul", "itruediv")
"""Functions that may be given one number for many: a weight of each place, or of each channel."""


class Spot(NamedTuple):
    """Where in a pass a tensor is met; the same in every pass of a model for the same images.

    Attributes:
        kind: "run", the output of the run of that number of a module; "made", a result of the call of that number;
            "given", an argument of it, of a tensor that was made out of sight.
        number: number of the run or call, counted from 0.
        position: position among several tensors.
    """

    kind: Literal["run", "made", "given"]
    number: int
    position: int = 0


class Node(NamedTuple):
    """A tensor that depends on the image.

    Attributes:
        name: name of the function that made it.
        parents: nodes that it was made from, the nearest last.
        shape: shape of the tensor.
        spot: spot at which it was made.
        pixels: whether it is still the image, whatever was done to it without a convolution or a matrix product.
        depth: most mixing functions on a way from the image; those that made a weight for each place, or for each
            channel, by which a map is multiplied, are not on its way.
    """

    name: str
    parents: tuple[int, ...]
    shape: tuple[int, ...]
    spot: Spot
    pixels: bool
    depth: int


class Flow:
    """The graph of a pass.

    Args:
        image: image that everything is computed from, node 0.
        constants: tensors that do not depend on the image, such as a model's buffers.

    Attributes:
        images: number of images.
        nodes: nodes in the order in which they were computed.
        links: links between axes that are the same.
        moves: node -> the node that it was made from by moving cells, and what was done to its axes.
        reaches: node -> how many rows and columns each output of the convolution or pooling saw that made it.
        names: node -> name of the outermost module that put it out.
        grids: node -> which of its tokens is which patch.
        mixers: nodes for which values of several tokens went into one.
        scattered: nodes that are maps of patches which do not lie where the image has them.
    """

    def __init__(self, image: Tensor, constants: Iterable[Tensor] = ()) -> None:
        self.images = len(image)
        self.nodes = [Node("image", (), tuple(image.shape), Spot("given", 0), True, 0)]
        self.links = Links()
        self.links.evident(0, 1)
        self.moves: dict[int, tuple[int, Moved]] = {}
        self.reaches: dict[int, tuple[int, int]] = {}
        self.names: dict[int, str] = {}
        self.grids: dict[int, Grid] = {}
        self.mixers: set[int] = set()
        self.scattered: set[int] = set()
        self._of: dict[int, tuple[weakref.ref[Tensor], int | None]] = {}
        for tensor in constants:
            self._set(tensor, None)
        self._set(image, 0)

    def of(self, tensor: Tensor) -> int | None:
        """Return the node that a tensor is; None for one that does not depend on the image."""
        node = self._of.get(id(tensor))
        return node[1] if node is not None and node[0]() is tensor else None

    def same(self, tensor: Tensor, node: int) -> None:
        """Let a tensor stand for a node."""
        self._set(tensor, node)

    def begin(self, number: int, given: list[Tensor]) -> None:
        """Note the arguments of a call that were made out of sight, such as by a scripted module."""
        for position, tensor in enumerate(given):
            known = self._of.get(id(tensor))
            if known is not None and known[0]() is tensor:
                continue
            rows = tensor.dim() > 1 and len(tensor) == self.images and tensor.is_floating_point()
            if rows and not isinstance(tensor, nn.Parameter) and len(self.nodes) > 1:
                spot, last = Spot("given", number, position), len(self.nodes) - 1
                self._add(tensor, Node("unseen", (last,), tuple(tensor.shape), spot, False, self.nodes[last].depth + 1))

    def record(self, number: int, call: Call, result: object) -> None:
        """Note a call, and what it made."""
        name, given = call.bare, call.tensors
        made = tensors_in(result) or (given[:1] if name == "setitem" else [])
        parents = [] if name.endswith("_like") or name in _SHAPE_ALONE else self._parents(given)
        if not parents or not made:
            for tensor in made:
                self._set(tensor, None)
            return
        before = [(self.of(tensor), tensor) for tensor in given]
        mixes = name.startswith(_MIXERS)
        pixels = not mixes and all(self.nodes[parent].pixels for parent in parents)
        whole = [self.of(tensor) for tensor in given if name in _ARITHMETIC and tensor.shape == made[0].shape]
        depth = max(self.nodes[parent].depth for parent in whole or parents if parent is not None) + mixes
        for position, tensor in enumerate(made):
            spot = Spot("made", number, position)
            node = self._add(tensor, Node(name, tuple(parents), tuple(tensor.shape), spot, pixels, depth))
            self.links.note(call, before, (node, tensor))
            self._note_places(call, node, position)
            self._note_tokens(call, before, (node, tensor), position)
            if tensor._base is not None and call.writes:
                self._set(tensor._base, node)

    def _note_places(self, call: Call, node: int, position: int) -> None:
        """Note whether a call moved the cells of its first argument, or how far it saw."""
        first = call.args[0] if call.args else None
        source = self.of(first) if isinstance(first, Tensor) and first.dim() == 4 else None
        if source is None:
            return
        if (shift := moved(call, position)) is not None:
            self.moves[node] = (source, shift)
        elif (seen := reach(call)) is not None:
            self.reaches[node] = seen

    def _note_tokens(
        self, call: Call, before: list[tuple[int | None, Tensor]], made: tuple[int, Tensor], position: int
    ) -> None:
        """Note which token of a result is which patch."""
        node, tensor = made
        given = [(known, argument, self.grids.get(-1 if known is None else known)) for known, argument in before]
        if any(grid is not None for *_, grid in given):
            step = follow(call, given, tensor, position, self.images)
            if step.grid is not None:
                self.grids[node] = step.grid
            if step.mixes:
                self.mixers.add(node)
            if step.scattered:
                self.scattered.add(node)
        elif tensor.dim() == 3 and (source := self._map_among(call)) is not None:
            axes = (1, 2) if source[1] == 3 else (2, 3)
            if (grid := begin(call, source[0], axes, position)) is not None:
                self.grids[node] = grid

    def _map_among(self, call: Call) -> tuple[int, int] | None:
        """Return node and axis of the channels of a call's first argument, if that is a map made of features."""
        first = call.args[0] if call.args else None
        node = self.of(first) if isinstance(first, Tensor) and first.dim() == 4 else None
        if node is None or self.nodes[node].pixels or self.nodes[node].shape[0] != self.images:
            return None
        axis = self.links.channels(node, self.nodes[node].shape, (self.nodes[0].shape[2], self.nodes[0].shape[3]))
        return None if axis is None else (node, axis)

    def _parents(self, given: list[Tensor]) -> list[int]:
        return sorted({node for tensor in given if (node := self.of(tensor)) is not None})

    def _add(self, tensor: Tensor, node: Node) -> int:
        self.nodes.append(node)
        self._set(tensor, len(self.nodes) - 1)
        return len(self.nodes) - 1

    def _set(self, tensor: Tensor, node: int | None) -> None:
        self._of[id(tensor)] = (weakref.ref(tensor), node)

    def passed(self, node: int) -> list[int]:
        """Return the nodes that everything passes on its way from the image to a node, both included, in order."""
        above, depth = [0] * (node + 1), [0] * (node + 1)
        for index in range(1, node + 1):
            nearest, *others = self.nodes[index].parents
            for other in others:
                nearest = _common(above, depth, nearest, other)
            above[index], depth[index] = nearest, depth[nearest] + 1
        chain = [node]
        while chain[-1]:
            chain.append(above[chain[-1]])
        return chain[::-1]

    def needed(self, node: int) -> set[int]:
        """Return the nodes that a node was made from, itself included."""
        needed, waiting = {node}, [node]
        while waiting:
            new = set(self.nodes[waiting.pop()].parents) - needed
            needed |= new
            waiting += new
        return needed

    def describe(self, node: int) -> str:
        """Return the name of the module that put a node out, or what function made it of which module's output."""
        at, made = node, self.nodes[node].name
        while at and at not in self.names:
            at = self.nodes[at].parents[-1]
        if at == node and at:
            return self.names[node]
        return f"{made} of '{self.names[at]}'" if at else f"{made} of the image"


def _common(above: list[int], depth: list[int], one: int, other: int) -> int:
    """Return the nearest node that both pass."""
    while one != other:
        if depth[one] >= depth[other]:
            one = above[one]
        else:
            other = above[other]
    return one
