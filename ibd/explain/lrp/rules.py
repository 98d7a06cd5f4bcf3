"""The rules of layer-wise relevance propagation, each for one linear operation ``y_j = sum_i x_i w_ij + b_j``.

A rule says which part of the relevance R_j of an output each input gets. Relevance travels as a gradient: with
``R_j = y_j g_j`` a rule returns the terms whose sum is ``R_i / x_i``. Written below with ``p_j``, the sum of all
contributions ``x_i w_ij >= 0``, and ``n_j`` of those below 0; with biases that absorb, ``b+`` belongs to p and ``b-``
to n; with biases ignored, y is without its bias wherever a sum of one sign divides, and the epsilon rule passes a bias
on in proportion to the size of the contributions. Divisions by 0 give 0; there is no absolute stabilizer (activations
of 1e-7 are usual in deep networks). Sources: Bach et al. 2015 (epsilon, alpha-beta), Montavon
et al. 2017 (z+, z^B, w^2), Montavon et al. 2019 (gamma), Andeol et al. 2021 (gamma for any sign), Lapuschkin et al.
2019 (flat).
"""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.lrp.functions import Plan, Term
from ibd.explain.lrp.ledger import all_finite, divide
from ibd.explain.lrp.linear import LinearMap


@dataclass(frozen=True)
class Given:
    """What a rule sees of an operation.

    Attributes:
        operation: the linear map.
        x: input of the operation.
        y: output of the operation, with the bias.
        nonnegative: whether x is known to have no value below 0.
        ignore: whether biases get nothing.
        image: whether x is the image, or the normalized image.
        box: the least and the largest x can be, if known and needed.
    """

    operation: LinearMap
    x: Tensor
    y: Tensor
    nonnegative: bool
    ignore: bool
    image: bool = False
    box: tuple[Tensor, Tensor] | None = None

    @property
    def bias(self) -> Tensor | None:
        """The bias, where it counts."""
        return None if self.ignore else self.operation.bias

    @property
    def z(self) -> Tensor:
        """The output as it is divided among those that count: without the bias where it is ignored."""
        bias = self.operation.bias
        if not self.ignore or bias is None:
            return self.y
        z = self.y - bias
        return torch.where(z.abs() <= 32 * torch.finfo(z.dtype).eps * bias.abs(), 0.0, z)

    def kept(self, z: Tensor) -> list[tuple[Tensor, Tensor | None]]:
        """Return what ignored biases keep: outputs without any input have nowhere to pass it on to."""
        bias = self.operation.bias
        if not self.ignore or bias is None or not bool((z == 0).any()):
            return []
        return [(bias, (z == 0).to(z.dtype))]

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Return W x + b."""
        return self.operation.apply(x, weight, bias)


class Rule(abc.ABC):
    """How the relevance of an operation's output is divided among its inputs."""

    needs_box: ClassVar[bool] = False

    @property
    def indifferent(self) -> bool:
        """Whether it makes no difference if a batch normalization that follows is one with the operation."""
        return False

    @abc.abstractmethod
    def plan(self, given: Given) -> Plan:
        """Return how relevance goes through an operation."""


@dataclass(frozen=True)
class Epsilon(Rule):
    """``R_i = sum_j x_i w_ij R_j / (y_j + e sign(y_j))``, with ``e = epsilon * rms(y)`` of the image.

    With epsilon 0 this is LRP-0: gradient times input. The stabilizer is relative (as in the tutorial of Montavon et
    al. 2019), it takes ``e / |y|`` of a relevance.

    An ignored bias gives its part to the inputs, ``b_j |x_i w_ij| / sum_i |x_i w_ij|``, as Bach et al. 2015 pass it on
    evenly. To leave it out of y instead would divide by sums that pass through 0 where the output does not: after
    twenty such layers maps are 1e14 times the score.
    """

    epsilon: float = 0.0

    def __post_init__(self) -> None:
        """Check the number."""
        if not self.epsilon >= 0:
            raise ConfigError(f"epsilon: {self.epsilon} given, at least 0 is needed")

    @property
    def indifferent(self) -> bool:
        """See `Rule`."""
        return not self.epsilon

    def plan(self, given: Given) -> Plan:
        """See the class."""
        y, bias, coefficient = given.y, given.operation.bias, None
        if self.epsilon:
            flat = y.flatten(1) if y.dim() > 1 else y
            size = self.epsilon * flat.square().mean(-1).sqrt().view(-1, *[1] * (y.dim() - 1))
            coefficient = divide(y, y + torch.where(y < 0, -size, size))
        plan = Plan([Term(given.operation.weight, coefficient)])
        if bias is not None and not given.ignore:
            plan.biases.append((bias, coefficient))
        elif bias is not None:
            passed = bias if coefficient is None else bias * coefficient
            self._pass_on(plan, given, passed)
        return plan

    @staticmethod
    def _pass_on(plan: Plan, given: Given, bias: Tensor) -> None:
        """Add what inputs get of a bias; an output without any contribution keeps it."""
        weight = given.operation.weight.abs()
        total = given.apply(given.x if given.nonnegative else given.x.abs(), weight)
        plan.terms.append(Term(weight, divide(bias, total), None if given.nonnegative else given.x.sign()))
        if bool((total == 0).any()):
            plan.biases.append((bias, (total == 0).to(total.dtype)))


