"""A user's own images in class folders, with their concepts in a ``concepts.csv``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from ibd.data.base import SPLITS, Split
from ibd.data.concept_sources import ConceptSource, choose_exclusive, quantities_of, read_concepts
from ibd.data.deciding import deciding_parts
from ibd.data.file_store import MaskFolders
from ibd.data.files import FileDataModule, FileTable, require_folder
from ibd.data.fold_tables import fold_tables, set_aside
from ibd.data.folding import check_folds
from ibd.data.grouping import Columns, read_columns
from ibd.data.images import IMAGE_SUFFIXES, refuse_nul
from ibd.data.transforms import Augment
from ibd.errors import ConfigError, DataError, check_once, did_you_mean
from ibd.types import DataSpec, Resize, groups_of

CONCEPTS = "concepts.csv"


class ConceptFolder(FileDataModule):
    """Images in ``root/{train,val,test}/<class>/`` and, if there are concepts, a ``root/concepts.csv``.

    The first column of ``concepts.csv`` is ``class`` (the concepts hold for all images of a class) or ``image`` (a path
    relative to the root, such as ``train/cat/0001.jpg``; an image without a row has no known concept). Every other
    column is a concept, by convention named ``group::value``, and holds truth values from 0 to 1; or, named ``size
    [mm]``, numbers with a unit; or words, each of which becomes a concept ``column::word``; or, named ``size
    [certainty]``, how certain that column is. An empty cell is unknown.
    Without a ``val`` folder, a part of each training class is set aside. ``test`` may be missing until it is asked for.

    Args:
        root: folder of the images.
        image_size: side of the square, or [height, width], that the network is fed with, in pixels.
        resize: way to bring other sizes to it: "squash" distorts, "crop" cuts the edges, "pad" adds black ones.
        augment: random changes in training: "none"; "flip" mirrors; "shift" also shifts by up to an eighth; "crop" cuts
            out 8 % to 100 % of the area and mirrors; "crop_color" also changes brightness and saturation.
        concepts: name of the concept file in the root; by default "concepts.csv" if there is one. Or of several: files
            of one kind are those of several annotators, whose mean is taken; what is known of an image goes before what
            is known of its class.
        kinds: column -> "truth", "category" or "number", where its header and cells would say something else.
        masks: name of a folder in the root that holds ``<part>/<path of the image>.png``, in which the part is what is
            not 0; a missing file means that the part is not visible.
        deciding: class -> the parts (folders of masks) that decide it, of every class, where that is known: an
            explanation is then measured against these parts alone; without it, against all parts.
        val_fraction: share of each training class to set aside where there is no ``val`` folder.
        exclusive_groups: the concept groups of which at most one concept holds at once; "auto" finds them in the
            annotations of the training images.
        groups: columns of the concept files that are no concepts, but say of which group an image is, to score a model
            by (``ibd test RUN by=COLUMN``); those of a ``groups.csv`` in the root are known without being named.
        folds: number of folds that the images of train and val are cut into anew, class by class; 0 for none. Those of
            test stay where they are; without a test folder the fold that is left out is what is tested, and the next
            one validates.
        fold: fold that is left out, from 0.
        together: column of groups (such as the patient, in a ``groups.csv``) whose images stay on one side of a split
            that is made here: folds, or the images that are set aside for validation.
        cache: whether to keep the decoded images in memory (3 bytes a pixel; whole images with the "crop"
            augmentations).
        check_images: whether to look for damaged files before training starts.
        batch_size: images per step and process.
        num_workers: loader processes; 0 loads in the training process.
        seed: seed of the shuffle and the augmentation.
        split_seed: seed of the choice of the images that are set aside for validation, and of the folds.

    Raises:
        DataError: the folders or the concept file are wrong; the message names the file and line.
        ConfigError: an argument is wrong.
    """

    def __init__(
        self,
        root: str,
        image_size: int | list[int] = 224,
        resize: Resize = "crop",
        augment: Augment = "flip",
        concepts: str | list[str] | None = None,
        kinds: dict[str, str] | None = None,
        masks: str | None = None,
        deciding: dict[str, list[str]] | None = None,
        val_fraction: float = 0.1,
        exclusive_groups: list[str] | Literal["auto"] = "auto",
        groups: list[str] | None = None,
        folds: int = 0,
        fold: int = 0,
        together: str | None = None,
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
        self.images = self.root
        check_folds(folds, fold)
        files = scan(self.root)
        classes = list(files["train"])
        named = list(dict.fromkeys([*(groups or ()), *([together] if together else ())]))
        source, paths = self._read_concepts(concepts, kinds or {}, files, named)
        columns = read_columns(self.root, named, paths, classes, every_image(files), together)
        self.masks = None if masks is None else _mask_folders(self.root / masks, files)
        part_names = () if self.masks is None else tuple(self.masks.folders)
        self.deciding = deciding_parts(deciding, classes, part_names)
        self.tables = _tables(files, classes, source, columns)
        if folds:
            self.tables = fold_tables(self.tables, classes, folds, fold, together, split_seed)
        of_concepts = groups_of(source.names)
        exclusive = _exclusive(exclusive_groups, of_concepts, self.tables["train"].concepts, source)
        if "val" not in self.tables:
            self._set_aside(classes, val_fraction, together, split_seed)
        elif together and not folds:
            raise ConfigError(f"data.together: {self.root} has a folder val, so nothing is cut here; leave it out")
        self.spec = DataSpec(
            class_names=tuple(classes),
            concept_names=source.names,
            concept_groups=of_concepts,
            exclusive_groups=exclusive,
            part_names=part_names,
            image_size=self.size,
            resize=resize,
            quantities=quantities_of(source.numbers, source.names, self.tables["train"].concepts),
        )

    def _set_aside(self, classes: list[str], fraction: float, together: str | None, seed: int) -> None:
        """Take validation images out of the training images."""
        if together:
            self.tables["train"], self.tables["val"] = set_aside(
                self.tables["train"], classes, fraction, together, seed
            )
            return
        self.tables["train"], self.tables["val"] = self.tables["train"].split(fraction, seed)
        if not self.tables["val"].paths:
            raise DataError(f"{self.root}: no class has an image to spare for validation; add a folder val")

    def _read_concepts(
        self, given: str | list[str] | None, kinds: Mapping[str, str], files: Files, without: list[str]
    ) -> tuple[ConceptSource, list[Path]]:
        """Return what the concept files say of classes and images, and the paths of the files."""
        names = [given] if isinstance(given, str) else given
        check_once("data.concepts", names or [])
        if names is None and not (self.root / CONCEPTS).exists():
            if kinds:
                raise ConfigError(f"data.kinds: there are no concepts: {self.root / CONCEPTS} does not exist")
            names = []
        paths = [self.root / name for name in ([CONCEPTS] if names is None else names)]
        for path in paths:
            refuse_nul(path)
            if not path.exists():
                near = did_you_mean(path.name, sorted(file.name for file in self.root.glob("*.csv")))
                raise DataError(f"{path}: there is no such file.{near}")
        return read_concepts(paths, kinds, files["train"], every_image(files), without), paths


def every_image(files: Files) -> list[str]:
    """Return the paths of the images of all splits, one split after the other."""
    return [path for names in files.values() for path in _paths(names)]


Files = dict[Split, dict[str, list[str]]]
"""Split -> class -> paths of its images, relative to the root."""


def scan(root: Path) -> Files:
    """Return what lies in the folders of the splits."""
    for folder in _folders(root):
        if folder in ("valid", "validation"):
            raise DataError(f"{root / folder}: name this folder 'val' to have it read")
    if not (root / "train").is_dir():
        near = did_you_mean("train", _folders(root))
        raise DataError(f"{root}: there is no folder 'train'; images must lie in train/CLASS/.{near}")
    files: Files = {}
    for split in SPLITS:
        if (root / split).is_dir():
            files[split] = {name: _images(root, f"{split}/{name}") for name in _folders(root / split)}
            if not files[split]:
                raise DataError(f"{root / split}: there are no class folders; images must lie in {split}/CLASS/")
            for name in files[split]:
                if name not in files["train"]:
                    near = did_you_mean(name, files["train"])
                    raise DataError(f"{root / split / name}: there is no class '{name}' in train.{near}")
    if len(files["train"]) < 2:
        raise DataError(f"{root / 'train'}: there is only one class, '{min(files['train'])}'; two are needed")
    return files


def class_folders(root: Path) -> dict[str, list[str]]:
    """Return class -> paths of its images, relative to a folder that has one folder for each class."""
    return {name: _images(root, name) for name in _folders(root)}


def _folders(root: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))


def _images(root: Path, folder: str) -> list[str]:
    """Return the paths of the images in a class folder, relative to the root."""
    names = [entry.name for entry in os.scandir(root / folder) if not entry.name.startswith(".")]
    images = sorted(f"{folder}/{name}" for name in names if name.lower().endswith(IMAGE_SUFFIXES))
    if not images:
        held = f"; it holds '{min(names)}'" if names else ""
        suffixes = ", ".join(suffix[1:] for suffix in IMAGE_SUFFIXES)
        raise DataError(f"{root / folder}: there is no image in it ({suffixes}){held}")
    return images


def _paths(names: dict[str, list[str]]) -> list[str]:
    return [path for paths in names.values() for path in paths]


def _tables(files: Files, classes: list[str], source: ConceptSource, columns: Columns) -> dict[Split, FileTable]:
    """Return the images of each split with their concepts; the source has the images of all splits, one by one."""
    tables: dict[Split, FileTable] = {}
    start = 0
    for split, names in files.items():
        paths = _paths(names)
        labels = [label for name, members in names.items() for label in [classes.index(name)] * len(members)]
        rows = range(start, start + len(paths))
        groups = {name: column[rows.start : rows.stop] for name, column in columns.items()}
        concepts = source.of(rows, labels)
        tables[split] = FileTable(paths, torch.tensor(labels), concepts, torch.arange(len(paths)), groups)
        start += len(paths)
    return tables


def _exclusive(
    given: list[str] | Literal["auto"], groups: Mapping[str, tuple[int, ...]], values: Tensor, source: ConceptSource
) -> tuple[str, ...]:
    """Return the exclusive groups, the columns of words among them."""
    chosen = choose_exclusive(given, groups, values)
    for name in chosen:
        if name in source.numbers:
            raise ConfigError(f"data.exclusive_groups: '{name}' is a number, a group of truth values is needed")
    return tuple(name for name in groups if name in {*chosen, *source.categories})


def _mask_folders(folder: Path, files: Files) -> MaskFolders:
    """Return the parts in a masks folder, once each has a mask for some image."""
    require_folder(folder)
    parts = _folders(folder)
    if not parts:
        raise DataError(f"{folder}: there are no part folders; masks must lie in PART/train/CLASS/")
    files_of_part = [Path(path).with_suffix(".png") for names in files.values() for path in _paths(names)]
    for part in parts:
        if not any((folder / part / file).exists() for file in files_of_part):
            raise DataError(f"{folder / part}: there is no mask for any image; the first would be '{files_of_part[0]}'")
    return MaskFolders({part: folder / part for part in parts})
