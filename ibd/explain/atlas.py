"""An activation atlas: what a layer holds at many places of many images, laid out and drawn (Carter et al. 2019).

Activations of places are laid out in two dimensions, averaged by the cells of a grid, and each cell's average is drawn
by feature visualization, with what it does for the classes. Places near each other on the atlas hold much the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ibd.distributed import progress
from ibd.errors import DataError, UnsupportedError, check_range
from ibd.explain.activations import chunked, device_of
from ibd.explain.base import Call, undisturbed
from ibd.explain.code_map import CodeMap, Method, lay_out
from ibd.explain.feature_visualization import Objective, TotalVariation
from ibd.explain.inside import small_images
from ibd.explain.layer_features import batch_of
from ibd.explain.layers import LayerCut, precise
from ibd.explain.layouts import Layout
from ibd.explain.patches import patches_at
from ibd.explain.targets import Target

_MOST_VALUES = 2**24
"""Gradients that are made at a time: 64 MiB in float32."""
_SMOOTH = 4.0
"""Weight of the total variation of a cell's image, beside which the objective is about 1; less leaves speckles."""


@dataclass(frozen=True)
class Sampled:
    """Activations at M places of images.

    Attributes:
        vectors: (M, D) float32 activations.
        parts: (M, C) what each place does for each class: activations times the gradient of the centered logit by them.
        labels: (M,) classes of the images.
        index: (M,) positions of the images in their split.
        places: (M, 2) row and column in the layer's map.
        shape: rows and columns of the layer's map.
        size: H and W of the images.
        classes: the C classes.
        forwards: passes that it took.
        heads: passes back from the end to the layer that it took.
        complete: whether all images were read: not where that was interrupted.
    """

    vectors: Tensor
    parts: Tensor
    labels: Tensor
    index: Tensor
    places: Tensor
    shape: tuple[int, int]
    size: tuple[int, int]
    classes: list[int]
    forwards: float
    heads: float
    complete: bool


@dataclass(frozen=True)
class Atlas:
    """The n cells of an atlas that hold enough places, the fullest first.

    Attributes:
        cells: (n, 2) row, from above, and column.
        grid: rows and columns along a side.
        counts: (n,) places in each.
        vectors: (n, D) mean activations.
        parts: (n, C) mean of what the places do for each class.
        classes: the C classes.
        images: (drawn, 3, s, s) in [0, 1]: what excites the layer as the first cells do.
        map: where each place lies.
        layer: name of the layer.
        member: (M,) cell of each place; -1 of one in a cell that holds too few.
        nearest: (n,) the place of each cell whose activations are nearest to the cell's mean.
    """

    cells: Tensor
    grid: int
    counts: Tensor
    vectors: Tensor
    parts: Tensor
    classes: list[int]
    images: Tensor
    map: CodeMap
    layer: str
    member: Tensor
    nearest: Tensor

    @property
    def complete(self) -> bool:
        """Whether every cell was drawn: not where that was interrupted."""
        return len(self.images) == len(self.cells)


