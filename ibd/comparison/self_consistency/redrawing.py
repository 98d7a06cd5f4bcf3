"""Toy birds drawn anew with one thing changed: each part in another variant, and all that is around the bird.

What an image is changed to depends on the seed and on its place in the data set alone, and not on the other images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ibd.data.toybirds.dataset import ToyBirdsDataset
from ibd.data.toybirds.parts import PARTS, VARIANTS
from ibd.data.toybirds.render import Index, render, visible_fraction
from ibd.data.toybirds.scene import Scene
from ibd.errors import UnsupportedError

MIN_VISIBLE = 0.2
"""A part of which a smaller share can be seen counts as hidden: to change it says nothing."""


@dataclass(frozen=True)
class RedrawnBatch:
    """Images, and each of them with one thing changed; P parts.

    Attributes:
        index: (B,) places in the data set.
        image: (B, 3, H, W) in [0, 1].
        masks: (B, P, H, W) bool, the pixels of `image` that each part changes.
        changed: (B, P + 1, 3, H, W) images with part p in another variant; the last one with everything behind the bird
            new.
        seen: (B, P) bool, whether part p can be seen before and after.
        variants: B lists of the P new variants.
    """

    index: list[int]
    image: Tensor
    masks: Tensor
    changed: Tensor
    seen: Tensor
    variants: list[list[str]]


def require_scenes(dataset: object) -> ToyBirdsDataset:
    """Return the data set, whose images can be drawn anew.

    Raises:
        UnsupportedError: they cannot.
    """
    if not isinstance(dataset, ToyBirdsDataset):
        raise UnsupportedError(
            f"needs images that can be drawn again with a part replaced; those of {type(dataset).__name__} cannot, "
            "those of ToyBirds can"
        )
    return dataset


def chunks(indices: Sequence[int], size: int) -> Iterator[list[int]]:
    """Yield the indices, `size` at a time."""
    starts = range(0, len(indices), max(1, size))
    for start in starts:
        yield [int(i) for i in indices[start : start + max(1, size)]]


def drawn(scenes: Sequence[Scene], size: int) -> tuple[Tensor, list[Index]]:
    """Return (N, 3, H, W) pictures in [0, 1], and what each of their pixels shows."""
    pairs = [render(scene, size) for scene in scenes]
    images = torch.from_numpy(np.stack([image for image, _ in pairs])).permute(0, 3, 1, 2)
    return images.contiguous().float().div_(255), [index for _, index in pairs]


def other_variants(scene: Scene, index: int, seed: int = 0) -> list[str]:
    """Return for each part a variant, drawn by chance, that it has not in the scene."""
    draws = np.random.default_rng([seed, index])
    places = draws.random(len(PARTS))
    options = [[v for v in VARIANTS[part] if v != scene.parts[part]] for part in PARTS]
    return [some[int(place * len(some))] for some, place in zip(options, places, strict=True)]


def other_surroundings(scene: Scene, index: int, seed: int = 0) -> Scene:
    """Return the scene before another background and without the shapes behind the bird."""
    number = int(np.random.default_rng([seed, index, 1]).integers(2**32))
    front = tuple(item for item in scene.distractors if item.layer == "front")
    return dataclasses.replace(scene.set_background(number), distractors=front)


def seen_parts(scene: Scene) -> list[bool]:
    """Return which parts are there and not hidden behind something."""
    there = [scene.parts[part] is not None for part in PARTS]
    if not scene.occluders:
        return there
    shares = visible_fraction(scene)
    return [shares[part] >= MIN_VISIBLE for part in PARTS]


def redrawn(
    dataset: ToyBirdsDataset, indices: Sequence[int], batch_size: int = 64, seed: int = 0
) -> Iterator[RedrawnBatch]:
    """Yield images with their changed versions.

    Args:
        dataset: split of the data.
        indices: indices of the images in it.
        batch_size: pictures in a batch, changed ones included.
        seed: seed of the changes.
    """
    versions = len(PARTS) + 2
    for some in chunks(indices, batch_size // versions):
        yield _redrawn(dataset, some, seed)


def _redrawn(dataset: ToyBirdsDataset, indices: list[int], seed: int) -> RedrawnBatch:
    scenes, variants, seen = [], [], []
    for index in indices:
        scene = dataset.scene(index)
        new = other_variants(scene, index, seed)
        replaced = [scene.replace(part, variant) for part, variant in zip(PARTS, new, strict=True)]
        scenes += [scene, *replaced, other_surroundings(scene, index, seed)]
        variants.append(new)
        before = seen_parts(scene)
        seen.append(
            [there and seen_parts(other)[p] for p, (there, other) in enumerate(zip(before, replaced, strict=True))]
        )
    images, _ = drawn(scenes, dataset.pictures.size)
    images = images.view(len(indices), len(PARTS) + 2, *images.shape[1:])
    masks = torch.stack([dataset.masks(index) for index in indices])
    return RedrawnBatch(indices, images[:, 0], masks, images[:, 1:], torch.tensor(seen), variants)
