"""Every few training steps, a pass over concept examples turns the axes towards their concepts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from ibd.distributed import sum_over_processes, world_size
from ibd.errors import ConfigError, check_range
from ibd.models.base import evaluating
from ibd.models.concept_whitening.activation import alignment_gradient
from ibd.models.concept_whitening.layer import ConceptWhiteningLayer
from ibd.models.concept_whitening.network import ConceptWhiteningNetwork
from ibd.models.concept_whitening.rotation import cayley_step, procrustes


@dataclass(frozen=True)
class Alignment:
    """How the axes are turned towards the concepts.

    Args:
        every: training steps between two passes over concept examples; 0 never turns the axes.
        images: images drawn for each concept and pass; one that shows several concepts counts for all of them.
        rotation: "cayley" steps along a curve with a line search, as published; "procrustes" goes to the optimum of the
            averaged gradient at once, which for the activation "mean" is the optimum itself.
        steps: Cayley steps after each pass.
        momentum: weight of a pass in the running average of the gradient.
    """

    every: int = 20
    images: int = 16
    rotation: Literal["cayley", "procrustes"] = "cayley"
    steps: int = 2
    momentum: float = 0.2

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        check_range("model.alignment.every", self.every, least=0)
        check_range("model.alignment.images", self.images, least=1)
        check_range("model.alignment.steps", self.steps, least=1)
        if not 0 < self.momentum <= 1:
            raise ConfigError(f"model.alignment.momentum: {self.momentum} given, more than 0 and at most 1 is needed")


@torch.no_grad()
def align(network: ConceptWhiteningNetwork, examples: Iterable[tuple[Tensor, Tensor]], settings: Alignment) -> Tensor:
    """Turn the axes of every whitened layer towards their concepts, after one pass over examples.

    The network runs in evaluation mode, up to the deepest whitened layer only. Gradients and counts are summed over
    the processes; the step is computed in all of them, and the first one's result is what counts.

    Args:
        network: network to change in place.
        examples: (B, 3, H, W) images and (B, K) concepts, this process's share; NaN, unknown, counts as absent.
        settings: settings of the alignment.

    Returns:
        (K,) the mean activation of each concept's axis of the deepest layer over its images, before the turn; NaN where
        there was none.
    """
    layers = network.whitened
    device = network.head.weight.device
    count = len(network.concept_names)
    dtype = next(iter(layers.values())).rotation.dtype
    pulls = {name: torch.zeros(count, layer.channels, dtype=dtype, device=device) for name, layer in layers.items()}
    images, reached = torch.zeros(2, count, dtype=dtype, device=device)
    with evaluating(network):
        for image, concepts in examples:
            image, concepts = image.to(device, network.head.weight.dtype), concepts.to(device)
            maps = network.depth_maps(image)
            for name, layer in layers.items():
                pull = alignment_gradient(maps[name], concepts, network.activation)
                pulls[name] += (pull @ layer.rotation.to(pull.dtype)).to(pulls[name].dtype)
            present = (concepts > 0.5).float()
            images += present.sum(0)
            reached += (network.pool(maps[network.layer_names[-1]][:, :count]).float() * present).sum(0)
    joint = sum_over_processes(torch.cat([torch.stack([images, reached], 1), *pulls.values()], 1))
    images, reached = joint[:, 0], joint[:, 1]
    summed = torch.split(joint[:, 2:], [layer.channels for layer in layers.values()], 1)
    for layer, pull in zip(layers.values(), summed, strict=True):
        turn(layer, pull / images.clamp_min(1).unsqueeze(1), images > 0, settings)
    return reached / images


@torch.no_grad()
def turn(layer: ConceptWhiteningLayer, pull: Tensor, seen: Tensor, settings: Alignment) -> None:
    """Average a layer's gradient with those before, and turn its axes.

    Args:
        layer: layer to change in place.
        pull: (K, D), the mean gradient of the activations by the rows of the rotation, which are to grow.
        seen: (K,) bool, the concepts that had examples; the average of the others stays.
        settings: settings of the alignment.
    """
    before = layer.pull
    fresh = ~before.any(1, keepdim=True)
    weight = torch.where(fresh, 1.0, settings.momentum).to(pull.dtype)
    layer.pull.copy_(torch.where(seen.unsqueeze(1), before + weight * (pull - before), before))
    if settings.rotation == "procrustes":
        rotation = procrustes(layer.rotation, -layer.pull)
    else:
        rotation = cayley_step(layer.rotation, -layer.pull, settings.steps)
    if world_size() > 1:
        rotation = rotation.contiguous()
        dist.broadcast(rotation, 0)
    layer.rotation.copy_(rotation)
