"""One split of toy birds as a dataset: labels and concepts at once, pictures when asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ibd.data.base import Split
from ibd.data.dataset import ImageDataset
from ibd.data.toybirds.classes import ToyClasses
from ibd.data.toybirds.masks import Mask, part_masks
from ibd.data.toybirds.parts import PARTS
from ibd.data.toybirds.render import Picture, render
from ibd.data.toybirds.scene import Scene
from ibd.types import Sample

_BITS = 1 << np.arange(len(PARTS), dtype=np.uint8)[:, None, None]


@dataclass(frozen=True)
class Truth:
    """What an explanation of one image should say, as far as the definition of the classes tells.

    Attributes:
        minimal_sets: the minimal sufficient sets of parts of the image's class.
        part_weights: (P,) share of these sets that each part is in.
        irrelevant: parts that are in none of these sets.
        disc_mask: (H, W) bool, the pixels that the parts which are in one change.
    """

    minimal_sets: tuple[tuple[str, ...], ...]
    part_weights: Tensor
    irrelevant: tuple[str, ...]
    disc_mask: Tensor


class Pictures:
    """Scenes, their pictures and masks; each is drawn once in a process if `cache` is set.

    Args:
        scenes: scenes to draw.
        size: side in pixels.
        cache: whether to keep what was drawn: 3 bytes for each pixel of each image in all, and one more where masks are
            asked for.
    """

    def __init__(self, scenes: Sequence[Scene], size: int, cache: bool = True) -> None:
        self.scenes, self.size = scenes, size
        count = len(scenes) if cache else 0
        self._filled, self._owned = np.zeros((2, count), dtype=np.bool_)
        self._images = np.empty((count, size, size, 3), dtype=np.uint8)
        self._owners = np.empty((count, size, size), dtype=np.uint8)

    def __getitem__(self, i: int) -> Picture:
        """Return the (H, W, 3) image of scene `i` (not to be written to)."""
        if not len(self._filled):
            return render(self.scenes[i], self.size)[0]
        if not self._filled[i]:
            self._images[i], self._filled[i] = render(self.scenes[i], self.size)[0], True
        image: Picture = self._images[i]
        return image

    def masks(self, i: int) -> Mask:
        """Return the (P, H, W) pixels that each part changes in the image of scene `i`, see `part_masks`."""
        if not len(self._owned):
            return part_masks(self.scenes[i], self.size)
        if not self._owned[i]:  # a bit for each part: they may share a pixel
            bits = (part_masks(self.scenes[i], self.size) * _BITS).sum(axis=0, dtype=np.uint8)
            self._owners[i], self._owned[i] = bits, True
        masks: Mask = (self._owners[i] & _BITS) != 0
        return masks


class ToyBirdsDataset(ImageDataset):
    """One split of `ToyBirds`.

    Args:
        split: split of the data.
        pictures: the scenes with their pictures.
        concepts: (N, K) labels of the concepts.
        concept_parts: (K,) for each concept the position of its part in `PARTS`.
        classes: the definition of the classes.
        masks: whether to return the part masks with each sample.
        flip: whether to mirror half of the images at random.
        part_drop: probability of removing parts from an image, at random.
        absent: value of the concepts of a part that was removed, 0 or NaN.
        drawn_as: split and number that each image was drawn as, where that is not this split in its order.
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
        drawn_as: Sequence[tuple[Split, int]] | None = None,
    ) -> None:
        self.drawn_as = drawn_as
        self.split, self.pictures, self.classes = split, pictures, classes
        self.labels = torch.tensor([scene.label for scene in pictures.scenes], dtype=torch.int64)
        self.concepts, self.concept_parts, self.absent = concepts, concept_parts, absent
        self.return_masks, self.flip, self.part_drop = masks, flip, part_drop

    def scene(self, index: int) -> Scene:
        """Return what image `index` is made of."""
        return self.pictures.scenes[index]

    def masks(self, index: int) -> Tensor:
        """Return the (P, H, W) bool pixels of image `index` that each part changes; two parts may share one."""
        return torch.from_numpy(self.pictures.masks(index))

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
        split, number = (self.split, index) if self.drawn_as is None else self.drawn_as[index]
        return f"toybirds/{split}/{number}"

    def version(self, index: int) -> str:
        """Return all that picture `index` is drawn from."""
        return f"{self.pictures.size} {self.scene(index)}"

    def load(self, index: int) -> Sample:
        """Return image `index`; augmented, where the dataset was made so, by torch's global generator."""
        pixels, concepts, removed = self.pictures[index], self.concepts[index], list[str]()
        if self.part_drop and torch.rand(()) < self.part_drop:
            removed = self._spared(self.scene(index))
            pixels = render(self.scene(index).remove(*removed), self.pictures.size)[0]
            dropped = torch.isin(self.concept_parts, torch.tensor([PARTS.index(part) for part in removed]))
            concepts = concepts.masked_fill(dropped, self.absent)
        image = torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float().div_(255)
        masks = self._masks(index, removed) if self.return_masks else None
        if self.flip and torch.rand(()) < 0.5:
            image, masks = image.flip(-1), None if masks is None else masks.flip(-1)
        return Sample(image, int(self.labels[index]), concepts, index, masks)

    def _masks(self, index: int, removed: list[str]) -> Tensor:
        if not removed:
            return self.masks(index)
        return torch.from_numpy(part_masks(self.scene(index).remove(*removed), self.pictures.size))

    def _spared(self, scene: Scene) -> list[str]:
        """Return parts, drawn at random, without which the bird can still be of no other class."""
        kept, removed = dict(scene.parts), list[str]()
        for position in torch.randperm(len(PARTS)).tolist():
            part = PARTS[position]
            if torch.rand(()) < 0.5 and self.classes.consistent(kept | {part: None}) == (scene.cls,):
                kept[part] = None
                removed.append(part)
        return removed
