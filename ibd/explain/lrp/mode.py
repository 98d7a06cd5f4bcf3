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

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from ibd.explain.attention import FUSED
from ibd.explain.calls import Arguments, Function, Keywords, tensors_in
from ibd.explain.lrp import operations as ops
from ibd.explain.lrp.functions import Carrier, Relu, Shared, secant
from ibd.explain.lrp.heads import HEADS, Head
from ibd.explain.lrp.ledger import divide
from ibd.explain.lrp.nodes import Call, Node, Operation, Pending, place_in
from ibd.explain.lrp.norms import batch_norm, normalized, running_instance_norm
from ibd.explain.lrp.parsing import linear_map
from ibd.explain.lrp.products import Products

Handler = Callable[[Call], object]
"""Runs a call and returns its result."""


class Surrogate(Products):
    """Follows a model while it runs."""

    # --- every operation ---------------------------------------------------------------------------------------------

    def __torch_function__(
        self, func: Function, types: object, args: Arguments = (), kwargs: Keywords | None = None
    ) -> object:
        """Run an operation of the model, and keep up the surrogates."""
        kwargs = kwargs or {}
        nodes = [node for node in map(self._node, tensors_in((args, kwargs))) if node is not None]
        if not nodes:
            return func(*args, **kwargs)
        call = Call(func, args, kwargs, nodes)
        if call.name == "__iter__":
            return iter(self.__torch_function__(torch.unbind, types, args, kwargs))  # type: ignore[call-overload]
        unknown = next((node.unknown for node in nodes if node.unknown is not None), None)
        with torch.no_grad():
            if unknown and (gated := self._unknown_gate(call)) is not None:
                return gated
            prepared = None if unknown or call.name in ops.CONSTANTS else self._handler(call)
            if prepared is not None and call.draws:
                prepared = self._drawn
            if ops.in_place(call.name, kwargs):
                written = self._node(args[0]) if args else None
                if written is not None and written.shared is not None:
                    written.shared.save()
            result = self._unruled(call, unknown) if prepared is None else prepared(call)
            self._follow_images(call, result)
            return result

    def _handler(self, call: Call) -> Handler | None:
        """Return what takes care of an operation; None if nothing does."""
        relevance = getattr(call.func, "relevance", "")
        if (head := HEADS.get(relevance)) is not None:
            return functools.partial(self._head, head)
        if relevance == "scaled":
            return self._scaled
        if all(node.image for node in call.nodes) and call.name in (ops.ALONE | ops.RESHAPES):
            return self._alone
        if all(node.carried is not None for node in call.nodes) and (
            (call.name in ops.OF_CARRIED and all(node.carried is call.nodes[0].carried for node in call.nodes))
            or (call.name in ops.VIEWS and len(call.nodes) == 1)
        ):
            return self._carried
        handler = _HANDLERS.get(call.name)
        return None if handler is None else functools.partial(handler, self)

    def _unruled(self, call: Call, unknown: str | None = None) -> object:
        """Run an operation that passes nothing on: its results are constants, or unknown."""
        result = call.run()
        if call.name in ops.CONSTANTS or call.name in ops.COMPARISONS:
            return result
        written = call.name.startswith("__set") or (call.name.endswith("_") and not call.name.endswith("__"))
        touched = [result, call.kwargs.get("out"), call.args[:1] if written else []]
        tensors = [tensor for tensor in tensors_in(touched) if tensor.is_floating_point()]
        if tensors:
            drawn = ", which draws random numbers," if call.name in ops.RANDOM or call.draws else ""
            reason = unknown or f"there is no rule for '{call.name}'{drawn}{self._where()}"
            for tensor in tensors:
                self._keep(tensor, Node(unknown=reason))
        return result

    # --- linear operations -------------------------------------------------------------------------------------------

    def _linear(self, call: Call) -> object:
        given = [tensor for tensor in call.tensors if self._node(tensor) is not None]
        if len(given) == 2 and call.name in ops.MATMULS:
            return self._of_two(call)
        parsed = linear_map(call, given[0]) if len(given) == 1 else None
        if parsed is None:
            return self._unruled(call)
        named = self.composite.needs_place or self.ledger.by_layer
        place = place_in(self.names) if named else ""
        operation = Operation(self.count, parsed.kind, call.nodes[0].image, place)
        self.count += 1
        rule = self.composite.rule(operation)
        version = self._surrogate(given[0])._version
        value = call.run()
        self._keep(value, Node(pending=Pending(operation, parsed, rule, call.nodes[0], version)))
        return value

    def _instance_norm(self, call: Call) -> object:
        """By running statistics it is a batch normalization."""
        running = running_instance_norm(*call.args, **call.kwargs)
        if running is None:
            return self._norm(call)
        return self._affine(call, *running)

    def _batch_norm(self, call: Call) -> object:
        return self._affine(call, *batch_norm(*call.args, **call.kwargs, where=self._where))

    def _affine(self, call: Call, scale: Tensor, shift: Tensor) -> object:
        """Channels times numbers, and others added: part of the linear operation before, if there is one."""
        node, x = call.nodes[0], call.input
        merged = None
        waiting = node.pending if node.surrogate is None else None
        if waiting is not None and self._apart(waiting, x):
            waiting = None
        if waiting is not None and waiting.map.scaled is not None and x.dim() == len(waiting.map.channels):
            merged = dataclasses.replace(waiting, map=waiting.map.then(scale, shift))
        before = None if merged is not None else self._surrogate(x)
        value = call.run()
        if merged is not None:
            self._keep(value, Node(pending=merged))
            return value
        assert before is not None
        shape = (1, -1, *[1] * (x.dim() - 2))
        self._keep(value, Node(self._elementwise(before, value, scale.view(shape), shift.view(shape))))
        return value

    def _apart(self, waiting: Pending, x: Tensor) -> bool:
        """Return whether a normalization is left for itself: scaling the output is less work than scaling the weights.

        Not where biases are ignored: the whole relevance of an output would go to a sum that may be near 0.
        """
        return not self.ignore and waiting.rule.indifferent and waiting.map.weight.numel() > x.numel()

    def _added(self, call: Call) -> object:
        """Sums: with a constant after a linear operation, its bias."""
        waiting = call.nodes[0].pending if len(call.nodes) == 1 and call.nodes[0].surrogate is None else None
        if waiting is None or "sub" in call.name or call.kwargs or len(call.args) != 2:
            return self._passed(call)
        first, second = call.args
        constant = second if isinstance(first, Tensor) and self._node(first) is not None else first
        if not isinstance(constant, Tensor) or not waiting.map.takes(constant):
            return self._passed(call)
        shifted = dataclasses.replace(waiting, map=waiting.map.shifted(constant.detach()))
        value = call.run()
        self._keep(value, Node(pending=shifted))
        return value

    # --- the rest ----------------------------------------------------------------------------------------------------

    def _passed(self, call: Call) -> object:
        """Operations for which autograd is the rule."""
        if call.name in ops.VIEWS and call.name != "clone":  # nothing happens, such as `to` the same dtype
            result = call.run()
            if result is call.args[0]:
                return result
            again = call.again(self._surrogate)
        else:
            # LeakyReLU in place writes over what the way back would read.
            written = ops.in_place(call.name, call.kwargs) and call.name in ops.HOMOGENEOUS
            again = call.again(self._saved if written else self._surrogate)
            bias = self._constant_part(call)
            if call.name in ops.POOLS and "out" not in call.kwargs:  # once is enough: too expensive to be done twice
                result = tree_map_only(Tensor, Tensor.detach, again)
            else:
                result = call.run()
            if bias is not None:
                again = self._biased(again, result, bias)
        moves = call.name in ops.VIEWS
        keeps = moves or call.name in ops.POOLS or (call.name in ops.ADDITIONS and "sub" not in call.name)
        nonnegative = call.name in ops.NONNEGATIVE or (keeps and self._all_nonnegative(call))
        for tensor, surrogate in zip(tensors_in(result), tensors_in(again), strict=True):
            if tensor.is_floating_point() and surrogate.requires_grad:
                kept = {name: getattr(call.nodes[0], name) for name in ("gate", "weights", "start")} if moves else {}
                self._keep(tensor, Node(surrogate, nonnegative, **kept))
        return result

    def _drawn(self, call: Call) -> object:
        """Dropout that is on in evaluation, and its like: drawn once, by the model; the factor is a constant."""
        if len(call.nodes) > 1 or call.name.rstrip("_") in ops.REPLACED:
            return self._unruled(call)
        x = call.input
        before = self._surrogate(x) if call.nodes[0].carried is None else None
        given = x.detach().clone()
        value = call.run()
        if before is None:
            self._keep(value, Node(carried=call.nodes[0].carried))
        else:
            factor = divide(value.detach(), given)
            self._keep(value, Node(self._elementwise(before, value, factor, None), call.nodes[0].nonnegative))
        return value

    def _scaled(self, call: Call) -> object:
        """A function that says it scales its first argument: by factors that count as constants, as a gate's do."""
        given = call.args[0]
        if self._node(given) is None:
            return self._unruled(call)
        before, value = self._surrogate(given), call.run()
        factor = divide(value.detach(), given.detach())
        self._keep(value, Node(self._elementwise(before, value, factor, None), call.nodes[0].nonnegative))
        return value

    def _relu(self, call: Call) -> object:
        before = self._surrogate(call.input)
        value = call.run()
        shared = Shared(value.detach(), value._version)
        with torch.enable_grad():
            self._keep(value, Node(Relu.apply(before, shared), nonnegative=True, shared=shared))
        return value

    def _all_nonnegative(self, call: Call) -> bool:
        """Return whether no argument is a tensor or number below 0, or a constant that nobody looked at."""
        nodes = [self._node(tensor) for tensor in call.tensors if tensor.is_floating_point()]
        numbers = [arg for arg in call.args if isinstance(arg, float)]
        return all(node is not None and node.nonnegative for node in nodes) and all(number >= 0 for number in numbers)

    def _constant_part(self, call: Call) -> Tensor | None:
        """Return what an operation gives where everything that depends on the image is 0; None for no constants."""
        if call.name not in ops.ADDITIONS and call.name not in ops.SELECTIONS:
            return None
        floats = [tensor for tensor in call.tensors if tensor.is_floating_point()]
        if call.name in ("add", "__iadd__", "add_", "__add__", "cat", "stack", "concat") and all(
            self._node(tensor) is not None for tensor in floats
        ):
            operands = call.args[:2] if call.name not in ("cat", "stack", "concat") else ()
            if not any(isinstance(operand, int | float) for operand in operands):
                return None

        def nothing(tensor: Tensor) -> Tensor:
            is_constant = self._node(tensor) is None or not tensor.is_floating_point()
            return tensor.detach() if is_constant else tensor.new_zeros(()).expand(tensor.shape)

        constant: Tensor = call.again(nothing)
        return constant.detach()

    def _product(self, call: Call) -> object:
        if len(call.nodes) == 1:
            result = self._passed(call)
            first, second = call.args
            factor = first if isinstance(second, Tensor) and self._node(second) is not None else second
            if call.nodes[0].nonnegative and isinstance(factor, int | float) and factor >= 0 and result in self.nodes:
                self.nodes[result].nonnegative = True
            return result
        return self._of_two(call)

    def _quotient(self, call: Call) -> object:
        """Quotients: what divides is a constant, as in a normalization."""
        if not isinstance(call.args[0], Tensor) or self._node(call.args[0]) is None:
            return self._unruled(call)
        again = call.again(lambda t: self._surrogate(t) if t is call.args[0] else t.detach())
        result = call.run()
        self._keep(result, Node(again))
        return result

    def _activation(self, call: Call) -> object:
        x = call.input
        if len(call.nodes) > 1:
            return self._unruled(call)
        before = self._surrogate(x)
        given = before.detach()
        if call.name.startswith("softmax"):
            dim: int = call.kwargs["dim"] if "dim" in call.kwargs else (*call.args[1:], -1)[0]
            if self.attention == "attnlrp":
                value = call.run()
                self._keep(value, self._softmax(before, value, dim))
                return value
            start = 1 / x.shape[dim]
        else:
            start = float(call.again(lambda t: t.new_zeros(()) if t is x else t))
        given = given.clone() if call.kwargs.get("inplace") or call.name.endswith("_") else given
        value = call.run()
        slope, bias = secant(given, value.detach(), start)
        bare = call.name.rstrip("_")
        node = Node(
            self._elementwise(before, value, slope, bias), start >= 0 and bare in ops.NONNEGATIVE, bare in ops.GATES,
            bare == "softmax", start=start,
        )  # fmt: skip
        if bare.startswith(("clamp", "clip", "hardtanh")):
            node.nonnegative = bool(value.amin() >= 0)
        self._keep(value, node)
        return value

    def _norm(self, call: Call) -> object:
        x = self._surrogate(call.args[0])
        with torch.enable_grad():
            normed = normalized(call.name, x, *call.args[1:], **call.kwargs) if len(call.nodes) == 1 else None
        if normed is None:
            return self._unruled(call)
        value = call.run()
        surrogate, bias = normed
        self._keep(value, Node(self._biased(surrogate, value, bias)))
        return value

    def _comparison(self, call: Call) -> object:
        """Steps: what is made of one passes its relevance on unchanged, unless it is a factor."""
        value = call.run()
        if len(call.nodes) == 1 and isinstance(call.args[0], Tensor) and value.shape == call.args[0].shape:
            x = self._surrogate(call.args[0])
            given = x.detach()
            with torch.enable_grad():
                carried = Carrier.apply(x, tuple(value.shape), lambda relevance: divide(relevance, given))
            self._keep(value, Node(carried=carried))
        return value

    def _carried(self, call: Call) -> object:
        result = call.run()
        carried = call.nodes[0].carried
        if call.name in ops.VIEWS:
            bearer = next(tensor for tensor in call.tensors if self._node(tensor) is not None)
            ones = call.nodes[0].carried
            assert ones is not None
            carried = call.again(lambda t: ones if t is bearer else t)
        for tensor, carried_tensor in zip(tensors_in(result), tensors_in(carried), strict=True):
            self._keep(tensor, Node(carried=carried_tensor))
        return result

    def _alone(self, call: Call) -> object:
        """The image is changed pixel by pixel: relevance is that of what comes out."""
        given = {id(tensor): self._node(tensor) for tensor in call.tensors}
        boxes = None
        if all(node.box is not None for node in call.nodes):
            boxes = [
                call.again(lambda t, k=k: given[id(t)].box[k] if given[id(t)] else t.detach())  # type: ignore
                for k in (0, 1)
            ]
        size, images = self.ledger.size, self.ledger.images
        before = [self._surrogate(tensor) for tensor in call.tensors if given[id(tensor)]]
        again = call.again(self._surrogate)
        result = call.run()
        for index, (tensor, surrogate) in enumerate(zip(tensors_in(result), tensors_in(again), strict=True)):
            same = tensor.dim() > 2 and tuple(tensor.shape[-2:]) == tuple(size)
            same = same or (call.name in ops.RESHAPES and tensor.numel() == before[0].numel())
            if len(tensor) == images and same:
                box = None if boxes is None else tuple(tensors_in(box)[index].detach() for box in boxes)
                untouched = call.name in ops.RESHAPES and all(node.untouched for node in call.nodes)
                self._source(tensor, box, untouched)  # type: ignore[arg-type]
            else:
                self._keep(tensor, Node(surrogate))
        return result

    def _head(self, rule: Head, call: Call) -> object:
        value = call.run()
        start = call.nodes[0].start
        with torch.enable_grad():
            scores = rule(self._surrogate(call.args[0]), value, call.args, start, self.ledger)
        for tensor, carried in scores:
            self._keep(tensor, Node(carried=carried))
        return value


_HANDLERS: dict[str, Callable[[Surrogate, Call], object]] = {
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
    **dict.fromkeys(FUSED, Surrogate._attention),
}
