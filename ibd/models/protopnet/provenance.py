"""Where each prototype comes from: the training image and position whose patch it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn

_ID_BYTES = 256


@dataclass(frozen=True)
class Source:
    """The origin of one prototype.

    Attributes:
        prototype: index of the prototype.
        class_name: class name of the prototype, and so of the image.
        sample: name of the training image: its path, or how it was made.
        index: index of the image in the training split.
        row, column: row and column of the patch in the feature map; its upper left corner where it is larger than one
            cell.
        moved: distance from the trained prototype to this patch, by which it was moved.
    """

    prototype: int
    class_name: str
    sample: str
    index: int
    row: int
    column: int
    moved: float

    def to_dict(self) -> dict[str, str | int | float | None]:
        """Return plain values, such as JSON has: for a replaced prototype `moved` is None."""
        return asdict(self) | {"moved": self.moved if math.isfinite(self.moved) else None}


class Provenance(nn.Module):
    """The sources of P prototypes, as buffers, so that every checkpoint has them.

    Attributes:
        valid: () bool, whether the prototypes are the patches that are named here; a training step makes this False.
        ever: () bool, whether there has been a projection, so that batch statistics must not change any more.
        index: (P,) training image.
        position: (P, 2) row and column.
        moved: (P,) distance before the projection; 0 after it.
        precision: () index in `PRECISIONS` of the one that the features were computed in.
    """

    learns_nothing = True  # a network that forgets what it learned keeps it
    valid: Tensor
    ever: Tensor
    index: Tensor
    position: Tensor
    moved: Tensor
    precision: Tensor
    sample: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("valid", torch.tensor(False))
        self.register_buffer("ever", torch.tensor(False))
        self.register_buffer("index", torch.full((count,), -1))
        self.register_buffer("position", torch.full((count, 2), -1))
        self.register_buffer("moved", torch.full((count,), torch.nan, dtype=torch.float32))
        self.register_buffer("precision", torch.tensor(0))
        self.register_buffer("sample", torch.zeros(count, _ID_BYTES, dtype=torch.uint8))

    def name(self, samples: Sequence[str]) -> None:
        """Write down the P names of the images; of a very long one its end."""
        rows = []
        for text in samples:
            raw = text.encode()[-_ID_BYTES:].decode(errors="ignore").encode()
            rows.append(list(raw) + [0] * (_ID_BYTES - len(raw)))
        self.sample.copy_(torch.tensor(rows, dtype=torch.uint8))

    def name_of(self, prototype: int) -> str:
        """Return the name of one image; empty where there was no projection."""
        return bytes(self.sample[prototype].tolist()).rstrip(b"\0").decode()

    def names(self) -> list[str]:
        """Return the P names; empty where there was no projection."""
        return [bytes(row).rstrip(b"\0").decode() for row in self.sample.cpu().tolist()]


PRECISIONS: tuple[torch.dtype | None, ...] = (None, torch.bfloat16, torch.float16)
"""Types of autocast; None is without it."""
