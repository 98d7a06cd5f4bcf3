"""One split of toy birds as a dataset: labels and concepts at once, pictures when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ibd.data.base import ImageDataset, Split
from ibd.data.toybirds.classes import ToyClasses
from ibd.data.toybirds.parts import PARTS
from ibd.data.toybirds.render import part_masks, render
from ibd.data.toybirds.scene import Scene
from ibd.types import Sample

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Truth:
    """What an explanation of one image should say, as far as the definition of the classes tells.

    Attributes:
        minimal_sets: the minimal sufficient sets of parts of the image's class.
        part_weights: (P,) share of these sets that each part is in.
        irrelevant: the parts that are in none.
        disc_mask: (H, W) bool, the visible pixels of the parts that are in one.
    """

    minimal_sets: tuple[tuple[str, ...], ...]
    part_weights: Tensor
    irrelevant: tuple[str, ...]
    disc_mask: Tensor


class Pictures:
    """Scenes and their pictures; each is rendered once in a process if `cache` is set.

    Args:
        scenes: what to draw.
        size: side in pixels.
        cache: keep what was rendered: 4 bytes for each pixel of each image in all.
    """

    def __init__(self, scenes: Sequence[Scene], size: int, cache: bool = True) -> None:
        self.scenes, self.size = scenes, size
        count = len(scenes) if cache else 0
        self._filled = np.zeros(count, dtype=np.bool_)
        self._images = np.empty((count, size, size, 3), dtype=np.uint8)
        self._indices = np.empty((count, size, size), dtype=np.uint8)

    def __getitem__(self, i: int) -> tuple[Bytes, Bytes]:
        """Return the (H, W, 3) image and the (H, W) index map of scene `i` (not to be written to)."""
        if len(self._filled) and self._filled[i]:
            return self._images[i], self._indices[i]
        image, index = render(self.scenes[i], self.size)
        small = index.astype(np.uint8)
        if len(self._filled):
            self._images[i], self._indices[i], self._filled[i] = image, small, True
        return image, small


class ToyBirdsDataset(ImageDataset):
    """One split of `ToyBirds`.

    Args:
        split: which one.
        pictures: the scenes with their pictures.
        concepts: (N, K) labels of the concepts.
        concept_parts: (K,) for each concept the position of its part in `PARTS`.
        classes: the definition of the classes.
        masks: return the part masks with each sample.
        flip: mirror half of the images at random.
        part_drop: probability of removing parts from an image, at random.
        absent: what the concepts of a part that was removed become, 0 or NaN.
    """

    def __init__(
        self,
        split: Split,
        pictures: Pictures,
        concepts: Tensor,
        concept_parts: Tensor,
        classes: ToyClasses,
        masks: bool = False,
        flip: bool = False,
        part_drop: float = 0.0,
        absent: float = 0.0,
    ) -> None:
        self.split, self.pictures, self.classes = split, pictures, classes
        self.labels = torch.tensor([scene.label for scene in pictures.scenes], dtype=torch.int64)
        self.concepts, self.concept_parts, self.absent = concepts, concept_parts, absent
        self.return_masks, self.flip, self.part_drop = masks, flip, part_drop

    def scene(self, index: int) -> Scene:
        """Return what image `index` is made of."""
        return self.pictures.scenes[index]

    def masks(self, index: int) -> Tensor:
        """Return the (P, H, W) bool visible pixels of each part in image `index`."""
        return torch.from_numpy(part_masks(self.pictures[index][1].astype(np.int16)))

    def truth(self, index: int) -> Truth:
        """Return what tells the class of image `index`, and where it is in the image."""
        cls = self.scene(index).cls
        weights = self.classes.part_weights(cls)
        relevant = [PARTS.index(part) for part, weight in weights.items() if weight > 0]
        return Truth(
            minimal_sets=self.classes.minimal_sets(cls),
            part_weights=torch.tensor([weights[part] for part in PARTS]),
            irrelevant=self.classes.irrelevant(cls),
            disc_mask=self.masks(index)[relevant].any(dim=0),
        )

    def deciding_mask(self, index: int) -> Tensor:
        """Return the visible pixels of the parts that tell the class of image `index`, (H, W) bool."""
        return self.truth(index).disc_mask

    def sample_id(self, index: int) -> str:
        """Return ``toybirds/train/17``."""
        return f"toybirds/{self.split}/{index}"

    def load(self, index: int) -> Sample:
        """Return image `index`; augmented, where the dataset was made so, by torch's global generator."""
        pixels, numbers = self.pictures[index]
        concepts = self.concepts[index]
        if self.part_drop and torch.rand(()) < self.part_drop:
            removed = self._spared(self.scene(index))
            pixels, numbers = self._without(index, removed)
            dropped = torch.isin(self.concept_parts, torch.tensor([PARTS.index(part) for part in removed]))
            concepts = concepts.masked_fill(dropped, self.absent)
        image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float().div_(255)
        masks = torch.from_numpy(part_masks(numbers.astype(np.int16))) if self.return_masks else None
        if self.flip and torch.rand(()) < 0.5:
            image, masks = image.flip(-1), None if masks is None else masks.flip(-1)
        return Sample(image, int(self.labels[index]), concepts, index, masks)

    def _without(self, index: int, removed: list[str]) -> tuple[Bytes, Bytes]:
        image, numbers = render(self.scene(index).remove(*removed), self.pictures.size)
        return image, numbers.astype(np.uint8)

    def _spared(self, scene: Scene) -> list[str]:
        """Return parts, drawn at random, without which the bird can still be of no other class."""
        kept, removed = dict(scene.parts), list[str]()
        for position in torch.randperm(len(PARTS)).tolist():
            part = PARTS[position]
            if torch.rand(()) < 0.5 and self.classes.consistent(kept | {part: None}) == (scene.cls,):
                kept[part] = None
                removed.append(part)
        return removed
