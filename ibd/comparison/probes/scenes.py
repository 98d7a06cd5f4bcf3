"""What every object and every cell of a drawn scene is worth to a model: a truth finer than that of five parts.

Objects are the parts and the distractors. What an object is worth is what the explained value loses when the scene is
drawn without it and with everything else.

Cells are those of a grid over the image. What a cell is worth is the mean of what its foreground (bird, distractors,
patch or frame) takes away when the background alone is seen in this cell, and what it adds when it is seen in this cell
alone. These are the two ends of the average that a Shapley value is: with everything else there, and with nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ibd.comparison.probes.network import Make, Predictor, Values
from ibd.comparison.probes.pixels import CELLS, regions_of
from ibd.data.toybirds.masks import take_apart
from ibd.data.toybirds.scene import Scene
from ibd.metrics.functional.checks import beyond_rounding


@dataclass(frozen=True)
class Drawings:
    """The pictures of N scenes, drawn once for all models.

    Attributes:
        full: (N, H, W, 3) uint8, the scenes as they are.
        behind: (N, H, W, 3) uint8, the background alone, with its light and the stripes of a tag.
        masks: (N, O, H, W) bool, the pixels that each object changes, see `take_apart`; parts first. None of an object
            that a scene has not, or that cannot be seen.
        without: (M, H, W, 3) uint8: a scene without one object that can be seen.
        which: (M, 2) int64: which scene, and which object.
    """

    full: Tensor
    behind: Tensor
    masks: Tensor
    without: Tensor
    which: Tensor


def explained(values: Values) -> Tensor:
    """Return the value that objects and cells are measured by."""
    return values.centered


def draw_scenes(scenes: Sequence[Scene], size: int) -> Drawings:
    """Draw scenes with everything, with nothing, and without each object.

    Args:
        scenes: N of them, one at least.
        size: side of the pictures in pixels.
    """
    drawn = [take_apart(scene, size) for scene in scenes]
    masks = torch.zeros(len(drawn), max(len(taken_apart.masks) for taken_apart in drawn), size, size, dtype=torch.bool)
    for some, taken_apart in zip(masks, drawn, strict=True):
        some[: len(taken_apart.masks)] = torch.from_numpy(taken_apart.masks)
    which = masks.flatten(2).any(2).nonzero()
    without = [drawn[scene].without[number] for scene, number in which.tolist()]
    return Drawings(
        _stacked([taken_apart.picture for taken_apart in drawn], size),
        _stacked([taken_apart.behind for taken_apart in drawn], size),
        masks,
        _stacked(without, size),
        which,
    )


def _stacked(pictures: Sequence[npt.NDArray[np.uint8]], size: int) -> Tensor:
    return torch.from_numpy(np.stack(pictures)) if pictures else torch.zeros(0, size, size, 3, dtype=torch.uint8)


def object_values(predictor: Predictor, drawings: Drawings, classes: Tensor) -> Tensor:
    """Return what each object is worth, (N, O) float64; NaN for one that cannot be seen.

    Args:
        predictor: the model.
        drawings: drawings of N scenes.
        classes: (N,) the explained classes.
    """
    count, which = len(drawings.full), drawings.which
    pictures = torch.cat([drawings.full, drawings.without])
    rows = torch.cat([torch.arange(count), which[:, 0]])
    said = _said(predictor, lambda some: _images(pictures[some.cpu()], predictor), rows, drawings, classes)
    values = torch.full(drawings.masks.shape[:2], torch.nan, dtype=torch.float64)
    values[which[:, 0], which[:, 1]] = beyond_rounding(said[which[:, 0]] - said[count:], said[which[:, 0]])
    return values


def cell_values(predictor: Predictor, drawings: Drawings, classes: Tensor) -> Tensor:
    """Return what each cell's foreground is worth, (N, R) float64; NaN for a cell that shows background alone.

    Args:
        predictor: the model.
        drawings: drawings of N scenes.
        classes: (N,) the explained classes.
    """
    region, areas = regions_of((drawings.full.shape[1], drawings.full.shape[2]), CELLS)
    cell, scene = _changed_cells(drawings, region, areas.numel())
    count, pairs = len(drawings.full), len(cell)
    every = torch.arange(count)
    rows = torch.cat([every, every, scene, scene])  # full, background, without this cell, with this cell alone
    only = torch.arange(len(rows)) >= 2 * count + pairs
    seen = torch.cat([torch.full((2 * count,), -1), cell, cell])  # no pixel is in cell -1
    only[count : 2 * count] = True

    def make(some: Tensor) -> Tensor:
        numbers = some.cpu()
        inside = region == seen[numbers].view(-1, 1, 1)
        full = inside == only[numbers].view(-1, 1, 1)
        pictures = torch.where(full.unsqueeze(3), drawings.full[rows[numbers]], drawings.behind[rows[numbers]])
        return _images(pictures, predictor)

    said = _said(predictor, make, rows, drawings, classes)
    taken = said[scene] - said[2 * count : 2 * count + pairs]
    added = said[2 * count + pairs :] - said[count + scene]
    values = torch.full((count, areas.numel()), torch.nan, dtype=torch.float64)
    values[scene, cell] = beyond_rounding((taken + added) / 2, said[scene])
    return values


def _changed_cells(drawings: Drawings, region: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return cell and scene, (M,) int64 each, of the cells in which anything but background is seen."""
    changed = (drawings.full != drawings.behind).any(3).flatten(1)
    pixels = torch.zeros(len(changed), count, dtype=torch.int64).index_add_(1, region.flatten(), changed.long())
    scene, cell = (pixels > 0).nonzero().unbind(1)
    return cell, scene


def _images(pictures: Tensor, predictor: Predictor) -> Tensor:
    """Return (n, 3, H, W) images in [0, 1], where the model is, of (n, H, W, 3) bytes."""
    return pictures.to(predictor.device).permute(0, 3, 1, 2).float().div_(255)


def _said(predictor: Predictor, make: Make, rows: Tensor, drawings: Drawings, classes: Tensor) -> Tensor:
    """Return what the model says, (n,) on the CPU, of n pictures of which the scenes are `rows`."""
    logits = predictor.made(make, len(rows), _images(drawings.full[:1], predictor))
    return explained(predictor.values(logits, classes.cpu()[rows])).cpu()
