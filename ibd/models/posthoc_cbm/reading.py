"""What the parts of a post-hoc bottleneck are fitted on: whole splits, read once from the frozen backbone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ibd.data.base import ImageDataModule, Split
from ibd.distributed import progress
from ibd.models.painting import spatial_mean
from ibd.models.posthoc_cbm.network import PosthocNetwork


class Seen(NamedTuple):
    """A split after one pass, on the CPU."""

    features: Tensor
    """(N, D) the backbone's features, their mean over positions."""
    scores: Tensor
    """(N, K) activations of the concepts, as the network has them at the time."""
    concepts: Tensor
    """(N, K) concepts of the data, NaN where unknown."""
    labels: Tensor
    """(N,) classes."""


@torch.no_grad()
def read(network: PosthocNetwork, data: ImageDataModule, split: Split) -> Seen:
    """Return what a network sees of every image of a split, in order, without augmentation."""
    features, scores = [], []
    weight = network.concepts.weight
    for batch in progress(data.loader(split, features=True), f"reading {split} images"):
        batch = batch.to(weight.device)
        maps = network.backbone(batch.image.to(weight.dtype)) if batch.features is None else batch.features
        features.append(spatial_mean(maps).float().cpu())
        scores.append(network.encode_features(maps).scores[:, : network.concept_count].float().cpu())
    dataset = data.dataset(split)
    return Seen(torch.cat(features), torch.cat(scores), dataset.concepts[:, data.spec.truths], dataset.labels)
