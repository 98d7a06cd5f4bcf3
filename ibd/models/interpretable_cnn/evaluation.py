"""What the units of a trained network are worth as filters of object parts: of any family, to compare them."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ibd.data.base import SPLITS, ImageDataModule, Split
from ibd.distributed import progress
from ibd.errors import ConfigError, UnsupportedError, did_you_mean
from ibd.io import load_run, load_run_data
from ibd.metrics.filters import LocationInstability, PartInterpretability
from ibd.metrics.functional.dissection import SHARE
from ibd.metrics.parts import PURITY_HALF, chosen_peaks, part_centers, part_hits
from ibd.metrics.purity import PrototypePurity
from ibd.models.base import evaluating
from ibd.models.interpretable_cnn.activity import sums_by_class
from ibd.models.interpretable_cnn.network import InterpretableCNNNetwork
from ibd.models.lightning import InterpretableModule
from ibd.models.protopnet.network import PrototypeNetwork
from ibd.types import Batch, RunLike

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FilterReport:
    """Figures on filters, and what they are made of.

    Attributes:
        figures: name -> value, over the filters in use.
        unit_names: names of the U units.
        part_names: names of the P parts; empty where the data has no masks.
        category: (U,) class of each unit, -1 for one that is never active.
        instability: (U, P) deviation of the distance between peak and part, NaN without evidence.
        interpretability: (U,) share of the images of its class in which a unit covers its part.
        purity: (U, P) share of the images of its class that excite a unit most in which the part is at its peak.
        activation: (U,) mean activation in the images of its class.
        strongest: (U, k) numbers of the images of any class in which a unit is most active, the strongest first.
    """

    figures: dict[str, float]
    unit_names: list[str]
    part_names: list[str]
    category: Tensor
    instability: Tensor
    interpretability: Tensor
    purity: Tensor
    activation: Tensor
    strongest: Tensor


class _Look(NamedTuple):
    """What one pass over the images says of the units before any part is looked at."""

    category: Tensor
    thresholds: Tensor
    activation: Tensor
    strongest: Tensor


def load_with_masks(run: RunLike, *overrides: str) -> tuple[InterpretableModule, ImageDataModule]:
    """Return the model of a run and its data, with part masks where the data makes them on demand.

    Args:
        run: a run folder, a checkpoint in one, or what ``ibd.fit`` returned.
        overrides: changes to the run's data, such as ``"data.root=/elsewhere"``.
    """
    model, data = load_run(run, *overrides)
    asked = any(text.startswith("data.masks=") for text in overrides)
    if not asked and getattr(data, "masks", None) is False:  # ToyBirds draws them; images in files have them or not
        data = load_run_data(run, *overrides, "data.masks=true")
    return model, data


@torch.no_grad()
def evaluate_filters(
    model: RunLike | InterpretableModule, data: ImageDataModule | None = None, split: Split = "test", top: int = 10
) -> FilterReport:
    """Measure how far units keep to parts of the objects of their class, as in Zhang et al. 2018, in two passes.

    Units may be those of any family: a filter of an interpretable CNN belongs to the class it was assigned to, a
    prototype to its own, and any other unit to the class whose images of this split activate it most.

    Args:
        model: a model, or a run (folder, checkpoint, or what ``ibd.fit`` returned).
        data: data of the model; may be left out where `model` is a run, which then also asks for masks.
        split: the images to measure on.
        top: images of each unit that its purity is taken over, and that are named.

    Returns:
        A report whose figures are "filters" and "used" (ever active), "classes" (that have one), and with part masks
        "location_instability", "part_interpretability" and "purity" (see `ibd.metrics`).

    Raises:
        ConfigError: an unknown split, or no data.
        UnsupportedError: the units have no maps.
    """
    if split not in SPLITS:
        raise ConfigError(f"unknown split '{split}'.{did_you_mean(split, SPLITS)}")
    if not isinstance(model, torch.nn.Module):
        model, found = load_with_masks(model)
        data = found if data is None else data
    if data is None:
        raise ConfigError("evaluate_filters needs the data beside the model (or a run in place of both)")
    with evaluating(model):
        return _report(model, data, split, top)


def _report(model: InterpretableModule, data: ImageDataModule, split: Split, top: int) -> FilterReport:
    category, thresholds, activation, strongest = _look(model, data, split, top)
    used, names = category >= 0, list(data.spec.part_names)
    figures = {
        "filters": float(len(used)),
        "used": float(used.sum()),
        "classes": float(len({*category[used].tolist()})),
    }
    parts = _Parts(model, category, thresholds, len(names), top)
    missing = "" if names else f"the data has no part masks ({type(data).__name__} is not given any)"
    for batch in _batches(model, data, split, "comparing filters with parts") if names else ():
        if batch.masks is None:
            missing = "the part masks are not turned on (data.masks)"
            break
        parts.update(batch)
    if missing:
        _log.warning("instability, interpretability and purity are left out: %s", missing)
    return FilterReport(
        figures=figures if missing else figures | parts.figures(),
        unit_names=list(model.network.unit_names),
        part_names=[] if missing else names,
        category=category,
        instability=parts.instability.by_part(),
        interpretability=parts.interpretability.per_prototype(),
        purity=parts.purity.shares(),
        activation=activation,
        strongest=strongest,
    )


def _batches(model: InterpretableModule, data: ImageDataModule, split: Split, title: str) -> Iterator[Batch]:
    for batch in progress(data.loader(split), title):
        kept = batch.select(batch.index >= 0)
        if len(kept):
            yield kept.to(model.device)


def _look(model: InterpretableModule, data: ImageDataModule, split: Split, top: int) -> _Look:
    """Return the class of each unit, the value that few positions of all images exceed, and where it is most active.

    Raises:
        UnsupportedError: the units have no maps.
    """
    classes, images_in_all = len(data.spec.class_names), len(data.dataset(split))
    total = images = highest = torch.zeros(0, device=model.device)
    best, which = highest, highest.long()
    for batch in _batches(model, data, split, "looking at filters"):
        maps = model(batch.image).units.maps.float()
        units, cells = maps.shape[1], maps.shape[2:].numel()
        if cells < 2:
            raise UnsupportedError(f"the {model.network.unit_plural} of this network have no maps: they have no place")
        part, count = sums_by_class(maps.relu(), batch.label, classes)
        total, images = (part, count) if not len(images) else (total + part, images + count)
        values = torch.cat([highest.view(units, -1), maps.transpose(0, 1).flatten(1)], 1)
        highest = values.topk(min(int(SHARE * images_in_all * cells + 1e-9) + 1, values.shape[1]), 1).values
        peak = torch.cat([best.view(units, -1), maps.amax((2, 3)).t()], 1)
        best, order = peak.topk(min(top, peak.shape[1]), 1)
        which = torch.cat([which.view(units, -1), batch.index.expand(units, -1)], 1).gather(1, order)
    mean = (total / images.unsqueeze(1)).nan_to_num(-1.0)
    own = _assigned(model, mean)
    active = mean.amax(0) > 0
    activation = mean.gather(0, own.clamp(min=0).unsqueeze(0))[0]
    return _Look(torch.where(active, own, -1), highest[:, -1], activation, which)


def _assigned(model: InterpretableModule, mean: Tensor) -> Tensor:
    """Return the (U,) class of each unit: its own, where it has one; else that of the highest of (C, U) means."""
    network = model.network
    if isinstance(network, InterpretableCNNNetwork):
        return network.category
    return network.classes if isinstance(network, PrototypeNetwork) else mean.argmax(0)


class _Parts:
    """The metrics on annotated parts, and what they need of a batch."""

    def __init__(self, model: InterpretableModule, category: Tensor, thresholds: Tensor, parts: int, top: int) -> None:
        self.model, self.category = model, category
        self.size = model.spec.image_size
        self.field = model.network.receptive_field(self.size)
        units, used = len(category), category >= 0
        self.instability = LocationInstability(units, parts, math.hypot(*self.size), active=used).to(model.device)
        self.interpretability = PartInterpretability(thresholds, parts, active=used).to(model.device)
        self.purity = PrototypePurity(units, parts, top, active=used).to(model.device)

    def update(self, batch: Batch) -> None:
        """Add a batch that has masks."""
        assert batch.masks is not None
        units = self.model(batch.image).units
        own = batch.label.unsqueeze(1) == self.category
        peaks = chosen_peaks(units.maps, own, self.size, self.field)
        centers = part_centers(batch.masks)
        hits, visible = part_hits(peaks, centers, PURITY_HALF * min(self.size))
        self.instability.update(peaks, centers, own)
        self.interpretability.update(units.maps.float(), batch.masks, own, self.field)
        self.purity.update(units.scores.float().where(own, torch.nan), hits, visible, batch.index)

    def figures(self) -> dict[str, float]:
        """Return the figures."""
        return {
            "location_instability": float(self.instability.compute()),
            "part_interpretability": float(self.interpretability.compute()),
            "purity": float(self.purity.compute()),
        }
