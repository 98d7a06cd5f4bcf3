"""What the functions of this folder share: float64, undefined values, and shapes that do not fit."""

from __future__ import annotations

from torch import Tensor

from ibd.errors import ConfigError


def double(value: Tensor) -> Tensor:
    """Return it in float64 outside of the autograd graph; on the CPU where the device has no float64 (mps)."""
    value = value.detach()
    return value.cpu().double() if value.device.type == "mps" else value.double()


def ratio(part: Tensor, whole: Tensor) -> Tensor:
    """Return part / whole; NaN where the whole is 0."""
    return part / whole.where(whole != 0, float("nan"))


def beyond_rounding(change: Tensor, values: Tensor) -> Tensor:
    """Return differences of float32 numbers, 0 where they are no more than rounding.

    One number computed in batches of two sizes differs in its last bits, whose order would be correlated with
    something. What is below 2^7 units of float32's precision, of the numbers or of 1, is no change.

    Args:
        change: change of any shape.
        values: largest of the numbers that each is a difference of, in a shape that fits.
    """
    return change.masked_fill(change.abs() <= 2.0**-16 * values.abs().clamp(min=1), 0.0)


def check_maps(maps: Tensor) -> None:
    """Check that these are (B, H, W) maps of at least one pixel.

    Raises:
        ConfigError: they are not.
    """
    if maps.dim() != 3 or not maps.shape[1] * maps.shape[2]:
        raise ConfigError(f"maps of shape {tuple(maps.shape)} given, (images, height, width) is needed")


def check_same(name: str, given: Tensor, other: str, wanted: Tensor) -> None:
    """Check that two tensors have one shape.

    Raises:
        ConfigError: they have not.
    """
    if given.shape != wanted.shape:
        raise ConfigError(f"{name} of shape {tuple(given.shape)} given beside {other} of {tuple(wanted.shape)}")
