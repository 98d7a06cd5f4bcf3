"""What the prototypes of a trained network are worth: how they relate to annotated parts, and what they respond to."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

from ibd.data.base import SPLITS, ImageDataModule, Split
from ibd.distributed import progress
from ibd.errors import CheckpointError, ConfigError, UnsupportedError, did_you_mean
from ibd.io import load_run, load_run_data
from ibd.metrics.compactness import ExplanationSize, head_sparsity, prototype_uniqueness
from ibd.metrics.parts import CONSISTENCY_HALF, PURITY_HALF, add_noise, chosen_peaks, part_centers, part_hits
from ibd.metrics.prototypes import EnergyPointingGame, PointingGame, PrototypeConsistency, PrototypeStability
from ibd.metrics.purity import PrototypePurity
from ibd.models.base import evaluating
from ibd.models.lightning import InterpretableModule
from ibd.models.protopnet.explanations import NearestPatch, patch_field, require_prototypes
from ibd.models.protopnet.lightning import ProtoPNet
from ibd.models.protopnet.network import PrototypeNetwork
from ibd.models.protopnet.provenance import PRECISIONS
from ibd.models.protopnet.push import projection_distances
from ibd.models.protopnet.scan import find_nearest
from ibd.types import Batch, RunLike, Units

_log = logging.getLogger(__name__)

_IMAGENET_STD = (0.229, 0.224, 0.225)
"""What the published protocol of stability scales its noise with, whatever the network divides by."""


def load_with_parts(run: RunLike, *overrides: str) -> tuple[ProtoPNet, ImageDataModule]:
    """Return the model of a run and its data, with part masks where the data makes them on demand.

    Args:
        run: a run folder, a checkpoint in one, or what ``ibd.fit`` returned.
        overrides: changes to the run's data, such as ``"data.root=/elsewhere"``.

    Raises:
        UnsupportedError: the model has no prototypes.
    """
    model, data = load_run(run, *overrides)
    network = require_prototypes(model)
    asked = any(text.startswith("data.masks=") for text in overrides)
    if not asked and getattr(data, "masks", None) is False:  # ToyBirds draws them; images in files have them or not
        data = load_run_data(run, *overrides, "data.masks=true")
    return network, data


@torch.no_grad()
def evaluate_prototypes(
    model: RunLike | InterpretableModule,
    data: ImageDataModule | None = None,
    split: Split = "test",
    top: int = 10,
    seed: int = 0,
) -> dict[str, float]:
    """Return figures on the prototypes of a network; those that need part masks only where the data has them.

    Maps are upsampled for the prototypes of an image's own class, and for the few images that are among the `top` of a
    prototype so far: time and memory do not grow with classes times images. A cell is taken to look where its receptive
    field is centered, while the published figures have the cells share the image out evenly (see
    `ibd.metrics.parts.upsampling`).

    Args:
        model: a ``ProtoPNet``, or a run (folder, checkpoint, or what ``ibd.fit`` returned).
        data: data of the model; may be left out where `model` is a run, which then also asks for masks.
        split: the images to measure on.
        top: images that the purity of a prototype is taken over.
        seed: seed of the noise of stability.

    Returns:
        "prototypes" and "kept" (not pruned or switched off), "uniqueness", "head_sparsity", "explanation_size",
        "max_projection_distance", and with masks "consistency", "stability", "purity", "pointing" and
        "energy_pointing" (see `ibd.metrics`), all over the kept ones. What is left out is said in one line each.

    Raises:
        UnsupportedError: the model has no prototypes.
        ConfigError: an unknown split, or no data.
    """
    if split not in SPLITS:
        raise ConfigError(f"unknown split '{split}'.{did_you_mean(split, SPLITS)}")
    if not isinstance(model, torch.nn.Module):
        model, run = load_with_parts(model)
        data = run if data is None else data
    module = require_prototypes(model)
    if data is None:
        raise ConfigError("evaluate_prototypes needs the data beside the model (or a run in place of both)")
    network = module.network
    active = network.mask & (network.factor != 0)
    figures = {
        "prototypes": float(len(active)),
        "kept": float(active.sum()),
        "uniqueness": float(prototype_uniqueness(network.prototypes[active], network.distance == "cosine")),
        "head_sparsity": float(head_sparsity(network.weight()[:, active])),
    }
    try:
        distances = projection_distances(network, data)
        figures["max_projection_distance"] = float(distances[network.provenance.index >= 0].max())
    except CheckpointError as error:
        _log.warning("max_projection_distance is left out: %s", error)
    with evaluating(model):
        return figures | _read(module, data, split, active, top, seed)


def _read(
    model: ProtoPNet, data: ImageDataModule, split: Split, active: Tensor, top: int, seed: int
) -> dict[str, float]:
    """Return the figures that need images: one pass, and one with noise where there are parts."""
    size, parts = ExplanationSize().to(model.device), None
    names = data.spec.part_names
    missing = "" if names else f"the data has no part masks ({type(data).__name__} is not given any)"
    for batch in progress(data.loader(split), "measuring prototypes"):
        batch = batch.select(batch.index >= 0).to(model.device)
        if not len(batch):
            continue
        logits, units = model(batch.image)
        size.update(_contributions(model.network, units, logits), torch.zeros_like(batch.label))
        if not missing and batch.masks is None:
            missing = "the part masks are not turned on (data.masks)"
        if not missing:
            parts = parts or PartFigures(model, len(names), active, top, seed)
            parts.update(batch, units)
    if missing:
        _log.warning("consistency, stability, purity and pointing are left out: %s", missing)
    figures = {"explanation_size": float(size.compute())}
    return figures if parts is None else figures | parts.compute()


def _contributions(network: PrototypeNetwork, units: Units, logits: Tensor) -> Tensor:
    """Return what prototypes add to the predicted class alone, (B, P, 1)."""
    return (units.scores * network.weight()[logits.argmax(1)]).unsqueeze(2)


def part_figures(model: torch.nn.Module, parts: int) -> PartFigures:
    """Return what collects the metrics on annotated parts over batches.

    Args:
        model: a ``ProtoPNet``.
        parts: number of parts that masks are of.

    Raises:
        UnsupportedError: the model has no prototypes of one class each.
    """
    if not isinstance(model, ProtoPNet):
        raise UnsupportedError("only prototypes that belong to one class each can be measured on its parts")
    active = model.network.mask & (model.network.factor != 0)
    return PartFigures(model, parts, active, top=10, seed=0)


class PartFigures:
    """The metrics on annotated parts, and what they need of a batch."""

    def __init__(self, model: ProtoPNet, parts: int, active: Tensor, top: int, seed: int) -> None:
        self.model, self.network, self.seed = model, model.network, seed
        self.side, self.field = min(model.spec.image_size), patch_field(model)
        units = len(active)
        self.several = parts > 1
        self.consistency = PrototypeConsistency(units, parts, active=active).to(model.device)
        self.stability = PrototypeStability(units, active=active).to(model.device)
        self.purity = PrototypePurity(units, parts, top, active=active).to(model.device)
        self.pointing = PointingGame(units, active=active).to(model.device)
        self.energy = EnergyPointingGame(units, active=active).to(model.device)
        self.highest = torch.full((units, top), -torch.inf, device=model.device)

    def update(self, batch: Batch, units: Units) -> None:
        """Add a batch that has masks."""
        assert batch.masks is not None
        own = batch.label.unsqueeze(1) == self.network.classes
        peaks = self._peaks(units.maps, own)
        self.pointing.update(peaks, batch.masks, own)
        self.energy.update(units.maps, batch.masks, own, self.field)
        if not self.several:
            return
        centers = part_centers(batch.masks)
        hits, visible = part_hits(peaks, centers, CONSISTENCY_HALF * self.side)
        self.consistency.update(hits, visible, own)
        noisy = self.model(add_noise(batch.image, _IMAGENET_STD, batch.index, self.seed)).units.maps
        noisy_hits, _ = part_hits(self._peaks(noisy, own), centers, CONSISTENCY_HALF * self.side)
        self.stability.update(hits, noisy_hits, own, visible)
        self._update_purity(batch, units, centers)

    def _update_purity(self, batch: Batch, units: Units, centers: Tensor) -> None:
        """Look at the peaks of the images that are among the highest of a prototype, of those seen so far."""
        scores = units.scores.float()
        count = self.highest.shape[1]
        self.highest = torch.cat([self.highest, scores.t()], 1).topk(count, 1).values
        chosen = scores >= self.highest[:, -1]
        hits, visible = part_hits(self._peaks(units.maps, chosen), centers, PURITY_HALF * self.side)
        self.purity.update(scores.where(chosen, torch.nan), hits, visible, batch.index)

    def _peaks(self, maps: Tensor, chosen: Tensor) -> Tensor:
        """Return the (B, U, 2) peaks of the chosen maps, (B, U) bool; NaN for the others."""
        return chosen_peaks(maps, chosen, self.model.spec.image_size, self.field)

    def compute(self) -> dict[str, float]:
        """Return the figures."""
        figures = {"pointing": float(self.pointing.compute()), "energy_pointing": float(self.energy.compute())}
        if not self.several:
            _log.warning("consistency, stability and purity are left out: the data has a single part")
            return figures
        named = {"consistency": self.consistency, "stability": self.stability, "purity": self.purity}
        return {name: float(metric.compute()) for name, metric in named.items()} | figures


@torch.no_grad()
def nearest_patches(
    model: ProtoPNet, data: ImageDataModule, split: Split = "train", k: int = 3, own_class: bool = False
) -> list[NearestPatch]:
    """Return the k patches of a split that are nearest to each prototype, one of each image, the nearest first.

    Args:
        model: model with prototypes.
        data: data whose un-augmented images are read.
        split: split of the data.
        k: number of patches of each prototype.
        own_class: whether to look at images of the prototype's class alone.

    Raises:
        UnsupportedError: the model has no prototypes.
    """
    require_prototypes(model)
    network, dataset = model.network, data.dataset(split)
    with evaluating(network):
        precision = PRECISIONS[int(network.provenance.precision)]
        nearest, _ = find_nearest(network, data, split, k, own_class, precision, per_image=1)
    blank = torch.zeros(1, 3, *data.spec.image_size)
    columns = int(model.predict(blank).units.maps.shape[3])
    similarity = network.score(nearest.distance.unsqueeze(2))
    names, owners = network.class_names, network.classes.tolist()
    return [
        NearestPatch(
            prototype=unit,
            owner=names[owners[unit]],
            split=split,
            rank=rank,
            distance=float(nearest.distance[unit, rank]),
            similarity=float(similarity[unit, rank]),
            sample=dataset.sample_id(image),
            index=image,
            row=int(nearest.position[unit, rank]) // columns,
            column=int(nearest.position[unit, rank]) % columns,
            class_name=names[int(nearest.label[unit, rank])],
        )
        for unit, images in enumerate(nearest.image.tolist())
        for rank, image in enumerate(images)
        if image >= 0
    ]
