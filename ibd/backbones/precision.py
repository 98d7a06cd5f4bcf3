"""Working in full precision where autocast is on."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def full_precision(tensor: Tensor) -> AbstractContextManager[object]:
    """Switch autocast off for a while on the device of a tensor; nothing where it is off, so nothing to export."""
    return torch.autocast(tensor.device.type, enabled=False) if autocasting(tensor) else nullcontext()


def autocasting(tensor: Tensor) -> bool:
    """Return whether autocast is on for a tensor; never where there are shapes alone, as for a receptive field."""
    return tensor.device.type != "meta" and torch.is_autocast_enabled(tensor.device.type)
