"""Following what a model computes: cutting it at a tensor, and running again only what came after.

A `Watch` sees every function of torch that a model calls, whether a module calls it or not. It can make a tensor a
leaf, so that no graph is recorded below, and it remembers the calls after that as a `Tape`, which can be run again from
other values of the tensor without the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from ibd.explain.calls import Arguments, Call, Function, Keywords, tensors_in
from ibd.explain.flow import Flow, Spot

T = TypeVar("T")

_READERS = {"item", "tolist", "numpy", "equal", "allclose", "is_nonzero"}
_READERS |= {f"__{name}__" for name in ("bool", "int", "float", "index", "array", "complex", "contains")}
"""Functions that tell Python the value of a tensor: what the model does next may depend on it."""


class Place(NamedTuple):
    """Where a computation was cut.

    Attributes:
        leaf: the tensor there, without a history.
        stand_in: the copy of it with which the model went on.
        spot: spot in the pass.
        node: node of the flow; None where none was followed.
        since: number of nodes that the flow had before.
    """

    leaf: Tensor
    stand_in: Tensor
    spot: Spot
    node: int | None
    since: int


class _Step(NamedTuple):
    call: Call
    result: object
    autocast: tuple[bool, torch.dtype]


class Tape:
    """The calls that came after a place.

    Attributes:
        sound: whether running them again gives what the model would: False where it read values, or computed by means
            that are not seen.
        differentiable: whether they can be gone back through as well: not with an ``autograd.Function`` among them, of
            which only the inside is seen, which runs without a graph.
    """

    def __init__(self, start: Tensor) -> None:
        self.start, self.sound, self.differentiable = start, True, True
        self._steps: list[_Step] = []
        self._live: dict[int, Tensor] = {id(start): start}  # by identity; kept, so that no number is used twice

    def __contains__(self, tensor: Tensor) -> bool:
        """Return whether a tensor was computed from the place by calls that were seen."""
        return id(tensor) in self._live

    def record(self, call: Call, result: object) -> None:
        """Remember a call if it has to do with the place."""
        given = call.tensors
        if any(tensor.requires_grad and id(tensor) not in self._live for tensor in given):
            self.sound = False
        if not any(id(tensor) in self._live for tensor in given):
            return
        made = tensors_in(result)
        if call.name in _READERS or (call.writes and id(given[0]) not in self._live):
            self.sound = False
        if any(tensor.is_floating_point() for tensor in made) and not torch.is_grad_enabled():
            self.differentiable = False
        if made or call.name == "__setitem__":
            self._steps.append(_Step(call, result, _autocast(self.start.device.type)))
            self._live.update({id(tensor): tensor for tensor in made})

    def prune(self, wanted: Tensor) -> None:
        """Forget the calls that `wanted`, the tensor that will be asked for, does not need."""
        needed, kept = {id(wanted)}, []
        for step in reversed(self._steps):
            given = step.call.tensors
            touched = [
                *tree_leaves(step.result),
                *(given[:1] if step.call.writes else []),
            ]
            if any(id(tensor) in needed for tensor in touched):
                needed.update(id(tensor) for tensor in given)
                kept.append(step)
        self._steps = kept[::-1]

    def play(self, values: Tensor, wanted: Tensor) -> Tensor:
        """Return what `wanted`, a tensor that the calls made, is for other values of the place."""
        now = {id(self.start): values.clone()}
        device = self.start.device.type
        ambient = _autocast(device)
        for step in self._steps:
            args, kwargs = _swap((step.call.args, step.call.kwargs), now)
            same = step.autocast == ambient
            with nullcontext() if same else torch.autocast(device, enabled=step.autocast[0], dtype=step.autocast[1]):
                result = step.call.func(*args, **kwargs)
            for before, after in zip(tree_leaves(step.result), tree_leaves(result), strict=True):
                if isinstance(before, Tensor):
                    now[id(before)] = after
        return now[id(wanted)]


class Watch(TorchFunctionMode):
    """Follows the functions that are called while it is active; it may be entered several times.

    Args:
        image: (B, 3, H, W); only tensors of that many rows are feature maps, and not the image itself, whatever was
            done to it without a convolution or a matrix product (a normalization, a smaller size).
        automatic: whether to cut wherever a (B, C, h, w) map becomes something that is no map: where it is pooled or
            flattened.
        record: whether to keep a tape of what comes after the last cut.
        replace: spot, and values to go on with there, without any cut.
        only: spot to cut at, and nowhere else.
        constants: tensors that do not depend on the image, such as a model's buffers.

    Attributes:
        flow: flow of the pass; None where a spot is given, so that nothing is left to choose.
        done: number of functions that had been called when the model was done.
        end: number of nodes that the flow had then.
        runs: number of runs of the module at whose output the model is cut.
    """

    def __init__(
        self,
        image: Tensor,
        automatic: bool,
        record: bool = False,
        replace: tuple[Spot, Tensor] | None = None,
        only: Spot | None = None,
        constants: Iterable[Tensor] = (),
    ) -> None:
        super().__init__()
        self.images, self.automatic, self.recording, self.replace = len(image), automatic, record, replace
        self.spot = only if replace is None else replace[0]
        self.flow = Flow(image, constants) if self.spot is None else None
        self.places: list[Place] = []
        self.tape: Tape | None = None
        self.runs = self.calls = self.done = self.end = 0
        self._own = False
        self._swaps: dict[int, Tensor] = {}
        self._kept: list[Tensor] = []

    def __torch_function__(
        self, func: Function, types: object, args: Arguments = (), kwargs: Keywords | None = None
    ) -> object:
        """Run one function; cut before it if it ends a map."""
        kwargs = kwargs or {}
        if self._own:
            return func(*args, **kwargs)
        number, self.calls = self.calls, self.calls + 1
        self._cut_at("given", number, (args, kwargs))
        args, kwargs = _swap((args, kwargs), self._swaps)
        if self.flow is not None:
            self.flow.begin(number, tensors_in((args, kwargs)))
        result = func(*args, **kwargs)
        if self.automatic and (lost := self._lost(args, kwargs, result)) is not None:
            self._go_on(lost, self._known(lost))
            args, kwargs = _swap((args, kwargs), self._swaps)
            result = func(*args, **kwargs)
        if self.flow is not None:
            self.flow.record(number, Call(func, args, kwargs), result)
        if self.tape is not None:
            self.tape.record(Call(func, args, kwargs), result)
        if self._cut_at("made", number, result if tensors_in(result) else args[:1]):
            return _swap(result, self._swaps)
        return result

    def _cut_at(self, kind: str, number: int, tree: object) -> bool:
        """Cut at the spot that was asked for, if this is it; return whether it is."""
        if self.spot is None or self.spot[:2] != (kind, number):
            return False
        self._go_on(tensors_in(tree)[self.spot.position], self.spot)
        return True

    def _go_on(self, tensor: Tensor, spot: Spot) -> None:
        """Cut at a tensor; wherever the model uses it from now on, it uses what stands in for it."""
        self._swaps[id(tensor)] = self.cut(tensor, spot)
        self._kept.append(tensor)

    def _known(self, tensor: Tensor) -> Spot:
        """Return where a tensor was made."""
        assert self.flow is not None
        node = self.flow.of(tensor)
        assert node is not None
        return self.flow.nodes[node].spot

    def run(self, output: Tensor) -> Tensor:
        """Return what the model is to go on with in the place of the output of the module that was asked for."""
        spot, self.runs = Spot("run", self.runs), self.runs + 1
        return output if self.spot not in (None, spot) else self.cut(output, spot)

    def cut(self, tensor: Tensor, spot: Spot) -> Tensor:
        """Return what the model is to go on with in the place of a tensor."""
        with self.alone():
            if self.replace is not None:
                return self.replace[1].clone()
            leaf = tensor.detach().requires_grad_()
            stand_in = leaf.clone()
        node, since = (None, 0) if self.flow is None else (self.flow.of(tensor), len(self.flow.nodes))
        if self.flow is not None and node is not None:
            self.flow.same(stand_in, node)
        self.places.append(Place(leaf, stand_in, spot, node, since))
        self.tape = Tape(stand_in) if self.recording else None
        return stand_in

    def is_map(self, value: object) -> bool:
        """Return whether something is a feature map of the images with more than one position.

        (B, 1, 1, D) is a vector of a network that keeps its channels last.
        """
        return (
            isinstance(value, Tensor)
            and value.dim() == 4
            and value.shape[0] == self.images
            and value.shape[2] * value.shape[3] > 1
            and value.shape[1:3] != (1, 1)
            and value.is_floating_point()
        )

    def _lost(self, args: Arguments, kwargs: Keywords, result: object) -> Tensor | None:
        """Return the map that a function was given first and made something else of, if it is not yet cut there."""
        made = result if isinstance(result, Tensor) else _first_tensor(result)
        if made is None or made.shape[:1] != (self.images,) or made.dim() > 4 or not made.is_floating_point():
            return None
        if self.is_map(made):
            return None
        given = args[0] if args and isinstance(args[0], Tensor) else _first_tensor((args, kwargs))
        if given is None or not self.is_map(given) or any(given is place.stand_in for place in self.places):
            return None
        node = None if self.flow is None else self.flow.of(given)
        return None if self.flow is None or node is None or self.flow.nodes[node].pixels else given

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let the functions that are called meanwhile pass unseen."""
        before, self._own = self._own, True
        try:
            yield
        finally:
            self._own = before


def _first_tensor(tree: object) -> Tensor | None:
    """Return the first tensor in nested arguments or results."""
    if not isinstance(tree, tuple | list | dict):
        return None
    return next((leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)), None)


def _swap(tree: T, swaps: dict[int, Tensor]) -> T:
    """Return nested arguments with some tensors replaced."""
    if not swaps:
        return tree
    swapped: T = tree_map_only(Tensor, lambda leaf: swaps.get(id(leaf), leaf), tree)
    return swapped


def _autocast(device: str) -> tuple[bool, torch.dtype]:
    return torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
