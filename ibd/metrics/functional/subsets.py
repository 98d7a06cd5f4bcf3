"""What a model says of every subset of the parts of an image: Shapley values, sufficient sets, removal in an order.

A table of subsets is (B, 2^P): column s is the value for the image on which part p is there if bit p of s is set, as
``Scene.subset_grid`` of ToyBirds draws them; the last column is the image as it is. The images are drawn, so nothing
leaves the distribution that the model was trained on. One table serves all explanations of an image.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ibd.errors import ConfigError
from ibd.metrics.functional.checks import double, ratio


def part_count(table: Tensor) -> int:
    """Return P of a (B, 2^P) table.

    Raises:
        ConfigError: the number of columns is no power of two.
    """
    parts = table.shape[1].bit_length() - 1 if table.dim() == 2 else -1
    if parts < 0 or table.shape[1] != 1 << parts:
        raise ConfigError(f"a table of shape {tuple(table.shape)} given, (images, 2 to the number of parts) is needed")
    return parts


def membership(parts: int, device: torch.device | None = None) -> Tensor:
    """Return (2^P, P) bool: which parts belong to each subset."""
    subset = torch.arange(1 << parts, device=device).unsqueeze(1)
    return (subset >> torch.arange(parts, device=device)).bitwise_and(1).bool()


def shapley(table: Tensor) -> Tensor:
    """Exact Shapley values of the parts (Shapley 1953).

    phi_p = sum over subsets S without p of |S|! (P - |S| - 1)! / P! (v(S + p) - v(S)). They add up to v(all) - v(none),
    and a part that changes nothing has 0.

    Args:
        table: (B, 2^P) of the explained value.

    Returns:
        (B, P) float64; NaN where the table holds a NaN.
    """
    parts = part_count(table)
    values = double(table)
    there = membership(parts, values.device)
    size = there.sum(1, keepdim=True)
    weight = [
        math.factorial(k) * math.factorial(max(0, parts - k - 1)) / math.factorial(parts) for k in range(parts + 1)
    ]
    by_size = torch.tensor(weight, dtype=torch.float64, device=values.device)
    signed = torch.where(there, by_size[(size - 1).clamp(min=0)], -by_size[size])
    values_of_parts = [
        (values * signed[:, p]).sum(1) for p in range(parts)
    ]  # no matrix product: it would depend on the batch
    return torch.stack(values_of_parts, 1) if values_of_parts else values[:, :0]


def minimal_sufficient(sufficient: Tensor) -> Tensor:
    """Return which subsets suffice while none of their proper subsets does.

    Args:
        sufficient: (B, 2^P) bool: whether the prediction of the whole image is kept with the parts of the subset alone.

    Returns:
        (B, 2^P) bool.
    """
    parts = part_count(sufficient)
    below = sufficient.bool().clone()  # whether the subset, or one inside of it, suffices
    proper = torch.zeros_like(below)
    subset = torch.arange(1 << parts, device=below.device)
    for p in range(parts):  # all subsets of S without its smaller parts first: every inside one is reached
        having = subset[(subset >> p).bitwise_and(1).bool()]
        below[:, having] |= below[:, having ^ (1 << p)]
    for p in range(parts):
        having = subset[(subset >> p).bitwise_and(1).bool()]
        proper[:, having] |= below[:, having ^ (1 << p)]
    return sufficient.bool() & ~proper


def highest_sets(importance: Tensor, visible: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return which sets of parts can stand at the top of the order by importance.

    A set can if none of its parts is less important than one that is visible and not in it; with ties there are several
    of a size, and each is as likely as the others if ties are broken by chance.

    Args:
        importance: (B, P); NaN is below everything.
        visible: (B, P) bool; the others are in no set. All if None.

    Returns:
        (B, 2^P) bool, and the (2^P,) sizes of the sets.
    """
    parts = importance.shape[1]
    value = double(importance)
    value = value.where(~value.isnan(), -torch.inf)
    seen = torch.ones_like(value, dtype=torch.bool) if visible is None else visible.bool().to(value.device)
    there = membership(parts, value.device)
    # Ranks among the parts, because infinities are values too.
    rank = (value.unsqueeze(2) > value.unsqueeze(1)).sum(2)
    chosen, left = there & seen.unsqueeze(1), ~there & seen.unsqueeze(1)
    lowest = rank.unsqueeze(1).where(chosen, parts).amin(2) if parts else rank.new_zeros(len(rank), 1)
    highest = rank.unsqueeze(1).where(left, -1).amax(2) if parts else rank.new_zeros(len(rank), 1)
    inside = ~(there & ~seen.unsqueeze(1)).any(2)
    return (lowest >= highest) & inside, there.sum(1)


