"""TCAV: slopes in closed form, used and unused concepts, and how often a random concept is called significant."""

import csv

import pytest
import torch
from torch import nn

from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.explain.cav import Fit
from ibd.explain.concept_slopes import ClassGradients, class_gradients, tcav, tcav_of
from ibd.explain.layer_features import LayerFeatures
from ibd.explain.tcav_figures import tcav_figure
from ibd.explain.tcav_results import Slopes, against_random
from ibd.types import Batch

WEIGHT = torch.tensor([[0.5, -1.0, 2.0], [1.0, 0.0, -3.0]])


class Linear(nn.Module):
    """A layer, and logits that are linear in the mean of its map."""

    def __init__(self):
        super().__init__()
        self.layer = nn.AvgPool2d(2)
        self.head = nn.Linear(3, 2)
        self.head.weight.data.copy_(WEIGHT)

    def forward(self, image):
        return self.head(self.layer(image).mean((2, 3)))


def colored(count=96, seed=0):
    """Noise of which red and green are concepts, each in half of the images."""
    generator = torch.Generator().manual_seed(seed)
    concepts = (torch.rand(count, 2, generator=generator) > 0.5).float()
    images = torch.rand(count, 3, 4, 4, generator=generator) * 0.5
    images[:, :2] += 0.5 * concepts[:, :, None, None]
    labels = torch.arange(count) % 2
    every = Batch(images, labels, concepts, torch.arange(count))
    return [every.select(torch.arange(count) // 32 == part) for part in range(3)]


def test_slopes_of_hand_made_images_come_to_what_the_definitions_say():
    given = [[1.0, -2.0, 0.0], [3.0, -1.0, 0.0], [-1.0, -1.0, 0.0], [0.0, -4.0, 0.0]]
    slopes = Slopes.of(torch.tensor(given, dtype=torch.float64))
    assert slopes.score.tolist() == [0.625, 0.0, 0.5]  # two above 0 and one at 0, of four
    assert torch.allclose(slopes.magnitude, torch.tensor([0.8, 0.0, 0.5], dtype=torch.float64))
    assert torch.allclose(slopes.slope, torch.tensor([0.75, -2.0, 0.0], dtype=torch.float64))


@pytest.mark.parametrize(("pooling", "share"), [("mean", 1.0), ("flat", 0.25)])
def test_the_gradients_of_a_linear_network_are_its_weights_for_every_image(pooling, share):
    found = class_gradients(Linear(), colored(), "layer", pooling=pooling)
    assert found.labels.tolist() == [0, 1] * 48
    wanted = WEIGHT[found.labels] if pooling == "mean" else WEIGHT.repeat_interleave(4, 1)[found.labels] * share
    assert torch.allclose(found.values, wanted, atol=1e-6)


def test_a_linear_network_has_the_slope_of_weight_times_vector_and_a_score_of_0_or_1():
    model = Linear().train()
    found = tcav(model, colored(), colored(seed=1), ("red", "green"), ("a", "b"), "layer", runs=3, random=10)
    assert found.images == (48, 48)
    assert model.training
    along = {"red": WEIGHT[:, 0], "green": WEIGHT[:, 1]}
    for k, name in enumerate(found.concepts):  # the vectors are nearly the axes
        assert torch.allclose(found.own.slope[k].mean(1).float(), along[name], atol=0.25)
    assert found.scores.tolist()[0] == [1.0, 1.0]
    assert found.scores.tolist()[1][0] == 0.0
    assert found.auroc.min() > 0.95
    assert torch.equal(found.own.score, found.own.magnitude)  # all images have the same slope


def features(count=400, size=24, seed=0):
    """Features of which two axes are concepts, the first of which a class uses; the others are of random concepts."""
    generator = torch.Generator().manual_seed(seed)
    concepts = (torch.rand(count, 32, generator=generator) > 0.7).float()
    values = torch.randn(count, size, generator=generator) * torch.linspace(0.2, 2, size)
    values[:, :2] += 3 * concepts[:, :2]
    weight = torch.randn(size, generator=generator) * 0.3
    weight[:2] = torch.tensor([2.0, 0.0])
    names = [f"concept {k}" for k in range(32)]
    read = LayerFeatures({"x": values}, {"x": (size,)}, torch.zeros(count).long(), concepts, torch.arange(count))
    return read, weight, names


def asked_of_random_features(count, seed=0):
    read, weight, names = features(seed=seed)
    gradients = ClassGradients(weight.expand(50, -1), torch.zeros(50).long())
    return tcav_of(read, gradients, names, ("a",), "x", names[:count], Fit("ridge", 50), runs=3, random=20)


def test_a_concept_that_the_class_uses_counts_and_one_that_it_does_not_use_does_not():
    found = asked_of_random_features(2)
    assert found.auroc.min() > 0.95
    assert found.significant.tolist() == [[True], [False]]
    assert found.p_values[0, 0] < 0.001
    assert found.scores[0, 0] == 1
    assert found.raw_p_values[1, 0] > 0.5


@pytest.mark.slow
def test_random_concepts_are_called_significant_as_often_as_the_level_says_and_not_as_often_as_published():
    found = [asked_of_random_features(32, seed) for seed in range(4)]
    raw = torch.cat([one.raw_p_values[2:] for one in found])
    assert (raw < 0.05).double().mean() <= 0.1  # 6 are to be expected of 120
    assert (raw < 0.5).double().mean() > 0.3  # nor is it a test that never finds anything
    published = torch.cat([one.published_p_values[2:] for one in found])
    assert (published < 0.05).double().mean() > 0.1  # although corrected for 32 tests


def test_the_test_is_students_t_of_one_more_value():
    random = torch.tensor([-1.0, 0.5, 1.5, -0.5, 0.0, 1.0, -1.5, 0.0, 0.3, -0.3], dtype=torch.float64)
    stats = pytest.importorskip("scipy.stats")

    def slopes(values):
        return Slopes(*[values] * 3)

    own = torch.tensor([[[2.0, 2.2]]], dtype=torch.float64)
    given = slopes(random.view(10, 1, 1).expand(10, 1, 2))
    found = against_random("x", ["c"], ["a"], [5], slopes(own), [given], [0.9], [50])
    t = (2.1 - random.mean()) / (random.std() * 1.1**0.5)
    assert float(found.p_values) == pytest.approx(2 * stats.t.sf(float(t), 9), rel=1e-9)
    welch = stats.ttest_ind([2.0, 2.2], random.tolist(), equal_var=False)
    assert float(found.published_p_values) == pytest.approx(welch.pvalue, rel=1e-9)


def test_a_class_that_no_direction_changes_rests_on_nothing():
    read, weight, names = features(120)
    gradients = ClassGradients(torch.zeros(20, len(weight)), torch.zeros(20).long())
    found = tcav_of(read, gradients, names, ("a",), "x", names[:1], Fit("ridge", 20), runs=2, random=10)
    assert float(found.p_values) == float(found.published_p_values) == 1
    assert float(found.scores) == 0.5


def test_the_table_the_file_and_the_figure_say_the_same(tmp_path):
    read, weight, names = features(200)
    gradients = ClassGradients(torch.stack([weight, -weight]), torch.tensor([0, 1]))
    found = tcav_of(read, gradients, names, ("a", "b_$x$"), "x", names[:3], Fit("ridge", 30), runs=2, random=10)
    found.save_csv(tmp_path / "tcav.csv")
    rows = list(csv.DictReader((tmp_path / "tcav.csv").open()))
    assert len(rows) == 6
    assert float(rows[0]["score"]) == 1
    assert float(rows[1]["score"]) == 0
    assert str(found).splitlines()[1].startswith("concept 0")
    tcav_figure(found).savefig(tmp_path / "tcav.png")


def test_what_cannot_be_is_one_line():
    asked = Linear(), colored(), colored(), ("red", "green"), ("a", "b")
    with pytest.raises(ConfigError, match="there is no class 'c'"):
        tcav(*asked, "layer", classes=["c"])
    with pytest.raises(ConfigError, match="Linear has no 'backbone': name a layer"):
        tcav(*asked)
    with pytest.raises(ConfigError, match="runs: 1 given, at least 2"):
        tcav(*asked, "layer", runs=1)
    with pytest.raises(ConfigError, match="pooling: 'max' is not one of mean, flat"):
        tcav(*asked, "layer", pooling="max")
    model = Linear()
    model.extra = nn.Linear(3, 3)
    with pytest.raises(UnsupportedError, match="layer 'extra' does not run when the model sees an image"):
        class_gradients(model, colored(), "extra")
    with pytest.raises(DataError, match="no images of the classes"):
        class_gradients(Linear(), colored(), "layer", [5])
