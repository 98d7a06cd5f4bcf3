"""Relevance that passes some channels of a layer, and nothing that passes others or goes around the layer."""

from __future__ import annotations

import torch
from torch import Tensor

from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.lrp.mode import Surrogate
from ibd.explain.through import Gate


class Gated:
    """The output of a layer, of which some channels let relevance pass.

    Relevance is passed down to the output, masked, and passed on from there alone: what reaches the pixels by another
    way, such as a shortcut around the layer, is not in it.

    Args:
        surrogate: surrogate of the output.
        value: the output, (B, ..., C, ...).
        gate: layer and channels.
        axis: axis that holds the channels.

    Attributes:
        surrogate: as given.
        gradient: what is passed on from the output; there is none before `enter`.

    Raises:
        ConfigError: there is no such channel.
    """

    def __init__(self, surrogate: Tensor, value: Tensor, gate: Gate, axis: int) -> None:
        self.surrogate, self.value, self.layer = surrogate, value, gate.layer
        count = value.shape[axis]
        for channel in gate.channels or ():
            if not 0 <= channel < count:
                raise ConfigError(f"target: no channel {channel} of '{gate.layer}': there are {count}, counted from 0")
        open_ = torch.zeros(count, dtype=value.dtype, device=value.device)
        open_[slice(None) if gate.channels is None else list(gate.channels)] = 1.0
        self.mask = open_.view([count if a == axis else 1 for a in range(value.dim())])
        self.gradient: Tensor | None = None

    def enter(self, score: Tensor, mode: Surrogate) -> Tensor:
        """Pass the relevance of a score down to the channels, and return how much of it enters them, (B,).

        Args:
            score: sum of the scores of all images.
            mode: mode that the model ran in.

        Raises:
            UnsupportedError: none of it reaches the layer.
        """
        (gradient,) = torch.autograd.grad(score, self.surrogate, retain_graph=True, allow_unused=True)
        if gradient is None:
            raise UnsupportedError(f"lrp: no relevance of the score passes through layer '{self.layer}': name another")
        self.gradient = gradient * self.mask
        return mode.ledger.per_image(self.value * self.gradient)
