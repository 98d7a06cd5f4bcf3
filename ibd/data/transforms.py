"""Bringing images and masks to the network's size, and the training augmentations, by torchvision's v2 transforms.

Images go in as uint8 (3, H, W) and come out as float32 in [0, 1]; normalization is the network's first layer.
Masks, wrapped as ``tv_tensors.Mask``, follow the image's geometry and come out as bool. Flips and shifts are our own:
on a small image the dispatch of v2 costs more than the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from ibd.data.fitting import check_resize, covering_size, fit_image, padding
from ibd.errors import ConfigError
from ibd.types import Resize

Augment = Literal["none", "flip", "shift", "crop", "crop_color"]


class Chain:
    """Several transforms, one after the other; each takes and returns an image, or an image and its masks."""

    def __init__(self, steps: Sequence[Callable[..., Any]]) -> None:
        self.steps = steps

    def __call__(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Transform an image, or an image and its masks together."""
        for step in self.steps:
            outputs = step(*inputs)
            inputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return _one_or_all(inputs)


class Fit:
    """The deterministic part of every other transform here: uint8 to uint8 of `size`.

    An image is brought there as `ibd.data.fitting.fit_image` does it, so that a prediction sees what the training saw:
    which machines torchvision resizes bytes on, and which by way of floats, differs by its release.

    Args:
        size: (height, width).
        resize: "squash" resizes to the size whatever the aspect ratio; "crop" resizes to cover it and cuts the
            center; "pad" pads with black to the aspect ratio, so that nothing is cut or distorted.

    Raises:
        ConfigError: `resize` is none of these.
    """

    def __init__(self, size: tuple[int, int], resize: Resize) -> None:
        check_resize(resize)
        self.size, self.resize = size, resize

    def __call__(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Fit an image (3, H, W), or an image and its masks (P, H, W), each a ``tv_tensors.Mask``."""
        image, *masks = inputs
        if image.shape[-2:] == self.size:
            return _one_or_all(inputs)
        return _one_or_all([fit_image(image, self.size, self.resize), *(self._fit_mask(mask) for mask in masks)])

    def _fit_mask(self, mask: Tensor) -> Tensor:
        """Bring a mask along; v2 chooses the nearest pixel for it."""
        if self.resize == "pad":
            left, right, top, bottom = padding(mask, self.size)
            mask = functional.pad(mask, [left, top, right, bottom])
        if self.resize == "crop":
            covering: Tensor = functional.resize(mask, list(covering_size(mask, self.size)))
            cut: Tensor = functional.center_crop(covering, list(self.size))
            return cut
        fitted: Tensor = functional.resize(mask, list(self.size))
        return fitted


def eval_transform(size: tuple[int, int], resize: Resize, fitted: bool = False) -> Chain:
    """Return the deterministic transform to `size`.

    Args:
        size: (height, width).
        resize: way to another aspect ratio, as for `Fit`.
        fitted: the images have been through `Fit` already.
    """
    return Chain([ToFloat()] if fitted else [Fit(size, resize), ToFloat()])


def train_transform(size: tuple[int, int], resize: Resize, augment: Augment, fitted: bool = False) -> Chain:
    """Return the random training transform to `size`.

    Args:
        size: (height, width).
        resize: way to another aspect ratio, as for `Fit`; the "crop" recipes cut at random instead.
        augment: "none"; "flip" mirrors half of the images; "shift" also shifts by up to an eighth of the size
            (pad and crop, as usual for CIFAR); "crop" cuts out a random 8 % to 100 % of the area, and mirrors
            (torchvision's RandomResizedCrop, as usual for ImageNet); "crop_color" is "crop" with the color
            jitter of Koh et al. 2020 (brightness 32/255, saturation 0.5 to 1.5).
        fitted: the images have been through `Fit` already (not for the "crop" recipes).

    Raises:
        ConfigError: `augment` is none of these.
    """
    if augment == "none":
        return eval_transform(size, resize, fitted)
    fit = [] if fitted else [Fit(size, resize)]
    if augment == "flip":
        return Chain([*fit, Flip(), ToFloat()])
    if augment == "shift":
        return Chain([*fit, Shift(size[0] // 8, size[1] // 8), Flip(), ToFloat()])
    crop = v2.RandomResizedCrop(size, antialias=True)
    if augment == "crop":
        return Chain([crop, Flip(), ToFloat()])
    if augment == "crop_color":
        jitter = v2.ColorJitter(brightness=32 / 255, saturation=(0.5, 1.5))
        return Chain([jitter, crop, Flip(), ToFloat()])
    raise ConfigError(f"data.augment: '{augment}' given, one of {', '.join(get_args(Augment))} is needed")


def keeps_fit(augment: Augment) -> bool:
    """Return whether the training transform begins with `Fit`, so that its result can be kept."""
    return augment not in ("crop", "crop_color")


class Flip:
    """Mirror all inputs, left to right, half of the time: v2's transform for plain tensors, at a tenth of its cost."""

    def __call__(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Mirror every input: (..., H, W)."""
        flip = torch.rand(()).item() < 0.5
        return _one_or_all([image.flip(-1) if flip else image for image in inputs])


class Shift:
    """Shift all inputs by the same random offset, up to `down` and `right` pixels each way, and fill with black."""

    def __init__(self, down: int, right: int) -> None:
        self.down, self.right = down, right

    def __call__(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Shift every input: (..., H, W)."""
        u, v = torch.rand(2).tolist()
        y, x = int(u * (2 * self.down + 1)) - self.down, int(v * (2 * self.right + 1)) - self.right
        shifted = []
        for image in inputs:
            h, w = image.shape[-2:]
            out = torch.zeros_like(image)
            source = image[..., max(-y, 0) : h - max(y, 0), max(-x, 0) : w - max(x, 0)]
            out[..., max(y, 0) : h + min(y, 0), max(x, 0) : w + min(x, 0)] = source
            shifted.append(out)
        return _one_or_all(shifted)


class ToFloat:
    """Scale the image, the first input, from uint8 to float32 in [0, 1]; make the others, masks, bool."""

    def __call__(self, image: Tensor, *masks: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Convert an image (3, H, W) and masks (P, H, W)."""
        scaled = image if image.is_floating_point() else image.to(torch.float32).div_(255)
        return _one_or_all([scaled, *(mask.as_subclass(Tensor) != 0 for mask in masks)])


def _one_or_all(outputs: Sequence[Tensor]) -> Tensor | tuple[Tensor, ...]:
    return tuple(outputs) if len(outputs) > 1 else outputs[0]
