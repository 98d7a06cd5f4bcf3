"""The surrogate: a model runs as it is, and beside each of its tensors one is kept whose gradient carries the rules.

Every call of a torch function by the model comes here (`TorchFunctionMode`). It is run as it was meant, without a
graph, and its result is what the model sees: so the model computes exactly what it always does, whatever its
architecture. Beside it the operation is applied to the surrogates of its arguments. Where that is cheap (sums, views)
it is done a second time, by autograd, and the two results are compared at the end; linear operations, pooling and
ReLUs run once, and their surrogates share the memory of the model's own tensors.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ibd.explain.lrp import operations as ops
from ibd.explain.lrp.books import Books
from ibd.explain.lrp.functions import Carrier, Relu, Shared, secant
from ibd.explain.lrp.heads import HEADS
from ibd.explain.lrp.ledger import divide
from ibd.explain.lrp.nodes import Node, Operation, Pending, place_in, replace_tensors, tensors_in
from ibd.explain.lrp.norms import batch_norm, normalized, running_instance_norm
from ibd.explain.lrp.parsing import linear_map


class Surrogate(Books):
    """Follows a model while it runs."""

    # --- every operation ---------------------------------------------------------------------------------------------

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation of the model, and keep up the surrogates."""
        kwargs = kwargs or {}
        nodes = [node for node in map(self._node, tensors_in([args, kwargs])) if node is not None]
        if not nodes:
            return func(*args, **kwargs)
        name = ops.name_of(func)
        if name == "__iter__":
            return iter(self.__torch_function__(torch.unbind, types, args, kwargs))
        unknown = next((node.unknown for node in nodes if node.unknown is not None), None)
        with torch.no_grad():
            prepared = None if unknown or name in ops.CONSTANTS else self._handler(func, name, nodes)
            if prepared is not None and ops.draws(name, args, kwargs):
                prepared = self._drawn
            if ops.in_place(name, kwargs):
                written = self._node(args[0]) if args else None
                if written is not None and written.shared is not None:
                    written.shared.save()
            if prepared is None:
                return self._unruled(func, name, args, kwargs, unknown)
            return prepared(func, name, args, kwargs, nodes)

    def _handler(self, func: Any, name: str, nodes: list[Node]) -> Callable[..., Any] | None:
        """Return what takes care of an operation; None if nothing does."""
        if getattr(func, "relevance", None) in HEADS:
            return self._head
        if all(node.image for node in nodes) and name in (ops.ALONE | ops.RESHAPES):
            return self._alone
        if all(node.carried is not None for node in nodes) and (
            (name in ops.OF_CARRIED and all(node.carried is nodes[0].carried for node in nodes))
            or (name in ops.VIEWS and len(nodes) == 1)
        ):
            return self._carried
        handler = _HANDLERS.get(name)
        return None if handler is None else functools.partial(handler, self)

    def _unruled(self, func: Any, name: str, args: Any, kwargs: Any, unknown: str | None) -> Any:
        """Run an operation that passes nothing on: its results are constants, or unknown."""
        result = func(*args, **kwargs)
        if name in ops.CONSTANTS or name in ops.COMPARISONS:
            return result
        changed = [args[0]] if name.startswith("__set") or (name.endswith("_") and not name.endswith("__")) else []
        found = [each for each in tensors_in([result, kwargs.get("out"), changed]) if each.is_floating_point()]
        if found:
            drawn = ", which draws random numbers," if name in ops.RANDOM or ops.draws(name, args, kwargs) else ""
            reason = unknown or f"there is no rule for '{name}'{drawn}{self._where()}"
            for each in found:
                self._keep(each, Node(unknown=reason))
        return result

    # --- linear operations -------------------------------------------------------------------------------------------

    def _linear(self, func: Any, name: str, args: Any, kwargs: Any, nodes: list[Node]) -> Any:
        given = [each for each in tensors_in([args, kwargs]) if self._node(each) is not None]
        if len(given) == 2 and nodes[0].gate != nodes[1].gate:  # attention: how much of each, a constant
            return self._gated(func, name, args, kwargs, nodes)
        parsed = linear_map(func, name, args, kwargs, given[0]) if len(given) == 1 else None
        if parsed is None:
            return self._unruled(func, name, args, kwargs, None)
        named = self.composite.needs_place or self.ledger.by_layer
        place = place_in(self.names) if named else ""
        operation = Operation(self.count, parsed.kind, nodes[0].image, place)
        self.count += 1
        rule = self.composite.rule(operation)
        version = self._surrogate(given[0])._version
        value = func(*args, **kwargs)
        self._keep(value, Node(pending=Pending(operation, parsed, rule, nodes[0], version)))
        return value

    def _instance_norm(self, func: Any, name: str, args: Any, kwargs: Any, nodes: list[Node]) -> Any:
        """By running statistics it is a batch normalisation."""
        running = running_instance_norm(*args, **kwargs)
        if running is None:
            return self._norm(func, name, args, kwargs, nodes)
        return self._affine(func, args, kwargs, nodes, *running)

    def _batch_norm(self, func: Any, name: str, args: Any, kwargs: Any, nodes: list[Node]) -> Any:
        return self._affine(func, args, kwargs, nodes, *batch_norm(*args, **kwargs, where=self._where))

    def _affine(self, func: Any, args: Any, kwargs: Any, nodes: list[Node], scale: Tensor, shift: Tensor) -> Any:
        """Channels times numbers, and others added: part of the linear operation before, if there is one."""
        node, x = nodes[0], args[0] if args else kwargs["input"]
        merged = None
        waiting = node.pending if node.surrogate is None else None
        if waiting is not None and self._apart(waiting, x):
            waiting = None
        if waiting is not None and waiting.map.scaled is not None and x.dim() == len(waiting.map.channels):
            merged = dataclasses.replace(waiting, map=waiting.map.then(scale, shift))
        before = None if merged is not None else self._surrogate(x)
        value = func(*args, **kwargs)
        if merged is not None:
            self._keep(value, Node(pending=merged))
            return value
        assert before is not None
        shape = (1, -1, *[1] * (x.dim() - 2))
        self._keep(value, Node(self._elementwise(before, value, scale.view(shape), shift.view(shape))))
        return value

    def _apart(self, waiting: Pending, x: Tensor) -> bool:
        """Return whether a normalisation is left for itself: scaling the output is less work than scaling the weights.

        Not where biases are ignored: the whole relevance of an output would go to a sum that may be near 0.
        """
        return not self.ignore and waiting.rule.indifferent and waiting.map.weight.numel() > x.numel()

    def _added(self, func: Any, name: str, args: Any, kwargs: Any, nodes: list[Node]) -> Any:
        """Sums: with a constant after a linear operation, its bias."""
        waiting = nodes[0].pending if len(nodes) == 1 and nodes[0].surrogate is None else None
        if waiting is None or "sub" in name or kwargs or len(args) != 2:
            return self._passed(func, name, args, kwargs, nodes)
        constant = args[1] if isinstance(args[0], Tensor) and self._node(args[0]) is not None else args[0]
        if not isinstance(constant, Tensor) or not waiting.map.takes(constant):
            return self._passed(func, name, args, kwargs, nodes)
        shifted = dataclasses.replace(waiting, map=waiting.map.shifted(constant.detach()))
        value = func(*args, **kwargs)
        self._keep(value, Node(pending=shifted))
        return value

    # --- the rest ----------------------------------------------------------------------------------------------------

    def _passed(self, func: Any, name: str, args: Any, kwargs: Any, nodes: list[Node]) -> Any:
        """Operations for which autograd is the rule."""
        if name in ops.VIEWS and name != "clone":  # nothing happens, such as `to` the same dtype
            result = func(*args, **kwargs)
            if result is args[0]:
                return result
            again = self._again(func, args, kwargs)
        else:
            again = self._again(func, args, kwargs)
            bias = self._constant_part(func, name, args, kwargs)
            if name in ops.POOLS and "out" not in kwargs:  # once is enough: too expensive to be done twice
                result = replace_tensors(again, lambda tensor: tensor.detach())
            else:
                result = func(*args, **kwargs)
            if bias is not None:
                again = self._biased(again, result, bias)
        moves = name in ops.VIEWS
        keeps = moves or name in ops.POOLS or (name in ops.ADDITIONS and "sub" not in name)
        nonnegative = name in ops.NONNEGATIVE or (keeps and self._all_nonnegative(args, kwargs))
        for tensor, surrogate in zip(tensors_in(result), tensors_in(again), strict=True):
            if tensor.is_floating_point() and surrogate.requires_grad:
                gate, start = (nodes[0].gate, nodes[0].start) if moves else (False, 0.0)
                self._keep(tensor, Node(surrogate, nonnegative, gate, start))
        return result

    def _drawn(self, func: Any, name: str, args: Any, kwargs: Any, nodes: list[Node]) -> Any:
        """Dropout that is on in evaluation, and its like: drawn once, by the model; the factor is a constant."""
        if len(nodes) > 1 or name.rstrip("_") in ops.REPLACED:
            return self._unruled(func, name, args, kwargs, None)
        x = args[0] if args else kwargs["input"]
        before = self._surrogate(x) if nodes[0].carried is None else None
        given = x.detach().clone()
        value = func(*args, **kwargs)
        if before is None:
            self._keep(value, Node(carried=nodes[0].carried))
        else:
            factor = divide(value.detach(), given)
            self._keep(value, Node(self._elementwise(before, value, factor, None), nodes[0].nonnegative))
        return value

    def _relu(self, func: Any, name: str, args: Any, kwargs: Any, nodes: list[Node]) -> Any:
        before = self._surrogate(args[0] if args else kwargs["input"])
        value = func(*args, **kwargs)
        shared = Shared(value.detach(), value._version)
        with torch.enable_grad():
            self._keep(value, Node(Relu.apply(before, shared), nonnegative=True, shared=shared))
        return value

    def _all_nonnegative(self, args: Any, kwargs: Any) -> bool:
        """Return whether no argument is a tensor or number below 0, or a constant that nobody looked at."""
        found = [self._node(each) for each in tensors_in([args, kwargs]) if each.is_floating_point()]
        numbers = [each for each in args if isinstance(each, float)]
        return all(node is not None and node.nonnegative for node in found) and all(each >= 0 for each in numbers)

    def _constant_part(self, func: Any, name: str, args: Any, kwargs: Any) -> Tensor | None:
        """Return what an operation gives where everything that depends on the image is 0; None for no constants."""
        if name not in ops.ADDITIONS and name not in ops.SELECTIONS:
            return None
        floats = [each for each in tensors_in([args, kwargs]) if each.is_floating_point()]
        if name in ("add", "__iadd__", "add_", "__add__", "cat", "stack", "concat") and all(
            self._node(each) is not None for each in floats
        ):
            operands = args[:2] if name not in ("cat", "stack", "concat") else ()
            if not any(isinstance(each, int | float) for each in operands):
                return None

        def nothing(tensor: Tensor) -> Tensor:
            is_constant = self._node(tensor) is None or not tensor.is_floating_point()
            return tensor.detach() if is_constant else tensor.new_zeros(()).expand(tensor.shape)

        found: Tensor = self._again(func, args, kwargs, nothing)
        return found.detach()

    def _product(self, func: Any, name: str, args: Any, kwargs: Any, nodes: list[Node]) -> Any:
        if len(nodes) == 1:
            result = self._passed(func, name, args, kwargs, nodes)
            factor = args[0] if isinstance(args[1], Tensor) and self._node(args[1]) is not None else args[1]
            if nodes[0].nonnegative and isinstance(factor, int | float) and factor >= 0 and result in self.nodes:
                self.nodes[result].nonnegative = True
            return result
        return self._gated(func, name, args, kwargs, nodes)

    def _gated(self, func: Any, name: str, args: Any, kwargs: Any, nodes: list[Node]) -> Any:
        """Products of which one factor says how much of the other there is to be: that one is a constant."""
        gates = [node.gate or node.carried is not None for node in nodes]
        if len(nodes) != 2 or gates[0] == gates[1]:
            reason = f"there is no rule for a product of two tensors that depend on the image ('{name}'){self._where()}"
            return self._unruled(func, name, args, kwargs, reason)
        gate = [each for each in tensors_in([args, kwargs]) if self._node(each) is not None][gates.index(True)]
        again = self._again(func, args, kwargs, lambda t: t.detach() if t is gate else self._surrogate(t))
        result = func(*args, **kwargs)
        self._keep(result, Node(again, all(node.nonnegative for node in nodes)))
        return result

    def _quotient(self, func: Any, name: str, args: Any, kwargs: Any, nodes: list[Node]) -> Any:
        """Quotients: what divides is a constant, as in a normalisation."""
        if not isinstance(args[0], Tensor) or self._node(args[0]) is None:
            return self._unruled(func, name, args, kwargs, None)
        again = self._again(func, args, kwargs, lambda t: self._surrogate(t) if t is args[0] else t.detach())
        result = func(*args, **kwargs)
        self._keep(result, Node(again))
        return result

    def _activation(self, func: Any, name: str, args: Any, kwargs: Any, nodes: list[Node]) -> Any:
        x = args[0] if args else kwargs["input"]
        if len(nodes) > 1:
            return self._unruled(func, name, args, kwargs, None)
        before = self._surrogate(x)
        given = before.detach()
        if name.startswith("softmax"):
            dim = kwargs.get("dim", args[1] if len(args) > 1 else -1)
            start = 1 / x.shape[dim]
        else:
            start = float(self._again(func, args, kwargs, lambda t: t.new_zeros(()) if t is x else t))
        given = given.clone() if kwargs.get("inplace") or name.endswith("_") else given
        value = func(*args, **kwargs)
        slope, bias = secant(given, value.detach(), start)
        bare = name.rstrip("_")
        node = Node(
            self._elementwise(before, value, slope, bias), start >= 0 and bare in ops.NONNEGATIVE, bare in ops.GATES,
            start,
        )  # fmt: skip
        if bare.startswith(("clamp", "clip", "hardtanh")):
            node.nonnegative = bool(value.amin() >= 0)
        self._keep(value, node)
        return value

    def _norm(self, func: Any, name: str, args: Any, kwargs: Any, nodes: list[Node]) -> Any:
        x = self._surrogate(args[0])
        with torch.enable_grad():
            found = normalized(name, x, *args[1:], **kwargs) if len(nodes) == 1 else None
        if found is None:
            return self._unruled(func, name, args, kwargs, None)
        value = func(*args, **kwargs)
        surrogate, bias = found
        self._keep(value, Node(self._biased(surrogate, value, bias)))
        return value

    def _comparison(self, func: Any, name: str, args: Any, kwargs: Any, nodes: list[Node]) -> Any:
        """Steps: what is made of one passes its relevance on unchanged, unless it is a factor."""
        value = func(*args, **kwargs)
        if len(nodes) == 1 and isinstance(args[0], Tensor) and value.shape == args[0].shape:
            x = self._surrogate(args[0])
            given = x.detach()
            with torch.enable_grad():
                carried = Carrier.apply(x, tuple(value.shape), lambda relevance: divide(relevance, given))
            self._keep(value, Node(carried=carried))
        return value

    def _carried(self, func: Any, name: str, args: Any, kwargs: Any, nodes: list[Node]) -> Any:
        result = func(*args, **kwargs)
        carried = nodes[0].carried
        if name in ops.VIEWS:
            bearer = next(each for each in tensors_in([args, kwargs]) if self._node(each) is not None)
            ones = nodes[0].carried
            assert ones is not None
            carried = self._again(func, args, kwargs, lambda t: ones if t is bearer else t)
        for tensor, each in zip(tensors_in(result), tensors_in(carried), strict=True):
            self._keep(tensor, Node(carried=each))
        return result

    def _alone(self, func: Any, name: str, args: Any, kwargs: Any, nodes: list[Node]) -> Any:
        """The image is changed pixel by pixel: relevance is that of what comes out."""
        given = {id(each): self._node(each) for each in tensors_in([args, kwargs])}
        boxes = None
        if all(node.box is not None for node in nodes):
            boxes = [
                self._again(func, args, kwargs, lambda t, k=k: given[id(t)].box[k] if given[id(t)] else t.detach())  # type: ignore
                for k in (0, 1)
            ]
        size, images = self.ledger.size, self.ledger.images
        before = [self._surrogate(each) for each in tensors_in([args, kwargs]) if given[id(each)]]
        again = self._again(func, args, kwargs)
        result = func(*args, **kwargs)
        for index, (tensor, surrogate) in enumerate(zip(tensors_in(result), tensors_in(again), strict=True)):
            same = tensor.dim() > 2 and tuple(tensor.shape[-2:]) == tuple(size)
            same = same or (name in ops.RESHAPES and tensor.numel() == before[0].numel())
            if len(tensor) == images and same:
                box = None if boxes is None else tuple(list(tensors_in(each))[index].detach() for each in boxes)
                untouched = name in ops.RESHAPES and all(node.untouched for node in nodes)
                self._source(tensor, box, untouched)  # type: ignore[arg-type]
            else:
                self._keep(tensor, Node(surrogate))
        return result

    def _head(self, func: Any, name: str, args: Any, kwargs: Any, nodes: list[Node]) -> Any:
        value = func(*args, **kwargs)
        start = nodes[0].start
        with torch.enable_grad():
            found = HEADS[func.relevance](self._surrogate(args[0]), value, args, start, self.ledger)
        for tensor, carried in found:
            self._keep(tensor, Node(carried=carried))
        return value


_HANDLERS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys((*ops.VIEWS, *ops.POOLS, *ops.HOMOGENEOUS, *ops.SELECTIONS), Surrogate._passed),
    **dict.fromkeys(ops.ADDITIONS, Surrogate._added),
    **dict.fromkeys(ops.RELUS, Surrogate._relu),
    **dict.fromkeys((*ops.CONVOLUTIONS, *ops.TRANSPOSED, *ops.MATMULS, "linear", "addmm"), Surrogate._linear),
    **dict.fromkeys(ops.PRODUCTS, Surrogate._product),
    **dict.fromkeys(ops.QUOTIENTS, Surrogate._quotient),
    **dict.fromkeys(ops.ACTIVATIONS, Surrogate._activation),
    **dict.fromkeys(ops.NORMS, Surrogate._norm),
    "instance_norm": Surrogate._instance_norm,
    **dict.fromkeys(ops.COMPARISONS, Surrogate._comparison),
    "batch_norm": Surrogate._batch_norm,
}
