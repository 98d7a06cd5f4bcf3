"""`PastedScenes`: birds pasted on places, the same pictures with labels of the birds or of the places."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ibd.data.base import SPLITS, ImageDataModule, Split
from ibd.data.dataset import ImageDataset
from ibd.data.pasted.places import PLACES, draw_place
from ibd.data.toybirds.classes import make_classes
from ibd.data.toybirds.presets import PRESETS, one_of, within
from ibd.data.toybirds.raster import Canvas, to_uint8
from ibd.data.toybirds.render import paint
from ibd.data.toybirds.sampling import sample_scene
from ibd.types import DataSpec, Sample

Labels = Literal["object", "scene"]
_DISTANCE = 4
"""Parts in which any two birds differ: they are as different as objects can be here."""
_PLACE = 77
"""Beside the seed: where the random numbers of places come from."""


class PastedScenes(ImageDataModule):
    """Pictures of which each shows one of some birds on one of some places, each bird on every place alike.

    After BAM (Yang and Kim 2019): a network that is trained on the labels of the objects needs the birds and not the
    places; one that is trained on those of the scenes the other way round; on the very same pixels. What an explanation
    gives to the bird must then differ between the two. ``ibd compare OBJECTS metrics=bim contrast=SCENES`` measures it.

    Picture i of a split depends on (seed, split, i) alone, and not on `labels`. The one part with masks is "object".

    Args:
        labels: whether a picture's label is the kind of its bird (object) or of its place (scene).
        image_size: side of the pictures in pixels, 32 or more.
        num_objects: number of kinds of birds, 2 to 6; any two differ in four parts or more.
        num_scenes: number of kinds of places, 2 to 6.
        train_size: number of training pictures.
        val_size: number of validation pictures.
        test_size: number of test pictures.
        scale: size of the smallest bird, from 0 to 1, as large as fits.
        masks: whether to give the mask of the object with every picture.
        batch_size: images per step and process.
        num_workers: loader processes; 0 loads in the training process.
        seed: seed of the pictures and of the shuffle.

    Raises:
        ConfigError: an argument is out of its range.
    """

    def __init__(
        self,
        labels: Labels = "object",
        image_size: int = 64,
        num_objects: int = 6,
        num_scenes: int = 6,
        train_size: int = 2000,
        val_size: int = 500,
        test_size: int = 500,
        scale: float = 0.6,
        masks: bool = False,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers, seed)
        self._options: dict[str, Any] = {
            "image_size": image_size, "num_objects": num_objects, "num_scenes": num_scenes, "train_size": train_size,
            "val_size": val_size, "test_size": test_size, "scale": scale, "masks": masks, "batch_size": batch_size,
            "num_workers": num_workers, "seed": seed,
        }  # fmt: skip
        one_of("labels", labels, get_args(Labels))
        within("num_objects", num_objects, 2, 6)
        within("num_scenes", num_scenes, 2, len(PLACES))
        self.labels: Labels = labels
        self.scenes, self.masks = num_scenes, masks
        self.sizes: dict[Split, int] = {"train": train_size, "val": val_size, "test": test_size}
        self.settings = PRESETS["small"].override(
            image_size=image_size, num_classes=num_objects, train_size=train_size, val_size=val_size,
            test_size=test_size, scale=scale, distractors=0, occlusion=0.0, jitter=0.6,
        )  # fmt: skip
        self.objects = make_classes("random", num_objects, min_distance=_DISTANCE)
        names = self.objects.names if labels == "object" else tuple(list(PLACES)[:num_scenes])
        self.spec = DataSpec(class_names=names, part_names=("object",), image_size=(image_size, image_size))
        self._datasets: dict[Split, PastedDataset] = {}

    def dataset(self, split: Split, augment: bool = False) -> PastedDataset:
        """Return one split; there is no augmentation."""
        if split not in self._datasets:
            self._datasets[split] = PastedDataset(self, split)
        return self._datasets[split]

    def relabeled(self, labels: Labels) -> PastedScenes:
        """Return the same pictures with labels of the objects, or of the scenes."""
        return PastedScenes(labels, **self._options)


class PastedDataset(ImageDataset):
    """One split of `PastedScenes`.

    Args:
        data: what it is a split of.
        split: split.

    Attributes:
        objects: (N,) int64 kinds of the birds, which take turns.
        scenes: (N,) int64 kinds of the places, at random.
    """

    def __init__(self, data: PastedScenes, split: Split) -> None:
        self.data, self.split, self.size = data, split, data.settings.image_size
        count = data.sizes[split]
        self.objects = torch.arange(count) % len(data.objects.names)
        rng = np.random.default_rng([data.seed, SPLITS.index(split), _PLACE])
        self.scenes = torch.from_numpy(rng.integers(data.scenes, size=count))
        self.labels = self.objects if data.labels == "object" else self.scenes
        self.concepts = torch.zeros(count, 0)
        self._drawn: dict[int, tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]] = {}

    def load(self, index: int) -> Sample:
        """Return picture `index`; it is drawn once in a process, and kept with its mask in 4 bytes a pixel."""
        masks = self.masks(index) if self.data.masks else None
        return Sample(_image(self._picture(index)[0]), int(self.labels[index]), self.concepts[index], index, masks)

    def bare(self, index: int) -> Tensor:
        """Return the place of picture `index` without the bird, (3, H, W) in [0, 1]."""
        return _image(to_uint8(self._place(index)))

    def masks(self, index: int) -> Tensor:
        """Return the pixels of picture `index` that the bird changes, its soft edge too, (1, H, W) bool."""
        return torch.from_numpy(self._picture(index)[1]).unsqueeze(0)

    def deciding_mask(self, index: int) -> Tensor:
        """Return where that is which tells the label of picture `index`: the bird, or all but the bird."""
        mask = self.masks(index)[0]
        return mask if self.data.labels == "object" else ~mask

    def sample_id(self, index: int) -> str:
        """Return ``pasted/train/17``."""
        return f"pasted/{self.split}/{index}"

    def version(self, index: int) -> str:
        """Return all that picture `index` is drawn from."""
        return f"{self.data._options} {self.split} {index}"

    def _picture(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        if index not in self._drawn:
            place = self._place(index)
            canvas, bare = Canvas(self.size, place.copy()), to_uint8(place)
            bird = sample_scene(self.data.objects, self.data.settings, self.data.seed, self.split, index)
            paint(canvas, bird)
            assert canvas.image is not None
            picture = to_uint8(canvas.image)
            self._drawn[index] = picture, (canvas.index > 0) | (picture != bare).any(2)
        return self._drawn[index]

    def _place(self, index: int) -> npt.NDArray[np.float32]:
        rng = np.random.default_rng([self.data.seed, SPLITS.index(self.split), index, _PLACE])
        return draw_place(int(self.scenes[index]), self.size, rng)


def _image(pixels: npt.NDArray[np.uint8]) -> Tensor:
    """Return (H, W, 3) bytes as (3, H, W) in [0, 1]."""
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float().div_(255)
