"""Layer-wise relevance propagation for any network of known operations."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.base import Call, Explainer, Explanation
from ibd.explain.lrp.composites import Composite, composite
from ibd.explain.lrp.ledger import Layer, Ledger
from ibd.explain.lrp.mode import Surrogate

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

    The map is the relevance summed over the colour channels, of the image as the first layer sees it: what is done to
    pixels one by one before (a normalisation) moves no relevance. A pixel that is 0 there has relevance by rules that
    do not multiply by it (zB, flat) only. The range of pixels that zB needs is what the values 0 and 1 become in that
    normalisation; for a model that is given normalised images, `low` and `high`, or the least and largest value of each
    channel of the image. It is always widened to what the image has.

    Autocast is left off: relevance is a long chain of quotients.

    Explanations have ``extra["conservation"]``, the relevance in the map and what biases took of it, divided by the
    score (1 by right), and ``extra["bias"]``, what biases took, in the unit of the score.

    Where the literature is silent: a product with a gate (sigmoid, softmax, step) goes to the other factor; what
    divides is a constant; an activation that is not 0 at 0 has a bias (`ibd.explain.lrp.functions.secant`); alpha-beta
    and z+ give all to the sign that there is where the other is missing.

    Args:
        composite: which rules; see `ibd.explain.lrp.composites.composite`, or an own `Composite`.
        bias: whether biases "absorb" their part of the relevance or are "ignore"d, so that inputs get all.
        epsilon: of the epsilon rule, relative to the outputs' root mean square; 0 is LRP-0.
        gamma: of the gamma rule.
        low: least value of the input of the first layer, for zB: a number, or one for each channel.
        high: largest value.
        layers: also return the conservation of every linear operation, as ``extra["layer: <module>"]``.
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
    ) -> None:
        if bias not in ("absorb", "ignore"):
            raise ConfigError(f"lrp: bias '{bias}' is not one of absorb, ignore")
        self.composite = composite if isinstance(composite, Composite) else _named(composite, epsilon, gamma, low, high)
        self.bias, self.layers = bias, layers

    def explain(self, call: Call, image: Tensor) -> Explanation:
        """Return (B, H, W) relevance.

        Raises:
            UnsupportedError: an operation that has no rule, a compiled or scripted module, batch normalisation by the
                statistics of the batch, or a surrogate that differs from the model.
        """
        _check(call.model)
        ledger = Ledger(len(image), (image.shape[2], image.shape[3]), by_layer=self.layers)
        mode = Surrogate(call.model, self.composite, ledger, self.bias == "ignore")
        with torch.autocast(image.device.type, enabled=False):
            with mode:
                scores = call.target.scores(call.output(mode.begin(image)))
            surrogate = mode.find(scores)
            return self._passed_down(call, mode, surrogate, scores)

    def _passed_down(self, call: Call, mode: Surrogate, surrogate: Tensor, scores: Tensor) -> Explanation:
        """Return the explanation of (B, K) scores that were computed, and of their surrogates."""
        ledger = mode.ledger
        _compare(surrogate, scores)
        call.cost.backwards += scores.numel()
        maps, taken, layers = [], [], []
        for k in range(scores.shape[1]):
            maps.append(_relevance(surrogate[:, k].sum(), mode, last=k + 1 == scores.shape[1]))
            taken.append(ledger.total() + torch.zeros_like(scores[:, k]).detach())
            layers.append(ledger.layers)
        kept, heat = torch.stack(taken, 1), torch.stack(maps, 1)
        extra = {"conservation": (heat.sum((2, 3)) + kept) / scores.detach(), "bias": kept}
        for name in layers[0] if self.layers else ():
            extra[f"layer: {name}"] = torch.stack([_share(found[name]) for found in layers], 1)
        if not call.target.many:
            extra = {key: value[:, 0] for key, value in extra.items()}
        return self.answer(call, heat, scores, extra=extra)


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
            f"lrp: the surrogate's scores differ from the model's by {float(difference):.3g}: an operation is not what "
            "it was taken for"
        )


def _relevance(score: Tensor, mode: Surrogate, last: bool) -> Tensor:
    """Return the (B, H, W) relevance of a score that is a sum over the images."""
    mode.ledger.clear()
    gradients = torch.autograd.grad(score, mode.sources, retain_graph=not last, allow_unused=True)
    for source, gradient in zip(mode.sources, gradients, strict=True):
        if gradient is not None:
            mode.ledger.deposit(source.detach() * gradient)
    found = mode.ledger.map
    return torch.zeros(mode.ledger.images, *mode.ledger.size).to(score) if found is None else found


def _share(layer: Layer) -> Tensor:
    return (layer.inputs + layer.bias) / layer.output
