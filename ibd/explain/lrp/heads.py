"""Rules for functions that say by themselves which rule is theirs.

A function with an attribute ``relevance`` and a call of ``torch.overrides.handle_torch_function`` is seen by the
surrogate as one operation; the attribute names its rule here. So a network can have a fused operation, an autograd
function of its own, and still be explained, and nothing here needs to know the network. A function whose attribute is
"scaled" needs no rule: it scales its first argument, and by how much counts as a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ibd.explain.lrp.functions import Carrier
from ibd.explain.lrp.ledger import Ledger, divide

_TINY = 1e-12
_CHUNK = 1 << 24

Carried = list[tuple[Tensor, Tensor]]


def nearest_patch(
    patches: Tensor, value: tuple[Tensor, Tensor], args: Sequence[Any], start: float, ledger: Ledger
) -> Carried:
    """Return the rule of a function (patches, prototypes, k) -> (distance, position): prototype relevance propagation.

    The relevance of a similarity goes to the patch it was measured at, and there to its channels c in inverse
    proportion to the squared distance, ``1 / ((z_c - p_c)^2 + 1e-12)``: to those that are alike (Gautam et al. 2022;
    the authors' code takes the fourth power, as it squares what is squared already). What the similarity is as a
    function of the distance does not matter. Channels whose activation is that of no input at all (0 behind a ReLU)
    have no cause that it could be passed on to and get nothing; where no channel has one, the relevance stays.

    Args:
        patches: (B, L, D) surrogates.
        value: result of the function: squared distances (B, P, k) and positions (B, P, k) among the L patches.
        args: arguments of the function; the second is (P, D).
        start: activation of no input, 0.5 behind a sigmoid.
        ledger: ledger of relevance that stays.
    """
    distance, position = value
    prototypes = args[1].detach().to(patches.dtype)
    z = patches.detach()

    def rule(relevance: Tensor) -> Tensor:
        gradient = torch.zeros_like(z)
        count, width = position.shape[2], z.shape[2]
        step = max(1, _CHUNK // (position[0].numel() * width))
        for first in range(0, len(z), step):
            part = slice(first, first + step)
            index = position[part].flatten(1).unsqueeze(2).expand(-1, -1, width)  # (b, P k, D)
            near = z[part].gather(1, index)
            live = near != start
            weight = live / ((near - prototypes.repeat_interleave(count, 0)).square() + _TINY)
            shares = divide(weight, weight.sum(2, keepdim=True)) * relevance[part].flatten(1).unsqueeze(2)
            gradient[part].scatter_add_(1, index, shares)
        given = gradient
        gradient = divide(gradient, z - start)
        lost = relevance.flatten(1).sum(1) - given.flatten(1).sum(1)  # what stayed, and what a bias gets back later
        back = start * gradient.flatten(1).sum(1)
        kept = lost - back
        ledger.taken = kept if ledger.taken is None else ledger.taken + kept
        return gradient

    return [(distance, Carrier.apply(patches, tuple(distance.shape), rule))]


Head = Callable[[Tensor, Any, Sequence[Any], float, Ledger], Carried]
HEADS: dict[str, Head] = {"nearest_patch": nearest_patch}
"""Name of the rule -> (surrogate of the first argument, what was returned, arguments, start, ledger) -> (tensor of what
was returned, ones whose gradient is its relevance), of each that carries any."""
