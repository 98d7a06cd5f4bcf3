"""The network that a comparison on pasted objects needs beside its own: trained on the same pictures' other labels."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ibd.comparison.devices import chosen_device
from ibd.comparison.foreign import foreign_models
from ibd.comparison.groups.record import Need
from ibd.comparison.models import ComparedModel, load_models
from ibd.comparison.options import CompareOptions
from ibd.data.base import ImageDataModule
from ibd.data.pasted.datamodule import PastedScenes
from ibd.errors import ConfigError

_NAME = "contrast"
_LOOKED_AT = 8


def find_contrast(asked: CompareOptions, data: ImageDataModule) -> ComparedModel | None:
    """Return the network of the other labels; None where none is given.

    Raises:
        ConfigError: the data has no other labels, or the run is of other pictures or of the same labels.
    """
    given: Any = asked.contrast
    if given is None:
        return None
    if not isinstance(data, PastedScenes):
        raise ConfigError("compare: contrast: only pictures of pasted objects have other labels (data.name=pasted)")
    twin = data.relabeled("scene" if data.labels == "object" else "object")
    if isinstance(given, nn.Module):
        device = chosen_device(asked.device)
        return foreign_models({_NAME: given}, twin, asked.split, asked.preprocess, device)[0]
    model = load_models([given], asked.split, asked.overrides, asked.device)[0]
    theirs = model.data
    if not isinstance(theirs, PastedScenes) or theirs.labels != twin.labels:
        raise ConfigError(f"compare: contrast: '{given}' is no network of {twin.labels} labels (data.labels)")
    mine, other = (source.dataset(asked.split) for source in (data, theirs))
    same = len(mine) == len(other) and theirs.spec.image_size == data.spec.image_size
    if not same or not all(torch.equal(mine[i].image, other[i].image) for i in range(min(_LOOKED_AT, len(mine)))):
        raise ConfigError(f"compare: contrast: '{given}' has other pictures than the models that are compared")
    return model


def missing_networks(data: ImageDataModule, contrast: ComparedModel | None) -> dict[Need, str]:
    """Return which networks of pasted pictures there are not, and what to say of it."""
    if not isinstance(data, PastedScenes):
        why = "the data has no objects that are pasted on scenes (data.name=pasted)"
        return {"contrast": why, "scene_model": why}
    if contrast is not None:
        return {}
    other = "scenes" if data.labels == "object" else "objects"
    why = f"no network that was trained on the labels of the {other} is given (contrast=RUN)"
    return {"contrast": why, **({"scene_model": why} if data.labels == "object" else {})}
