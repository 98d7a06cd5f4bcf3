"""What the surrogate of a model knows of the model's tensors, and what it makes of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from ibd.errors import UnsupportedError
from ibd.explain.activations import network_of
from ibd.explain.lrp.composites import Composite
from ibd.explain.lrp.functions import Elementwise, LinearRule
from ibd.explain.lrp.ledger import Ledger
from ibd.explain.lrp.nodes import Node, Pending, pixel_range, place_in
from ibd.explain.lrp.rules import Given

_UNSEEN = "a tensor comes from code that torch functions cannot follow, such as a custom autograd.Function,"
_REWRITTEN = "a tensor was changed in place through another view of its memory,"


class State(TorchFunctionMode):
    """Tensor of the model -> surrogate.

    Args:
        model: model whose modules give the names of places; of our training modules those of their network.
        composite: composite that gives each operation its rule.
        ledger: ledger in which the backward passes write what biases took.
        ignore: whether biases of linear operations get nothing.

    Attributes:
        sources: the leaves: the image as it is where the first operations read it.
        count: number of linear operations until now.
    """

    def __init__(self, model: nn.Module, composite: Composite, ledger: Ledger, ignore: bool = False) -> None:
        super().__init__()
        self.composite, self.ledger, self.ignore = composite, ledger, ignore
        self.names = {module: name for name, module in network_of(model).named_modules()}
        self.nodes = WeakTensorKeyDictionary()
        self.sources: list[Tensor] = []
        self.count = 0

    def begin(self, image: Tensor) -> Tensor:
        """Return the image as the model is to be given it."""
        image = image.requires_grad_()
        box = (torch.zeros_like(image[:1]), torch.ones_like(image[:1])) if self.composite.needs_box else None
        self._source(image, box, untouched=True)
        return image

    def find(self, tensor: Tensor) -> Tensor:
        """Return the surrogate of one of the model's tensors.

        Raises:
            UnsupportedError: it does not depend on the image, or by an operation that has no rule.
        """
        node = self._node(tensor)
        if node is None:
            raise UnsupportedError("lrp: what is explained does not depend on the image")
        if node.unknown is not None:
            raise UnsupportedError(f"lrp: {node.unknown}")
        return self._surrogate(tensor)

    def _node(self, tensor: Tensor) -> Node | None:
        node: Node | None = self.nodes.get(tensor)  # type: ignore[no-untyped-call]
        if node is None:
            # A leaf is a parameter: one that was made in inference mode, whose flag cannot be taken away.
            unseen = tensor.requires_grad and not tensor.is_leaf
            return Node(unknown=_UNSEEN + self._where()) if unseen else None
        if node.version != tensor._version and node.unknown is None:
            return Node(unknown=_REWRITTEN + self._where())
        return node

    def _where(self) -> str:
        place = place_in(self.names)
        return f" in module '{place}'" if place else " in the model's own forward"

    def _keep(self, tensor: Tensor, node: Node) -> None:
        if tensor.is_floating_point():
            tensor.requires_grad_()
        node.version = tensor._version
        self.nodes[tensor] = node

    def _source(self, tensor: Tensor, box: tuple[Tensor, Tensor] | None, untouched: bool = False) -> None:
        leaf = tensor.detach().requires_grad_()
        self.sources.append(leaf)
        self._keep(tensor, Node(leaf, image=True, box=box, untouched=untouched))

    def _surrogate(self, tensor: Tensor) -> Tensor:
        """Return the surrogate of a tensor, made now if it has been waiting; of a constant the tensor itself."""
        node = self._node(tensor)
        if node is None or not tensor.is_floating_point():
            return tensor.detach()
        if node.surrogate is None and node.pending is not None:
            node.surrogate = self._apply_rule(node.pending, tensor)
        elif node.surrogate is None and node.carried is not None:
            value = tensor.detach().clone()
            with torch.enable_grad():
                node.surrogate = Elementwise.apply(node.carried, value, value, None, self.ledger)
        assert node.surrogate is not None
        return node.surrogate

    def _saved(self, tensor: Tensor) -> Tensor:
        """Return a copy of the surrogate of a tensor that is about to be written over."""
        with torch.enable_grad():
            return self._surrogate(tensor).clone()

    def _elementwise(
        self, surrogate: Tensor, value: Tensor, slope: Tensor | float | None, bias: Tensor | float | None
    ) -> Tensor:
        with torch.enable_grad():
            output: Tensor = Elementwise.apply(surrogate, value, slope, bias, self.ledger)
        return output

    def _biased(self, surrogate: Tensor, value: Tensor, bias: Tensor | None) -> Tensor:
        """Return the surrogate of ``value = surrogate + bias``."""
        if bias is None or not bool(bias.any()):
            return surrogate
        return self._elementwise(surrogate, value, None, bias)

    def _apply_rule(self, pending: Pending, value: Tensor) -> Tensor:
        """Return the surrogate of a linear operation's output."""
        source, place = pending.source, pending.operation
        assert source.surrogate is not None
        x = source.surrogate
        if x._version != pending.version:
            raise UnsupportedError(
                f"lrp: the input of a linear operation was changed in place before its output was used{self._where()}"
            )
        with torch.no_grad():
            box = None if source.box is None or not pending.rule.needs_box else pixel_range(source, pending.rule)
            given = Given(pending.map, x.detach(), value.detach(), source.nonnegative, self.ignore, source.image, box)
            plan = pending.rule.plan(given)
        name = (place.place or f"operation {place.index}") if self.ledger.by_layer else None
        with torch.enable_grad():
            output: Tensor = LinearRule.apply(x, value, pending.map, plan, self.ledger, name)
        return output