def sample_places(
    model: nn.Module,
    data_loader: Iterable[object],
    layer: str,
    classes: Sequence[int],
    per_image: int = 4,
    most: int = 2000,
    seed: int = 0,
    layout: Layout = "auto",
) -> Sampled:
    """Return what a layer holds at random places of images, other ones in each, and what that does for classes.

    Memory holds `most` places and one batch. An interrupt (Ctrl-C) ends the reading; what was read by then is returned.
    The model is left as it was. Where the rest of the model is affine, such as a mean and a linear layer, the parts of
    all places of an image add up to its centered logits less their bias.

    Args:
        model: ours, or any classifier of (B, 3, H, W) images in [0, 1].
        data_loader: loader of a `Batch`.
        layer: name of a layer that puts out a map of any layout, or tokens.
        classes: classes that parts are told for.
        per_image: places of each image.
        most: places in all; images that come after these are not read, so the loader had better mix the classes.
        seed: seed of the places; those of an image depend on nothing else.
        layout: layout of the layer's output.

    Raises:
        ConfigError: there is no such layer or class, or a number out of its range.
        DataError: no images.
        UnsupportedError: the layer puts out no map, or the logits do not depend on it.
    """
    check_range("per_image", per_image, least=1)
    check_range("places", most, least=1)
    target, parts, count = Target.classes(list(classes), "centered_logit"), list[tuple[Tensor, ...]](), 0
    shape = size = (0, 0)
    call, complete = Call(model, target, layout), True
    with undisturbed(model):
        try:
            for batch in progress(data_loader, "reading places"):
                kept = batch_of(batch)
                for rows in _small_enough(model, kept.image, layer, call, len(target.sums)):
                    image, index = kept.image[rows].to(device_of(model)), kept.index[rows]
                    at = LayerCut(call, image, layer)
                    shape, size = (at.value.shape[2], at.value.shape[3]), (image.shape[2], image.shape[3])
                    parts.append(_read(at, index, kept.label[rows], per_image, seed))
                    count += len(parts[-1][0])
                if count >= most:
                    break
        except KeyboardInterrupt:
            if not parts:
                raise
            complete = False
    if not parts:
        raise DataError("the data loader yields no images")
    vectors, own, labels, index, places = (torch.cat(same)[:most] for same in zip(*parts, strict=True))
    passes = (call.cost.forwards, call.cost.heads)
    return Sampled(vectors, own, labels, index, places, shape, size, list(classes), *passes, complete)


