"""Layers that are only read, with their channels last: against the same network with its channels first."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ibd.errors import UnsupportedError
from ibd.explain.factorization import neuron_groups
from ibd.explain.inside import activation_grid, semantic_dictionary
from ibd.explain.layer_layout import read_map
from ibd.explain.patches import maximally_activating_patches
from tests.explainer_makers import images

IMAGE = images(3, (12, 20))
QUICK = {"steps": 2, "size": 12, "progress": False}
close = torch.testing.assert_close


class Net(nn.Module):
    """A stem, a linear layer of the channels at every place, and a head; written with the channels first or last."""

    def __init__(self, last):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.mixed = nn.Conv2d(3, 4, 4, 4), nn.Linear(4, 6)
        self.head, self.last = nn.Linear(6, 3), last
        self.eval()
        if not last:
            weight = self.mixed
            self.mixed = nn.Conv2d(4, 6, 1)
            self.mixed.weight.data, self.mixed.bias.data = weight.weight.data[:, :, None, None], weight.bias.data

    def forward(self, image):
        a = self.stem(image)
        if self.last:
            return self.head(self.mixed(a.permute(0, 2, 3, 1)).relu().mean((1, 2)))
        return self.head(self.mixed(a).relu().mean((2, 3)))


class Untold(nn.Module):
    """A map that nothing tells the layout of: made by einsum, and flattened."""

    def __init__(self):
        super().__init__()
        self.body, self.head = Einsum(), nn.Linear(3 * 12 * 20, 3)

    def forward(self, image):
        return self.head(self.body(image).flatten(1))


class Einsum(nn.Module):
    """Nothing of the axes is known after it."""

    def forward(self, image):
        return torch.einsum("bchw,cd->bdhw", image, torch.eye(3).to(image))


FIRST, LAST = Net(False), Net(True)


def test_maps_and_patches_have_the_channels_first():
    a = F.conv2d(FIRST.stem(IMAGE), FIRST.mixed.weight, FIRST.mixed.bias).detach()
    for layout in ("auto", "channels_last"):
        close(read_map(LAST, IMAGE, "mixed", layout), a)
        found = maximally_activating_patches(LAST, [IMAGE[:2], IMAGE[2:]], "mixed", k=1, layout=layout)
        close(found.score[:, 0], a.amax((0, 2, 3)))
        assert len(found.names) == 6
    close(read_map(FIRST, IMAGE, "mixed"), a)
    expected = maximally_activating_patches(FIRST, [IMAGE[:2], IMAGE[2:]], "mixed", k=1)
    assert torch.equal(found.image, expected.image)
    assert torch.equal(found.position, expected.position)


def test_what_looks_inside_sees_the_same():
    for one, other in zip(*(groups(model) for model in (FIRST, LAST)), strict=True):
        close(one, other, rtol=1e-3, atol=1e-4)
    grids = [activation_grid(model, IMAGE[0], "mixed", 2, **QUICK) for model in (FIRST, LAST)]
    close(grids[0].magnitude, grids[1].magnitude)
    close(grids[0].images, grids[1].images, rtol=1e-3, atol=1e-3)
    words = [semantic_dictionary(model, IMAGE[0], "mixed", (1, 4), 3, **QUICK) for model in (FIRST, LAST)]
    assert words[0].channels == words[1].channels
    close(words[0].images, words[1].images, rtol=1e-3, atol=1e-3)


def groups(model):
    found = neuron_groups(model, IMAGE, "mixed", 2, steps=20)
    return found.maps, found.weights


def test_a_layout_that_cannot_be_told_is_refused_and_can_be_said():
    model = Untold().eval()
    calls = [
        lambda layout: read_map(model, IMAGE, "body", layout),
        lambda layout: maximally_activating_patches(model, [IMAGE], "body", k=1, layout=layout),
        lambda layout: neuron_groups(model, IMAGE, "body", 2, steps=2, layout=layout),
        lambda layout: activation_grid(model, IMAGE[0], "body", 1, layout=layout, **QUICK),
    ]
    for call in calls:
        with pytest.raises(UnsupportedError, match="which axis holds the channels: set layout="):
            call("auto")
    close(calls[0]("channels_first"), IMAGE)
