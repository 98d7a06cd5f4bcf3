"""How well concepts are predicted in each group of images: a concept may be read well of some images only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ibd.metrics.functional.bootstrap import Interval, mean_interval
from ibd.metrics.functional.multiple import holm
from ibd.metrics.functional.shares import share_interval

_SUSPECT = 0.05
"""A p-value below which a concept is called worse in a group."""


@dataclass(frozen=True)
class GroupConcepts:
    """How well concepts are predicted in the images of one group.

    Attributes:
        name: name of the group.
        accuracy: mean over its images of the share of their known concepts that is right, with its bootstrap interval
            of 95 %: concepts of one image are not independent.
        concepts: share of its images in which a concept is right, by concept, with the score interval of 95 %.
        p_below: by concept, how often so few of the group's images, or fewer, are right where the group says nothing;
            corrected for the number of concepts and groups (Holm 1979).
    """

    name: str
    accuracy: Interval
    concepts: tuple[Interval, ...]
    p_below: tuple[float, ...]


@dataclass(frozen=True)
class ConceptsByGroup:
    """Accuracy of concepts by group.

    Attributes:
        column: name of what the groups are values of.
        names: names of the concepts.
        groups: the groups, in the order that was asked for.
        all: share of all images of a known group in which a concept is right, by concept.
    """

    column: str
    names: tuple[str, ...]
    groups: tuple[GroupConcepts, ...]
    all: tuple[Interval, ...]

    def table(self) -> str:
        """Return the groups as text, with the concept that is read worst in each."""
        wide = max(len(self.column), *(len(group.name) for group in self.groups))
        lines = [f"{self.column:<{wide}}  concepts right  95 % interval   least right"]
        for group in self.groups:
            a = group.accuracy
            said = f"{group.name:<{wide}}  {a.mean:>14.3f}  [{a.low:.3f}, {a.high:.3f}]"
            known = [place for place, share in enumerate(group.concepts) if share.n]
            if known:
                least = min(known, key=lambda place: group.concepts[place].mean)
                share = group.concepts[least]
                said += f"  {self.names[least]} ({share.mean:.3f} of {share.n}; {self.all[least].mean:.3f} of all)"
            lines.append(said)
        return "\n".join([*lines, self.verdict()])

    def verdict(self) -> str:
        """Return in a line which concepts are read worse in which group than elsewhere, beyond chance."""
        found = [
            (p, f"{name} in {group.name}")
            for group in self.groups
            for name, p in zip(self.names, group.p_below, strict=True)
            if p < _SUSPECT
        ]
        found.sort()
        more = f", and {len(found) - 5} more" * (len(found) > 5)
        said = f"{', '.join(text for _, text in found[:5])}{more}" if found else "none"
        return f"concepts that are read worse in a group than elsewhere, beyond chance: {said}"


def concepts_by_group(
    right: Tensor, groups: Sequence[str | None], order: Sequence[str], names: Sequence[str], column: str
) -> ConceptsByGroup:
    """Return how well concepts are predicted in each group of images.

    Args:
        right: (N, K) of 0 and 1, NaN where unknown; see `ibd.metrics.functional.where_wrong`.
        groups: group of each of the N images; None where it is not known.
        order: names of the groups, in the order of the answer.
        names: names of the K concepts.
        column: name of what the groups are values of.
    """
    rows = [torch.tensor([group == name for group in groups], device=right.device) for name in order]
    counts = [_counts(right[row]) for row in rows]
    all_hits, all_known = (torch.stack(same).sum(0) for same in zip(*counts, strict=True))
    below = holm([p for hits, known in counts for p in _p_below(hits, known, all_hits, all_known)])
    size = len(names)
    found = tuple(
        GroupConcepts(
            name, mean_interval(right[row].nanmean(1)), _shares(*count), tuple(below[at * size : (at + 1) * size])
        )
        for at, (name, row, count) in enumerate(zip(order, rows, counts, strict=True))
    )
    return ConceptsByGroup(column, tuple(names), found, _shares(all_hits, all_known))


def _counts(right: Tensor) -> tuple[Tensor, Tensor]:
    """Return of each concept in how many images it is right, and known, (K,) each, on the CPU for scipy."""
    return right.nansum(0).long().cpu(), (~right.isnan()).sum(0).cpu()


def _shares(hits: Tensor, known: Tensor) -> tuple[Interval, ...]:
    return tuple(share_interval(hit, count) for hit, count in zip(hits.tolist(), known.tolist(), strict=True))


def _p_below(hits: Tensor, known: Tensor, all_hits: Tensor, all_known: Tensor) -> list[float]:
    """Return how often so few of a group are right, or fewer, by concept: the exact test of Fisher (1922)."""
    from scipy.stats import hypergeom  # which takes a moment to import

    values: list[float] = hypergeom.cdf(hits.numpy(), all_known.numpy(), all_hits.numpy(), known.numpy()).tolist()
    return values
