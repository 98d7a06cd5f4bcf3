"""Maps of units brought to the image, each cell where it looks."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from ibd.backbones.receptive_field import ReceptiveField, receptive_field
from ibd.comparison.honesty.reading import network_of
from ibd.errors import UnsupportedError
from ibd.explain.boxes import placed
from ibd.explain.prototypes import patch_field
from ibd.models.base import InterpretableNetwork
from ibd.models.concept_whitening.layer import ConceptWhiteningLayer
from ibd.models.protopnet.network import PrototypeNetwork

_FIELDS: WeakKeyDictionary[InterpretableNetwork, ReceptiveField | None] = WeakKeyDictionary()


def enlarged(model: Any, maps: Tensor, size: Sequence[int]) -> Tensor:
    """Return (..., h, w) maps of units at the size of the image, (..., H, W).

    Args:
        model: a module of ours, or its network.
        maps: as its units have them.
        size: H and W.
    """
    height, width = (int(side) for side in size)
    field = unit_field(model, (height, width))
    if field is not None and tuple(field.grid) != tuple(maps.shape[-2:]):
        field = None  # of another layer than the last one
    flat = maps.flatten(0, -3).float()
    return placed(flat, (height, width), field).view(*maps.shape[:-2], height, width)


def unit_field(model: Any, size: tuple[int, int]) -> ReceptiveField | None:
    """Return what the cells of the backbone's maps see of the image; None where that cannot be told.

    Args:
        model: a module of ours, or its network.
        size: (H, W) of the image.
    """
    network = network_of(model)
    if isinstance(network, PrototypeNetwork) and network is not model:
        return patch_field(model)
    if network not in _FIELDS:
        try:
            _FIELDS[network] = receptive_field(_without_whitening(network.backbone), size)
        except UnsupportedError:
            _FIELDS[network] = None
    return _FIELDS[network]


def _without_whitening(backbone: nn.Module) -> nn.Module:
    """Return the backbone; a copy without whitening, which cannot run without numbers and moves nothing."""
    if not any(isinstance(layer, ConceptWhiteningLayer) for layer in backbone.modules()):
        return backbone
    plain = copy.deepcopy(backbone)
    for name, layer in list(plain.named_modules()):
        if isinstance(layer, ConceptWhiteningLayer):
            plain.set_submodule(name, nn.Identity())
    return plain
