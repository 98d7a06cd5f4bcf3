"""Whether a prototype answers to what it frames: the part under it is drawn in another variant, or another part is.

The idea of Sacha et al. 2024 (change of activation, location and rank when what lies outside of the frame changes), who
perturb pixels against the network; here the image is drawn anew, and stays one of its kind.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ibd.comparison.self_consistency.locality import locality_of
from ibd.comparison.self_consistency.maps import enlarged
from ibd.comparison.self_consistency.reading import check_indices, encoded, require_network
from ibd.comparison.self_consistency.redrawing import RedrawnBatch, chunks, redrawn, require_scenes
from ibd.data.dataset import ImageDataset
from ibd.data.masked import load_batch
from ibd.data.toybirds.parts import PARTS
from ibd.errors import UnsupportedError
from ibd.metrics.functional.checks import ratio
from ibd.models.base import InterpretableNetwork, evaluating
from ibd.models.protopnet.evaluation import PartFigures, part_figures
from ibd.types import Units

SHOWN = 10
"""Prototypes of an image that are looked at: those that add most to its class, which a reader is shown."""
REGION = 0.05
"""Share of the image's pixels that the frame of a prototype holds, the most similar ones (Chen et al. 2019)."""
ELSEWHERE = "elsewhere"
"""The group of prototypes whose frame holds no visible part."""


@dataclass(frozen=True)
class Misalignment:
    """How N x T prototypes change when one of P parts is replaced, or, last, everything behind the bird.

    Attributes:
        change: (N, T, P + 1) change of the similarity, |s' - s|, in units of that of a perfect match (of 1 where that
            is 0, for a negative distance); NaN where the part cannot be seen, or the prototype adds nothing.
        moved: (N, T, P + 1) 1 - IoU of the frames before and after, in [0, 1]; NaN likewise.
        rank: (N, T, P + 1) change of the rank among all U prototypes, over U - 1, in [0, 1]; NaN likewise.
        under: (N, T) the part of which the frame holds most; P where it holds none.
        outside: (N, T, P) bool: the frame holds no pixel of the part.
    """

    change: Tensor
    moved: Tensor
    rank: Tensor
    under: Tensor
    outside: Tensor

    @property
    def rows(self) -> list[str]:
        """What is replaced."""
        return list(PARTS)

    @property
    def columns(self) -> list[str]:
        """What prototypes lie on."""
        return [*PARTS, ELSEWHERE]

    def matrix(self) -> Tensor:
        """Return (P, P + 1): mean change of the prototypes on part q when p is replaced; NaN where there are none."""
        rows = [self.change[self.under == q][:, : len(PARTS)].nanmean(0) for q in range(len(PARTS) + 1)]
        return torch.stack(rows, 1)

    def figures(self) -> dict[str, float]:
        """Return means over the pairs of image and prototype whose frame holds a part."""
        parts = len(PARTS)
        inside = torch.nn.functional.one_hot(self.under, parts + 1)[..., :parts].bool()
        outside = self.outside & (self.under < parts).unsqueeze(2)
        change, around = self.change[..., :parts], self.change[..., parts][self.under < parts]
        within, without = change[inside].nanmean(), change[outside].nanmean()
        matrix = self.matrix()
        return {
            "prototype_change_inside": float(within),
            "prototype_change_outside": float(without),
            "prototype_change_surroundings": float(around.nanmean()),
            "prototype_alignment": float(ratio(within, within + without)),
            "prototype_location_change": float(self.moved[..., :parts][outside].nanmean()),
            "prototype_rank_change": float(self.rank[..., :parts][outside].nanmean()),
            "locality": float(locality_of(matrix, self.rows, self.columns).nanmean()),
        }


