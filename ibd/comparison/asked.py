"""What the measurements read: one model's predictions on the images, and what is computed once for all methods."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ibd.comparison.attributions import Attributions
from ibd.comparison.cache import Cache
from ibd.comparison.images import ComparedImages
from ibd.comparison.methods import Method
from ibd.comparison.models import ComparedModel
from ibd.comparison.probes.network import Predictor
from ibd.comparison.probes.parts import deciding_mask, part_values
from ibd.comparison.probes.pasted import Pasted, paste
from ibd.comparison.probes.pixels import PixelProbe
from ibd.comparison.probes.robustness import Changed, matched, noisy, translated
from ibd.data.pasted.datamodule import PastedScenes


@dataclass
class Case:
    """One model and the images that it is asked about.

    Attributes:
        model: the model.
        images: images that it is asked about.
        classes: (N,) the explained class of each: the predicted one.
        parts: (N, 2^P) centered logits of that class with every subset of the parts drawn, or None.
        kept: (N, 2^P) bool: whether the prediction is kept with these parts, or None.
        cache: cache of finished pieces.
        probe_images: number of images that are explained again and again, for robustness and sanity.
        seed: seed of all random choices.
        stages: number of stages in which a network is made random.
        object_values: (N, O) what each object of a scene is worth, NaN for one that is not seen, or None.
        cell_values: (N, R) what each cell's foreground is worth, NaN for one without, or None.
        validation: the same model and validation images, where a threshold is to be chosen; None where not.
        contrast: of pasted pictures the network of the other labels; None without one.
    """

    model: ComparedModel
    images: ComparedImages
    classes: Tensor
    parts: Tensor | None
    kept: Tensor | None
    cache: Cache
    probe_images: int
    seed: int
    stages: int = 4
    object_values: Tensor | None = None
    cell_values: Tensor | None = None
    validation: Case | None = None
    contrast: ComparedModel | None = None

    @cached_property
    def predictor(self) -> Predictor:
        """The model, made fast for many evaluations."""
        return Predictor(self.model.module, self.images.pixels[:4])

    @cached_property
    def truth(self) -> Tensor | None:
        """(N, H, W) bool: where a map should lie; None without masks.

        Where images can be drawn anew, the parts that decide in this model, whatever defines the class; else all parts.
        """
        chosen = self.images
        if self.parts is None or chosen.masks is None:
            return chosen.truth
        return deciding_mask(part_values(self.parts), chosen.masks)

    @cached_property
    def pixels(self) -> PixelProbe:
        """What takes pixels of the images away; what all methods share is computed once."""
        chosen = self.images
        images = chosen.pixels.to(self.predictor.device)  # pixels are taken away where the model is
        return PixelProbe(self.predictor, images, self.classes, chosen.ids, seed=self.seed)

    @cached_property
    def changed(self) -> tuple[Changed, Changed]:
        """The first images under noise, and moved by whole pixels, with whether the prediction stays."""
        some = self.images.first(self.probe_images)
        classes, images = self.classes[: self.probe_images], some.pixels
        versions = (noisy(images, some.ids, seed=self.seed), translated(images))
        first, second = (matched(self.predictor, images, classes, version) for version in versions)
        return first, second

    @cached_property
    def pasted(self) -> Pasted | None:
        """Pasted pictures with and without their object, and the networks of both labels; None of other images."""
        data, other = self.model.data, None if self.contrast is None else self.contrast.module
        if not isinstance(data, PastedScenes):
            return None
        own = self.model.module
        objects, scenes = (own, other) if data.labels == "object" else (other, own)
        return paste(objects, scenes, data.dataset(self.images.split), self.images.index.tolist())

    @cached_property
    def passed(self) -> Tensor:
        """(N, U) what the model makes its logits of."""
        module = self.model.module
        with torch.inference_mode():
            return torch.as_tensor(module.network.passed(module.predict(self.images.pixels).units)).cpu()

    @cached_property
    def unit_parts(self) -> Tensor | None:
        """(U, P) bool: which of the model's units speak of which part, by their groups' names; None where none do."""
        if self.model.foreign:
            return None
        network: Any = self.model.module.network
        names = self.images.part_names
        parts = torch.zeros(len(network.unit_names), len(names), dtype=torch.bool)
        for group, members in network.unit_groups.items():
            for position, part in enumerate(names):
                if group == part or group.startswith(f"{part}_"):
                    parts[list(members), position] = True
        return parts if bool(parts.any()) else None


@dataclass(frozen=True)
class Asked:
    """A model and what one method says of its predictions.

    Attributes:
        case: the model and the images.
        method: method that was asked.
        attributions: attributions of the method.
        validation: the same method's maps and the truth masks of validation images, where thresholds are chosen.
    """

    case: Case
    method: Method
    attributions: Attributions
    validation: tuple[Tensor, Tensor] | None = None

    @property
    def maps(self) -> Tensor:
        """(N, H, W)."""
        assert self.attributions.maps is not None
        return self.attributions.maps
