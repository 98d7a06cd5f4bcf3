"""Maps of channels in the order of their strength, blank ones counted by hand, weights of any layer."""

import pytest
import torch
from attention_makers import TinyViT
from torch import nn

from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.explain.channel_figures import channel_maps_figure, silence_figure, weights_figure
from ibd.explain.channels import Silence, blank_by_depth, channel_maps, layer_weights
from ibd.explain.inside import sparsity_by_depth

close = torch.testing.assert_close


class Known(nn.Module):
    """Channels red, -red, 2 blue, minus one; then a ReLU, which leaves nothing of the second and the last."""

    def __init__(self):
        super().__init__()
        self.one, self.act, self.two = nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.Conv2d(4, 6, 3, groups=2)
        weight = torch.zeros(4, 3)
        weight[0, 0], weight[1, 0], weight[2, 2] = 1.0, -1.0, 2.0
        self.one.weight.data.copy_(weight.view(4, 3, 1, 1))
        self.one.bias.data.copy_(torch.tensor([0.0, 0.0, 0.0, -1.0]))
        self.head = nn.Linear(6, 2)

    def forward(self, x):
        return self.head(self.two(self.act(self.one(x))).mean((2, 3)))


IMAGE = torch.tensor([0.5, 0.5, 0.2]).view(1, 3, 1, 1).expand(1, 3, 4, 4).contiguous()
BLUE = torch.tensor([0.0, 0.5, 0.2]).view(1, 3, 1, 1).expand(1, 3, 4, 4).contiguous()


def test_channels_come_in_the_order_of_their_strength():
    found = channel_maps(Known(), IMAGE, "act", top=3)
    assert found.channels == [0, 2, 1]
    close(found.strength, torch.tensor([0.5, 0.4, 0.0]))
    close(found.maps[1], torch.full((4, 4), 0.4))
    assert (found.blank, found.total) == (2, 4)
    before = channel_maps(Known(), IMAGE[0], "one")  # what the ReLU makes of it, in place, is not the layer's
    assert before.channels == [3, 0, 1, 2]
    assert before.blank == 0


def test_blank_channels_are_counted_by_layer():
    """Red is not in the second image: then channel 0 is blank, too, but not dead."""
    both = torch.cat([IMAGE, BLUE])
    found = blank_by_depth(Known(), both)
    assert list(found) == ["one", "act", "two"]
    assert found["one"] == Silence(0.25, 0.0, 4)  # red and minus red of the second image
    assert found["act"] == Silence(0.625, 0.5, 4)
    assert found["two"].blank == 0
    assert blank_by_depth(Known(), [IMAGE, BLUE]) == found
    with pytest.raises(DataError, match="no images"):
        blank_by_depth(Known(), [])
    assert len(silence_figure(sparsity_by_depth(Known(), both), found).axes) == 2
    with pytest.raises(DataError, match="no layers"):
        silence_figure({}, found)


def test_tokens_are_maps_of_their_patches():
    vit, image = TinyViT(extra=2), torch.rand(1, 3, 8, 12, dtype=torch.float64)
    found = channel_maps(vit, image, "blocks.0")
    wanted = vit.blocks[0](vit.tokens(image))[0, 2:].t().reshape(8, 2, 3)
    close(found.maps, wanted[found.channels].float().detach())
    assert blank_by_depth(vit, image)["blocks.0.norm1"].channels == 8


def test_weights_of_a_layer_are_its_longest_filters_by_their_largest_inputs():
    """Of groups an input counts from the first of all."""
    model = Known()
    model.two.weight.data.zero_()
    model.two.weight.data[4, 1, 1, 1], model.two.weight.data[4, 0, 0, 0] = 4.0, 3.0
    model.two.weight.data[1, 0, 2, 2] = 2.0
    found = layer_weights(model, "two", filters=2, inputs=1)
    assert (found.filters, found.inputs) == ([4, 1], [[3], [0]])
    close(found.share, torch.tensor([16 / 25, 1.0]))
    close(found.weights[0, 0], model.two.weight.data[4, 1])
    linear = layer_weights(model, "head", inputs=3)
    close(linear.weights[0, :, 0, 0], model.head.weight.data[linear.filters[0], linear.inputs[0]])
    assert len(weights_figure(linear).axes) == 6


def test_figures_show_a_map_for_each_channel():
    figure = channel_maps_figure(IMAGE[0], channel_maps(Known(), IMAGE, "act", top=3))
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[:4] == ["image", "0: 0.5", "2: 0.4", "1: 0"]


@pytest.mark.parametrize(
    ("work", "error", "said"),
    [
        (lambda: channel_maps(Known(), IMAGE, "act", top=0), ConfigError, "top"),
        (lambda: channel_maps(Known(), IMAGE, "ect"), ConfigError, "no layer 'ect'"),
        (lambda: channel_maps(Known(), torch.cat([IMAGE, BLUE]), "act"), DataError, "2 images given"),
        (lambda: channel_maps(Known(), IMAGE, "head"), UnsupportedError, "no map"),
        (lambda: layer_weights(Known(), "act"), UnsupportedError, "'act' is a ReLU"),
        (lambda: layer_weights(nn.Sequential(Known()), "0"), UnsupportedError, "take 0.one, 0.two, 0.head"),
    ],
)
def test_what_cannot_be_shown(work, error, said):
    with pytest.raises(error, match=said):
        work()
