"""Two views of a batch: the same scenes in other colors and a few pixels further.

The geometry that both share is the augmentation of the data. What differs between them is what a prototype is to be
indifferent to. All numbers are drawn from torch's generator on the device of the batch, which is seeded at every epoch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ibd.types import Batch

_LUMA = (0.299, 0.587, 0.114)
"""What red, green and blue add to the gray value (ITU-R BT.601)."""


def two_views(batch: Batch, color: float, shift: int) -> Batch:
    """Return a batch of twice the length: one view of each image, then the other one of each.

    Args:
        batch: B images.
        color: strength of the change of brightness, contrast and saturation, as for `vary_color`.
        shift: largest shift of each view in pixels, as for `shifted`.
    """
    both = Batch(
        image=batch.image.repeat(2, 1, 1, 1),
        label=batch.label.repeat(2),
        concepts=batch.concepts.repeat(2, 1),
        index=batch.index.repeat(2),
    )
    count, device = len(both), both.image.device
    offset = torch.randint(-shift, shift + 1, (count, 2), device=device)
    factor = 1 + color * (2 * torch.rand(count, 3, device=device, dtype=both.image.dtype) - 1)
    both.image = vary_color(shifted(both.image, offset), factor)
    return both


def shifted(image: Tensor, offset: Tensor) -> Tensor:
    """Return each image shifted by its own whole number of pixels; what comes in repeats the border.

    Args:
        image: (B, 3, H, W).
        offset: (B, 2) int64, downwards and to the right.
    """
    count, channels, height, width = image.shape
    rows = (torch.arange(height, device=image.device) - offset[:, :1]).clamp(0, height - 1)
    columns = (torch.arange(width, device=image.device) - offset[:, 1:]).clamp(0, width - 1)
    image = image.gather(2, rows.view(count, 1, height, 1).expand(-1, channels, -1, width))
    return image.gather(3, columns.view(count, 1, 1, width).expand(-1, channels, height, -1))


def vary_color(image: Tensor, factor: Tensor) -> Tensor:
    """Return images with other brightness, contrast and saturation, in [0, 1].

    Brightness multiplies the image; contrast and saturation blend it with its mean gray value and with its own gray
    picture, as torchvision's ``ColorJitter`` does.

    Args:
        image: (B, 3, H, W) in [0, 1].
        factor: (B, 3) of brightness, contrast, saturation, at least 0; 1 changes nothing.
    """
    brightness, contrast, saturation = factor.view(len(image), 3, 1, 1, 1).unbind(1)
    image = (image * brightness).clamp(0, 1)
    mean = _gray(image).mean((2, 3), keepdim=True)
    image = (mean + contrast * (image - mean)).clamp(0, 1)
    gray = _gray(image)
    return (gray + saturation * (image - gray)).clamp(0, 1)


def _gray(image: Tensor) -> Tensor:
    """Return (B, 1, H, W) gray values."""
    return (image * image.new_tensor(_LUMA).view(3, 1, 1)).sum(1, keepdim=True)
