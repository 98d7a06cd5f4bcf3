"""Pruning: a prototype whose nearest training patches are of other classes says little of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from ibd.data.base import ImageDataModule
from ibd.models.base import evaluating
from ibd.models.protopnet.network import PrototypeNetwork
from ibd.models.protopnet.provenance import PRECISIONS
from ibd.models.protopnet.scan import find_nearest


@torch.no_grad()
def kept_prototypes(network: PrototypeNetwork, data: ImageDataModule, k: int = 6, threshold: int = 3) -> Tensor:
    """Return which prototypes to keep, (P,) bool.

    Args:
        network: network with projected prototypes.
        data: data whose un-augmented training images are compared.
        k: nearest patches to look at, one of each image.
        threshold: number of them that must be of the prototype's class.
    """
    with evaluating(network):
        precision = PRECISIONS[int(network.provenance.precision)]
        nearest, _ = find_nearest(network, data, "train", k, precision=precision)
    own = (nearest.label == network.classes.unsqueeze(1)) & nearest.distance.isfinite()
    return own.sum(1) >= threshold
