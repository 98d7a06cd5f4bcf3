"""What units detect by where they are high: network dissection against the exact masks of parts and their variants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ibd.comparison.self_consistency.maps import enlarged
from ibd.comparison.self_consistency.reading import check_indices, encoded, require_network
from ibd.comparison.self_consistency.redrawing import chunks
from ibd.data.dataset import ImageDataset
from ibd.data.masked import concept_masks, load_batch
from ibd.metrics.functional.dissection import (
    Detectors,
    detectors,
    dissection_counts,
    dissection_iou,
    quantile_thresholds,
    weighted_iou,
)
from ibd.metrics.functional.forms import Form, compositional_form
from ibd.models.base import InterpretableNetwork, evaluating
from ibd.types import DataSpec

FORM_UNITS, FORM_IMAGES, FORM_LENGTH, FORM_BEAM = 5, 64, 3, 5
"""The search for forms is bounded: units, images, concepts in a form, forms in the beam."""
_MOST_VALUES = 2**24
"""Values of maps that are enlarged at a time: 64 MiB."""


@dataclass(frozen=True)
class Dissection:
    """What U units detect among C concepts: the parts, and each concept of a part where that part is.

    Attributes:
        concepts: the C names.
        iou: (U, C) over the data set; NaN where neither has a pixel.
        area: (C,) pixels of each concept over the data set.
        detectors: what each unit detects.
        own: (U,) index of the concept that a unit is named for; -1 for others.
        forms: unit -> the form of concepts that is nearest to it, for the units of the highest IoU.
        single: unit -> IoU of the nearest single concept on the images that forms were searched on.
        unit_names: the U names.
    """

    concepts: list[str]
    iou: Tensor
    area: Tensor
    detectors: Detectors
    own: Tensor
    forms: dict[int, Form]
    single: dict[int, float]
    unit_names: list[str]

    def figures(self) -> dict[str, float]:
        """Return shares and means over units."""
        named = self.own >= 0
        own_iou = self.iou[named].gather(1, self.own[named].unsqueeze(1)).squeeze(1)
        best = self.detectors.iou
        covered = weighted_iou(self.iou.nan_to_num(-1).amax(0).where(self.area > 0, torch.nan), self.area)
        return {
            "detectors": float((self.detectors.concept >= 0).double().mean()),
            "unique_detectors": float(self.detectors.unique),
            "dissection_iou": float(best.nanmean()),
            "dissection_own_iou": float(own_iou.nanmean()),
            "dissection_own_best": _share(self._best_of_kind(named) == self.own[named]),
            "semantic_coverage": float(covered),
            "form_iou": _mean([form.iou for form in self.forms.values()]),
            "form_single_iou": _mean(list(self.single.values())),
        }

    def breakdown(self) -> dict[str, dict[str, float]]:
        """Return the IoU of each form by what it says."""
        said = {
            f"{self.unit_names[unit]} is {form.describe(self.concepts)}": form.iou for unit, form in self.forms.items()
        }
        return {"form": said}

    def _best_of_kind(self, named: Tensor) -> Tensor:
        """Return the best concept of named units among those that units can be named for (not whole parts)."""
        candidates = torch.tensor(["::" in name for name in self.concepts])
        return self.iou[named].nan_to_num(-1).where(candidates, -torch.inf).argmax(1)


def dissect(
    model: nn.Module,
    dataset: ImageDataset,
    spec: DataSpec,
    indices: Sequence[int],
    batch_size: int = 64,
    form_units: int = FORM_UNITS,
) -> Dissection:
    """Return what units detect: IoU of where a unit is above its threshold with where a concept is.

    The threshold of a unit is passed by 0.5 % of all positions of these images (Bau et al. 2017).

    Args:
        model: a module of ours, or its network.
        dataset: a split with part masks.
        spec: description of the data.
        indices: which images of it.
        batch_size: images in a pass.
        form_units: for how many units a form of several concepts is searched; 0 for none.

    Raises:
        UnsupportedError: the images have no masks.
    """
    check_indices(indices)
    network = require_network(model)
    with evaluating(model), torch.inference_mode():
        batches = chunks(indices, batch_size)
        whole = torch.cat([encoded(model, load_batch(dataset, some).image)[1].maps.cpu() for some in batches])
        thresholds = quantile_thresholds(whole)
        names: list[str] = []
        counts: list[tuple[Tensor, Tensor, Tensor]] = []
        for place in range(0, len(indices), batch_size):
            batch = load_batch(dataset, indices[place : place + batch_size], masks=True)
            names, masks = concept_masks(batch, dataset, spec)
            counts.append(_counts(network, whole[place : place + batch_size], thresholds, masks))
        shared, units, area = (torch.stack(parts).sum(0) for parts in zip(*counts, strict=True))
        iou = dissection_iou(shared, units, area)
        top = detectors(iou).iou.nan_to_num(-1).argsort(descending=True, stable=True)[:form_units].tolist()
        some = list(indices[:FORM_IMAGES])
        searched = network, dataset, spec, some, whole[:FORM_IMAGES], thresholds, top
        forms, single = _forms(*searched, FORM_LENGTH), _forms(*searched, 1)
    own = torch.tensor([names.index(name) if name in names else -1 for name in network.unit_names])
    return Dissection(
        names,
        iou,
        area,
        detectors(iou),
        own,
        forms,
        {u: form.iou for u, form in single.items()},
        list(network.unit_names),
    )


def _counts(
    network: InterpretableNetwork, maps: Tensor, thresholds: Tensor, masks: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sums over images of `dissection_counts`, some units at a time."""
    size = masks.shape[2:]
    step = max(1, _MOST_VALUES // (len(maps) * size[0] * size[1]))
    shared, units, area = [], [], masks[:, 0].new_zeros(0)
    for unit in range(0, maps.shape[1], step):
        part = slice(unit, unit + step)
        large = enlarged(network, maps[:, part], size)
        both, own, area = dissection_counts(large, thresholds[part], masks)
        shared.append(both.sum(0))
        units.append(own.sum(0))
    return torch.cat(shared), torch.cat(units), area.sum(0)


def _forms(
    network: InterpretableNetwork,
    dataset: ImageDataset,
    spec: DataSpec,
    indices: Sequence[int],
    maps: Tensor,
    thresholds: Tensor,
    units: Sequence[int],
    length: int,
) -> dict[int, Form]:
    """Return the nearest form of each unit."""
    if not units:
        return {}
    _, masks = concept_masks(load_batch(dataset, indices, masks=True), dataset, spec)
    forms = {}
    for unit in units:
        where = enlarged(network, maps[:, unit], masks.shape[2:]) > thresholds[unit]
        forms[unit] = compositional_form(where, masks, length, FORM_BEAM)
    return forms


def _share(hits: Tensor) -> float:
    return float(hits.double().mean()) if len(hits) else float("nan")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
