"""Where a model computes."""

from __future__ import annotations

import torch

from ibd.errors import ConfigError


def chosen_device(name: str, verb: str = "compare") -> torch.device:
    """Return a device by its name, of which "auto" is the first CUDA device where there is one, else the CPU.

    Args:
        name: name of the device.
        verb: name of the verb that was given it, for the message.

    Raises:
        ConfigError: it cannot be used.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, TypeError) as error:  # no such name, or nothing there
        reason = str(error).splitlines()[0]
        raise ConfigError(f"{verb}: device: {name!r} cannot be used: {reason}; auto, cpu or cuda is usual") from None
    return device