class Signed(Rule):
    """Rules that treat contributions above and below 0 differently: ``R_i = sum_j (k+ c+_ij + k- c-_ij) R_j``."""

    def plan(self, given: Given) -> Plan:
        """See the class; one more product forward, one backward for each of k+ and k- that is not 0."""
        weight, x, bias = given.operation.weight, given.x, given.bias
        above = weight.clamp(min=0)
        positive = given.apply(
            x if given.nonnegative else x.clamp(min=0), above, None if bias is None else bias.clamp(min=0)
        )
        if not given.nonnegative:
            positive += given.apply(x.clamp(max=0), weight.clamp(max=0))
        z = given.z
        plus, minus = self.coefficients(given.y, z, positive)
        plan = Plan([], given.kept(z))
        below = None if given.nonnegative and minus is None else weight.clamp(max=0)
        signs = (None, None) if given.nonnegative else ((x >= 0).to(x.dtype), (x < 0).to(x.dtype))
        for coefficient, own, other in ((plus, above, below), (minus, below, above)):
            if coefficient is None or own is None:
                continue
            plan.terms.append(Term(own, coefficient, signs[0]))
            if not given.nonnegative and other is not None:
                plan.terms.append(Term(other, coefficient, signs[1]))
            if bias is not None:
                plan.biases.append((bias.clamp(min=0) if own is above else bias.clamp(max=0), coefficient))
        return plan

    @abc.abstractmethod
    def coefficients(self, y: Tensor, z: Tensor, p: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return ``y k+`` and ``y k-`` (None where 0 throughout), where ``k+ p + k- n = 1``.

        Args:
            y: output of the operation.
            z: sum of p and n.
            p: positive part of z, at least 0.
        """


@dataclass(frozen=True)
class AlphaBeta(Signed):
    """``k+ = alpha / p``, ``k- = -beta / n``, with ``alpha - beta = 1``.

    Where there are contributions of one sign only, these get all: else an output without negative contributions would
    pass on alpha times its relevance (the literature is silent; it matters for depthwise convolutions).
    """

    alpha: float = 2.0
    beta: float = 1.0

    def __post_init__(self) -> None:
        """Check the numbers."""
        if abs(self.alpha - self.beta - 1) > 1e-6 or self.beta < 0:
            raise ConfigError(
                f"alpha {self.alpha} and beta {self.beta}: alpha - beta = 1 and beta >= 0 are needed, otherwise "
                "relevance is created or lost"
            )

    def coefficients(self, y: Tensor, z: Tensor, p: Tensor) -> tuple[Tensor, Tensor | None]:
        """See the class."""
        if not self.beta:
            return _z_plus(y, z, p)
        ratio = z / p  # 1 where there is no n, infinite where there is no p
        one_sided = ratio >= 1 - 32 * torch.finfo(z.dtype).eps
        minus = ratio / (ratio - 1)  # z / n
        plus, minus = ratio.mul_(self.alpha), minus.mul_(-self.beta)
        if bool(one_sided.any()) or not all_finite(minus):
            plus = torch.where(one_sided, 1.0, torch.where(p == 0, 0.0, plus))
            minus = torch.where(one_sided, 0.0, torch.where((p == 0) & (z != 0), 1.0, minus)).nan_to_num_(0.0)
        if y is not z:
            share = divide(y, z)
            plus, minus = plus * share, minus * share
        return plus, minus


class ZPlus(Signed):
    """``k+ = 1 / p``, ``k- = 0``: alpha-beta with alpha 1; inputs may be negative.

    Where no contribution is positive the negative ones get all: relevance of such outputs would vanish.
    """

    def coefficients(self, y: Tensor, z: Tensor, p: Tensor) -> tuple[Tensor, Tensor | None]:
        """See the class."""
        return _z_plus(y, z, p)


@dataclass(frozen=True)
class Gamma(Signed):
    """Contributions of the sign of z count ``1 + gamma`` times: ``c_ij + gamma c+_ij`` of ``z + gamma p`` for z > 0.

    And ``c_ij + gamma c-_ij`` of ``z + gamma n`` for z < 0.
    """

    gamma: float = 0.25

    def __post_init__(self) -> None:
        """Check the number."""
        if not self.gamma >= 0:
            raise ConfigError(f"gamma: {self.gamma} given, at least 0 is needed")

    def coefficients(self, y: Tensor, z: Tensor, p: Tensor) -> tuple[Tensor, Tensor | None]:
        """See the class."""
        up = z > 0
        larger = torch.where(up, p, z - p)  # n = z - p, without cancellation where z < 0
        base = divide(y, larger.mul_(self.gamma).add_(z))
        more = base * (1 + self.gamma)
        return torch.where(up, more, base), torch.where(up, base, more)


@dataclass(frozen=True)
class ZBox(Rule):
    """``R_i = sum_j (x_i w_ij - l_i w+_ij - h_i w-_ij) R_j / sum_i (...)``, for pixels between l and h.

    For the first operation. Biases get nothing.

    Args:
        low: the least value of its input, a number or one for each channel; None takes what a pixel of 0 becomes.
        high: the largest; None takes what a pixel of 1 becomes.
    """

    low: float | tuple[float, ...] | None = None
    high: float | tuple[float, ...] | None = None
    needs_box: ClassVar[bool] = True

    def plan(self, given: Given) -> Plan:
        """See the class."""
        if not given.image or given.box is None:
            raise UnsupportedError("the rule zB is for the first operation, whose input is the image")
        low, high = given.box
        operation, x = given.operation, given.x
        above, below = operation.weight.clamp(min=0), operation.weight.clamp(max=0)
        z = given.y if operation.bias is None else given.y - operation.bias
        z = z - given.apply(low, above) - given.apply(high, below)
        coefficient = divide(given.y, z)
        return Plan([Term(above, coefficient, x - low), Term(below, coefficient, x - high)], direct=True)


class WSquare(Rule):
    """``R_i = sum_j w_ij^2 R_j / sum_i w_ij^2``, whatever the input; a bias that absorbs gets ``b_j^2`` of it.

    Where the input is not the image, inputs that are exactly 0 get nothing: they have no cause to pass it on to.
    """

    def plan(self, given: Given) -> Plan:
        """See the class."""
        return _weighted(given, given.operation.weight.square(), None if given.bias is None else given.bias.square())


class Flat(Rule):
    """``R_i = sum_j R_j / (inputs of j)``: evenly. Biases get nothing; inputs of 0 as in `WSquare`."""

    def plan(self, given: Given) -> Plan:
        """See the class."""
        return _weighted(given, torch.ones_like(given.operation.weight), None)


def _weighted(given: Given, weight: Tensor, bias: Tensor | None) -> Plan:
    """Divide by weights alone."""
    x = given.x
    live = torch.ones_like(x[:1]) if given.image else (x != 0).to(x.dtype)
    total = given.apply(live, weight)
    if bias is not None:
        total = total + bias
    coefficient = divide(given.y, total)
    factor = None if given.image else divide(live, x)
    biases: list[tuple[Tensor, Tensor | None]] = [] if bias is None else [(bias, coefficient)]
    if bias is None and given.operation.bias is not None:  # without any live input the output is the bias, and keeps it
        biases = [(given.operation.bias, (total == 0).to(x.dtype))]
    return Plan([Term(weight, coefficient, factor)], biases, direct=given.image)


def _z_plus(y: Tensor, z: Tensor, p: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the coefficients of `ZPlus`."""
    plus = y / p
    if all_finite(plus):
        return plus, None
    empty = (p == 0) & (z != 0)
    return plus.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0), divide(y, z) * empty if bool(empty.any()) else None
