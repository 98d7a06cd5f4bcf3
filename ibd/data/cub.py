"""CUB-200-2011, read from the folder as it is distributed."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ibd.data.base import Split
from ibd.data.concept_sources import choose_exclusive
from ibd.data.coverage import listed, missing_classes
from ibd.data.cub_attributes import (
    PUBLISHED,
    Numbers,
    check_range,
    class_majority,
    image_values,
    read_labels,
    read_names,
    read_numbers,
)
from ibd.data.file_store import MaskFolders
from ibd.data.files import FileDataModule, FileDataset, FileTable
from ibd.data.transforms import Augment
from ibd.errors import ConfigError, DataError
from ibd.types import DataSpec, Resize, groups_of

Uncertainty = Literal["unknown", "soft", "ignore"]

_FULL = (11788, 200, 312)
"""Images, classes and attributes of the whole data set."""
_TOLERATED = 12
"""So many attributes may differ from the published ones, which were chosen on an unrecorded random 80 % of train."""

_log = logging.getLogger(__name__)


class CUBDataset(FileDataset):
    """One split of CUB-200-2011.

    Attributes:
        certainties: (N, K) uint8: 1 not visible, 2 guessing, 3 probably, 4 definitely.
        boxes: (N, 4) float32: left, top, width and height of the bird in the original image, in pixels.
        part_locations: (N, 15, 3) float32: x and y of each part in the original image, and 1 if it is visible.
    """

    certainties: Tensor
    boxes: Tensor
    part_locations: Tensor


class CUB(FileDataModule):
    """The 200 birds of CUB-200-2011 (Wah et al. 2011), their attributes as concepts, prepared as by Koh et al. 2020.

    The official test split; a part of each official training class is set aside for validation. A part's masks are the
    ``segmentations``, which are distributed apart: the one part is "bird".

    Args:
        root: the folder ``CUB_200_2011``, or the one that holds it.
        concepts: "class": an image has the concepts of its class, which are what most annotators said of the class's
            training images (1 on a tie; an absent attribute that was not visible is no vote, and without a vote it is
            not known). "image": its own.
        attributes: "published": the 112 that Koh et al. 2020 kept, those that hold for `min_classes` classes; these are
            computed anew where the data set is not complete or `min_classes` is not 10. "all": all 312.
        min_classes: an attribute must hold for so many classes to be kept.
        uncertainty: for concepts of "image", what "not visible" means: "unknown": not known; "soft": values between 0
            and 1 by the annotator's certainty, as by Koh et al. 2020 (1: 0, .5, .75, 1; 0: 0, .5, .25, 0); "ignore":
            the label is taken as it is.
        image_size: side of the square, or [height, width], that the network is fed with, in pixels.
        resize: way to bring other sizes to it: "squash" distorts, "crop" cuts the edges, "pad" adds black ones.
        augment: random changes in training: "none"; "flip" mirrors; "shift" also shifts by up to an eighth; "crop" cuts
            out 8 % to 100 % of the area and mirrors; "crop_color" also changes brightness and saturation.
        masks: "segmentations" to have the bird's mask.
        val_fraction: share of each training class to set aside for validation.
        cache: whether to keep the decoded images in memory (3 bytes a pixel; with the "crop" augmentations 6 GB).
        check_images: whether to look for damaged files before training starts.
        batch_size: images per step and process.
        num_workers: loader processes; 0 loads in the training process.
        seed: seed of the shuffle and the augmentation.
        split_seed: seed of the choice of the images that are set aside for validation.

    Attributes:
        keypoint_names: the 15 parts whose locations a `CUBDataset` has.

    Raises:
        DataError: a file is missing or malformed; the message names the file and line.
        ConfigError: an argument is wrong.
    """

    def __init__(
        self,
        root: str,
        concepts: Literal["class", "image"] = "class",
        attributes: Literal["published", "all"] = "published",
        min_classes: int = 10,
        uncertainty: Uncertainty = "unknown",
        image_size: int | list[int] = 299,
        resize: Resize = "crop",
        augment: Augment = "crop_color",
        masks: Literal["segmentations"] | None = None,
        val_fraction: float = 0.2,
        cache: bool = False,
        check_images: bool = True,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
        split_seed: int = 0,
    ) -> None:
        super().__init__(
            root, image_size, resize, augment, val_fraction, cache, check_images, batch_size, num_workers, seed
        )
        _require_choice("concepts", concepts, ("class", "image"))
        _require_choice("attributes", attributes, ("published", "all"))
        _require_choice("uncertainty", uncertainty, get_args(Uncertainty))
        _require_choice("masks", masks, ("segmentations", None))
        if (self.root / "CUB_200_2011").is_dir():
            self.root = self.root / "CUB_200_2011"
        self.images = self.root / "images"
        self.paths = read_names(self.root / "images.txt")
        classes = [name.partition(".")[2] or name for name in read_names(self.root / "classes.txt")]
        labels = self._column("image_class_labels.txt", "class", 1, len(classes)).astype(np.int64) - 1
        train = self._column("train_test_split.txt", "is_training_image", 0, 1) == 1
        self._name_missing(labels[train], classes)
        names, values = self._read_concepts(concepts, attributes, min_classes, uncertainty, labels, train, len(classes))
        self._read_places()
        if masks is not None:
            # Five annotators drew each outline: more than half of them.
            self.masks = MaskFolders({"bird": _beside(self.root, "segmentations")}, above=127)
        everything = FileTable(
            self.paths, torch.from_numpy(labels), torch.from_numpy(values), torch.arange(len(self.paths))
        )
        in_train = torch.from_numpy(train)
        fit, val = everything.select(in_train).split(val_fraction, split_seed)
        self.tables = {"train": fit, "val": val, "test": everything.select(~in_train)}
        groups = groups_of(names)
        self.spec = DataSpec(
            class_names=tuple(classes),
            concept_names=names,
            concept_groups=groups,
            exclusive_groups=choose_exclusive("auto", groups, everything.concepts[in_train]),
            part_names=() if self.masks is None else tuple(self.masks.folders),
            image_size=self.size,
            resize=resize,
        )

    def _name_missing(self, labels: Numbers, classes: list[str]) -> None:
        """Warn of classes without training images."""
        missing = missing_classes(torch.from_numpy(labels), classes)
        if len(missing) == len(classes):
            raise DataError(f"{self.root / 'train_test_split.txt'}: there is no training image")
        if missing:
            _log.warning(
                "%s: no training image of class %s: it cannot be learned, and the concepts of the class are not known",
                self.root,
                listed(missing),
            )

    def _read_concepts(
        self,
        concepts: str,
        attributes: str,
        min_classes: int,
        uncertainty: str,
        labels: Numbers,
        train: Numbers,
        classes: int,
    ) -> tuple[tuple[str, ...], npt.NDArray[np.float32]]:
        """Return the names and (N, K) values of the concepts of all images."""
        names = read_names(_beside(self.root, "attributes.txt"))
        file = self.root / "attributes" / "image_attribute_labels.txt"
        present, certainty = read_labels(file, len(self.paths), len(names))
        majority = class_majority(present[train], certainty[train], labels[train], classes)
        kept = self._keep(majority, attributes, min_classes, names)
        self._certainties = torch.from_numpy(certainty[:, kept])
        values = majority[labels] if concepts == "class" else image_values(present, certainty, uncertainty)
        return tuple(names[index] for index in kept), values[:, kept].astype(np.float32)

    def dataset(self, split: Split, augment: bool = False) -> CUBDataset:
        """Return one split, with the training augmentation or without; the same object when asked again."""
        dataset = super().dataset(split, augment)
        assert isinstance(dataset, CUBDataset)
        return dataset

    def _make(self, split: Split, augment: bool) -> CUBDataset:
        plain = super()._make(split, augment)
        dataset = CUBDataset(plain.table, plain.store, plain.transform)
        rows = dataset.table.rows
        dataset.certainties = self._certainties[rows]
        dataset.boxes, dataset.part_locations = self._boxes[rows], self._part_locations[rows]
        return dataset

    def _column(self, file: str, name: str, low: int, high: int) -> Numbers:
        """Return the second column of a table of all images."""
        table = self._per_image(file, 2, np.int32)
        check_range(self.root / file, table[:, 1], name, low, high)
        return table[:, 1]

    def _per_image(self, file: str, columns: int, dtype: type[np.generic], lines: int = 1) -> Numbers:
        """Return a table with so many lines for each image, in order."""
        path, images = self.root / file, len(self.paths)
        table = read_numbers(path, columns, dtype)
        wrong = np.flatnonzero(table[: images * lines, 0] != np.repeat(np.arange(1, images + 1), lines)[: len(table)])
        if len(wrong):
            raise DataError(f"{path}:{wrong[0] + 1}: image {wrong[0] // lines + 1} is missing or not in order")
        if len(table) != images * lines:
            raise DataError(f"{path}: {len(table)} lines, {images * lines} are needed: {lines} for each image")
        return table

    def _read_places(self) -> None:
        """Read the boxes and the locations of the parts."""
        self.keypoint_names = tuple(read_names(self.root / "parts" / "parts.txt"))
        count = len(self.keypoint_names)
        boxes = self._per_image("bounding_boxes.txt", 5, np.float32)
        places = self._per_image("parts/part_locs.txt", 5, np.float32, lines=count)
        self._boxes = torch.from_numpy(boxes[:, 1:])
        self._part_locations = torch.from_numpy(places[:, 2:]).reshape(-1, count, 3)

    def _keep(
        self, majority: npt.NDArray[np.float32], attributes: str, min_classes: int, names: list[str]
    ) -> list[int]:
        """Return the indices of the attributes that become concepts."""
        if attributes == "all":
            return list(range(len(names)))
        published = (len(self.paths), *majority.shape) == _FULL and min_classes == 10
        # The published choice counts an attribute on which a class has no vote as one that it has.
        holds = (majority == 1) | (published & np.isnan(majority))
        kept: list[int] = np.flatnonzero(holds.sum(0) >= min_classes).tolist()
        if not kept:
            raise DataError(f"{self.root}: no attribute holds for {min_classes} classes; lower data.min_classes")
        if not published:
            return kept
        differing = [names[index] for index in sorted(set(kept) ^ set(PUBLISHED))]
        if len(differing) > _TOLERATED:
            raise DataError(
                f"{self.root}: {len(differing)} attributes differ from the published {len(PUBLISHED)}; "
                f"the files are not those of CUB-200-2011: {', '.join(differing[:3])}, ..."
            )
        if differing:
            _log.warning("CUB: kept as published, although our count of votes differs: %s", ", ".join(differing))
        return list(PUBLISHED)


def _require_choice(name: str, given: str | None, allowed: tuple[str | None, ...]) -> None:
    if given not in allowed:
        raise ConfigError(f"data.{name}: '{given}' given, one of {', '.join(map(str, allowed))} is needed")


def _beside(root: Path, name: str) -> Path:
    """Return a file or folder that is distributed beside the folder, but that many keep in it."""
    for place in (root / name, root.parent / name, root / "attributes" / name):
        if place.exists():
            return place
    raise DataError(f"{root / name}: there is no such file or folder, nor {root.parent / name}")
