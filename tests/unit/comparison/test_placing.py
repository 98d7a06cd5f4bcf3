"""Where the compared images lie, put into a comparison: planted clusters, and nothing for a few images."""

from types import SimpleNamespace

import numpy as np
import torch
from torch import nn

from ibd.comparison.cache import Cache
from ibd.comparison.images import ComparedImages
from ibd.comparison.placing import LEAST, add_placed

COLORS = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9]])


class Colors(nn.Module):
    """Puts out the mean color of an image as logits; its convolution is the last layer with a map."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1, bias=False)
        self.layer.weight.data.copy_(torch.eye(3).view(3, 3, 1, 1))

    def forward(self, x):
        return self.layer(x).mean((2, 3))


def case(count):
    labels = torch.arange(count) % 3
    pixels = COLORS[labels].view(-1, 3, 1, 1).expand(-1, 3, 4, 4)
    pixels = pixels + 0.05 * torch.rand(pixels.shape, generator=torch.Generator().manual_seed(0))
    info = SimpleNamespace(name="colors")
    model = SimpleNamespace(module=Colors(), fingerprint="a", info=info)
    images = ComparedImages("test", torch.arange(count), list(map(str, labels)), pixels, labels, None, None, [])
    return SimpleNamespace(model=model, images=images, classes=labels, cache=Cache(None), seed=0)


def test_images_lie_by_the_last_map_of_a_network_without_a_backbone():
    comparison = SimpleNamespace(placed={})
    add_placed(comparison, case(LEAST))
    placed = comparison.placed["colors"]
    assert placed.layer == "layer"
    assert placed.same_class == 1
    assert placed.thumbnails.shape[1:] == (24, 24, 3)
    for number, thumbnail in zip(placed.shown, placed.thumbnails, strict=True):
        assert thumbnail.mean((0, 1)).argmax() == number % 3
    middles = np.stack([placed.places[group::3].mean(0) for group in range(3)])
    spread = max(np.linalg.norm(placed.places[group::3] - middles[group], axis=1).max() for group in range(3))
    assert min(np.linalg.norm(middles[a] - middles[b]) for a, b in ((0, 1), (0, 2), (1, 2))) > 2 * spread


def test_a_few_images_have_no_map():
    comparison = SimpleNamespace(placed={})
    add_placed(comparison, case(LEAST - 1))
    assert not comparison.placed
