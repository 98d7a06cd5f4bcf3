"""A model cut at a layer: the activations there, the scores that are computed from them, and how to compute them again.

Nothing below the layer is recorded, so that a gradient costs no more than what comes after it.
"""

from __future__ import annotations

import abc
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn

from ibd.errors import UnsupportedError
from ibd.explain.activations import find_layer, network_of, not_run
from ibd.explain.arrangement import Arrangement, arrangement_of
from ibd.explain.base import Call
from ibd.explain.flow import Flow, Spot
from ibd.explain.hidden import own_map
from ibd.explain.hooks import hooked, is_cut, named, reached_by
from ibd.explain.layouts import Layout, to_first, to_last
from ibd.explain.moves import EVEN, frames
from ibd.explain.places import PIXEL_METHODS, last_map
from ibd.explain.reading import check_read
from ibd.explain.scalars import dependent
from ibd.explain.tape import Watch
from ibd.explain.targets import Target

_MOST_VALUES = 2**23
"""Values of the largest batch of changed activations: 32 MiB in float32."""
_AT_ONCE = 2**21
"""Values of the gradients that are made at a time: few enough to stay near the processor."""
Formula = Callable[[Tensor, Tensor], Tensor]
"""(B, C, h, w) activations and (B, k, C, h, w) gradients -> (B, k, h, w) maps."""


