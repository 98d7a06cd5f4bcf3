"""Autograd functions with a given value: forward is what the model computed, backward carries the rule."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ibd.errors import UnsupportedError
from ibd.explain.lrp.ledger import Ledger, divide, like
from ibd.explain.lrp.linear import LinearMap

_FEW_CHANNELS = 16
"""For so many input channels two products backward take hardly longer than one of both together."""


@dataclass(frozen=True)
class Term:
    """A part of the gradient of the input: ``factor * W^T (coefficient * gradient)``.

    Attributes:
        weight: W, as the rule has it.
        coefficient: coefficient of the shape of the output; None is 1.
        factor: factor that is broadcast to the input; None is 1.
    """

    weight: Tensor
    coefficient: Tensor | None = None
    factor: Tensor | None = None


@dataclass
class Plan:
    """How relevance goes through one linear operation.

    Attributes:
        terms: terms whose sum is the gradient of the input; its relevance itself where `direct`.
        biases: (bias, coefficient): each keeps ``bias * coefficient * gradient``.
        direct: the input is the image: relevance is written into the map, which has no zeros to go through.
    """

    terms: list[Term]
    biases: list[tuple[Tensor, Tensor | None]] = field(default_factory=list)
    direct: bool = False

    def coefficients(self) -> list[Tensor | None]:
        """Return the different ones."""
        every = [*(term.coefficient for term in self.terms), *(coefficient for _, coefficient in self.biases)]
        return list({id(tensor): tensor for tensor in every}.values())


class LinearRule(torch.autograd.Function):
    """The output of a linear operation, with a backward pass that is a rule's."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any, x: Tensor, value: Tensor, operation: LinearMap, plan: Plan, ledger: Ledger, name: str | None
    ) -> Tensor:
        ctx.operation, ctx.plan, ctx.ledger, ctx.name = operation, plan, ledger, name
        ctx.template = x.detach()
        ctx.values = (x.detach().clone(), value.detach().clone()) if name is not None else None
        return value.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        plan: Plan = ctx.plan
        ledger: Ledger = ctx.ledger
        kept, relevance = [], None
        for coefficient in plan.coefficients():
            product = gradient if coefficient is None else gradient * coefficient
            kept += [ledger.take(product, bias) for bias, own in plan.biases if own is coefficient]
            terms = [term for term in plan.terms if term.coefficient is coefficient]
            for part, term in zip(_parts(ctx.operation, product, terms, ctx.template), terms, strict=True):
                part = part if term.factor is None else part.mul_(term.factor)
                relevance = part if relevance is None else relevance.add_(part)
        assert relevance is not None
        if ctx.name is not None:
            x, value = ctx.values
            inputs = ledger.per_image(relevance if plan.direct else relevance * x)
            bias = sum(kept, torch.zeros_like(inputs))
            ledger.layer(ctx.name, ledger.per_image(gradient * value), inputs, bias)
        if plan.direct:
            ledger.deposit(relevance)
            relevance = None
        return relevance, None, None, None, None, None


class Elementwise(torch.autograd.Function):
    """A value ``slope * x + bias`` at every position, both constants: activations, batch normalization, a bias."""

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any, x: Tensor, value: Tensor, slope: Tensor | float | None, bias: Tensor | float | None, ledger: Ledger
    ) -> Tensor:
        ctx.slope, ctx.bias, ctx.ledger, ctx.template = slope, bias, ledger, x.detach()
        return value.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        if ctx.bias is not None:
            ctx.ledger.take(gradient, ctx.bias)
        relevance = gradient if ctx.slope is None else gradient * ctx.slope
        return like(relevance, ctx.template), None, None, None, None


class Softmax(torch.autograd.Function):
    """A softmax s of x by its first Taylor term: ``R_i = x_i (R(s_i) - s_i sum_j R(s_j))`` (Achtibat et al. 2024).

    As a gradient that is the softmax's own. What is missing of the relevance, the expansion's constant, stays.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor, dim: int, ledger: Ledger) -> Tensor:  # noqa: D102
        ctx.dim, ctx.ledger, ctx.x, ctx.value = dim, ledger, x.detach(), value.detach()
        return value.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        relevance = gradient * ctx.value
        passed = relevance - ctx.value * relevance.sum(ctx.dim, keepdim=True)
        moved = torch.where(passed == 0, 0.0, passed * ctx.x)  # masked scores are minus infinity
        ctx.ledger.keep(ctx.ledger.per_image(relevance - moved))
        return passed.to(ctx.x.dtype), None, None, None


@dataclass
class Shared:
    """Memory that a backward pass will read and that the model may write over before."""

    value: Tensor
    version: int

    def read(self) -> Tensor:
        """Return the value.

        Raises:
            UnsupportedError: it was written over.
        """
        if self.value._version != self.version:
            raise UnsupportedError("lrp: the result of a ReLU was changed in place through another view of its memory")
        return self.value

    def save(self) -> None:
        """Make a copy, before it is written over."""
        self.value = self.value.clone()
        self.version = self.value._version


class Relu(torch.autograd.Function):
    """A ReLU that was computed already."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shared: Shared) -> Tensor:  # noqa: D102
        ctx.shared = shared
        return shared.value.detach()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        return torch.ops.aten.threshold_backward(gradient, ctx.shared.read(), 0), None


class Carrier(torch.autograd.Function):
    """Ones whose gradient is relevance: what is split by a rule of its own, such as a distance, starts here."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, shape: tuple[int, ...], rule: Any) -> Tensor:  # noqa: D102
        ctx.rule = rule
        return x.new_ones(shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, relevance: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        return ctx.rule(relevance), None, None


def secant(x: Tensor, value: Tensor, start: float) -> tuple[Tensor, float | None]:
    """Return slope and bias of an activation phi, so that ``phi(x) = slope x + bias`` at this x.

    ``slope = (phi(x) - phi(0)) / x`` and ``bias = phi(0)``: of GELU, SiLU, tanh and all others that are 0 at 0 the
    relevance passes unchanged. Of a sigmoid the 0.5 of an input of 0 is no merit of the input.

    Args:
        x: input of the function.
        value: output phi(x) of the function.
        start: output phi(0) for no input.
    """
    if not start:
        return divide(value, x), None
    return divide(value - start, x), start


def _parts(operation: LinearMap, gradient: Tensor, terms: list[Term], x: Tensor) -> list[Tensor]:
    """Return ``W^T gradient`` for the weights of some terms; those of few channels, such as the image's, in one."""
    if len(terms) < 2 or not operation.joins or x.shape[1] > _FEW_CHANNELS:
        return [operation.transposed(gradient, term.weight, x) for term in terms]
    template = x[:, :1].expand(-1, len(terms) * x.shape[1], *[-1] * (x.dim() - 2))
    joint = operation.transposed(gradient, torch.cat([term.weight for term in terms], 1), template)
    return list(joint.chunk(len(terms), 1))
