"""Student's t and the binomial distribution, in float64: what the intervals and tests of a report are made of.

Both rest on the regularized incomplete beta function, which torch does not have: its continued fraction, evaluated by
the modified method of Lentz (Press et al. 2007, Numerical Recipes, section 6.4).
"""

from __future__ import annotations

import torch
from torch import Tensor

_STEPS = 300  # at most; the continued fraction takes about the root of its larger argument
_TINY = 1e-300
_EPSILON = 1e-15


def incomplete_beta(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """Return the regularized incomplete beta function I_x(a, b), float64 in [0, 1].

    Args:
        a: first parameter, above 0.
        b: second parameter, above 0; of one shape with `a` and `x`, or one that can be broadcast.
        x: argument in [0, 1].
    """
    a, b, x = (argument.double() for argument in (a, b, x))
    a, b, x = a + 0 * (b + x), b + 0 * (a + x), x + 0 * (a + b)  # of one shape
    mirrored = x > (a + 1) / (a + b + 2)  # the fraction converges fast below, and I_x(a, b) = 1 - I_{1-x}(b, a)
    p, q, y = torch.where(mirrored, b, a), torch.where(mirrored, a, b), torch.where(mirrored, 1 - x, x)
    front = p * y.log() + q * torch.log1p(-y) - p.log() + torch.lgamma(p + q) - torch.lgamma(p) - torch.lgamma(q)
    value = torch.where(y > 0, front.exp() * _fraction(p, q, y), 0.0)
    return torch.where(mirrored, 1 - value, value).clamp(0, 1)


def t_probability(t: Tensor, df: Tensor) -> Tensor:
    """Return the two-sided p-value of Student's t, float64: how likely one as far from 0 is, on either side.

    Args:
        t: values of any shape; may be infinite. NaN has NaN.
        df: degrees of freedom, above 0, not necessarily whole. NaN has NaN.
    """
    square, known = t.double().square(), df.double().nan_to_num(1.0)
    x = torch.where(square.isinf(), 0.0, known / (known + square)).nan_to_num(0.5)
    probability = incomplete_beta(known / 2, torch.full_like(known, 0.5), x)
    return probability.where(~(t.isnan() | df.isnan()), torch.nan)


def t_quantile(level: float, df: Tensor) -> Tensor:
    """Return the value below which |T| lies with probability `level`, float64; NaN where `df` is NaN.

    Args:
        level: level in (0, 1), such as 0.95.
        df: degrees of freedom, at least 1.
    """
    known = df.double().nan_to_num(1.0)
    t = torch.full_like(known, torch.special.ndtri(torch.tensor((1 + level) / 2, dtype=torch.float64)).item())
    constant = torch.lgamma((known + 1) / 2) - torch.lgamma(known / 2) - (known * torch.pi).log() / 2
    for _ in range(_STEPS):  # of Newton: from the normal quantile, which is below, every step goes up and none too far
        density = (constant - (known + 1) / 2 * torch.log1p(t.square() / known)).exp()
        step = (t_probability(t, known) - (1 - level)) / (2 * density)
        t = t + step
        if bool((step.abs() <= 1e-12 * t).all()):
            break
    return t.where(~df.isnan(), torch.nan)


def at_least(hits: int, trials: int, chance: float) -> float:
    """Return the probability of at least so many hits by chance: the p-value of the one-sided binomial test.

    Args:
        hits: number of hits, 0 to `trials`.
        trials: number of trials, at least 0.
        chance: chance of a hit, in (0, 1).
    """
    if hits <= 0:
        return 1.0
    a, b = float(hits), float(trials - hits + 1)
    return float(incomplete_beta(torch.tensor(a), torch.tensor(b), torch.tensor(chance, dtype=torch.float64)))


def _fraction(a: Tensor, b: Tensor, x: Tensor) -> Tensor:
    """Return the continued fraction of the incomplete beta function."""
    c = torch.ones_like(x)
    d = _away(1 - (a + b) * x / (a + 1)).reciprocal()
    value = d.clone()
    for m in range(1, _STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d, c = _away(1 + term * d).reciprocal(), _away(1 + term / c)
            value = value * c * d
        if bool(((c * d - 1).abs() < _EPSILON * 10).all()):
            break
    return value


def _away(value: Tensor) -> Tensor:
    """Return values of which none is 0."""
    return torch.where(value.abs() < _TINY, _TINY, value)
