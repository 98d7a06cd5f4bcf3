"""What a model says of every subset of the parts of a drawn scene: the interventional truth that explanations face.

Each distinct picture is drawn and asked once, and the table serves all explainers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ibd.comparison.probes.network import Predictor, Values
from ibd.data.toybirds.parts import PARTS
from ibd.data.toybirds.render import render
from ibd.data.toybirds.scene import Scene
from ibd.errors import DataError
from ibd.metrics.functional.checks import beyond_rounding
from ibd.metrics.functional.subsets import shapley

DECIDING = 0.1
"""A part decides if it is worth more than this share of the most valuable one that can be seen."""

Bytes = npt.NDArray[np.uint8]


def draw_subsets(scene: Scene, size: int) -> tuple[Bytes, npt.NDArray[np.int64]]:
    """Draw a scene with every subset of its parts, each distinct picture once.

    Args:
        scene: scene whose parts are taken away.
        size: side in pixels.

    Returns:
        The (n, size, size, 3) distinct pictures, and (2^P,) which of them shows the subset whose bit p is part p.
    """
    known: dict[bytes, int] = {}
    pictures: list[Bytes] = []
    drawn: dict[tuple[str | None, ...], int] = {}
    which = np.empty(1 << len(PARTS), dtype=np.int64)
    for subset, shown in enumerate(scene.subset_grid()):
        parts = tuple(shown.parts[part] for part in PARTS)  # a part that the scene lacks makes no difference
        if parts not in drawn:
            picture = render(shown, size)[0]
            content = picture.tobytes()
            if content not in known:
                known[content] = len(pictures)
                pictures.append(picture)
            drawn[parts] = known[content]
        which[subset] = drawn[parts]
    return np.stack(pictures), which


def subset_tables(predictor: Predictor, scenes: Sequence[Scene], classes: Tensor, size: int) -> Values:
    """Return what a model says of all subsets of the parts of each scene, (B, 2^P); see `draw_subsets`.

    Column s of a table is the image with part p if bit p of s is set; the last one is the image as it is.

    Args:
        predictor: the model.
        scenes: B of them.
        classes: (B,) the explained classes.
        size: side of the images in pixels.

    Raises:
        DataError: other than one class for each scene.
    """
    if len(classes) != len(scenes):
        raise DataError(f"{len(scenes)} scenes need as many classes, {len(classes)} given")
    tables = []
    for start, images, which in _groups(scenes, size, predictor.device):
        logits = predictor.logits(images)[which.flatten()]
        of_rows = classes[start : start + len(which)].repeat_interleave(which.shape[1])
        tables.append(predictor.values(logits, of_rows).view(*which.shape))
    return Values(*(torch.cat(parts) for parts in zip(*tables, strict=True)))


_PICTURES = 256
"""Drawn before the model is asked: several scenes share a batch."""


def _groups(scenes: Sequence[Scene], size: int, device: torch.device) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Give the number of the first scene of a group, its (n, 3, H, W) pictures, and (b, 2^P) which shows what."""
    first, count = 0, 0
    pictures: list[Bytes] = []
    which: list[npt.NDArray[np.int64]] = []
    for number, scene in enumerate(scenes):
        drawn, shows = draw_subsets(scene, size)
        pictures.append(drawn)
        which.append(shows + count)
        count += len(drawn)
        if count >= _PICTURES or number + 1 == len(scenes):
            images = torch.from_numpy(np.concatenate(pictures)).to(device).permute(0, 3, 1, 2).float().div_(255)
            yield first, images.contiguous(), torch.from_numpy(np.stack(which)).to(device)
            first, count, pictures, which = number + 1, 0, [], []


def part_values(centered: Tensor) -> Tensor:
    """Return the (B, P) exact Shapley values of the parts, float64; 0 where a value is no more than rounding.

    Args:
        centered: (B, 2^P) centered logits of the explained class, see `subset_tables`.
    """
    return beyond_rounding(shapley(centered), centered.abs().amax(1, keepdim=True))


def oracle_maps(values: Tensor, masks: Tensor) -> Tensor:
    """Return the maps that say of each visible pixel of a part what the part is worth, (B, H, W) float32.

    Not divided by the part's area: the mean over a part is its value, whatever its size. A pixel that parts share has
    the mean of their values, and what that takes from a part or gives to it is made good on the pixels that it has for
    itself; of a part that has none, the mean is not its value.

    Args:
        values: (B, P), such as `part_values`; NaN counts as 0.
        masks: (B, P, H, W) bool, the pixels of each part.
    """
    worth, owned = values.nan_to_num(0.0).to(masks.device), masks.to(values.dtype)
    owners = owned.sum(1)
    maps = torch.einsum("bp,bphw->bhw", worth, owned) / owners.clamp(min=1)
    alone = owned * (owners == 1).unsqueeze(1)
    missing = worth * owned.sum((2, 3)) - torch.einsum("bhw,bphw->bp", maps, owned)
    return (maps + torch.einsum("bp,bphw->bhw", missing / alone.sum((2, 3)).clamp(min=1), alone)).float()


def additive_maps(values: Tensor, masks: Tensor) -> Tensor:
    """Return the maps whose sum over each part is what the part is worth, (B, H, W) float32.

    A part's value is spread evenly over its pixels. Where parts share pixels it is the smallest such map (by its sum of
    squares); where no map has these sums (of parts with exactly the same pixels, say), the closest one.

    Args:
        values: (B, P), such as `part_values`; NaN counts as 0.
        masks: (B, P, H, W) bool, the pixels of each part.
    """
    owned = masks.flatten(2).double()
    shared = owned @ owned.mT  # (B, P, P): how many pixels two parts share
    worth = values.nan_to_num(0.0).to(owned)
    per_pixel = torch.linalg.pinv(shared, hermitian=True) @ worth.unsqueeze(2)
    maps: Tensor = (owned.mT @ per_pixel).view(len(masks), *masks.shape[2:])
    return maps.float()


def deciding_mask(values: Tensor, masks: Tensor) -> Tensor:
    """Return the visible pixels of the parts that decide for the explained class in this model, (B, H, W) bool.

    A part decides if it is worth more than a share, `DECIDING`, of the most valuable visible one. Empty, so that
    nothing can be said of where maps lie, where no visible part speaks for the class.

    Args:
        values: (B, P), such as `part_values`; NaN counts as 0, and a part that speaks against the class decides nothing
            for it.
        masks: (B, P, H, W) bool, visible pixels.
    """
    seen = masks.flatten(2).any(2)
    worth = values.nan_to_num(0.0).to(masks.device).masked_fill(~seen, 0.0).clamp(min=0)
    highest = worth.amax(1, keepdim=True)
    decides = (worth > DECIDING * highest) & (highest > 0)
    return (masks & decides.view(*decides.shape, 1, 1)).any(1)
