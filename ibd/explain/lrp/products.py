"""Products of two tensors that depend on the image, and the softmax that makes weights for one: gates and attention."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ibd.explain.attention import FUSED, same_as_fused, written_down
from ibd.explain.calls import tensors_in
from ibd.explain.layouts import PERMUTES, order_of
from ibd.explain.lrp import operations as ops
from ibd.explain.lrp.functions import Softmax
from ibd.explain.lrp.nodes import Call, Node
from ibd.explain.lrp.state import State

Rule = Literal["attnlrp", "constant"]
"""How relevance goes through an attention: see `ibd.explain.lrp.explainer.LRP`."""


class ImagesApartError(Exception):
    """Images are not the first axis of a tensor, so that sums for each cannot be told: one is explained at a time."""


class Products(State):
    """The part of the surrogate that is about products.

    Attributes:
        attention: rule of attention.
    """

    attention: Rule = "attnlrp"

    def _unruled(self, call: Call, unknown: str | None = None) -> object:
        """Run an operation that passes nothing on: its results are constants, or unknown."""
        raise NotImplementedError

    # --- products ----------------------------------------------------------------------------------------------------

    def _of_two(self, call: Call) -> object:
        """Products of two tensors that depend on the image.

        One factor says how much of the other there is to be: that one is a constant. Half of the relevance each is for
        the weights of an attention, and for what they are made of (the uniform rule of Achtibat et al. 2024).
        """
        gates = [node.gate or node.carried is not None for node in call.nodes]
        weights = any(node.weights for node in call.nodes)
        one = len(call.nodes) == 2 and gates[0] != gates[1]
        if one and not (weights and self.attention == "attnlrp"):
            return self._gated(call, gates.index(True))
        matrices = call.name in ops.MATMULS
        if len(call.nodes) == 2 and self.attention == "attnlrp" and (matrices or (one and weights)):
            again = call.again(self._surrogate)
            value = call.run()
            self._keep(value, Node(self._elementwise(again, value, 0.5, None)))
            return value
        product = f"a product of two tensors that depend on the image ('{call.name}')"
        return self._unruled(call, f"there is no rule for {product}{self._where()}")

    def _gated(self, call: Call, index: int) -> object:
        """Products with a gate, that of the nodes with this number."""
        gate = [tensor for tensor in call.tensors if self._node(tensor) is not None][index]
        again = call.again(lambda t: t.detach() if t is gate else self._surrogate(t))
        result = call.run()
        self._keep(result, Node(again, all(node.nonnegative for node in call.nodes)))
        return result

    def _unknown_gate(self, call: Call) -> object | None:
        """Run a call with weights of which nothing is known, where they count as constants; None for any other call."""
        unknown = [node for node in call.nodes if node.unknown is not None]
        if self.attention != "constant" or len(unknown) != 1:
            return None
        product = call.name in ops.PRODUCTS or call.name in ops.MATMULS
        if product and unknown[0].gate and len(call.nodes) == 2:
            gated: object = self._gated(call, [node is unknown[0] for node in call.nodes].index(True))
            return gated
        stays = len(call.nodes) == 1 and unknown[0].gate and call.name in ops.VIEWS
        if not stays and not (call.name.startswith("softmax") and len(call.nodes) == 1):
            return None
        result = self._unruled(call, unknown[0].unknown)
        for tensor in tensors_in(result):
            self.nodes[tensor].gate = self.nodes[tensor].weights = True
        return result

    # --- attention ---------------------------------------------------------------------------------------------------

    def _softmax(self, before: Tensor, value: Tensor, dim: int) -> Node:
        """Return the node of a softmax of a surrogate."""
        with torch.enable_grad():
            surrogate = Softmax.apply(before, value, dim, self.ledger)
        return Node(surrogate, nonnegative=True, gate=True, weights=True)

    def _attention(self, call: Call) -> object:
        """A fused attention: run as it is, and its surrogate from the operations that it stands for."""
        value = call.run()
        with self:
            written = written_down(call).output
        several = isinstance(value, tuple)
        output = value[0] if several else value
        same_as_fused(call.name, output, written)
        node = self.nodes[written]
        if node.unknown is None:
            node = Node(self._surrogate(written), batch=node.batch)
        self._keep(output, node)
        for other in value[1:] if several else ():
            if isinstance(other, Tensor):
                reason = f"there is no rule for the weights that '{call.name}' returns{self._where()}"
                self._keep(other, Node(unknown=reason))
        return value

    # --- images ------------------------------------------------------------------------------------------------------

    def _follow_images(self, call: Call, result: object) -> None:
        """Note along which axis of a result the images lie.

        Raises:
            ImagesApartError: they are not the first, where relevance may be summed.
        """
        axis, name = call.nodes[0].batch, call.bare
        made = [tensor for tensor in tensors_in(result) if tensor in self.nodes]
        if name in FUSED or not made:
            return
        if name in PERMUTES and isinstance(result, Tensor) and isinstance(call.args[0], Tensor):
            order = order_of(call, call.args[0].dim())
            axis = order.index(axis) if order else axis
        elif axis and (name == "unbind" or (name in ("getitem", "select") and _drops_first(call))):
            axis -= 1
        elif axis and name not in ("contiguous", "clone", "to") and self.ledger.images > 1:
            raise ImagesApartError
        for tensor in made if axis else ():
            self.nodes[tensor].batch = axis


def _drops_first(call: Call) -> bool:
    """Return whether a call takes one part along the first axis."""
    if call.bare == "select":
        return bool(call.argument(1, "dim") == 0)
    return isinstance(call.args[1], int)
