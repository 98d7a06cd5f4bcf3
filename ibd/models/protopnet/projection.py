"""Projection with what follows it: pruning, and the last layer."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from ibd.data.base import ImageDataModule
from ibd.distributed import world_size
from ibd.models.base import evaluating
from ibd.models.protopnet.last_layer import LastLayerReport, fit_last_layer
from ibd.models.protopnet.network import PrototypeNetwork
from ibd.models.protopnet.phases import LastLayer, Prune
from ibd.models.protopnet.provenance import PRECISIONS
from ibd.models.protopnet.prune import kept_prototypes
from ibd.models.protopnet.push import push
from ibd.models.protopnet.scan import chunks


@torch.no_grad()
def project(
    network: PrototypeNetwork, data: ImageDataModule, distinct: bool, last_layer: LastLayer, prune: Prune | None
) -> dict[str, float]:
    """Project the prototypes, prune them where that is asked for, and fit the last layer to those that are left.

    Every process must call this, and all end with the same network.

    Returns:
        Figures to log: how far prototypes moved, how many share a patch, how sparse the last layer is, how many stay.
    """
    network.mask.fill_(True)
    report = push(network, data, distinct, int(network.provenance.precision))
    scores, labels = read_similarities(network, data)
    if prune is not None:
        kept = kept_prototypes(network, data, prune.k, prune.threshold)
        empty = ~kept.view(-1, network.per_class).any(1)  # a class without any prototype could never be predicted
        network.mask.copy_(kept | empty.repeat_interleave(network.per_class))
    solved = solve_last_layer(network, scores, labels, last_layer)
    return {
        "push/moved_mean": float(report.moved.mean()),
        "push/moved_max": float(report.moved.max()),
        "push/duplicates": float(report.duplicates),
        "last_layer/steps": float(solved.steps),
        "last_layer/sparsity": solved.sparsity,
        "prune/kept": float(network.mask.sum()),
    }


@torch.no_grad()
def read_similarities(network: PrototypeNetwork, data: ImageDataModule) -> tuple[Tensor, Tensor]:
    """Return the (N, P) similarities of all training images, in order, and their (N,) labels: one forward pass.

    Every process reads its share.
    """
    dataset, precision = data.dataset("train"), PRECISIONS[int(network.provenance.precision)]
    device = network.prototypes.device
    dtype = torch.promote_types(network.prototypes.dtype, torch.float32)
    scores = torch.zeros(len(dataset), len(network.prototypes), device=device, dtype=dtype)
    with evaluating(network):
        for batch, features in chunks(network, data, "train", precision, "reading similarities"):
            scores[batch.index] = network.score(network.match(features, maps=False).distance).to(dtype)
    if world_size() > 1:
        dist.all_reduce(scores)  # each row is of one process, and 0 in the others
    return scores, dataset.labels.to(device)


def solve_last_layer(network: PrototypeNetwork, scores: Tensor, labels: Tensor, settings: LastLayer) -> LastLayerReport:
    """Set the last layer to the optimum for some similarities; computed once, and the same in every process."""
    weight, report = fit_last_layer(
        scores,
        labels,
        network.initial_head(),
        network.own(),
        network.mask,
        settings.l1,
        settings.ridge,
        settings.tolerance,
        settings.max_steps,
    )
    if world_size() > 1:
        dist.broadcast(weight, 0)
    network.head.weight.copy_(weight.to(network.head.weight.dtype))
    return report
