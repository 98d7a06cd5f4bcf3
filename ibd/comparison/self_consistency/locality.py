"""Whether concepts answer to their own part: part p is drawn in another variant, and the concepts of q are watched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ibd.comparison.self_consistency.reading import RedrawnReading, read_redrawn, require_network
from ibd.data.dataset import ImageDataset
from ibd.data.toybirds.parts import PARTS
from ibd.data.toybirds.vocabulary import part_of
from ibd.errors import ConfigError, UnsupportedError
from ibd.metrics.functional.self_consistency import concept_changes, concept_locality
from ibd.models.base import InterpretableNetwork


@dataclass(frozen=True)
class Locality:
    """How far groups of units move when parts are replaced.

    Attributes:
        matrix: (P, G) float64: mean over images of the largest change of a value of group g when part p is replaced;
            NaN where no image shows part p, or no unit belongs to g.
        rows: the P parts.
        columns: the G groups, named for their parts.
        locality: (P,) in [0, 1], 0.5 where another group moves as much as the part's own; NaN without an own group.
        surroundings: (G,) the mean largest change when everything behind the bird is new.
        images: (P,) in how many images the part can be seen before and after.
    """

    matrix: Tensor
    rows: list[str]
    columns: list[str]
    locality: Tensor
    surroundings: Tensor
    images: Tensor

    def figures(self) -> dict[str, float]:
        """Return the means over the parts."""
        return {
            "locality": float(self.locality.nanmean()),
            "own_change": float(_own(self.matrix, self.rows, self.columns).nanmean()),
            "other_change": float(_others(self.matrix, self.rows, self.columns).nanmean()),
            "surroundings_change": float(self.surroundings.nanmean()),
        }


def part_locality(
    model: nn.Module,
    dataset: ImageDataset,
    indices: Sequence[int],
    batch_size: int = 64,
    seed: int = 0,
    reading: RedrawnReading | None = None,
) -> Locality:
    """Return how far the units of each part move when a part is drawn in another variant.

    Of concepts the probabilities are looked at; of axes the activations, in units of what lies between the 5th and
    95th percentile of the training images (`InterpretableNetwork.unit_scale`). Units that are not named for a part are
    left out.

    Args:
        model: a network whose units have a scale, such as concepts and axes, or its module.
        dataset: a split of toy birds.
        indices: indices of the images in it.
        batch_size: pictures in a pass.
        seed: seed of the variants that parts are replaced by.
        reading: reading from `read_redrawn` on the same images, which saves the passes.

    Raises:
        UnsupportedError: the images cannot be drawn anew, no unit is named for a part, or the units' scale is
            unknown.
    """
    network = require_network(model)
    groups = units_of_parts(network.unit_names)
    if not groups:
        raise UnsupportedError(f"no {network.unit_kind} is named for a part of the images")
    scale = _scale(network, [unit for members in groups.values() for unit in members])
    readings = reading or read_redrawn(model, dataset, indices, batch_size, seed)
    columns, members = list(groups), list(groups.values())
    moved = concept_changes(readings.before.values / scale, readings.after.values / scale, members)
    moved[:, : len(PARTS)] = moved[:, : len(PARTS)].where(readings.seen.unsqueeze(2), torch.nan)
    mean = moved.nanmean(0)
    matrix, rows = mean[: len(PARTS)], list(PARTS)
    return Locality(matrix, rows, columns, locality_of(matrix, rows, columns), mean[-1], readings.seen.sum(0))


def units_of_parts(names: Sequence[str]) -> dict[str, list[int]]:
    """Return part -> the units that are named for it, such as ``wing::red_oval``; parts without any are not in."""
    groups: dict[str, list[int]] = {}
    for unit, name in enumerate(names):
        try:
            groups.setdefault(part_of(name), []).append(unit)
        except ConfigError:
            continue
    return {part: groups[part] for part in PARTS if part in groups}


def locality_of(matrix: Tensor, rows: Sequence[str], columns: Sequence[str]) -> Tensor:
    """Return the locality of each row, own / (own + largest other), (P,) float64.

    Args:
        matrix: (P, G) changes, at least 0; NaN where nothing is known, which is left out.
        rows: P names.
        columns: G names; the own group of a row is that of its name.

    Returns:
        NaN for a row without an own group, or without another one that something is known of.
    """
    result = torch.full((len(rows),), torch.nan, dtype=torch.float64)
    for p, name in enumerate(rows):
        if name not in columns:
            continue
        own = columns.index(name)
        known = [q for q in range(len(columns)) if q != own and not bool(matrix[p, q].isnan())]
        if known:
            result[p] = concept_locality(matrix[p, [own, *known]].unsqueeze(0))[0]
    return result


def _own(matrix: Tensor, rows: Sequence[str], columns: Sequence[str]) -> Tensor:
    """Return how far the part's own group moves, (P,); NaN without one."""
    own = [
        matrix[p, columns.index(name)] if name in columns else matrix.new_tensor(torch.nan)
        for p, name in enumerate(rows)
    ]
    return torch.stack(own)


def _others(matrix: Tensor, rows: Sequence[str], columns: Sequence[str]) -> Tensor:
    """Return how far the other group that moves most does, (P,); NaN where there is none."""
    apart = torch.tensor([[name != other for other in columns] for name in rows]) & ~matrix.isnan()
    highest = matrix.where(apart, -torch.inf).amax(1)
    return highest.where(apart.any(1), torch.nan)


def _scale(network: InterpretableNetwork, units: Sequence[int]) -> Tensor:
    """Return what each unit's value is divided by, (U,): NaN for one that never moves; that of `units` is needed."""
    scale = network.unit_scale()
    if scale is None:
        raise UnsupportedError(f"{network.unit_plural} have no scale on which their changes can be compared")
    if bool(scale[list(units)].isnan().any()):
        raise UnsupportedError(
            f"this checkpoint does not know the range of its {network.unit_plural}: its run was killed before it ended"
        )
    return scale.where(scale > 0, torch.nan)
