"""Purity: whether the images that excite a prototype most all show one part, over a stream of any length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ibd.metrics.prototypes import PrototypeMetric, best_part, share_of

_NOTHING = torch.iinfo(torch.int64).min  # the rank of no image, below that of every score


class PrototypePurity(PrototypeMetric):
    """How far the images that excite a prototype most show one part there (Nauta et al. 2023), in [0, 1].

    Per prototype the `top` images of the highest scores, of any class; per part the share of them that is hit, of those
    in which the part is visible; of these shares the largest. Higher is better. A detector at random reaches much more
    than the share of a part it hits by chance, because the best of the parts is taken over few images.

    Scores are compared in float32. Ties go to the smaller index, and an index counts once, with its highest score.

    Args:
        units: number of prototypes U.
        parts: number of annotated parts P.
        top: number of images a prototype.
        active: (U,) which prototypes count, false for the pruned; all if None.
        **kwargs: arguments of torchmetrics.
    """

    best: Tensor

    def __init__(
        self,
        units: int,
        parts: int,
        top: int = 10,
        active: Sequence[bool] | Tensor | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, active, **kwargs)
        self.parts, self.top = parts, top
        # One state, so that rows stay whole when processes are merged: rank, index, P hits, P visible.
        empty = torch.zeros(units, top, 2 + 2 * parts, dtype=torch.int64)
        empty[..., 0] = _NOTHING
        self.add_state("best", empty, dist_reduce_fx=_merge)

    def update(self, scores: Tensor, hits: Tensor, visible: Tensor, index: Tensor) -> None:
        """Add a batch.

        Args:
            scores: (B, U), higher where the prototype is more present; NaN is left out.
            hits: (B, U, P) bool, from `part_hits`.
            visible: (B, P) bool, from `part_hits`.
            index: (B,) ids of the samples; negative marks padding, which is left out.
        """
        if not len(scores):
            return
        index = index.long().expand(self.units, -1)
        rank = _sortable(scores.detach().T).masked_fill(index < 0, _NOTHING)
        rank, order = _highest(rank, index, self.top)  # only these rows are packed
        seen = visible.bool()[order]
        hit = hits.bool().transpose(0, 1)[torch.arange(self.units, device=order.device).unsqueeze(1), order] & seen
        rows = torch.cat([torch.stack([rank, index.gather(1, order)], 2), hit.long(), seen.long()], 2)
        self.best = _best_rows(torch.cat([self.best, rows], 1), self.top)

    def shares(self) -> Tensor:
        """Return (U, P): of a prototype's top images with the part visible, the share that is hit; NaN if none."""
        with self._of_all_processes():
            return share_of(*self._counts())

    def _counts(self) -> tuple[Tensor, Tensor]:
        counts = self.best[..., 2:].sum(1)
        return counts[:, : self.parts], counts[:, self.parts :]

    def _values(self) -> Tensor:
        return best_part(*self._counts())


def _sortable(score: Tensor) -> Tensor:
    """Return int64 numbers in the order of float32 scores; no image for NaN."""
    bits = score.float().view(torch.int32).long()
    size = bits & 0x7FFFFFFF  # IEEE 754: without the sign, floats are in the order of their bits
    return torch.where(bits < 0, -size, size).masked_fill(score.isnan(), _NOTHING)


def _highest(rank: Tensor, index: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the highest ranks of each row, (U, count), and where they are; ties by index, each index once."""
    order = rank.argsort(stable=True, dim=1, descending=True)
    order = order.gather(1, index.gather(1, order).argsort(stable=True, dim=1))  # by index, its highest rank first
    ordered = index.gather(1, order)
    again = F.pad(ordered[:, 1:] == ordered[:, :-1], (1, 0))
    rank, place = rank.gather(1, order).masked_fill(again, _NOTHING).sort(stable=True, dim=1, descending=True)
    return rank[:, :count], order.gather(1, place[:, :count])


def _best_rows(rows: Tensor, count: int) -> Tensor:
    """Return the `count` best of each prototype's rows (U, n, 2 + 2 P)."""
    rank, order = _highest(rows[..., 0], rows[..., 1], count)
    best = rows.gather(1, order.unsqueeze(2).expand(-1, -1, rows.shape[2]))
    best = best.masked_fill((rank == _NOTHING).unsqueeze(2), 0)
    best[..., 0] = rank
    return best


def _merge(stacked: Tensor) -> Tensor:
    """Return the best rows of several processes; stacked (W, U, top, 2 + 2 P)."""
    return _best_rows(stacked.transpose(0, 1).flatten(1, 2), stacked.shape[2])