class Cut(abc.ABC):
    """What the scores of images are computed from: the pixels, or the output of a layer.

    Attributes:
        call: call whose passes are counted.
        target: target, pinned to what was predicted for these images.
        value: (B, C, h, w), a leaf of the graph; (B, D) for a layer that is no map.
        scores: (B, K), computed from it.
    """

    call: Call
    target: Target
    value: Tensor
    scores: Tensor
    _gradients: Tensor | None = None

    def gradients(self) -> Tensor:
        """Return the gradient of each score by `value`, (B, K, C, h, w); they are kept.

        Raises:
            UnsupportedError: the scores do not depend on it.
        """
        if self._gradients is None:
            self._gradients = self._differentiate(dependent(self.scores), self.value)
        return self._gradients

    def gradients_at(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores for other values, (B, K), and their gradients by these, (B, K, C, h, w).

        Raises:
            UnsupportedError: the scores do not depend on them.
        """
        leaf = values.detach().requires_grad_()
        scores = self.at(leaf)
        return scores.detach(), self._differentiate(dependent(scores), leaf)

    @abc.abstractmethod
    def at(self, values: Tensor) -> Tensor:
        """Return the (B, K) scores for other values, (B, C, h, w), with a graph where these have one."""

    @abc.abstractmethod
    def _differentiate(self, scores: Tensor, values: Tensor) -> Tensor:
        """Return the gradients of scores by what they were computed from."""


class InputCut(Cut):
    """The pixels."""

    def __init__(self, call: Call, image: Tensor, target: Target | None = None) -> None:
        self.call, self.value = call, image.detach().requires_grad_()
        output = call.output(self.value)
        self.target = (target or call.target).pin(output)
        self.scores = self.target.scores(output)

    def at(self, values: Tensor) -> Tensor:
        """Return the (B, K) scores of other images."""
        return self.call.scores(values, self.target)

    def _differentiate(self, scores: Tensor, values: Tensor) -> Tensor:
        return self.call.gradients(scores, values)


class LayerCut(Cut):
    """The output of a layer, or the last feature map. Whatever its layout is, `value` has the channels first.

    Of tokens, `value` is the map of the patches; class tokens and registers stay as they are.

    Args:
        call: call with the model.
        image: (B, 3, H, W).
        layer: name, see `ibd.explain.activations.find_layer`; None takes the output of the model's ``backbone``, if it
            has one that runs and puts out a map of more than one position, else the last map that all of the score
            passes, see `ibd.explain.places.last_map`.
        target: target, where it is not the call's.
        replay: whether `at` will be called.
        layout: axis that holds the channels; None is the call's.

    Attributes:
        arrangement: how the layer's own output lies.
        described: name of the layer, or, of a map that no layer puts out, how it was made.

    Raises:
        ConfigError: there is no such layer.
        UnsupportedError: it does not run, or no map was found; the message names those that have maps. Or the score
            does not depend on it, or is made from several of its runs, or it cannot be told which axis holds the
            channels.
    """

    def __init__(
        self,
        call: Call,
        image: Tensor,
        layer: str | None,
        target: Target | None = None,
        replay: bool = False,
        layout: Layout | None = None,
    ) -> None:
        if layer is None and call.ends:
            raise own_map(call.ends)
        self.call, self.image, self.layer = call, image, layer
        self.module = _module(call.model, layer)
        watch, flow, spot, node = self._cut(target or call.target, replay)
        self.place = next(place for place in watch.places if place.spot == spot)
        self.described = layer or ("backbone" if spot.kind == "run" else flow.describe(node))
        self.arrangement = self._arranged(flow, node, layout or call.layout)
        self.value = self.arrangement.to_map(self.place.leaf)
        self._skippable = spot.kind == "run" and watch.runs == 1
        self.tape = watch.tape if watch.tape is not None and self.scores in watch.tape else None
        self._checked = False
        self._maps: dict[str, Tensor] = {}

    def _cut(self, target: Target, replay: bool) -> tuple[Watch, Flow, Spot, int]:
        """Return the pass that was cut, the flow of a whole one, and the place.

        A model that keeps what it derives at its first image calls other functions then: it is begun again.
        """
        for _ in range(2):
            watch = Watch(self.image, self.layer is None, replay, constants=self.call.model.buffers())
            columns = self._run(target, watch)
            assert watch.flow is not None
            spot, node = self._choose(watch, columns)
            check_read(watch.flow, node, columns, self.layer)
            if is_cut(watch, spot, columns, replay):
                return watch, watch.flow, spot, node
            again = Watch(self.image, False, replay, only=spot)
            columns = self._run(self.target, again)
            if again.done == watch.done:
                if not all(id(again.places[0].leaf) in reached_by(column) for column in columns):
                    raise self._not_every()
                return again, watch.flow, spot, node
        raise UnsupportedError(f"the model computes the same images in another way each time: use {PIXEL_METHODS}")

    def _run(self, target: Target, watch: Watch) -> list[Tensor]:
        """Run the model, cut it, and return a column of scores for each target."""
        with watch, hooked(self._hookable(watch), watch, self.layer is None), named(self.call.model, watch):
            output = self.call.output(self.image)
        watch.done, watch.end = watch.calls, 0 if watch.flow is None else len(watch.flow.nodes)
        self.target = target.pin(output)
        with watch:
            searched, watch.automatic = watch.automatic, False  # what the target does is not the model's
            self.scores = self.target.scores(output)
            if len(self.target.sums) < 2 or (len(watch.places) < 2 and not searched):
                return [self.scores]
            return [Target((terms,)).scores(output) for terms in self.target.sums]

    def _hookable(self, watch: Watch) -> nn.Module | None:
        """Return the module at whose output a pass may be cut."""
        return self.module if watch.spot is None or watch.spot.kind == "run" else None

    def _choose(self, watch: Watch, columns: list[Tensor]) -> tuple[Spot, int]:
        """Return the last place that every score depends on, and its node."""
        assert watch.flow is not None
        reached = [reached_by(column) for column in columns]
        runs = [place for place in watch.places if place.spot.kind == "run"]
        for place in reversed(runs):
            if not all(id(place.leaf) in leaves for leaves in reached):
                continue
            # a run that only feeds a later one is not reached: the later one was cut from it
            several = any(id(other.leaf) in leaves for other in runs if other is not place for leaves in reached)
            if several and self.layer is not None:
                raise _several_runs(self.layer, len(runs))
            node = place.node or 0
            if not several and (self.layer is not None or frames(watch.flow)[node] in (None, EVEN)):
                return place.spot, node
            break
        if self.layer is None:
            return self._last_map(watch.flow, watch.end, columns)
        if runs:
            raise self._not_every()
        raise not_run(self.call.model, self.image, self.layer, self.call.ends)

    def _last_map(self, flow: Flow, end: int, columns: list[Tensor]) -> tuple[Spot, int]:
        """Return the last feature map that all of every score passes."""
        scores = [flow.of(column) for column in columns]
        lie = frames(flow)
        maps = {last_map(flow, score, end, lie) for score in scores if score is not None}
        if len(maps) != 1 or None in scores:
            raise self._not_every()
        (node,) = maps
        return flow.nodes[node].spot, node

    def _not_every(self) -> UnsupportedError:
        name = f"'{self.layer}'" if self.layer is not None else "one feature map"
        return UnsupportedError(
            f"not every score depends on {name}: ask for one at a time, or name an earlier layer (the score may be "
            "a constant)"
        )

    def _arranged(self, flow: Flow, node: int, layout: Layout) -> Arrangement:
        """Return how the place lies."""
        picture = (self.image.shape[2], self.image.shape[3])
        return arrangement_of(flow, node, tuple(self.place.leaf.shape), layout, self.described, picture)

    def _as_there(self, values: Tensor) -> Tensor:
        """Return values with the axes, and the order in memory, of the place itself."""
        leaf = self.place.leaf
        if not self.arrangement.same:
            return self.arrangement.to_layer(values, leaf)
        if leaf.dim() == 4 and not leaf.is_contiguous() and to_last(leaf).is_contiguous():
            return to_first(to_last(values).contiguous())
        return values

    def at(self, values: Tensor) -> Tensor:
        """Return the (B, K) scores for other activations: what comes after the layer runs again.

        From the tape where that is sound. Else the model runs again, without the layer's own work where this is a
        module.
        """
        with_graph = values.requires_grad and torch.is_grad_enabled()
        values = self._as_there(values)
        if self._replayable() and self.tape is not None and (self.tape.differentiable or not with_graph):
            self.call.cost.heads += len(values)
            return self.tape.play(values, self.scores)
        spot = Spot("run", 0) if self._skippable else self.place.spot
        watch = Watch(self.image, False, replace=(spot, values))
        with watch, hooked(self._hookable(watch), watch, self.layer is None), self._skipped(values):
            return self.call.scores(self.image, self.target)

    @torch.no_grad()
    def many(self, change: Callable[[int, int], Tensor], count: int) -> Tensor:
        """Return the (n, B, K) scores of many changed activations, in chunks where the tape can be run on several.

        Args:
            change: (start, stop) -> (stop - start, B, C, h, w).
            count: number n of changed maps.
        """
        at_once = max(1, _MOST_VALUES // self.value.numel()) if self._replayable() else 1
        return torch.cat([self._several(change(i, min(i + at_once, count))) for i in range(0, count, at_once)])

    def _several(self, values: Tensor) -> Tensor:
        """Return the (n, B, K) scores of (n, B, C, h, w) activations."""
        if self._replayable() and len(values) > 1:
            tape = self.tape
            assert tape is not None
            with warnings.catch_warnings(), suppress(RuntimeError, ValueError):  # a function that cannot be mapped
                warnings.simplefilter("ignore")  # one that is mapped by a loop
                scores: Tensor = torch.vmap(lambda image_values: tape.play(self._as_there(image_values), self.scores))(
                    values
                )
                self.call.cost.heads += len(values) * values.shape[1]
                return scores
        return torch.stack([self.at(value) for value in values])

    def _replayable(self) -> bool:
        """Return whether the tape gives the scores that the model gave; tried once."""
        if self.tape is not None and not self._checked:
            self._checked = True
            if not self._plays():
                self.tape = None
        return self.tape is not None

    def _plays(self) -> bool:
        if self.tape is None or not self.tape.sound:
            return False
        self.tape.prune(self.scores)
        try:
            with torch.no_grad():
                again = self.tape.play(self.place.leaf, self.scores)
        except RuntimeError:
            return False
        return torch.allclose(again, self.scores.detach(), rtol=1e-4, atol=1e-6)

    @contextmanager
    def _skipped(self, values: Tensor) -> Iterator[None]:
        """Let the module of the layer do nothing but return a tensor of the right shape, if it runs only once."""
        if self.module is None or not self._skippable:
            yield
            return
        before = self.module.__dict__.get("forward")
        self.module.__dict__["forward"] = lambda *_, **__: values
        try:
            yield
        finally:
            if before is None:
                del self.module.__dict__["forward"]
            else:
                self.module.__dict__["forward"] = before

    def maps(self, name: str, formulas: Mapping[str, Formula]) -> Tensor:
        """Return the (B, K, h, w) maps of one of some formulas; all are computed at once, and kept.

        The gradients of many scores are made and used a few at a time, so that memory does not depend on how many.
        """
        if name not in self._maps:
            value, maps = precise(self.value), {formula_name: list[Tensor]() for formula_name in formulas}
            known = self._gradients is not None or self.scores.shape[1] == 1
            for part in [self.gradients()] if known else self._parts(self.scores, self.value):
                for formula_name, formula in formulas.items():
                    maps[formula_name].append(formula(value, precise(part)))
            self._maps |= {formula_name: torch.cat(parts, 1) for formula_name, parts in maps.items()}
        return self._maps[name]

    def _differentiate(self, scores: Tensor, values: Tensor) -> Tensor:
        """Return the gradients of all scores."""
        return torch.cat(list(self._parts(scores, values)), 1)

    def _parts(self, scores: Tensor, values: Tensor) -> Iterator[Tensor]:
        """Yield the gradients of a few scores at a time, (B, k, C, h, w)."""
        batch, count = scores.shape
        self.call.cost.heads += batch * count
        here = values is self.value and not self.arrangement.same
        values = self.place.leaf if here else values
        if count == 1:
            gradients = _backward(scores, values, torch.ones_like(scores).unsqueeze(0))
            yield (self.arrangement.to_map(gradients) if here else gradients).transpose(0, 1)
            return
        chosen = torch.eye(count, dtype=scores.dtype, device=scores.device)
        chosen = chosen.unsqueeze(1).expand(count, batch, count)
        for part in torch.split(chosen, max(1, _AT_ONCE // values.numel())):
            gradients = _backward(scores, values, part)
            yield (self.arrangement.to_map(gradients) if here else gradients).transpose(0, 1)


def precise(values: Tensor) -> Tensor:
    """Return values without a graph, in float32 or better."""
    return values.detach().to(torch.promote_types(values.dtype, torch.float32))


def einsum(equation: str, *values: Tensor) -> Tensor:
    """Return ``torch.einsum`` in the precision of the values, also under autocast."""
    with torch.autocast(values[0].device.type, enabled=False):
        product: Tensor = torch.einsum(equation, *values)
        return product


def cut(call: Call, image: Tensor, layer: str | None, target: Target | None = None, replay: bool = False) -> Cut:
    """Return the model cut at the pixels (None) or at a layer; see `LayerCut`."""
    if layer is None:
        return InputCut(call, image, target)
    return LayerCut(call, image, layer, target, replay)


def _several_runs(layer: str, runs: int) -> UnsupportedError:
    return UnsupportedError(
        f"layer '{layer}' runs {runs} times, and the score depends on several of the runs, so that one map would show "
        "only a part: name a layer before or after all of them, or use a method of pixels such as "
        "'integrated_gradients' or 'occlusion'"
    )


def _module(model: nn.Module, layer: str | None) -> nn.Module | None:
    """Return the module of a layer; for None the backbone, if there is one."""
    if layer is not None:
        return find_layer(model, layer)
    backbone = getattr(network_of(model), "backbone", None)
    return backbone if isinstance(backbone, nn.Module) else None


def _backward(scores: Tensor, values: Tensor, chosen: Tensor) -> Tensor:
    """Return the gradients, (k, B, C, h, w), of sums of scores with (k, B, K) weights."""
    with torch.autocast(values.device.type, enabled=False):  # the precision of the way there is enough
        if len(chosen) > 1:
            with suppress(RuntimeError):  # a function in the head that cannot be mapped
                return torch.autograd.grad(scores, values, chosen, retain_graph=True, is_grads_batched=True)[0]
        return torch.stack([torch.autograd.grad(scores, values, part, retain_graph=True)[0] for part in chosen])
