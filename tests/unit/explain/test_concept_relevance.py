"""A class by its units or channels: what passed them, where, and what they look like."""

import pytest
import torch
from model_makers import TensorData, make_module
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ibd.errors import DataError, UnsupportedError
from ibd.explain import (
    LRP,
    Intrinsic,
    Target,
    UnitRelevance,
    concept_figure,
    concept_relevance,
    concept_sheet,
    most_relevant_patches,
)


class Colors(nn.Module):
    """Channels are the red and the green of an image; class 0 rests on red, class 1 on green, both a little on both."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 4, stride=4, bias=False)
        weight = torch.zeros(2, 3, 4, 4)
        weight[0, 0], weight[1, 1] = 1 / 16, 1 / 16
        self.layer.weight.data.copy_(weight)
        self.head = nn.Linear(2, 2, bias=False)
        self.head.weight.data.copy_(torch.tensor([[4.0, -1.0], [0.5, 3.0]]))

    def forward(self, x):
        return self.head(torch.relu(self.layer(x)).amax((2, 3)))


def images():
    """Gray images of 8 pixels with a red cell in the top left or a green one in the bottom right."""
    x = torch.full((6, 3, 8, 8), 0.1)
    for i in range(6):
        x[i, i % 2, (4 if i % 2 else 0) :, (4 if i % 2 else 0) :][:4, :4] = 0.4 + 0.1 * i
    return x


def test_the_channels_of_a_layer():
    net, x = Colors(), images()
    found = concept_relevance(net, x[0], 0, layer="layer", top=2)
    assert found.names == ["layer channel 0", "layer channel 1"]
    torch.testing.assert_close(found.relevance, torch.tensor([4 * 0.4, -0.1]))
    assert found.value == pytest.approx(1.5)
    assert found.rest == pytest.approx(0)
    torch.testing.assert_close(found.maps.flatten(1).sum(1), found.relevance)
    assert float(found.maps[0, :4, :4].sum()) == pytest.approx(1.6)


def test_what_is_shown_of_a_channel():
    """By activation and by relevance to class 1: green speaks for it, and red does, a little."""
    net, x = Colors(), images()
    data = TensorDataset(x, torch.arange(6) % 2)
    loader = DataLoader(data, 3)
    found = concept_relevance(net, x[5:], 1, layer="layer")
    sheet = concept_sheet(net, found, loader, data, k=2, size=4)
    assert found.names == ["layer channel 1", "layer channel 0"]
    torch.testing.assert_close(sheet.active_scores, torch.tensor([[0.9, 0.7], [0.8, 0.6]]))
    torch.testing.assert_close(sheet.relevant_scores, torch.tensor([[2.7, 2.1], [0.4, 0.3]]))
    torch.testing.assert_close(sheet.active[0, 0], x[5, :, 4:, 4:])
    assert concept_figure(x[5], found, sheet, "green").axes
    against = concept_sheet(net, concept_relevance(net, x[1], 0, layer="layer"), loader, data, k=1, size=4)
    torch.testing.assert_close(against.relevant_scores.flatten().sort().values, torch.tensor([-0.9, 3.2]))


def test_units_of_a_bottleneck():
    module, data = make_module().eval(), TensorData()
    dataset = data.dataset("test")
    image = dataset[0].image
    found = concept_relevance(module, image, top=3)
    own = Intrinsic()(module, image.unsqueeze(0), found.target)
    order = own.units[0].abs().argsort(descending=True)[:3]
    torch.testing.assert_close(found.relevance, own.units[0][order])
    assert found.names == [module.network.unit_names[i] for i in order.tolist()]
    torch.testing.assert_close(found.maps[:1], LRP()(module, image[None], found.target.through(int(order[0]))).map)
    sheet = concept_sheet(module, found, data.loader("test"), dataset, k=2)
    assert sheet.relevant.shape == (3, 2, 3, 64, 64)
    assert concept_figure(image, found, None, "x").axes


def test_the_most_relevant_patch_of_a_unit_is_where_it_contributes_most():
    module, data = make_module().eval(), TensorData()
    target = Target.cls(1)
    found = most_relevant_patches(module, data.loader("test"), target, k=1)
    contributions = []
    for batch in data.loader("test"):
        units = module.network(batch.image).units
        shares = module.network.shares(units)
        contributions.append(module.network.contributions(units)[..., 1, None, None] * shares)
    values = torch.cat(contributions).flatten(2).amax(2)
    torch.testing.assert_close(found.score[:, 0], values.amax(0).detach())
    assert found.image[:, 0].tolist() == values.argmax(0).tolist()


def test_units_as_pixels():
    """The own account by LRP: contributions of `Intrinsic`, relevance of LRP, for classes and for units."""
    module = make_module(bottleneck="logits").double().eval()
    x = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    found = UnitRelevance()(module, x, Target.cls(2) - Target.cls(0))
    own = Intrinsic()(module, x, Target.cls(2) - Target.cls(0))
    torch.testing.assert_close(found.units, own.units)
    torch.testing.assert_close(found.value, own.value)
    parts = [LRP()(module, x, Target.cls(c).through(list(range(len(module.network.unit_names))))).map for c in (2, 0)]
    torch.testing.assert_close(found.map, parts[0] - parts[1])
    unit = UnitRelevance()(module, x, Target.unit(1))
    torch.testing.assert_close(unit.map, LRP()(module, x, Target.unit(1)).map)


def test_mistakes_are_one_line():
    with pytest.raises(UnsupportedError, match=r"name a layer|no names for its units"):
        concept_relevance(Colors(), images()[0], 0)
    with pytest.raises(DataError, match="one at a time"):
        concept_relevance(Colors(), images(), 0, layer="layer")
