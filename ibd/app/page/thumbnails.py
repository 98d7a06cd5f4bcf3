"""Small pictures of images, made when they are first shown; memory keeps the newest."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict

import torch
from PIL import Image
from torch import Tensor

SIDE = 96
"""Pixels of the longer side."""
_BYTES = 32 * 2**20


class Thumbnails:
    """Small pictures by key.

    Args:
        most: bytes that are kept; the oldest go first.
    """

    def __init__(self, most: int = _BYTES) -> None:
        self.most, self.size = most, 0
        self._kept: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: tuple[str, str]) -> bytes | None:
        """Return the picture of a key, if it is kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def keep(self, key: tuple[str, str], image: Tensor) -> bytes:
        """Make the picture of a (3, H, W) image in [0, 1], keep and return it."""
        made = thumbnail(image)
        with self._lock:
            self.size += len(made) - len(self._kept.pop(key, b""))
            self._kept[key] = made
            while self.size > self.most and len(self._kept) > 1:
                self.size -= len(self._kept.popitem(last=False)[1])
        return made


def thumbnail(image: Tensor) -> bytes:
    """Return a (3, H, W) image in [0, 1] as a JPEG of at most `SIDE` pixels a side, or as it is where that is less."""
    pixels = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
    picture = Image.fromarray(pixels)
    picture.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=88)
    return file.getvalue()
