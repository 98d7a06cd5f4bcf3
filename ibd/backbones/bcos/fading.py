"""How far a converted network has become a B-cos one: a number from 0 (as it was) to 1 that its layers share."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ibd.errors import CheckpointError, ConfigError

SHARE = 0.5
"""Share of a training during which a network fades, where nothing else is said."""


class Fading(nn.Module):
    """A layer of a converted network. What it still has of the plain one counts ``1 - fade``.

    The number is part of the state dict, as a tensor; a layer works with a plain float, for which no device is waited.
    """

    fade: float = 0.0

    @property
    def kept(self) -> float:
        """What biases and centering still count."""
        return 1 - self.fade

    def get_extra_state(self) -> Tensor:
        """Return what the state dict has beside weights."""
        return torch.tensor(self.fade, dtype=torch.float64, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Take it over.

        Raises:
            CheckpointError: it is no number from 0 to 1.
        """
        fade = float(state)
        if not 0 <= fade <= 1:
            raise CheckpointError(f"a converted layer has faded to {fade}: from 0 to 1 is possible")
        self.fade = fade


def faded(network: nn.Module) -> float:
    """Return how far a network has faded: the least of its layers; 1 where none fades."""
    return min((layer.fade for layer in _layers(network)), default=1.0)


def set_fade(network: nn.Module, fade: float) -> None:
    """Set how far a converted network has become a B-cos one.

    Args:
        network: what `bcosify` returned, or a network that has it as a part; others are left as they are.
        fade: 0 for the plain network, 1 for one whose output is, for the image at hand, a linear map of its input.

    Raises:
        ConfigError: a number outside of [0, 1].
    """
    if not 0 <= fade <= 1:
        raise ConfigError(f"fade: {fade} given, from 0 (the plain network) to 1 (a B-cos network) is needed")
    for layer in _layers(network):
        layer.fade = fade


def fade_during(network: nn.Module, done: float) -> None:
    """Fade a network in step with its training, and never back: a network that has faded before stays so.

    Args:
        network: network whose attribute `fade_share` is the share of the training that it takes, by default `SHARE`.
        done: share of the training that is done with the coming step, in (0, 1].
    """
    share = getattr(network, "fade_share", SHARE)
    set_fade(network, max(faded(network), min(1.0, done / share) if share else 1.0))


def _layers(network: nn.Module) -> Iterator[Fading]:
    return (layer for layer in network.modules() if isinstance(layer, Fading))
