"""Backbones that stay as they are: what is on top of them learns alone, from features that are computed once."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from ibd.backbones.bcos.fading import faded
from ibd.errors import ConfigError


@dataclass(frozen=True)
class Freezing:
    """Whether a backbone learns, and where the features of one that does not are kept.

    Args:
        frozen: whether the backbone stays as it is, in evaluation mode, while what is on top of it learns.
        cache: folder for the features of a frozen backbone, which are computed once, without augmentation; "auto" takes
            ``~/.cache/ibd/features``; null computes them anew in every step.
    """

    frozen: bool = False
    cache: str | None = "auto"


def freeze(backbone: nn.Module, freezing: Freezing) -> None:
    """Let a backbone stay as it is, if `freezing` says so; in place.

    Raises:
        ConfigError: it is one that changes as a training goes on.
    """
    backbone.freezing = freezing  # type: ignore[assignment]  # a plain value
    if not freezing.frozen:
        return
    if faded(backbone) < 1:
        raise ConfigError("model.backbone.frozen: a conversion goes on while it is trained: start from a finished one")
    backbone.requires_grad_(False)
    backbone.eval()


def freezing_of(backbone: nn.Module) -> Freezing:
    """Return whether a backbone learns: the default for one that was not built from a configuration."""
    freezing = getattr(backbone, "freezing", None)
    return freezing if isinstance(freezing, Freezing) else Freezing()