def misalignment(
    model: nn.Module,
    dataset: ImageDataset,
    indices: Sequence[int],
    batch_size: int = 64,
    seed: int = 0,
    shown: int = SHOWN,
) -> Misalignment:
    """Return how the prototypes that a prediction rests on change with what they frame, and with what they do not.

    Args:
        model: a network whose units look for a patch, as prototypes do, or its module.
        dataset: a split of toy birds.
        indices: which images of it.
        batch_size: pictures in a pass.
        seed: seed of the variants that parts are replaced by.
        shown: T, prototypes of each image.

    Raises:
        UnsupportedError: the model has no prototypes, or the images cannot be drawn anew.
    """
    network = require_network(model)
    perfect = network.perfect_score()
    if perfect is None:
        raise UnsupportedError(f"only prototypes frame a patch; {network.unit_plural} do not")
    check_indices(indices)
    with evaluating(model), torch.inference_mode():
        parts = [
            _changes(network, batch, min(shown, len(network.unit_names)), perfect)
            for batch in redrawn(require_scenes(dataset), indices, batch_size, seed)
        ]
    return Misalignment(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _changes(network: InterpretableNetwork, batch: RedrawnBatch, shown: int, perfect: float) -> tuple[Tensor, ...]:
    """Return the fields of `Misalignment` of a batch."""
    logits, before = encoded(network, batch.image)
    count, versions = batch.changed.shape[:2]
    _, after = encoded(network, batch.changed.flatten(0, 1))
    row = torch.arange(count, device=logits.device)
    added = network.contributions(before)[row, :, logits.argmax(1)]
    chosen = added.topk(shown, 1).indices  # (B, T)
    frames = _frames(network, before, chosen, batch)
    moved_frames = _frames(network, after, chosen.repeat_interleave(versions, 0), batch).view(
        count, versions, *frames.shape[1:]
    )
    change, rank = _score_changes(before.scores, after.scores.view(count, versions, -1), chosen)
    change = change / (abs(perfect) or 1.0)
    both = (frames.unsqueeze(1) & moved_frames).flatten(3).sum(3)
    either = (frames.unsqueeze(1) | moved_frames).flatten(3).sum(3)
    moved = (1 - both.double() / either).transpose(1, 2).cpu()
    seen = torch.cat([batch.seen, torch.ones(count, 1, dtype=torch.bool)], 1).unsqueeze(1)
    held = torch.einsum("bthw,bphw->btp", frames.float().cpu(), batch.masks.float()).round()
    under = held.argmax(2).where(held.amax(2) > 0, batch.masks.shape[1])
    unknown = ~seen | (added.gather(1, chosen) <= 0).unsqueeze(2).cpu()
    values = (values.masked_fill(unknown, torch.nan) for values in (change, moved, rank))
    return (*values, under, held == 0)


def _frames(network: InterpretableNetwork, units: Units, chosen: Tensor, batch: RedrawnBatch) -> Tensor:
    """Return the most similar pixels of the chosen prototypes, (B, T, H, W) bool."""
    row = torch.arange(len(chosen), device=chosen.device).unsqueeze(1)
    size = batch.image.shape[-2:]
    maps = enlarged(network, units.maps[row, chosen], size)
    kept = max(1, round(REGION * size[0] * size[1]))
    least = maps.flatten(2).topk(kept, 2).values[..., -1]
    return maps >= least[..., None, None]


def _score_changes(before: Tensor, after: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return change and change of rank, (B, T, V) float64, of (B, U) and (B, V, U) scores."""
    versions, units = after.shape[1:]
    index = chosen.unsqueeze(1).expand(-1, versions, -1)
    first, second = before.double().gather(1, chosen), after.double().gather(2, index)
    change = (second - first.unsqueeze(1)).abs()
    higher = (before.double().unsqueeze(1) > first.unsqueeze(2)).sum(2)  # (B, T)
    higher_after = torch.stack([(v.unsqueeze(1) > s.unsqueeze(2)).sum(2) for v, s in _by_version(after, second)], 1)
    rank = (higher_after - higher.unsqueeze(1)).abs().double() / max(1, units - 1)
    return change.transpose(1, 2).cpu(), rank.transpose(1, 2).cpu()


def _by_version(after: Tensor, second: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(after.double().unbind(1), second.unbind(1), strict=True))


def prototype_parts(
    model: nn.Module, dataset: ImageDataset, indices: Sequence[int], batch_size: int = 64
) -> dict[str, float]:
    """Return consistency, stability, purity and pointing of prototypes on the true masks of the parts.

    Args:
        model: a module with prototypes that are training patches.
        dataset: a split with part masks.
        indices: which images of it.
        batch_size: images in a pass.

    Returns:
        What `ibd.models.protopnet.evaluation.evaluate_prototypes` calls so, over these images.

    Raises:
        UnsupportedError: the model has no such prototypes, or the images have no masks.
    """
    check_indices(indices)
    figures: PartFigures | None = None
    device = next(model.parameters()).device
    with evaluating(model), torch.inference_mode():
        for some in chunks(indices, batch_size):
            batch = load_batch(dataset, some, masks=True).to(device)
            if batch.masks is None:
                raise UnsupportedError("the data has no part masks")
            figures = figures or part_figures(model, batch.masks.shape[1])
            figures.update(batch, encoded(model, batch.image)[1])
    assert figures is not None
    return figures.compute()
