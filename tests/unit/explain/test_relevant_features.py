"""Relevant features: exact budgets, and a network in which it is known what each class rests on."""

import pytest
import torch
from torch import nn

from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.explain.feature_ablation import ablation_curve, without_channels
from ibd.explain.feature_coverage import semantic_coverage
from ibd.explain.feature_pictures import average_patches, interpret, shown_units
from ibd.explain.feature_selection import rectified_layers, relevant_features, within_budget
from ibd.explain.layer_layout import layer_arrangement
from ibd.explain.relevant_figures import ablation_figure, features_figure, interpretation_figure
from ibd.types import Batch, Sample

CLASSES = ("red", "green", "blue")
SIDE = 8


class Planted(nn.Module):
    """Three classes; of the second layer the channels 3, 4 and 5 are red, green and blue cells, all others say nothing.

    The first layer passes the colors on, whose maxima are the same in all images.
    """

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Sequential(nn.Conv2d(3, 6, 1, bias=False), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(6, 9, 1, bias=False), nn.ReLU())
        self.first[0].weight.data = torch.rand(6, 3, 1, 1, generator=generator)
        self.first[0].weight.data[5] *= -1  # never active: its response does not vary
        self.first[0].weight.data[:3, :, 0, 0] = torch.eye(3)
        weight = torch.rand(9, 6, generator=generator)
        weight[3:6] = 0
        weight[3:6, :3] = 2 * torch.eye(3) - 1
        self.second[0].weight.data = weight[:, :, None, None]

    def forward(self, image):
        return self.second(self.first(image))[:, 3:6].amax((2, 3))


class Data:
    """Gray noise with white cells, and one cell in the color of the class."""

    def __init__(self, count=96, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(count) % 3
        self.images = torch.rand(count, 1, SIDE, SIDE, generator=generator).expand(-1, 3, -1, -1).clone()
        self.images[:, :, 0, 0] = 1
        self.places = torch.randint(1, SIDE - 1, (count, 2), generator=generator)
        self.masks = torch.zeros(count, 3, SIDE, SIDE, dtype=torch.bool)
        for n, (row, column) in enumerate(self.places.tolist()):
            self.images[n, :, row, column] = 0
            self.images[n, self.labels[n], row, column] = 0.5 + 0.5 * torch.rand((), generator=generator)
            self.masks[n, self.labels[n], row, column] = True

    def __getitem__(self, index):
        return Sample(self.images[index], int(self.labels[index]), torch.zeros(0), index)

    def batches(self, size=32):
        every = Batch(self.images, self.labels, torch.zeros(len(self.labels), 0), torch.arange(len(self.labels)))
        return [every.select(torch.arange(len(every)) // size == part) for part in range(len(every) // size)]


@pytest.fixture(scope="module")
def found():
    return relevant_features(Planted(), Data().batches(), CLASSES, budget=0.5)


def random_problem(seed=0, count=120, size=20):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, size, generator=generator, dtype=torch.float64)
    target = features[:, 3] - 0.7 * features[:, 8] + torch.randn(count, generator=generator, dtype=torch.float64)
    return features - features.mean(0), target - target.mean()


def test_of_orthogonal_features_the_weights_are_softly_cut_to_the_budget():
    features = torch.linalg.qr(torch.eye(6, dtype=torch.float64)).Q[:, :3]
    target = features @ torch.tensor([3.0, -2.0, 0.5], dtype=torch.float64)
    weights = within_budget(features, target, 2.0)
    assert torch.allclose(weights, torch.tensor([1.5, -0.5, 0.0], dtype=torch.float64))  # each is 1.5 nearer to 0
    assert torch.allclose(within_budget(features, target, 2.0, positive=True)[1:], torch.zeros(2, dtype=torch.float64))
    assert torch.allclose(within_budget(features, target, 9.0), torch.tensor([3.0, -2.0, 0.5], dtype=torch.float64))


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("budget", [0.1, 0.9, 1.6])
def test_no_other_weights_within_the_budget_are_nearer(budget, positive):
    features, target = random_problem()
    weights = within_budget(features, target, budget, positive)
    slope = features.t() @ (target - features @ weights)
    active = weights != 0
    assert active.any()
    highest = slope.max() if positive else slope.abs().max()
    assert torch.allclose(slope[active] * weights[active].sign(), highest.expand(int(active.sum())))
    if float(highest) > 1e-6:  # else the best of all lies within the budget
        assert float(weights.abs().sum()) == pytest.approx(budget)
    assert not positive or float(weights.min()) >= 0


def test_the_planted_channel_of_each_class_is_selected_first_and_nearly_alone(found):
    assert found.layers == ("first.1", "second.1")
    assert found.channels == (6, 9)
    for index in range(3):
        first, *others = found.selected(index)
        assert (first.layer, first.channel) == ("second.1", 3 + index)
        assert sum(unit.weight for unit in others) < 0.1
    assert found.accuracy == 1
    assert torch.allclose(found.weights.abs().sum(1), torch.full((3,), 0.5, dtype=torch.float64))


def test_without_its_channel_a_class_is_lost_and_without_others_it_is_not(found):
    model = Planted().train()
    curve = ablation_curve(model, found, Data(seed=1).batches(), counts=[1], draws=4)
    assert curve.counts == (0, 1)
    assert float(curve.selected[0]) == 1
    assert float(curve.selected[1]) <= 1 / 3  # no class has a logit above 0, so that one of three is right
    assert curve.random.tolist() == [[1.0, 1.0]] * 4
    low, high = curve.interval()
    assert low.tolist() == high.tolist() == [1.0, 1.0]
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_a_prediction_is_explained_by_its_channel_where_the_cell_is(found):
    data = Data(seed=2)
    said = interpret(Planted(), data.images[4], found, top=1)
    assert said.class_name == CLASSES[int(data.labels[4])]
    assert said.units[0].channel == 3 + said.index
    assert divmod(int(said.maps[0].argmax()), SIDE) == tuple(data.places[4].tolist())
    assert said.responses[0] > 0.5
    other = interpret(Planted(), data.images[4], found, index=(said.index + 1) % 3, top=1)
    assert all(unit.channel != 3 + other.index for unit in other.units)  # it does not respond


def test_the_average_patch_of_a_channel_is_its_color(found):
    data = Data()
    units = shown_units(found, 1)
    pictures = average_patches(Planted(), units, data.batches(), data, patches=5, size=4)
    for index in range(3):
        color = pictures["second.1", 3 + index].mean((1, 2))
        assert int(color.argmax()) == index
        assert color[index] > 0.5
        assert float(color.sum() - color[index]) == pytest.approx(0, abs=1e-5)


def test_planted_masks_are_covered_by_selected_channels_alone(found):
    data = Data(120)
    coverage = semantic_coverage(
        Planted(), found, [(data.images[:60], data.masks[:60]), (data.images[60:], data.masks[60:])], CLASSES, 1, 3
    )
    assert coverage.units == 3
    assert coverage.best == tuple(f"second.1 channel {k}" for k in (3, 4, 5))
    assert coverage.area.tolist() == [40, 40, 40]
    assert coverage.covered == pytest.approx(38 / 40)  # of 120 x 64 cells 0.5 % are 38
    assert float(coverage.random.max()) < 0.1


def test_layers_are_named_once_and_smooth_networks_have_convolutions():
    image = torch.rand(2, 3, 8, 8)
    inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 2))
    assert rectified_layers(inner, image) == ["1"]
    smooth = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Conv2d(4, 4, 3), nn.Flatten(), nn.Linear(64, 2))
    assert rectified_layers(smooth, image) == ["0", "2"]
    with pytest.raises(UnsupportedError, match="has no layers with maps"):
        rectified_layers(nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), image)


