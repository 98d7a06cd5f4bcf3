"""Tiny concept-whitening networks, and images that show their concepts."""

import torch

from ibd.models.concept_whitening.lightning import ConceptWhitening
from ibd.models.concept_whitening.network import ConceptWhiteningNetwork
from tests.model_makers import SPEC, CountingBackbone, TensorData

SMALL = {"name": "small_cnn", "width": 8, "depth": 3}


def make_module(seed=0, spec=SPEC, **options):
    """Return a `ConceptWhitening` with random weights: 32 axes, 6 of them for concepts."""
    torch.manual_seed(seed)
    return ConceptWhitening(spec, options.pop("backbone", SMALL), **options)


def settle(network, seed=0, size=(16, 16)):
    """Give a network running statistics and axes that are not those of the beginning; return it for evaluation."""
    generator = torch.Generator().manual_seed(seed)
    weight = network.head.weight
    network.train()
    with torch.no_grad():
        for _ in range(3):
            network.encode(torch.rand(16, 3, *size, generator=generator).to(weight))
    for layer in network.whitened.values():
        turned = torch.linalg.qr(torch.randn(layer.channels, layer.channels, generator=generator))[0]
        layer.rotation.copy_(turned)
    return network.eval()


def make_network(seed=0, backbone=None, **options):
    """Return only a network, in evaluation mode, settled."""
    torch.manual_seed(seed)
    if backbone is None:
        return settle(make_module(seed, **options).network, seed)
    return settle(ConceptWhiteningNetwork(backbone, SPEC.class_names, SPEC.concept_names, **options), seed)


class ColorData(TensorData):
    """Gray noise; "wing::red", "wing::blue" and "wing::green" are squares of that color, the class is that, too."""

    def __init__(self, sizes=(96, 48, 48), spec=SPEC, batch_size=16, unknown=0.0):
        super().__init__(sizes, spec, unknown, batch_size)
        for images, labels, concepts in self.splits.values():
            images.mul_(0.3)
            concepts[:, :3] = torch.eye(3)[labels]
            for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
                y, x = (i * 5) % 10, (i * 3) % 10
                image[label, y : y + 6, x : x + 6] += 0.6

    def dataset(self, split, augment=False):
        return super().dataset(split)


__all__ = ["SMALL", "SPEC", "ColorData", "CountingBackbone", "make_module", "make_network", "settle"]
