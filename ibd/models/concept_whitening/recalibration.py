"""The running statistics anew, from whole passes over images: what evaluation whitens with."""

from __future__ import annotations

import torch
from torch import Tensor
from tqdm.auto import tqdm

from ibd.data.base import ImageDataModule
from ibd.distributed import progress
from ibd.models.base import evaluating
from ibd.models.concept_whitening.layer import ConceptWhiteningLayer
from ibd.models.concept_whitening.network import ConceptWhiteningNetwork


@torch.no_grad()
def recalibrate(network: ConceptWhiteningNetwork, data: ImageDataModule) -> Tensor:
    """Set the running mean and covariance of every whitened layer to those over all training images.

    One pass for each layer, the first layer first, because what reaches the second depends on it: a running average
    lags behind the weights, and the more layers, the worse. Everything runs as in evaluation.

    Args:
        network: network to change in place.
        data: data whose un-augmented images are read.

    Returns:
        (N, D) the scores of the images, on the CPU, read in a last pass with the new statistics.
    """
    like = network.head.weight
    with evaluating(network):
        for name, layer in network.whitened.items():
            sums = _Sums(layer)
            handle = layer.register_forward_pre_hook(sums)
            try:
                for image in _images(data, f"whitening {name}"):
                    network.halves.first(image.to(like.device, like.dtype))
            finally:
                handle.remove()
            sums.store()
        scores = [
            network.encode(image.to(like.device, like.dtype)).scores.float().cpu()
            for image in _images(data, "reading axes")
        ]
    return torch.cat(scores)


def _images(data: ImageDataModule, title: str) -> tqdm[Tensor]:
    loader = data.loader("train")
    images = (batch.image[batch.index >= 0] for batch in loader)
    return progress(images, title, len(loader))


class _Sums:
    """Adds up, in float64, what comes into a layer: shifted by its running mean, so that little cancels."""

    def __init__(self, layer: ConceptWhiteningLayer) -> None:
        self.layer, self.groups = layer, layer.settings.groups
        self.shift = layer.running_mean.clone()
        self.count = 0
        self.total = torch.zeros_like(self.shift, dtype=torch.float64)
        self.products = torch.zeros_like(layer.running_covariance, dtype=torch.float64)

    def __call__(self, _: object, inputs: tuple[Tensor, ...]) -> None:
        """Add a batch."""
        x = inputs[0]
        flat = x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).to(self.shift.dtype) - self.shift
        blocks = flat.view(len(flat), self.groups, -1).permute(1, 0, 2)
        self.count += len(flat)
        self.total += flat.sum(0, dtype=torch.float64)
        self.products += (blocks.mT @ blocks).double()

    def store(self) -> None:
        """Write the statistics into the layer."""
        mean = self.total / self.count
        if self.layer.settings.center is False:
            mean = torch.zeros_like(mean)
        block = mean.view(self.groups, -1)
        covariance = self.products / self.count - block.unsqueeze(2) * block.unsqueeze(1)
        self.layer.running_mean.copy_(self.shift + mean)
        self.layer.running_covariance.copy_(covariance)
