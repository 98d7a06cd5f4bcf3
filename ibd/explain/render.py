"""Turning maps into pictures. Maps are signed and un-normalized; only here are they scaled, and how is said."""

from __future__ import annotations

import base64
import io
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ibd.drawing import PlainFigure, shorten
from ibd.errors import ConfigError
from ibd.explain.perception import sight_of
from ibd.explain.pixels import pixels_of

Scale = Literal["diverging", "sequential"]
Normalization = Literal["max", "percentile", "shared"]
Picture = Tensor | NDArray[np.float32]

RED = np.array([0.79, 0.08, 0.17], dtype=np.float32)
_SMALL = 32
"""Rows or columns of a map that is brought to another size by products."""
BLUE = np.array([0.13, 0.36, 0.67], dtype=np.float32)


def upsample(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (B, U, h, w) maps bilinearly brought to (B, U, H, W), in float32 or better; their sign and scale stay.

    Small maps by two products with the weights of the interpolation, which is several times as fast.
    """
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    if max(maps.shape[2:]) > _SMALL or not maps.numel():
        return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    with torch.autocast(maps.device.type, enabled=False):
        rows, columns = (_weights(cells, pixels, maps) for cells, pixels in zip(maps.shape[2:], size, strict=True))
        return rows.t() @ (maps @ columns)


def _weights(cells: int, pixels: int, like: Tensor) -> Tensor:
    """Return what each of the cells of a line counts for each of its pixels, (cells, pixels)."""
    one_by_one = torch.eye(cells, dtype=like.dtype, device=like.device).unsqueeze(0)
    return F.interpolate(one_by_one, size=pixels, mode="linear", align_corners=False)[0]


def overlay(
    image: Tensor,
    heat: Tensor,
    scale: float | None = None,
    strength: float = 0.75,
    normalization: Normalization = "max",
    degrees: float | None = None,
) -> NDArray[np.float32]:
    """Return a (H, W, 3) picture of a gray image with a signed map on it: red speaks for, blue against.

    Args:
        image: (3, H, W) in [0, 1].
        heat: (H, W), or smaller and then upsampled.
        scale: the absolute value that is painted with full strength; None leaves it to `normalization`.
        strength: opacity there, 0 to 1.
        normalization: normalization of the strength, see `strongest`.
        degrees: visual angle of the image's shorter side: what lies where a person who sees it so sees no detail is
            left out, see `ibd.explain.perception`; None paints all.
    """
    picture = image.detach().float().cpu()
    heat = heat.detach().float().cpu()
    if heat.shape != picture.shape[1:]:
        heat = upsample(heat[None, None], (picture.shape[1], picture.shape[2]))[0, 0]
    if degrees is not None:
        heat = sight_of(picture, degrees).seen(heat)[0]
    value = _divided(heat, strongest(heat, normalization) if scale is None else torch.tensor(scale)).numpy()
    gray = picture.mean(0).numpy()[..., None] * 0.75 + 0.2
    color = np.where(value[..., None] >= 0, RED, BLUE)
    alpha = strength * np.abs(value)[..., None]
    mixed: NDArray[np.float32] = ((1 - alpha) * gray + alpha * color).clip(0, 1).astype(np.float32)
    return mixed


def smoothed(heat: Tensor) -> Tensor:
    """Return (..., H, W) maps for a picture: each pixel is the mean of those around it.

    What single pixels add alternates with the steps of a network's convolutions, and that pattern hides where they are.
    The window is an odd number of pixels, about a twentieth of the shorter side: 3 of 32, 5 of 64, 13 of 224 (the
    paper's code for B-cos networks takes 15 of 224).
    """
    shape, side = heat.shape, min(heat.shape[-2:])
    width = 2 * max(1, round(side / 40)) + 1
    return F.avg_pool2d(heat.float().reshape(-1, 1, *shape[-2:]), width, 1, width // 2, count_include_pad=False).view(
        shape
    )


def strongest(values: Tensor, normalization: Normalization = "max") -> Tensor:
    """Return the absolute values that are painted with full strength, (..., 1, 1) for (..., H, W) maps.

    Args:
        values: values of the maps.
        normalization: "max", the largest of each map; "percentile", its 99th percentile, so that a few pixels
            do not fade the rest (the largest where that is 0); "shared", the largest of all.

    Raises:
        ConfigError: another one.
    """
    size = values.abs()
    if normalization == "max":
        return size.amax((-2, -1), keepdim=True)
    if normalization == "percentile":
        flat = size.flatten(-2).sort(-1).values
        scale = flat[..., math.ceil(0.99 * flat.shape[-1]) - 1, None, None]
        return torch.where(scale > 0, scale, flat[..., -1, None, None])
    if normalization == "shared":
        return size.amax().expand(*values.shape[:-2], 1, 1)
    raise ConfigError(f"normalization: '{normalization}' is not one of max, percentile, shared")


def color_map(values: Tensor, scale: Scale = "diverging", normalization: Normalization = "max") -> NDArray[np.float32]:
    """Return maps as pictures.

    Args:
        values: (..., H, W) maps, finite.
        scale: "diverging", 0 is white, red above and blue below it; "sequential", 0 and less is black.
        normalization: normalization of the strength, see `strongest`.

    Returns:
        (..., H, W, 3) in [0, 1].

    Raises:
        ConfigError: an unknown scale or normalization.
    """
    values = values.detach().float().cpu()
    return _painted(_divided(values, strongest(values, normalization)), scale)


def pictures(maps: Tensor, height: int = 96) -> str:
    """Return (B, H, W) maps side by side as elements of HTML, each in its own scale: red speaks for, blue against."""
    drawn = []
    for number, picture in enumerate(color_map(maps.float().nan_to_num(0.0, 0.0, 0.0))):
        file = io.BytesIO()
        Image.fromarray((255 * picture).round().astype(np.uint8)).save(file, format="png")
        coded = base64.b64encode(file.getvalue()).decode()
        drawn.append(f'<img src="data:image/png;base64,{coded}" height="{height}" alt="map of image {number}"> ')
    return "".join(drawn)


def _painted(part: Tensor, scale: Scale) -> NDArray[np.float32]:
    """Return the (..., H, W, 3) colors of (..., H, W) in [-1, 1]."""
    numbers = part.numpy()
    if scale == "sequential":
        painted: NDArray[np.float32] = colormaps["inferno"](numbers.clip(0, 1))[..., :3].astype(np.float32)
        return painted
    if scale != "diverging":
        raise ConfigError(f"scale: '{scale}' is not one of diverging, sequential")
    alpha = np.abs(numbers)[..., None]
    mixed: NDArray[np.float32] = (1 - alpha + alpha * np.where(numbers[..., None] >= 0, RED, BLUE)).astype(np.float32)
    return mixed


def normalization_note(scale: Scale = "diverging", normalization: Normalization = "max") -> str:
    """Return what the colors of `color_map` mean, for a caption."""
    colors = "red is positive, blue negative, white 0" if scale == "diverging" else "black is 0 or less"
    full = {
        "max": "each map's largest absolute value",
        "percentile": "the 99th percentile of each map's absolute values",
        "shared": "the largest absolute value of all maps",
    }[normalization]
    return f"maps: {colors}; full strength is {full}"


def grid_figure(
    images: Sequence[Picture],
    titles: Sequence[str] = (),
    columns: int | None = None,
    caption: str = "",
    scale: Scale = "diverging",
    normalization: Normalization = "max",
    path: str | Path | None = None,
) -> Figure:
    """Return pictures and maps in a labeled grid.

    Args:
        images: (C, H, W) or (H, W, 3) pictures in [0, 1], gray where C is not 3; or (H, W) maps, which are colored.
        titles: titles, one for each of the pictures, or none.
        columns: pictures in a row; None takes up to 8.
        caption: a line below; how maps are normalized is appended where there are any.
        scale: scale of the maps' colors, see `color_map`.
        normalization: normalization of the maps; "shared" is over those in the figure.
        path: path of the figure, saved as PNG.

    Raises:
        ConfigError: no pictures, or another number of titles.
    """
    if not len(images) or (titles and len(titles) != len(images)):
        raise ConfigError(f"a grid of {len(images)} pictures with {len(titles)} titles: one for each is needed")
    columns = min(len(images), 8 if columns is None else columns)
    rows = math.ceil(len(images) / columns)
    maps = [image for image in images if image.ndim == 2]
    if maps:
        caption = "     ".join(filter(None, [caption, normalization_note(scale, normalization)]))
    lines = max((title.count("\n") + 1 for title in titles), default=0)
    width = max(1.35 * columns, 2.7)
    note = textwrap.fill(caption, int(width * 17)) if caption else ""
    height = rows * (1.35 + 0.14 * lines) + 0.15 * (note.count("\n") + 2 if note else 0)
    figure = PlainFigure(figsize=(width, height), layout="constrained", dpi=150)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
        axis.set_anchor("N")  # centered in a higher cell, a title is measured where it is not drawn, and is cut
    for number, (axis, picture) in enumerate(zip(axes.flat, _pictures(images, scale, normalization), strict=False)):
        axis.imshow(picture, interpolation="nearest")
        if titles:
            axis.set_title("\n".join(shorten(line, 32) for line in titles[number].split("\n")), fontsize=7)
    if note:
        figure.supxlabel(note, fontsize=7, color="#495057")
    if path is not None:
        figure.savefig(path, format="png")
    return figure


def _pictures(images: Sequence[Picture], scale: Scale, normalization: Normalization) -> list[NDArray[np.float32]]:
    """Return (H, W, 3) arrays."""
    tensors = [torch.as_tensor(image).detach().float().cpu() for image in images]
    maps = [tensor for tensor in tensors if tensor.dim() == 2]
    shared = max((float(values.abs().max()) for values in maps), default=0.0)
    arrays: list[NDArray[np.float32]] = []
    for picture in tensors:
        if picture.dim() == 2:
            full = torch.tensor(shared) if normalization == "shared" else strongest(picture, normalization)
            arrays.append(_painted(_divided(picture, full), scale))
        else:
            arrays.append(
                pixels_of(picture if picture.shape[0] == 3 or picture.shape[2] != 3 else picture.permute(2, 0, 1))
            )
    return arrays


def _divided(values: Tensor, by: Tensor) -> Tensor:
    """Return values over a number each, within -1 and 1; 0 where that is 0."""
    return torch.where(by > 0, values / torch.where(by > 0, by, 1), 0).clamp(-1, 1)