def removal_curve(importance: Tensor, table: Tensor, visible: Tensor | None = None) -> Tensor:
    """Return the explained value while parts are removed, the most important first: deletion that stays in the domain.

    The expected value over a random order of parts of equal importance.

    Args:
        importance: (B, P); parts that are NaN go last.
        table: (B, 2^P) of the explained value.
        visible: (B, P) bool: only these are removed; all if None.

    Returns:
        (B, P + 1) float64, step 0 the image as it is; NaN beyond the number of visible parts.
    """
    parts = part_count(table)
    _check_parts(importance, table, parts)
    values = double(table).flip(1)  # column s: the value without the parts of s
    fits, size = highest_sets(importance, visible)
    steps = []
    for k in range(parts + 1):
        chosen = fits & (size == k)
        steps.append(ratio(values.where(chosen, 0.0).sum(1), chosen.sum(1)))
    return torch.stack(steps, 1)


def removal_auc(curve: Tensor) -> Tensor:
    """Area under a removal curve by the trapezoid rule, over the share of visible parts removed; - lower is better.

    Args:
        curve: (B, P + 1) from `removal_curve`.

    Returns:
        (B,) float64 in the range of the explained value; NaN where nothing is visible.
    """
    values = double(curve)
    middle = (values[:, 1:] + values[:, :-1]) / 2
    return middle.nanmean(1)


def set_scores(importance: Tensor, sufficient: Tensor, visible: Tensor | None = None) -> dict[str, Tensor]:
    """Score the k most important parts, k the size of the smallest minimal sufficient set, as sets.

    After FunnyBirds (Hesse et al. 2023) with the number of parts fixed by the truth: there it follows from a threshold
    that is chosen on the test set, and naming more parts never hurts. The expected value over ties.

    Args:
        importance: (B, P).
        sufficient: (B, 2^P) bool: whether the prediction of the whole image is kept with the parts of the subset alone.
        visible: (B, P) bool; all if None.

    Returns:
        (B,) float64 in [0, 1] each, + higher is better: "csdc", the largest share of a minimal sufficient set that is
        among the k; "pc", whether the prediction is kept with them alone; "dc", whether it changes without them. NaN
        where no set suffices, or the empty one.
    """
    parts = part_count(sufficient)
    _check_parts(importance, sufficient, parts)
    minimal = minimal_sufficient(sufficient)
    fits, size = highest_sets(importance, visible)
    minimal, holds = minimal.to(fits.device), sufficient.bool().to(fits.device)
    smallest = size.where(minimal, parts + 1).amin(1)
    chosen = fits & (size == smallest.unsqueeze(1))
    subset = torch.arange(1 << parts, device=fits.device)
    shared = size[subset.unsqueeze(1) & subset].double() / size.clamp(min=1)  # of the second, in the first
    covered = torch.stack([shared.where(row, 0.0).amax(1) for row in minimal]) if len(minimal) else fits.double()
    number = chosen.sum(1).where((smallest > 0) & (smallest <= parts), 0)
    scores = {"csdc": covered, "pc": holds.double(), "dc": (~holds.flip(1)).double()}
    return {name: ratio(score.where(chosen, 0.0).sum(1), number) for name, score in scores.items()}


def _check_parts(importance: Tensor, table: Tensor, parts: int) -> None:
    if importance.shape != (len(table), parts):
        raise ConfigError(f"importance of shape {tuple(importance.shape)} given for {parts} parts, {len(table)} images")
