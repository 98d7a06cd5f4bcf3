"""Backbones: image in [0, 1] in, feature map out."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, cast

from ibd import registry
from ibd.backbones.base import Backbone, prefers_channels_last
from ibd.backbones.bcos.conversion import bcosify
from ibd.backbones.bcos.fading import fade_during, faded, set_fade
from ibd.backbones.bcos.layers import TwoSided
from ibd.backbones.bcos.linearized import Linearized
from ibd.backbones.freezing import Freezing, freeze, freezing_of
from ibd.backbones.receptive_field import ReceptiveField, receptive_field
from ibd.errors import ConfigError, did_you_mean

__all__ = [
    "Backbone",
    "Freezing",
    "Linearized",
    "ReceptiveField",
    "TwoSided",
    "bcosify",
    "build_backbone",
    "fade_during",
    "faded",
    "freezing_of",
    "prefers_channels_last",
    "receptive_field",
    "set_fade",
]


def build_backbone(config: Mapping[str, Any]) -> Backbone:
    """Build a backbone from its block of a configuration.

    Args:
        config: ``name`` (a registered name, ``timm/NAME``, or ``package.module:Class`` for one of the user's own), the
            arguments of that class, and those of `Freezing`.

    Returns:
        The backbone, or the user's module, which needs ``out_channels`` and the same forward pass.

    Raises:
        ConfigError: an unknown name or argument, or a value that is not allowed.
        CheckpointError: the weights cannot be had, or do not fit.
    """
    arguments = dict(config)
    name = arguments.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError(f"backbone: needs a name.{did_you_mean('', registry.names('backbones'))}")
    cls = registry.resolve("backbones", name)
    freezing = Freezing(**{key: arguments.pop(key) for key in ("frozen", "cache") if key in arguments})
    parameters = inspect.signature(cls).parameters
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if "name" in parameters:  # one class for many networks
        arguments["name"] = name
    for key in arguments:
        if key not in parameters and not open_ended:
            known = [parameter for parameter in parameters if parameter != "name"]
            raise ConfigError(f"backbone '{name}' has no option '{key}'.{did_you_mean(key, known)}")
    try:
        backbone = cls(**arguments)
    except ConfigError as error:
        option, colon, _ = str(error).partition(": ")
        raise (ConfigError(f"model.backbone.{error}") if colon and option in parameters else error) from None
    if not isinstance(getattr(backbone, "out_channels", None), int):
        raise ConfigError(f"backbone '{name}': {cls.__name__} has no integer attribute out_channels")
    freeze(backbone, freezing)
    return cast(Backbone, backbone)
