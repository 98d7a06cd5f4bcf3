"""Where a prototype looks, and which annotated parts lie there: the geometry under the prototype metrics.

Any annotation of parts will do: P masks an image, or P points, NaN where a part is not to be seen. Positions are (y, x)
in pixels; the center of the first pixel is (0, 0).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ibd.backbones.receptive_field import ReceptiveField

CONSISTENCY_HALF = 36 / 224
"""Half the square of consistency and stability, over the image's side (Huang et al. 2023, EvalProtoPNet)."""
PURITY_HALF = 16 / 224
"""Half the square of purity, a patch of 32 pixels of 224, over the image's side (Nauta et al. 2023, PIP-Net)."""

_TIE = 1e-6  # of a map's range; float64 interpolation errs by far less
_CHUNK = 2**22  # pixels upsampled at a time: 32 MiB


def peak_positions(maps: Tensor, image_size: tuple[int, int], field: ReceptiveField | None = None) -> Tensor:
    """Return where each map, upsampled bicubically to the image (A = -0.75, as OpenCV's), is highest.

    A single high cell of a map of even upsampling is shared by the four pixels around its center, so ties are the rule.
    Pixels within 1e-6 of the map's range count as tied, and the first of them in reading order is taken: what rounding
    does on another device moves no peak.

    Args:
        maps: (B, U, h, w).
        image_size: (H, W) in pixels.
        field: receptive field, for the pixels that the cells are centered on; without it they share the image out
            evenly, as published. See `upsampling`.

    Returns:
        (B, U, 2) float32 (y, x), whole numbers; NaN for a map without a peak: flat, or with a value that is not finite.
    """
    height, width = image_size
    rows, columns = upsampling(maps.shape[2:], image_size, "bicubic", field)
    columns = columns.T
    flat = _double(maps.detach()).flatten(0, 1)
    rows, columns = rows.to(flat.device), columns.to(flat.device)
    chunks = torch.split(flat, max(1, _CHUNK // (height * width)))
    first = [_first_highest(rows @ chunk @ columns) for chunk in chunks]
    pixel = torch.cat(first)
    spread = flat.amax((1, 2)) - flat.amin((1, 2))
    position = torch.stack([pixel // width, pixel % width], 1).float()
    position = position.where(((spread > 0) & spread.isfinite()).unsqueeze(1), torch.nan)
    return position.view(*maps.shape[:2], 2).to(maps.device)


def chosen_peaks(
    maps: Tensor, chosen: Tensor, image_size: tuple[int, int], field: ReceptiveField | None = None
) -> Tensor:
    """Return the (B, U, 2) `peak_positions` of some of the (B, U, h, w) maps, (B, U) bool; NaN for the others."""
    peaks = torch.full((*chosen.shape, 2), torch.nan, device=maps.device)
    some = maps[chosen].unsqueeze(1)
    peaks[chosen] = peak_positions(some, image_size, field).squeeze(1)
    return peaks


def part_centers(masks: Tensor) -> Tensor:
    """Return the center of mass of each part's visible pixels.

    Args:
        masks: (B, P, H, W) bool.

    Returns:
        (B, P, 2) float32 (y, x); NaN where a part has no visible pixel.
    """
    masks = masks.bool()
    by_row, by_column = masks.sum(3), masks.sum(2)  # whole numbers: exact at any size
    y = (by_row * torch.arange(masks.shape[2], device=masks.device)).sum(2)
    x = (by_column * torch.arange(masks.shape[3], device=masks.device)).sum(2)
    return torch.stack([y, x], 2) / by_row.sum(2).unsqueeze(2)


def part_hits(peaks: Tensor, centers: Tensor, half: float) -> tuple[Tensor, Tensor]:
    """Return which parts lie in the square around each peak.

    A center lies in the image, so clipping the square to the image, as the papers do, changes no hit.

    Args:
        peaks: (B, U, 2) from `peak_positions`; NaN hits nothing.
        centers: (B, P, 2) from `part_centers`, or annotated points; NaN where not visible.
        half: half the side of the square in pixels, its border included: `CONSISTENCY_HALF` or `PURITY_HALF` times the
            image's side.

    Returns:
        hits: (B, U, P) bool, false where the part is not visible.
        visible: (B, P) bool.
    """
    hits = ((peaks.unsqueeze(2) - centers.unsqueeze(1)).abs() <= half).all(3)  # a comparison with NaN is false
    return hits, ~centers.isnan().any(2)


def peaks_inside(peaks: Tensor, masks: Tensor) -> Tensor:
    """Return whether each peak lies on an annotated part, any of them.

    Args:
        peaks: (B, U, 2) pixels of the masks, NaN for a map without a peak.
        masks: (B, P, H, W) bool.

    Returns:
        (B, U) float32, 1 or 0; NaN where there is no peak, or no visible part in the image.
    """
    union = masks.bool().any(1)
    none = peaks.isnan().any(2) | ~union.any((1, 2)).unsqueeze(1)
    y, x = peaks.nan_to_num(0.0).round().long().unbind(2)
    image = torch.arange(len(union), device=union.device).unsqueeze(1)
    return union[image, y, x].float().where(~none, torch.nan)


def energy_inside(maps: Tensor, masks: Tensor, field: ReceptiveField | None = None) -> Tensor:
    """Return the share of each map, upsampled bilinearly to the image, that lies on annotated parts.

    Upsampling is linear, so the masks are brought to the map's cells (its transpose) instead of the maps to the image:
    the same number, without B x U images in memory.

    Args:
        maps: (B, U, h, w) of any size; negative values count as 0.
        masks: (B, P, H, W) bool.
        field: receptive field of the cells, as for `peak_positions`.

    Returns:
        (B, U) float32 in [0, 1]; NaN for a map that is 0 everywhere, or an image without a visible part.
    """
    union = masks.bool().any(1)
    on_parts = _double(union)
    size = (union.shape[1], union.shape[2])
    rows, columns = (weights.to(on_parts.device) for weights in upsampling(maps.shape[2:], size, "bilinear", field))
    inside = (rows.T @ on_parts @ columns).to(maps.device, torch.float32).unsqueeze(1)
    everywhere = torch.outer(rows.sum(0), columns.sum(0)).to(maps.device, torch.float32)
    value = maps.detach().float().clamp(min=0)
    share = (value * inside).sum((2, 3)) / (value * everywhere).sum((2, 3))
    return share.where(union.any((1, 2)).unsqueeze(1), torch.nan)


def add_noise(image: Tensor, std: Sequence[float] | Tensor, index: Tensor, seed: int = 0) -> Tensor:
    """Return the images with the noise of the stability protocol: N(0, 0.2) clamped to +-0.25 in normalized space.

    The noise of an image depends on `seed` and its index alone, and not on its batch or its process.

    Args:
        image: (B, 3, H, W) in [0, 1].
        std: (3,) what the published networks divide the channels by, (0.229, 0.224, 0.225) of ImageNet.
        index: (B,) the sample ids.
        seed: seed of the noise; another one gives other noise.

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    generators = (np.random.default_rng([seed, number % 2**32]) for number in index.tolist())
    drawn = [torch.from_numpy(generator.standard_normal(image.shape[1:], dtype=np.float32)) for generator in generators]
    if not drawn:
        return image
    noise = torch.stack(drawn).to(image.device, image.dtype).mul(0.2).clamp(-0.25, 0.25)
    scale = torch.as_tensor(std, device=image.device, dtype=image.dtype).view(-1, 1, 1)
    return (image + noise * scale).clamp(0, 1)


def _double(value: Tensor) -> Tensor:
    """Return it in float64, in which no setting lowers the precision of a matrix product."""
    return value.cpu().double() if value.device.type == "mps" else value.double()  # mps has no float64


def upsampling(
    cells: Sequence[int], image_size: tuple[int, int], mode: str, field: ReceptiveField | None = None
) -> tuple[Tensor, Tensor]:
    """Return the float64 (H, h) and (W, w) that bring an (h, w) map to the image: ``rows @ map @ columns.T``.

    Without `field` cells share the image out evenly, as published. That is where they look only if no layer strides off
    center: the cells of a convolution of stride 2 and padding 1 are centered on its even pixels, so with 32 pixels a
    cell, as in a ResNet, everything would be drawn 15.5 pixels too far down and right.

    Args:
        cells: rows and columns of the map, h and w.
        image_size: (H, W) in pixels.
        mode: "bilinear" or "bicubic".
        field: receptive field, which says which pixels the cells are centered on.
    """
    axes = []
    for axis, (count, pixels) in enumerate(zip(cells, image_size, strict=True)):
        identity = torch.eye(count, dtype=torch.float64)
        if field is None:
            axes.append(F.interpolate(identity[None, None], (count, pixels), mode=mode, align_corners=False)[0, 0].T)
            continue
        cell = (torch.arange(pixels, dtype=torch.float64) + 0.5 - field.offset[axis]) / field.stride[axis]
        place = torch.stack([(2 * cell + 1) / count - 1, torch.zeros_like(cell)], 1).view(1, 1, pixels, 2)
        line = F.grid_sample(identity[None, :, None], place, mode, padding_mode="border", align_corners=False)
        axes.append(line[0, :, 0].T)
    return axes[0], axes[1]


def _first_highest(values: Tensor) -> Tensor:
    """Return the index into H x W of the first of the highest values; values (N, H, W)."""
    values = values.flatten(1)
    highest, lowest = values.amax(1, keepdim=True), values.amin(1, keepdim=True)
    return (values >= highest - _TIE * (highest - lowest)).byte().argmax(1)