def test_figures_are_drawn(found, tmp_path):
    data = Data()
    pictures = average_patches(Planted(), shown_units(found, 2), data.batches(), data, 3, 8)
    said = interpret(Planted(), data.images[0], found, top=2)
    features_figure(found, pictures, per_class=2).savefig(tmp_path / "features.png")
    interpretation_figure(data.images[0], said, pictures).savefig(tmp_path / "said.png")
    curve = ablation_curve(Planted(), found, data.batches(), [1, 2], 2)
    ablation_figure(curve).savefig(tmp_path / "curve.png")
    assert str(found).startswith("red    second.1 channel 3 (+0.")


def test_what_cannot_be_is_one_line(found):
    data = Data()
    with pytest.raises(ConfigError, match="budget: 0 given, more than 0"):
        relevant_features(Planted(), data.batches(), CLASSES, budget=0)
    with pytest.raises(ConfigError, match="no layer 'third' in Planted"):
        relevant_features(Planted(), data.batches(), CLASSES, layers=["third"])
    with pytest.raises(ConfigError, match="response: 'sum' is not one of max, mean"):
        relevant_features(Planted(), data.batches(), CLASSES, response="sum")
    with pytest.raises(DataError, match="all images are of one class"):
        relevant_features(Planted(), [batch.select(batch.label == 0) for batch in data.batches()], CLASSES)
    with pytest.raises(ConfigError, match="counts"):
        ablation_curve(Planted(), found, data.batches(), counts=[])
    with pytest.raises(ConfigError, match="there is no class 7 among 3"):
        interpret(Planted(), data.images[0], found, index=7)


class ChannelsLast(nn.Module):
    """A layer that puts its channels last and is used once, and one that runs twice."""

    def __init__(self):
        super().__init__()
        self.rows = nn.Linear(3, 3, bias=False)
        self.rows.weight.data = torch.eye(3)
        self.twice = nn.ReLU()

    def forward(self, image):
        rows = self.rows(image.permute(0, 2, 3, 1))
        return self.twice(self.twice(rows)).amax((1, 2))


def test_channels_are_taken_out_where_they_lie_last_and_of_each_image_its_own():
    model, image = ChannelsLast(), torch.rand(2, 3, 4, 5)
    lies = {"rows": layer_arrangement(model, image, "rows")}
    assert lies["rows"].last
    with without_channels(model, lies, {"rows": torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])}):
        without = model(image)
    assert (without == 0).tolist() == [[False, True, False], [True, False, False]]
    assert torch.equal(without[0, [0, 2]], image[0].amax((1, 2))[[0, 2]])
    with (
        pytest.raises(UnsupportedError, match="layer 'twice' runs several times"),
        without_channels(model, {"twice": lies["rows"]}, {"twice": torch.ones(2, 3)}),
    ):
        model(image)
