"""Channels taken out in the order of their relevance, of networks in which it is known what each of them does."""

import pytest
import torch
from torch import nn

from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.layer_ablation import ablation_steps, channel_relevance, unit_ablation
from ibd.explain.layer_coverage import unit_coverage
from ibd.explain.layer_curves import unit_ablation_figure
from ibd.types import Batch

SIZE = 8


class Planted(nn.Module):
    """Three classes, each told by the mean of one color; channels 3 and 4 of the layer are read by nobody."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 5, 1, bias=False)
        self.layer.weight.data = torch.cat([torch.eye(3), torch.ones(2, 3)]).view(5, 3, 1, 1)
        self.head = nn.Linear(5, 3)
        self.head.weight.data = torch.cat([torch.eye(3), torch.zeros(3, 2)], 1)
        self.head.bias.data = torch.tensor([0.02, 0.01, 0.0])  # without anything all are of class 0

    def forward(self, image):
        return self.head(self.layer(image).mean((2, 3)))


def batches(count=12):
    """Return images of pure colors, four in a batch."""
    labels = torch.arange(count) % 3
    image = nn.functional.one_hot(labels, 3).float()[:, :, None, None].expand(-1, -1, SIZE, SIZE) * 0.5
    return [
        Batch(image[i : i + 4], labels[i : i + 4], torch.zeros(4, 0), torch.arange(i, i + 4))
        for i in range(0, count, 4)
    ]


def test_relevance_is_weight_times_mean_activation():
    found = channel_relevance(Planted(), batches(), "layer", 4)
    # The centered logit of class c has the weight 2/3 for its own color, and a pure color is 0.5.
    assert torch.allclose(found[:3, :3], torch.eye(3, dtype=torch.float64) / 3, atol=1e-6)
    assert torch.allclose(found[:3, 3:], torch.zeros(3, 2, dtype=torch.float64), atol=1e-6)
    assert found[3].isnan().all()


def test_without_the_one_channel_that_matters_nothing_is_right():
    model, data = Planted(), batches()
    scores = channel_relevance(model, data, "layer", 3)
    found = unit_ablation(model, scores, data, "layer", counts=range(6), draws=40)
    third = 1 / 3  # by chance of the bias
    assert found.counts == (0, 1, 2, 3, 4, 5)
    assert found.most.tolist() == pytest.approx([1, *[third] * 5])
    assert found.least.tolist() == pytest.approx([1, 1, 1, 1, 1, third])
    # At random the one channel is among the first k of 5 with probability k / 5; class 0 stays right without it.
    expected = torch.tensor([1 - 2 / 3 * k / 5 for k in range(6)], dtype=torch.float64)
    assert torch.allclose(found.random.mean(0), expected, atol=0.12)
    most, least, others = found.areas
    assert most == pytest.approx(0.4 * (1 + third) / 4 + third * 0.8)
    assert most < float(others.mean()) < least == pytest.approx(0.8 + 0.2 * 2 / 3)
    assert "area under the curve" in str(found)
    low, high = found.interval()
    assert (low <= found.random.mean(0)).all()
    assert (found.random.mean(0) <= high).all()
    few = unit_ablation(model, scores, data, "layer", draws=2)  # so wide that it would leave what a share can be
    assert min(end.min() for end in few.interval()) >= 0
    assert max(end.max() for end in few.interval()) <= 1


def test_one_order_for_all_and_means_in_their_place():
    model, data = Planted(), batches()
    model.head.bias.data = torch.tensor([-0.1, 0.01, 0.0])
    scores = torch.tensor([3.0, 2.0, 1.0, 0.0, 0.0])
    found = unit_ablation(model, scores, data, "layer", counts=[1, 2])
    # Without red, red images go to the largest bias, class 1; green ones do so, too, and are right.
    assert found.most.tolist() == pytest.approx([1, 2 / 3, 2 / 3, 1 / 3])
    with_means = unit_ablation(model, scores, data, "layer", counts=[1, 2], replacement="mean")
    # The mean of red is 1/6: less the 0.1 it is above the other biases, and below a pure other color.
    assert with_means.most.tolist() == pytest.approx([1, 1, 2 / 3, 1 / 3])
    before = [parameter.clone() for parameter in model.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert not model.layer._forward_hooks


def test_a_network_of_one_logit():
    """Its logit is positive where there is red: of two classes that is the second."""
    model = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 1))
    model[0].weight.data = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]).view(2, 3, 1, 1)
    model[3].weight.data, model[3].bias.data = torch.tensor([[1.0, 0.0]]), torch.tensor([-0.1])
    data = [Batch(b.image, (b.label == 0).long(), b.concepts, b.index) for b in batches()]
    found = unit_ablation(model, torch.tensor([1.0, 0.0]), data, "0")
    assert found.most.tolist() == pytest.approx([1, 2 / 3, 2 / 3])
    assert found.least.tolist() == pytest.approx([1, 1, 2 / 3])


def test_the_figure_says_by_whose_order():
    model, data = Planted(), batches()
    scores = channel_relevance(model, data, "layer", 3)
    for given, said in ((scores, True), (scores.mean(0), False)):
        found = unit_ablation(model, given, data, "layer", draws=2)
        assert found.by_class == said
        note = " ".join(unit_ablation_figure([found]).get_supxlabel().split())
        assert ("the order of its own class" in note) == said


def test_coverage_of_relevant_channels():
    """Channel 0 is on where red is, channel 1 where green is; the others respond everywhere."""
    image = torch.zeros(4, 3, 20, 20)
    mask = torch.zeros(4, 2, 20, 20, dtype=torch.bool)
    for i in range(4):
        mask[i, 0, i, :2] = mask[i, 1, 10 + i, 5:7] = True  # 8 of 1600 pixels: 0.5 %
        image[i, 0][mask[i, 0]] = image[i, 1][mask[i, 1]] = 1.0
    image[:, 2] = torch.rand(4, 20, 20, generator=torch.Generator().manual_seed(0)) / 2
    scores = torch.tensor([3.0, 2.0, 0.0, 0.0, -1.0])
    found = unit_coverage(Planted(), scores, [(image, mask)], ["red", "green"], "layer", counts=[1, 2], draws=10)
    assert found.counts == (1, 2, 5)
    assert found.most[1] == pytest.approx(float(found.iou[[0, 1], [0, 1]].mean()))
    assert found.most[1] > found.most[0] > found.least[0]
    assert found.most[2] == found.least[2] == found.random[0, 2]
    assert (found.most[1] >= found.random[:, 1] - 1e-12).all()


def test_bad_requests():
    data = batches()
    with pytest.raises(ConfigError, match=r"counts: \[7\] given, numbers of channels from 1 to 5 are needed"):
        unit_ablation(Planted(), torch.zeros(5), data, "layer", counts=[7])
    with pytest.raises(ConfigError, match="replacement: 'noise' is not one of zero, mean"):
        unit_ablation(Planted(), torch.zeros(5), data, "layer", replacement="noise")
    with pytest.raises(ConfigError, match="finite"):
        unit_ablation(Planted(), torch.full((5,), torch.nan), data, "layer")
    with pytest.raises(UnsupportedError):
        channel_relevance(Planted(), data, "layer", 3, method="occlusion")
    assert ablation_steps(10) == (0, 1, 2, 4, 8, 10)
