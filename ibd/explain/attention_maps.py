"""Maps from the weights of a vision transformer's attention: rollout, and weights times their gradients."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ibd.errors import UnsupportedError
from ibd.explain.attention import FUSED, same_as_fused, written_down
from ibd.explain.base import Call, Explainer, Explanation
from ibd.explain.calls import Arguments, Call as FunctionCall, Function, Keywords, tensors_in
from ibd.explain.flow import Flow
from ibd.explain.layers import precise
from ibd.explain.moves import EVEN, frames
from ibd.explain.tape import Watch
from ibd.explain.tokens import Grid

_PRODUCTS = ("matmul", "bmm", "einsum")
_KEEPS = (
    *("dropout", "to", "type", "type_as", "float", "double", "half", "bfloat16", "contiguous", "clone"),
    "requires_grad",
)
"""Functions that leave attention what it is."""
_SCALES = ("mul", "rmul", "imul", "multiply", "div", "truediv", "itruediv", "true_divide", "divide")


class _Use(NamedTuple):
    """Weights of attention, where they are multiplied with something.

    Attributes:
        weights: softmax.
        values: what the last axis of the weights is summed with; None where it is not, or that is not known.
        axis: axis of the values along which the sum is.
    """

    weights: Tensor
    values: Tensor | None = None
    axis: int = 0


class Attentions(NamedTuple):
    """The attentions of a pass, in the order in which they ran.

    Attributes:
        weights: softmax of each, with a graph; (B, heads, N, N), or with both of the first two axes in one.
        grid: which of the N tokens is which patch.
        scores: (B, K) scores that were explained.
    """

    weights: list[Tensor]
    grid: Grid
    scores: Tensor


class _AttentionExplainer(Explainer):
    """What the explainers by attention share: the pass, and how relevance of tokens becomes a map.

    Works on attention of `nn.MultiheadAttention`, of `F.scaled_dot_product_attention`, and written down as a softmax
    and a product of matrices. The layers have to follow one another, each over all tokens, with a residual connection
    around each, which the formulas assume. The map is of the tokens from which the score is made: the class token, or
    the mean of those that are pooled.
    """

    def __init__(self) -> None:
        """Take no options."""

    def explain(self, call: Call, image: Tensor) -> Explanation:
        """Return the (B, H, W) maps.

        Raises:
            UnsupportedError: a model without attention, or whose attention is windowed, or of other tokens than those
                of the patches.
        """
        found = _attentions(call, image, self.name)
        if any(len(set(term.places)) > 1 for terms in call.target.sums for term in terms):
            raise UnsupportedError(
                f"'{self.name}': the images are asked about at different places: explain one image at a time"
            )
        scores, batch = found.scores, len(image)
        maps = []
        for index in range(scores.shape[1]):
            call.cost.backwards += batch
            gradients = torch.autograd.grad(
                scores[:, index].sum(), found.weights, retain_graph=index + 1 < scores.shape[1]
            )
            count = len(found.grid.cells)
            by_head = [precise(part).reshape(batch, -1, count, count) for part in (*found.weights, *gradients)]
            weights, slopes = by_head[: len(gradients)], by_head[len(gradients) :]
            relevance = self.relevance(weights, slopes)
            read = slopes[-1].abs().sum((0, 1, 3)) > 0  # rows of the last attention that the score is made from
            if not bool(read.any()):
                raise UnsupportedError(f"'{self.name}': the score does not depend on the last attention of this model")
            maps.append(_map(relevance[:, read].mean(1), found.grid))
        size = (image.shape[2], image.shape[3])
        return self.answer(call, torch.stack(maps, 1), scores, size=size)

    @abc.abstractmethod
    def relevance(self, weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
        """Return (B, N, N): of each token at the end, what it has of each at the start.

        Args:
            weights: (B, heads, N, N) of each layer.
            gradients: gradients of the score by them.
        """


class AttentionRollout(_AttentionExplainer):
    """``A_1 ... A_L`` with ``A_l = (mean over heads + I) / 2`` (Abnar & Zuidema 2020).

    The same map for every score, and never below 0: how attention carried tokens on, whatever for.
    """

    name = "attention_rollout"

    def relevance(self, weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
        """Return the product of the layers, each row of which adds up to 1."""
        unit = torch.eye(weights[0].shape[-1], dtype=weights[0].dtype, device=weights[0].device)
        rolled = unit.expand(len(weights[0]), -1, -1)
        for weight in weights:
            layer = weight.mean(1) + unit
            rolled = layer / layer.sum(2, keepdim=True) @ rolled
        return rolled


class AttentionGradient(_AttentionExplainer):
    """``R <- R + mean over heads of relu(G * A) R`` from ``R = I``, layer by layer (Chefer et al. 2021, ICCV).

    With G the gradients of the score by the weights A; never below 0. The I it began with is taken off at the end: of a
    class token it is in no patch, and to tokens that are pooled it gives the same for each.
    """

    name = "attention_gradient"

    def relevance(self, weights: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
        """Return the relevance of each token for each."""
        unit = torch.eye(weights[0].shape[-1], dtype=weights[0].dtype, device=weights[0].device)
        relevance = unit.expand(len(weights[0]), -1, -1)
        for weight, gradient in zip(weights, gradients, strict=True):
            relevance = relevance + (weight * gradient).relu().mean(1) @ relevance
        return relevance - unit


class _Recorder(TorchFunctionMode):
    """Writes attention down in plain operations, and keeps the weights that are multiplied with something."""

    def __init__(self) -> None:
        super().__init__()
        self.used: list[_Use] = []
        self._made: dict[int, Tensor] = {}

    def __torch_function__(
        self, func: Function, types: object, args: Arguments = (), kwargs: Keywords | None = None
    ) -> object:
        """Run one function."""
        call = FunctionCall(func, args, kwargs or {})
        if call.bare in FUSED:
            return self._fused(call)
        if call.bare in _PRODUCTS:
            self.used += [_use(call, tensor) for tensor in call.tensors if id(tensor) in self._made]
        first = call.argument(0, "input")
        keeps = isinstance(first, Tensor) and id(first) in self._made and _keeps(call)
        result = call.run()
        if isinstance(first, Tensor) and (call.writes or result is first):  # written over, or a part of it
            for written in (first, first._base):
                self._made.pop(id(written), None)
        if isinstance(result, Tensor) and (_is_softmax(call) or (keeps and result.shape == first.shape)):
            self._made[id(result)] = result
        return result

    def _fused(self, call: FunctionCall) -> object:
        with torch.no_grad():
            fused = call.run()
        with self:
            written = written_down(call)
        same_as_fused(call.name, tensors_in(fused)[0], written.output)
        if not isinstance(fused, tuple):
            return written.output
        averaged = fused[1] is not None and fused[1].dim() == 3
        return written.output, None if fused[1] is None else written.weights.mean(1) if averaged else written.weights


def _is_softmax(call: FunctionCall) -> bool:
    """Return whether a call makes weights of attention: adding up to 1 along the last axis."""
    first = call.argument(0, "input")
    return call.bare == "softmax" and isinstance(first, Tensor) and call.argument(1, "dim") in (-1, first.dim() - 1)


def _keeps(call: FunctionCall) -> bool:
    """Return whether weights of attention are still that after a call, but for some left out, or times a number."""
    if call.bare in _SCALES:
        factor = call.argument(1, "other")
        return isinstance(factor, int | float) and factor > 0 and "rounding_mode" not in call.kwargs
    if call.bare == "masked_fill":
        filled = call.argument(2, "value")
        return isinstance(filled, int | float) and filled == 0
    return call.bare in _KEEPS


def _use(call: FunctionCall, weights: Tensor) -> _Use:
    """Return what weights are multiplied with in a product of two: column j of them with token j of that."""
    equation, operands = call.argument(0, "equation"), tensors_in((call.args, call.kwargs))
    if len(operands) != 2:
        return _Use(weights)
    if call.bare != "einsum":
        return _Use(weights, operands[1], max(operands[1].dim() - 2, 0)) if operands[0] is weights else _Use(weights)
    if not isinstance(equation, str) or "->" not in equation or "." in equation:
        return _Use(weights)
    before, after = equation.replace(" ", "").split("->")
    labels = before.split(",")
    own, other = labels if operands[0] is weights else labels[::-1]
    if own[-1] in after or own[-1] not in other or any(label not in after for label in own[:-1]):
        return _Use(weights)
    return _Use(weights, operands[1 if operands[0] is weights else 0], other.index(own[-1]))


def _attentions(call: Call, image: Tensor, name: str) -> Attentions:
    """Run the model, and return its attentions.

    Raises:
        UnsupportedError: there are none, or they do not carry the patches from layer to layer.
    """
    watch, recorder = Watch(image, False, constants=call.model.buffers()), _Recorder()
    flow = watch.flow
    assert flow is not None
    image.requires_grad_()
    with torch.autocast(image.device.type, enabled=False), watch, recorder:
        output = call.output(image)
        call.target = call.target.pin(output)
        scores = call.target.scores(output)
    nodes = [flow.of(use.weights) for use in recorder.used]
    end = flow.of(scores)
    needed = flow.needed(end) if end is not None else set()
    used = [(node, use) for node, use in zip(nodes, recorder.used, strict=True) if node is not None and node in needed]
    if not used or end is None:
        raise UnsupportedError(
            f"'{name}' needs attention between the image and the score, and this model has none that is a softmax of "
            "torch and a product of matrices: use 'gradcam' or 'lrp'"
        )
    grid = _grid(flow, used, end, name)
    found = Attentions([use.weights for _, use in used], grid, scores)
    _check_images(found, name)
    return found


def _grid(flow: Flow, used: Sequence[tuple[int, _Use]], end: int, name: str) -> Grid:
    """Return which token is which patch, the same for all attentions."""
    lie, before, grids = frames(flow), None, set[Grid]()
    for number, (node, use) in enumerate(used, 1):
        weights, grid, where = use.weights, flow.grids.get(node), f"'{name}': attention {number} of {len(used)}"
        rows, columns = weights.shape[-2:]
        if rows != columns or grid is None or grid.axis != weights.dim() - 2 or len(weights) % flow.images:
            raise UnsupportedError(
                f"{where} ({rows} queries, {columns} keys) is not of all patches to all (windowed, pooled, over "
                "channels, or of tokens whose places are not known): use 'gradcam' or 'lrp'"
            )
        if not grid.whole or lie[node] not in (None, EVEN):
            raise UnsupportedError(f"{where} is not of all patches where the image has them: use 'lrp'")
        if before is not None and before not in flow.needed(node):
            raise UnsupportedError(f"{where} does not follow the one before, but runs beside it: use 'lrp'")
        if not _same_keys(flow, use, grid):
            raise UnsupportedError(f"{where}: its keys are not known to be its queries in the same order: use 'lrp'")
        before = node
        grids.add(Grid(0, grid.cells, grid.shape, grid.source))
    if (beside := _beside(flow, {node for node, _ in used}, end)) is not None:
        raise UnsupportedError(
            f"'{name}': tokens are mixed by '{flow.describe(beside)}' as well, which is no attention that is followed: "
            "use 'lrp'"
        )
    if len(grids) > 1:
        raise UnsupportedError(f"'{name}': the attentions of this model are of different tokens: use 'lrp'")
    return grids.pop()


def _same_keys(flow: Flow, use: _Use, queries: Grid) -> bool:
    """Return whether column by column weights are multiplied with the tokens that their rows are of."""
    node = None if use.values is None else flow.of(use.values)
    return node is not None and flow.grids.get(node) == queries._replace(axis=use.axis)


def _check_images(found: Attentions, name: str) -> None:
    """Check that images are the first axis of weights, or of its parts; by a gradient, where sizes leave it open."""
    images = len(found.scores)
    for weights in found.weights:
        by_image = weights.dim() == 3 or (weights.dim() == 4 and weights.shape[0] == images)
        if by_image and images > 1 and (weights.dim() == 3 or weights.shape[1] == images):
            (gradient,) = torch.autograd.grad(found.scores[0].sum(), weights, retain_graph=True)
            by_image = not bool(gradient.view(images, -1)[1:].any())
        if not by_image:
            raise UnsupportedError(f"'{name}': images are not the first axis of the attention's weights: use 'lrp'")


def _beside(flow: Flow, weights: set[int], end: int) -> int | None:
    """Return a node that mixes tokens and is none of the attentions, but before the last, or of all tokens still."""
    free, waiting = {end}, [end]  # what the score is made from not only by way of weights
    while waiting:
        new = set(flow.nodes[waiting.pop()].parents) - free - weights
        free |= new
        waiting += new
    inner = [node for node in sorted(free & flow.mixers) if node < max(weights) or node in flow.grids]
    return next((node for node in inner if not weights & set(flow.nodes[node].parents)), None)


def _map(tokens: Tensor, grid: Grid) -> Tensor:
    """Return the (B, h, w) map of (B, N) tokens."""
    cells = torch.tensor(grid.cells, device=tokens.device)
    order = cells.argsort()[int((cells < 0).sum()) :]
    return tokens[:, order].view(-1, *grid.shape)
