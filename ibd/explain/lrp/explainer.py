"""Layer-wise relevance propagation for any network of known operations."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.activations import find_layer, not_run
from ibd.explain.arrangement import Arrangement
from ibd.explain.base import Call, Explainer, Explanation
from ibd.explain.gradients import layer_fields
from ibd.explain.layers import LayerCut
from ibd.explain.lrp.composites import Composite, composite
from ibd.explain.lrp.gated import Gated
from ibd.explain.lrp.ledger import Layer, Ledger
from ibd.explain.lrp.mode import Surrogate
from ibd.explain.lrp.products import ImagesApartError, Rule as Attention

Name = Literal[
    "epsilon",
    "epsilon_plus",
    "epsilon_plus_flat",
    "epsilon_gamma_box",
    "epsilon_alpha2_beta1",
    "epsilon_alpha2_beta1_flat",
    "deep_taylor",
    "excitation_backprop",
]
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


class LRP(Explainer):
    """How the relevance of a score was passed down, operation by operation, to the pixels.

    It is of operations, not of modules: additions in ``forward``, functional ReLUs, modules used twice need nothing
    special, and the model is never touched; see `ibd.explain.lrp.mode`. An operation without a rule is refused by name
    and place as soon as what is explained depends on it.

    The map is the relevance summed over the color channels, of the image as the first layer sees it: what is done to
    pixels one by one before (a normalization) moves no relevance. A pixel that is 0 there has relevance by rules that
    do not multiply by it (zB, flat) only. The range of pixels that zB needs is what the values 0 and 1 become in that
    normalization; for a model that is given normalized images, `low` and `high`, or the least and largest value of each
    channel of the image. It is always widened to what the image has.

    Autocast is left off: relevance is a long chain of quotients.

    By a layer, what is explained is the relevance of the layer's output (the last, where one run feeds the next; where
    several runs make the score, it is refused): the channels' sums over the positions are the explanation's ``units``,
    beside the map of their sum.

    Of a target through channels of a layer (``Target.through``) the map is the relevance that passes these channels,
    and nothing that goes around the layer: concept relevance propagation (Achtibat et al. 2023). ``extra["passed"]`` is
    that relevance where it enters the channels, which conservation is then relative to.

    Explanations have ``extra["conservation"]``, the relevance in the map and what biases took of it, divided by the
    score (1 by right), and ``extra["bias"]``, what biases took, in the unit of the score. By a layer of tokens also
    ``extra["other_tokens"]``, the relevance of those that are no patches. Of a model that draws random
    numbers in evaluation mode value and map come from one draw, with a warning.

    Where the literature is silent: a product with a gate (sigmoid, step) goes to the other factor; what
    divides is a constant; an activation that is not 0 at 0 has a bias (`ibd.explain.lrp.functions.secant`); alpha-beta
    and z+ give all to the sign that there is where the other is missing.

    Args:
        composite: composite of rules; see `ibd.explain.lrp.composites.composite`, or an own `Composite`.
        bias: whether biases "absorb" their part of the relevance, or those of linear operations (with the batch
            normalization after them) are "ignore"d, so that inputs get all. What shifts a value by itself, such as a
            normalization after a sum, keeps its part.
        epsilon: epsilon of the epsilon rule, relative to the outputs' root mean square; 0 is LRP-0.
        gamma: gamma of the gamma rule.
        low: least value of the input of the first layer, for zB: a number, or one for each channel.
        high: largest value of the input of the first layer, likewise.
        layers: whether to return also the conservation of every linear operation, as ``extra["layer: <module>"]``.
        layer: name of a module by whose output the score is explained; None takes the pixels.
        attention: rule of attention. "attnlrp" (Achtibat et al. 2024): a softmax by its first Taylor term, half of the
            relevance of a product of matrices to each factor, so that what was looked for has a part in it as well as
            what was found. "constant" (CP-LRP, Ali et al. 2022): weights are constants, all goes to what was found.
    """

    name = "lrp"

    def __init__(
        self,
        composite: Name | Composite = "epsilon_plus",
        bias: Literal["absorb", "ignore"] = "absorb",
        epsilon: float = 0.0,
        gamma: float = 0.25,
        low: float | tuple[float, ...] | None = None,
        high: float | tuple[float, ...] | None = None,
        layers: bool = False,
        layer: str | None = None,
        attention: Attention = "attnlrp",
    ) -> None:
        if attention not in get_args(Attention):
            raise ConfigError(f"lrp: attention '{attention}' is not one of {', '.join(get_args(Attention))}")
        if bias not in ("absorb", "ignore"):
            raise ConfigError(f"lrp: bias '{bias}' is not one of absorb, ignore")
        self.composite = composite if isinstance(composite, Composite) else _named(composite, epsilon, gamma, low, high)
        self.bias, self.layers, self.layer, self.attention = bias, layers, layer, attention

    def explain(self, call: Call, image: Tensor) -> Explanation:
        """Return (B, H, W) relevance.

        Raises:
            UnsupportedError: a target that is a probability or odds, an operation that has no rule, a compiled or
                scripted module, batch normalization by the statistics of the batch, or a surrogate that differs from
                the model.
        """
        _check(call.model)
        if call.target.gate is not None and self.layer is not None:
            raise ConfigError("lrp: a target through channels of a layer is explained by the pixels, not by a layer")
        for scalar in {term.scalar for terms in call.target.sums for term in terms} - {"logit", "centered_logit"}:
            raise UnsupportedError(
                f"lrp: relevance is defined for logits, not for '{scalar}': explain the logit, or why one "
                "class and not another: Target.cls(3) - Target.cls(7)"
            )
        try:
            return self._explained(call, image)
        except ImagesApartError:  # such as (tokens, images, features)
            parts = []
            for i in range(len(image)):
                one = image[i : i + 1]
                parts.append(
                    self._explained(Call(call.model, call.target.select(slice(i, i + 1)), call.layout, one), one)
                )
            return _together(call, parts)

    def _explained(self, call: Call, image: Tensor) -> Explanation:
        """Return the explanation of images by one pass."""
        ledger = Ledger(len(image), (image.shape[2], image.shape[3]), by_layer=self.layers)
        mode = Surrogate(call.model, self.composite, ledger, self.bias == "ignore")
        mode.attention = self.attention
        gate = call.target.gate
        watched = self.layer if gate is None else gate.layer
        before = _random_states(image.device)
        with torch.autocast(image.device.type, enabled=False):
            with mode, _kept(call.model, watched, mode) as outputs:
                scores = dataclasses.replace(call.target, gate=None).scores(call.output(mode.begin(image)))
            surrogate = mode.find(scores)
            if not all(map(torch.equal, before, _random_states(image.device))):
                warnings.warn(
                    "lrp: the model draws random numbers in evaluation mode: value and map come from one draw",
                    stacklevel=3,
                )
            if watched is not None and not outputs:
                raise not_run(call.model, image, watched, call.ends)
            return self._passed_down(call, image, mode, surrogate, scores, outputs)

    def _arranged(self, call: Call, image: Tensor) -> Arrangement:
        """Return how the layer's output lies; told by a pass of its own, which is counted.

        Raises:
            UnsupportedError: it runs several times, and the score is made from several of the runs.
        """
        gate = call.target.gate
        plain = dataclasses.replace(call.target, gate=None)
        return LayerCut(call, image, self.layer if gate is None else gate.layer, plain).arrangement

    def _gated(self, call: Call, image: Tensor, outputs: Sequence[tuple[Tensor, Tensor]]) -> Gated:
        """Return the channels that relevance is to pass.

        Raises:
            UnsupportedError: their layer runs several times, or where its channels are is not known.
            ConfigError: there is no such channel.
        """
        gate = call.target.gate
        assert gate is not None
        if len(outputs) > 1:
            raise UnsupportedError(f"lrp: layer '{gate.layer}' runs {len(outputs)} times: name one that runs once")
        surrogate, value = outputs[0]
        axis = 1 if value.dim() == 2 else self._arranged(call, image).channels
        return Gated(surrogate, value, gate, axis)

    def _passed_down(
        self,
        call: Call,
        image: Tensor,
        mode: Surrogate,
        surrogate: Tensor,
        scores: Tensor,
        outputs: Sequence[tuple[Tensor, Tensor]],
    ) -> Explanation:
        """Return the explanation of (B, K) scores that were computed, and of their surrogates.

        Args:
            call: call with the model.
            image: (B, 3, H, W).
            mode: mode that the model ran in.
            surrogate: surrogate of the scores.
            scores: (B, K).
            outputs: the surrogate and the value of what the layer put out; none where the pixels are asked for.
        """
        _compare(surrogate, scores)
        call.cost.backwards += scores.numel()
        gated = None if call.target.gate is None else self._gated(call, image, outputs)
        relevances, taken, layers, passed = [], [], [], []
        for k in range(scores.shape[1]):
            score, end = surrogate[:, k].sum(), k + 1 == scores.shape[1]
            if gated is not None:
                passed.append(gated.enter(score, mode))
                relevances.append(_relevance(gated.surrogate, mode, end, gated.gradient))
            else:
                below = _relevance_at(*outputs[-1], score, mode, end) if outputs else _relevance(score, mode, end)
                relevances.append(below)
            taken.append(mode.ledger.total() + torch.zeros_like(scores[:, k]).detach())
            layers.append(mode.ledger.layers)
        many = gated is None and (len(outputs) > 1 or (len(outputs) == 1 and outputs[0][1].dim() > 2))
        found = self._arranged(call, image) if many else Arrangement()
        others = [rest for part in relevances if (rest := found.rest(part)) is not None]
        kept, heat = torch.stack(taken, 1), torch.stack([found.to_map(part) for part in relevances], 1)
        whole = torch.stack(passed, 1) if passed else scores.detach()
        beside = torch.stack(others, 1) if others else torch.zeros_like(kept)
        extra = {"conservation": (heat.flatten(2).sum(2) + beside + kept) / whole, "bias": kept}
        extra |= ({"other_tokens": beside} if others else {}) | ({"passed": whole} if passed else {})
        for name in layers[0] if self.layers else ():
            extra[f"layer: {name}"] = torch.stack([_share(layer[name]) for layer in layers], 1)
        single = not call.target.many
        more: dict[str, Any] = {"extra": {key: value[:, 0] if single else value for key, value in extra.items()}}
        if self.layer is None:
            return self.answer(call, heat, scores, **more)
        more |= layer_fields(self.layer, heat, single)
        maps = heat.sum(2) if heat.dim() == 5 else None
        return self.answer(call, maps, scores, size=mode.ledger.size, **more)


@contextmanager
def _kept(model: nn.Module, layer: str | None, mode: Surrogate) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Keep the surrogate and the value of what a layer puts out, each time that it runs."""
    kept: list[tuple[Tensor, Tensor]] = []
    if layer is None:
        yield kept
        return

    def hook(_: nn.Module, given: tuple[object, ...], output: object) -> Tensor:
        if not isinstance(output, Tensor):
            raise UnsupportedError(f"layer '{layer}' returns a {type(output).__name__}, not a tensor")
        if any(output is tensor for tensor in given):  # an identity: what goes around it has the same surrogate
            output = output.view_as(output)
        kept.append((mode.find(output), output.detach().clone()))
        return output

    handle = find_layer(model, layer).register_forward_hook(hook)
    try:
        yield kept
    finally:
        handle.remove()


