"""`ToyBirds`: the procedural data set, ready for training."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

from ibd.data.base import ImageDataModule, Split
from ibd.data.folding import assign_folds, check_folds, roles
from ibd.data.toybirds.annotation import Annotator
from ibd.data.toybirds.classes import Structure, capacity, make_classes
from ibd.data.toybirds.contact_sheet import contact_sheet
from ibd.data.toybirds.dataset import Pictures, ToyBirdsDataset
from ibd.data.toybirds.parts import PARTS, check_parts
from ibd.data.toybirds.presets import PRESETS, PresetName, TagChoice, one_of, within
from ibd.data.toybirds.sampling import Draws, TagMode, sample_scene, sample_tag
from ibd.data.toybirds.scene import Scene
from ibd.data.toybirds.vocabulary import Absent, Concepts
from ibd.errors import ConfigError
from ibd.types import DataSpec, groups_of

TagTest = Literal["aligned", "absent", "flipped"]
ToyAugment = Literal["none", "flip"]


class Material(NamedTuple):
    """The images of a split: their pictures, (N, K) concepts, and what each was drawn as where that is another."""

    pictures: Pictures
    concepts: Tensor
    drawn_as: list[tuple[Split, int]] | None = None


class ToyBirds(ImageDataModule):
    """Birds made of five parts in 26 variants, rendered on the fly, with a ground truth for explanations.

    Image i of a split depends on (seed, split, i) alone. Labels hold one class, so `part_drop` only removes parts
    that the class can be told without; what is consistent with any other bird is `classes.consistent`.

    Args:
        preset: defaults for what follows: tiny (32 px, learnt in seconds), small, standard, wide (50 classes), hard
            (128 px, much clutter), hans (a tag goes with the class: a shortcut) or correlated (parts go together, and
            some are hidden: what cannot be seen is implied by the rest).
        image_size: side of the images in pixels, 32 or more.
        structure: parts that tell the classes: combinations of all parts (random), one part (single), two parts
            together (double), two parts of which neither says anything alone (xor), or two parts that the others go
            with (linked).
        num_classes: number of classes, 2 or more.
        train_size: number of training images.
        val_size: number of validation images.
        test_size: number of test images.
        concepts: one concept per variant (`wing::red_oval`, 26) or per color and shape (`wing_color::red`, 22).
        absent: value of the concepts of a removed or hidden part: 0 (zero) or unknown (ignore).
        min_visible: a part of which a smaller share than this can be seen, because of occluders, counts as hidden; 0
            labels hidden parts as what they are. Default 0.2, of correlated 0.
        drop_concept_part: a part that gets no concepts, so that the concepts do not determine the class.
        concept_noise: probability that a training image's concept group says another of its values.
        concept_missing: probability that a concept of a training image is unknown.
        label_noise: probability that a training image is labeled as another class.
        redraw: probability that a part which does not decide the class is re-drawn for each image (0 ties it to the
            class, so that concepts are correlated; 1 makes it independent); default 0 for random, 0.2
            for linked, else 1.
        deciding_parts: the parts that decide the class; by default wing or tail, or tail and wing, or for random all
            (with `redraw` the fewest that suffice).
        min_distance: number of parts in which any two classes of the structure random differ at least.
        class_seed: seed of the definition of the classes, which `seed` leaves alone.
        rotation: birds are turned by up to so many degrees either way.
        scale: size of the smallest bird, from 0 to 1, as large as fits.
        jitter: variation of the shapes and colors of the parts, 0 for none, 1 as usual.
        distractors: largest number of meaningless shapes behind the bird.
        occlusion: probability of shapes in front of the bird.
        occluders: largest number of these.
        tag: a shortcut that goes with the class: a colored square, a tinted frame, stripes on the background.
        tag_rho: probability that the tag is the one of the class, in training and validation.
        tag_test: the tag of the test images: always the one of the class, none, or always another one.
        part_drop: probability that a training image loses parts at random, of those its class can be told without.
        folds: number of folds that the training and validation images are cut into anew, class by class; 0 for none. A
            label, or a concept, that is wrong or missing stays so.
        fold: fold that validates, from 0.
        augment: augmentation of the training images; flip mirrors half of them.
        masks: whether to give the part masks with every image.
        cache: whether to keep rendered images in memory, 3 bytes per pixel, masks 1 more (64 px, 6000 images: 74 and 25
            MB).
        batch_size: images per step and process.
        num_workers: loader processes; 0 loads in the training process.
        seed: seed of the images, the shuffle and the augmentation.

    Raises:
        ConfigError: an argument is out of its range, or arguments contradict each other.
    """

    def __init__(
        self,
        preset: PresetName = "standard",
        image_size: int | None = None,
        structure: Structure | None = None,
        num_classes: int | None = None,
        train_size: int | None = None,
        val_size: int | None = None,
        test_size: int | None = None,
        concepts: Concepts = "variants",
        absent: Absent = "zero",
        min_visible: float | None = None,
        drop_concept_part: str | None = None,
        concept_noise: float = 0.0,
        concept_missing: float = 0.0,
        label_noise: float = 0.0,
        redraw: float | None = None,
        deciding_parts: list[str] | None = None,
        min_distance: int = 2,
        class_seed: int = 0,
        rotation: float | None = None,
        scale: float | None = None,
        jitter: float | None = None,
        distractors: int | None = None,
        occlusion: float | None = None,
        occluders: int | None = None,
        tag: TagChoice | None = None,
        tag_rho: float | None = None,
        tag_test: TagTest = "aligned",
        part_drop: float = 0.0,
        folds: int = 0,
        fold: int = 0,
        augment: ToyAugment = "none",
        masks: bool = False,
        cache: bool = True,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, num_workers, seed)
        one_of("preset", preset, PRESETS)
        one_of("tag_test", tag_test, get_args(TagTest))
        one_of("augment", augment, get_args(ToyAugment))
        within("label_noise", label_noise, 0, 1)
        within("part_drop", part_drop, 0, 1)
        check_folds(folds, fold)
        self.folds, self.fold = folds, fold
        self.settings = PRESETS[preset].override(
            image_size=image_size, structure=structure, num_classes=num_classes,
            train_size=train_size, val_size=val_size, test_size=test_size,
            rotation=rotation, scale=scale, jitter=jitter, distractors=distractors, occlusion=occlusion,
            occluders=occluders, min_visible=min_visible,
            tag=tag, tag_rho=tag_rho,
        )  # fmt: skip
        if tag_test != "aligned" and self.settings.tag == "none":
            raise ConfigError(f"data.tag_test: '{tag_test}' given, but data.tag is 'none'")
        self.classes = make_classes(
            self.settings.structure,
            num_classes or min(self.settings.num_classes, capacity(self.settings.structure, deciding_parts)),
            redraw,
            class_seed,
            deciding_parts,
            min_distance,
        )
        unlabeled = check_parts([] if drop_concept_part is None else [drop_concept_part])
        self.annotator = Annotator(
            concepts,
            tuple(p for p in PARTS if p not in unlabeled),
            absent,
            self.settings.min_visible,
            concept_noise,
            concept_missing,
        )
        self.tag_test: TagTest = tag_test
        self.label_noise, self.part_drop, self.flip = label_noise, part_drop, augment == "flip"
        self.masks, self.cache = masks, cache
        self.spec = self._spec()
        self._material: dict[Split, Material] = {}
        self._datasets: dict[tuple[Split, bool], ToyBirdsDataset] = {}

    def dataset(self, split: Split, augment: bool = False) -> ToyBirdsDataset:
        """Return one split; with `augment`, the training images are flipped and lose parts as configured."""
        augment = augment and split == "train" and (self.flip or self.part_drop > 0)
        if (split, augment) not in self._datasets:
            self._datasets[split, augment] = self._make_dataset(split, augment)
        return self._datasets[split, augment]

    def save_overview(self, path: str | Path) -> None:
        """Write a PNG with training images of some classes beside their masks, and with interventions."""
        contact_sheet(path, self.dataset("train"), classes=8)

    def _make_dataset(self, split: Split, augment: bool) -> ToyBirdsDataset:
        if split not in self._material:  # with and without augmentation share the rendered images
            self._material |= self._cut() if self.folds and split != "test" else {split: self._gather(split)}
        material = self._material[split]
        return ToyBirdsDataset(
            split,
            material.pictures,
            material.concepts,
            self.annotator.concept_parts,
            self.classes,
            masks=self.masks,
            flip=augment and self.flip,
            part_drop=self.part_drop if augment else 0.0,
            absent=self.annotator.absent_value,
            drawn_as=material.drawn_as,
        )

    def _gather(self, split: Split) -> Material:
        """Return the images of a split as they are drawn."""
        scenes = [self._scene(split, i) for i in range(self._size(split))]
        pictures = Pictures(scenes, self.settings.image_size, self.cache)
        return Material(pictures, self.annotator(scenes, split, self.seed))

    def _cut(self) -> dict[Split, Material]:
        """Return the training and the validation images of this fold."""
        pools: list[Split] = ["train", "val"]
        drawn_as = [(pool, i) for pool in pools for i in range(self._size(pool))]
        scenes = [self._scene(*place) for place in drawn_as]
        start = self._size("train")
        concepts = torch.cat(
            [
                self.annotator(part, pool, self.seed)
                for pool, part in zip(pools, (scenes[:start], scenes[start:]), strict=True)
            ]
        )
        labels = torch.tensor([scene.label for scene in scenes])
        fold_of = assign_folds(labels, self.spec.class_names, self.folds, self.seed)
        cut: dict[Split, Material] = {}
        for split, members in roles(self.folds, self.fold, tested=True).items():
            chosen = torch.isin(fold_of, torch.tensor(members)).nonzero().flatten().tolist()
            pictures = Pictures([scenes[i] for i in chosen], self.settings.image_size, self.cache)
            cut[split] = Material(pictures, concepts[chosen], [drawn_as[i] for i in chosen])
        return cut

    def _size(self, split: Split) -> int:
        return {"train": self.settings.train_size, "val": self.settings.val_size, "test": self.settings.test_size}[
            split
        ]

    def _scene(self, split: Split, index: int) -> Scene:
        scene = sample_scene(self.classes, self.settings, self.seed, split, index)
        count = len(self.classes.names)
        if self.settings.tag != "none":
            mode: TagMode = self.tag_test if split == "test" else "rho"
            draws = Draws(self.seed, split, index, "tag")
            scene = scene.set_tag(sample_tag(draws, self.settings.tag, scene.cls, count, mode, self.settings.tag_rho))
        if split == "train" and self.label_noise:
            draws = Draws(self.seed, split, index, "label")
            if draws.chance(self.label_noise):
                scene = dataclasses.replace(scene, label=(scene.cls + 1 + draws.below(count - 1)) % count)
        return scene

    def _spec(self) -> DataSpec:
        names = self.annotator.names
        groups = groups_of(names)
        size = self.settings.image_size
        return DataSpec(self.classes.names, names, groups, tuple(groups), PARTS, (size, size))
