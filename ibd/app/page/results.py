"""A result to take along as a picture, and the file that its image is of."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ibd.app.page.maps import Picture
from ibd.data.dataset import ImageDataset
from ibd.data.files import FileDataset
from ibd.explain.boxes import Box

SIDE = 448
"""Pixels of the longer side of a picture at least: that of a small image is enlarged."""


def file_of(dataset: ImageDataset, index: int) -> Path | None:
    """Return the file that an image of a data set is read from; None where it is drawn, or of data without files."""
    if not isinstance(dataset, FileDataset):
        return None
    return (Path(dataset.store.folder) / dataset.table.paths[index]).absolute()


def survives_png(image: Tensor) -> bool:
    """Return whether an image in [0, 1] is the same when it is written to a PNG file and read again."""
    return bool(torch.equal((image * 255).round().div(255), image))


def lay_over(base: Picture, layer: Picture, opacity: float) -> Picture:
    """Return a (H, W, 3) picture laid over another with an opacity from 0 to 1, as the page shows them."""
    return (1 - opacity) * base + opacity * layer


def map_png(base: Picture, layer: Picture, opacity: float, box: Box | None = None) -> bytes:
    """Return an image with the map that lies over it as a PNG file of at least `SIDE` pixels, framed as on the page.

    Args:
        base: (H, W, 3), the gray image.
        layer: (H, W, 3), the map at full strength.
        opacity: opacity from 0 to 1.
        box: (top, left, bottom, right) of a frame, in pixels of the image.
    """
    height, width = base.shape[:2]
    factor = max(1, -(-SIDE // max(height, width)))
    pixels = (255 * lay_over(base, layer, opacity).clip(0, 1)).round().astype(np.uint8)
    picture = Image.fromarray(pixels).resize((width * factor, height * factor), Image.Resampling.BICUBIC)
    if box is not None:
        top, left, bottom, right = (factor * edge for edge in box)
        pen = ImageDraw.Draw(picture)
        pen.rectangle((left, top, right - 1, bottom - 1), outline="black", width=4)
        pen.rectangle((left + 1, top + 1, right - 2, bottom - 2), outline="#ffd43b", width=2)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def figure_png(figure: Any) -> bytes:
    """Return a figure of matplotlib as a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()