def _together(call: Call, parts: Sequence[Explanation]) -> Explanation:
    """Return the explanation of several images made of one of each."""
    for part in parts:
        call.cost.forwards += part.cost.forwards
        call.cost.backwards += part.cost.backwards

    def joined(name: str) -> Tensor | None:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else torch.cat(values)

    tensors = {name: joined(name) for name in ("map", "value", "units", "unit_maps")}
    extra = {name: torch.cat([part.extra[name] for part in parts]) for name in parts[0].extra}
    return dataclasses.replace(parts[0], **tensors, extra=extra, target=call.target.without_model(), cost=call.cost)  # type: ignore


def _random_states(device: torch.device) -> list[Tensor]:
    """Return the states of the generators a model may draw from: the processor's, and that of the images' device."""
    states = [torch.random.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _named(
    name: str,
    epsilon: float,
    gamma: float,
    low: float | tuple[float, ...] | None,
    high: float | tuple[float, ...] | None,
) -> Composite:
    return composite(name, epsilon, gamma, low, high)


def _check(model: nn.Module) -> None:
    """Refuse what hides its operations."""
    for name, module in model.named_modules():
        kind = type(module).__name__
        if isinstance(module, nn.CrossMapLRN2d):
            raise UnsupportedError(
                f"lrp: there is no rule for 'CrossMapLRN2d' (module '{name}'): take a gradient method"
            )
        if isinstance(module, torch.jit.ScriptModule):
            raise UnsupportedError(f"lrp: module '{name}' is scripted: its operations cannot be followed")
        if kind == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None:
            place = f"module '{name}'" if name else "the model"
            raise UnsupportedError(f"lrp: {place} is compiled: explain the module that was given to torch.compile")


def _compare(surrogate: Tensor, scores: Tensor) -> None:
    """Check that the surrogate computes what the model does."""
    if not bool(scores.isfinite().all()):
        raise UnsupportedError("lrp: the model's score is not finite")
    difference = (surrogate.detach() - scores.detach()).abs().max()
    limit = _TOLERANCE.get(scores.dtype, 2e-2) * scores.detach().abs().max()
    if not bool(difference <= limit):
        raise UnsupportedError(
            f"lrp: the surrogate's scores differ from the model's by {float(difference):.3g}: an operation does not "
            "do what lrp assumed"
        )


def _relevance(score: Tensor, mode: Surrogate, last: bool, gradient: Tensor | None = None) -> Tensor:
    """Return the (B, H, W) relevance of a score that is a sum over the images, or of a layer's output.

    Args:
        score: sum, or output of a layer.
        mode: mode that the model ran in.
        last: whether nothing more is asked of the pass.
        gradient: gradient of a layer's output that is passed on.
    """
    mode.ledger.clear()
    gradients = torch.autograd.grad(
        score, mode.sources, grad_outputs=gradient, retain_graph=not last, allow_unused=True
    )
    for source, gradient in zip(mode.sources, gradients, strict=True):
        if gradient is not None:
            mode.ledger.deposit(source.detach() * gradient)
    relevance = mode.ledger.map
    return torch.zeros(mode.ledger.images, *mode.ledger.size).to(score) if relevance is None else relevance


def _relevance_at(surrogate: Tensor, value: Tensor, score: Tensor, mode: Surrogate, last: bool) -> Tensor:
    """Return the relevance, of the shape of a layer's output, of a score that is a sum over the images."""
    mode.ledger.clear()
    (gradient,) = torch.autograd.grad(score, surrogate, retain_graph=not last, allow_unused=True)
    if gradient is None:
        raise UnsupportedError("lrp: no relevance of the score passes through this layer: name another")
    return value * gradient


def _share(layer: Layer) -> Tensor:
    return (layer.inputs + layer.bias) / layer.output