def _small_enough(model: nn.Module, image: Tensor, layer: str, call: Call, classes: int) -> list[slice]:
    """Return slices of a batch such that the gradients of each are not too many; by the first image."""
    values = LayerCut(call, image[:1].to(device_of(model)), layer).value
    if values.dim() != 4:
        raise UnsupportedError(f"layer '{layer}' puts out no map, so it holds nothing at places: name another")
    return list(chunked(len(image), max(1, _MOST_VALUES // (values.numel() * classes))))


def _read(at: LayerCut, index: Tensor, labels: Tensor, per_image: int, seed: int) -> tuple[Tensor, ...]:
    """Return vectors, parts, labels, positions and places of a few images whose pass was cut at the layer."""
    values, gradients = precise(at.value).flatten(2), precise(at.gradients()).flatten(3)
    count, width = min(per_image, values.shape[2]), at.value.shape[3]
    chosen = torch.stack([_drawn(values.shape[2], count, seed, int(number)) for number in index]).to(values.device)
    vectors = values.gather(2, chosen.unsqueeze(1).expand(-1, values.shape[1], -1)).transpose(1, 2)
    products = (gradients * values.unsqueeze(1)).sum(2)  # (B, C, hw)
    parts = products.gather(2, chosen.unsqueeze(1).expand(-1, products.shape[1], -1)).transpose(1, 2)
    places = torch.stack([chosen // width, chosen % width], 2).flatten(0, 1)
    repeated = [each.repeat_interleave(count) for each in (labels, index)]
    return vectors.flatten(0, 1).float().cpu(), parts.flatten(0, 1).float().cpu(), *repeated, places.cpu()


def _drawn(cells: int, count: int, seed: int, number: int) -> Tensor:
    """Return a few cells of an image, whatever batch it comes in."""
    generator = torch.Generator().manual_seed(seed * 1_000_003 + number)
    return torch.randperm(cells, generator=generator)[:count].sort().values


def activation_atlas(
    model: nn.Module,
    sampled: Sampled,
    layer: str,
    grid: int = 10,
    least: int = 3,
    method: Method = "tsne",
    seed: int = 0,
    perplexity: float = 30.0,
    size: int = 40,
    batch_size: int = 16,
    **options: Any,
) -> Atlas:
    """Return an atlas of places: laid out, averaged by cell, and each cell drawn, the fullest first.

    An interrupt (Ctrl-C) while cells are drawn ends the drawing; the cells that are done are returned. The cost is a
    pass forth and back through the model, as far as the layer, for each cell and step.

    Args:
        model: model that the places were sampled from.
        sampled: places from `sample_places`.
        layer: layer that they were sampled from.
        grid: cells along a side.
        least: places that a cell needs to be drawn.
        method: way to lay out, see `lay_out`; the paper takes UMAP, or t-SNE.
        seed: seed of the layout.
        perplexity: neighbours that count, see `lay_out`.
        size: pixels along a side of a cell's image.
        batch_size: cells that are drawn at a time.
        options: options of `maximize_activation`, such as ``steps=256``.

    Raises:
        ConfigError: a number out of its range.
        DataError: too few places, or no cell holds enough of them.
    """
    check_range("grid", grid, least=1)
    check_range("least", least, least=1)
    found = lay_out(sampled.vectors, method, seed, perplexity)
    cells, counts, member = by_cell(found.places, grid, least)
    if not len(cells):
        raise DataError(f"no cell of {grid} x {grid} holds {least} places: take fewer cells, or more images")
    one = torch.nn.functional.one_hot(member[member >= 0], len(cells)).float().t() / counts.unsqueeze(1)
    vectors, parts = (one @ values[member >= 0] for values in (sampled.vectors, sampled.parts))
    far = torch.where(one > 0, torch.cdist(vectors, sampled.vectors[member >= 0]), torch.inf)
    nearest = (member >= 0).nonzero().squeeze(1)[far.argmin(1)]
    images = _draw(model, vectors, layer, size, batch_size, {"penalties": [TotalVariation(weight=_SMOOTH)], **options})
    return Atlas(cells, grid, counts, vectors, parts, sampled.classes, images, found, layer, member, nearest)


def atlas_examples(model: nn.Module, sampled: Sampled, atlas: Atlas, dataset: object, size: int = 40) -> Tensor:
    """Return a patch of an image for each cell, (n, 3, size, size): at the place that is nearest to the cell's mean.

    Args:
        model: model of the atlas.
        sampled: places that it was made of.
        atlas: the atlas.
        dataset: the split that the places are of.
        size: pixels along a side.
    """
    chosen = atlas.nearest
    names = [f"cell {row}, {column}" for row, column in atlas.cells.tolist()]
    index, places = sampled.index[chosen].unsqueeze(1), sampled.places[chosen].unsqueeze(1)
    score = sampled.vectors[chosen].norm(dim=1, keepdim=True)
    found = patches_at(model, atlas.layer, names, index, places, score, sampled.size, sampled.shape)
    return found.pictures(dataset, size)[:, 0]


def by_cell(places: Tensor, grid: int, least: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the cells (n, 2) of a grid that hold enough places, the fullest first, how many, and whose each is.

    Args:
        places: (M, 2) in [0, 1], across and up.
        grid: cells along a side.
        least: places that a cell needs.

    Returns:
        (n, 2) rows from above and columns, (n,) counts, and (M,) the cell of each place, -1 where that has too few.
    """
    across, up = (places * grid).long().clamp(max=grid - 1).unbind(1)
    number = (grid - 1 - up) * grid + across
    counts = torch.bincount(number, minlength=grid * grid)
    order = counts.argsort(descending=True, stable=True)
    order = order[counts[order] >= least]
    rank = torch.full((grid * grid,), -1)
    rank[order] = torch.arange(len(order))
    return torch.stack([order // grid, order % grid], 1), counts[order], rank[number]


def _draw(model: nn.Module, vectors: Tensor, layer: str, size: int, batch_size: int, options: dict[str, Any]) -> Tensor:
    """Return an image for each vector, (n, 3, s, s); for fewer, where that is interrupted."""
    magnitude = vectors.norm(dim=1)
    directions = vectors / magnitude.clamp(min=math.ulp(0.0)).unsqueeze(1)
    made: list[Tensor] = []
    try:
        for part in progress(list(chunked(len(vectors), batch_size)), "drawing cells"):
            objective = Objective.direction(layer, directions[part], cosine_power=2.0)
            made.append(small_images(model, objective, size, part.stop - part.start, magnitude, options))
    except KeyboardInterrupt:
        if not made:
            raise
    return torch.cat(made)
