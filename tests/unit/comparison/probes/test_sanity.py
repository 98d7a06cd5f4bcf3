"""What depends on the model passes; what does not, fails."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ibd.comparison.probes.explaining import maps_of, unrectified
from ibd.comparison.probes.randomize import random_network
from ibd.comparison.probes.sanity import (
    SAME,
    SHIFT,
    UNCHANGED,
    Reference,
    _within,
    other_classes,
    sanity,
    shifted_model,
)
from ibd.comparison.reference_maps import ReferenceExplainer
from ibd.errors import UnsupportedError
from ibd.explain.base import Explanation
from ibd.explain.cam import GradCAM
from ibd.explain.gradients import GradientTimesInput, IntegratedGradients, Saliency
from ibd.explain.intrinsic import Intrinsic
from ibd.explain.smoothgrad import SmoothGrad
from ibd.explain.targets import Target
from ibd.metrics.functional.bootstrap import Interval
from ibd.models.baseline.lightning import Baseline
from tests import model_makers as makers
from tests.explainer_makers import images, make
from tests.model_state import check_untouched, snapshot


def squares(count, seed):
    """Return noisy images with a square somewhere, whose color is the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (count,), generator=generator)
    image = 0.4 * torch.rand(count, 3, 16, 16, generator=generator)
    for i, (y, x) in enumerate(torch.randint(11, (count, 2), generator=generator).tolist()):
        image[i, labels[i], y : y + 5, x : x + 5] += 0.6
    return image, labels


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    model = Baseline(makers.SPEC, {"name": "small_cnn", "width": 6, "depth": 3}).train()
    image, labels = squares(192, 0)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(model(image).logits, labels).backward()
        optimizer.step()
    model.zero_grad()
    image, labels = squares(48, 1)
    with torch.no_grad():
        assert float((model.eval()(image).logits.argmax(1) == labels).float().mean()) > 0.95
    return model, image, labels


class Counted:
    """An explainer that counts the images that it is asked about."""

    def __init__(self, explainer):
        self.explainer, self.images, self.models = explainer, 0, []

    def __call__(self, model, image, target):
        self.images += len(image)
        self.models.append(model)
        return self.explainer(model, image, target)


@pytest.mark.parametrize("explainer", [Saliency(), Intrinsic()], ids=["saliency", "intrinsic"])
def test_explanations_of_a_trained_model_pass(trained, explainer):
    model, image, labels = trained
    before = snapshot(model)
    found = sanity(explainer, model, image, labels, most=8)
    check_untouched(model, before)
    assert found.passed == dict.fromkeys(
        ("cascade_top_down", "cascade_bottom_up", "other_target", "other_input", "input_shift"), True
    )
    assert len(found.stages) == len(found.similarity) == 7
    assert found.stages[0] == "head"
    assert bool(np.all((found.low <= found.similarity) & (found.similarity <= found.high)))
    assert found.high[-1] < found.band
    assert found.values["cascade_top_down"] == found.similarity[-1]


@pytest.mark.parametrize("name", ["edges", "constant", "center"])
def test_what_does_not_ask_the_model_fails(trained, name):
    model, image, labels = trained
    found = sanity(ReferenceExplainer(name), model, image, labels, most=3)
    assert [found.passed[each] for each in ("cascade_top_down", "cascade_bottom_up", "other_target")] == [False] * 3
    assert found.values["cascade_top_down"] == found.values["other_target"] == found.band == 1
    assert found.passed["other_input"] == (name == "edges")
    assert found.passed["input_shift"]


def test_only_what_is_needed_is_explained(trained):
    model, image, labels = trained
    counted = Counted(Saliency())
    sanity(counted, model, image, labels, most=3, batch_size=20)
    assert counted.images == 48 * (1 + 2 * 3 + 2 + 1 + 1)  # the model, cascades, random, another class, shifted
    counted = Counted(Saliency())
    sanity(counted, model, image, labels, most=3, maps=Saliency()(model, image, Target.cls(labels)).map)
    assert counted.images == 48 * (2 * 3 + 2 + 2)
    assert model not in counted.models[:8]


def test_batches_change_nothing(trained):
    model, image, labels = trained
    whole, parts = (sanity(Saliency(), model, image[:9], labels[:9], most=2, batch_size=size) for size in (64, 4))
    np.testing.assert_allclose(whole.similarity, parts.similarity, atol=1e-3)
    assert whole.passed == parts.passed


def test_gradient_times_input_is_not_invariant_to_a_shift(trained):
    model, image, labels = trained
    assert not sanity(GradientTimesInput(), model, image, labels, most=1).passed["input_shift"]
    assert sanity(GradCAM(), model, image, labels, most=1).passed["input_shift"]


def test_the_shift_that_is_our_own_is_not_warned_of(trained):
    model, image, labels = trained
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sanity(IntegratedGradients(steps=2), model, image[:4], labels[:4], most=1)


@pytest.mark.parametrize("name", ["baseline", "protopnet", "cbm", "concept_whitening", "functional"])
def test_a_shifted_model_says_the_same(name):
    model, image = make(name).eval(), images(3, (32, 32))
    before = snapshot(model)
    shifted = shifted_model(model)
    check_untouched(model, before)
    with torch.no_grad():
        wanted, found = model(image), shifted(image + SHIFT)
    torch.testing.assert_close(getattr(found, "logits", found), getattr(wanted, "logits", wanted), rtol=1e-4, atol=1e-5)


def test_similarity():
    maps = torch.randn(4, 5, 5)
    maps[3] = 1.0
    same = Reference(maps).similarity(maps)
    assert same.tolist() == [1, 1, 1, 1]
    assert Reference(maps).similarity(-maps)[0] == 1
    assert Reference(maps, signed=True).similarity(-maps)[0] == -1
    others = torch.randn(4, 5, 5)
    others[2, 0, 0] = torch.nan
    found = Reference(maps).similarity(others)
    assert found[3] == Reference(others).similarity(maps)[3] == 0  # a constant map has nothing in common
    assert found.isnan().tolist() == [False, False, True, False]
    others[3] = -2 + 2e-7 * (others[0] > 0)  # constant but for rounding
    assert Reference(maps).similarity(others)[3] == 1
    moved = Reference(maps).select(torch.tensor([1, 0, 2, 2]))
    torch.testing.assert_close(
        Reference(maps).similarity_to(moved), Reference(maps).similarity(maps[[1, 0, 2, 2]]), equal_nan=True
    )


class AgainstAll(nn.Module):
    """Much speaks for class 0 and some against it; made random, the head may speak against it alone."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 4, 3, padding=1), nn.ReLU())
        self.head = nn.Linear(4, 50, bias=False)
        nn.init.constant_(self.head.weight, -1)
        with torch.no_grad():
            self.head.weight[0] = torch.tensor([1.0, -3.5, 1.0, -0.5])

    def forward(self, image):
        return self.head(self.layers(image).mean((2, 3)))


@pytest.mark.parametrize("kind", [lambda e: e, lambda e: SmoothGrad(e, n=2)], ids=["itself", "averaged"])
def test_rectified_maps_are_checked_before_they_are_rectified(kind):
    """The rectified maps of random networks are 0: they would have nothing in common, or everything."""
    model, image, labels = AgainstAll().eval(), squares(8, 2)[0], torch.zeros(8, dtype=torch.int64)
    rectified, signed = kind(GradCAM()), kind(GradCAM(relu=False))
    random = (maps_of(rectified, random_network(model, draw), image, labels) for draw in range(64))
    assert any(bool((each == 0).all()) for each in random)
    maps = maps_of(rectified, model, image, labels)
    assert bool((maps > 0).any())
    assert bool((maps_of(signed, model, image, labels) < 0).any())
    wanted = sanity(signed, model, image, labels, class_count=50, most=2)
    assert None not in (wanted.passed["cascade_top_down"], wanted.passed["cascade_bottom_up"])
    for given in (None, maps):
        found = sanity(rectified, model, image, labels, maps=given, class_count=50, most=2)
        assert found.passed == wanted.passed
        assert found.values == pytest.approx(wanted.values, nan_ok=True)
        assert found.band == wanted.band < 1


def test_what_is_rectified_is_undone_on_a_copy():
    rectified, averaged, positive = GradCAM(), SmoothGrad(GradCAM()), Saliency()
    assert unrectified(rectified).relu is unrectified(averaged).base.relu is False
    assert rectified.relu is averaged.base.relu is True
    assert unrectified(positive) is positive
    signed = SmoothGrad("gradient_input")
    assert unrectified(signed) is signed


def attributions(maps):
    """Return an explainer that has the next of (M, B, H, W) maps for each further model that it meets."""
    models = []

    def explain(model, image, target):
        if not any(model is each for each in models):
            models.append(model)
        found = maps[models.index(model)]
        return Explanation(found, torch.zeros(len(image)), target, "posthoc", "made")

    return explain


def test_maps_that_became_constant_have_a_verdict():
    """Of the model, the two cascades of one stage each, and two random networks."""
    torch.manual_seed(0)
    image, labels, maps = torch.rand(6, 3, 8, 8), torch.zeros(6, dtype=torch.int64), torch.rand(6, 6, 8, 8)
    cascades = ("cascade_top_down", "cascade_bottom_up")

    def verdicts(dead):
        some = maps.clone()
        some[dead] = 0
        found = sanity(attributions(some), make("baseline"), image, labels, most=1)
        return found, [found.passed[name] for name in cascades]

    found, passed = verdicts([1, 2, 3, 4])  # all that is random
    assert passed == [True, True]
    assert found.band == 1
    assert [found.values[name] for name in cascades] == [0, 0]
    whole, few = verdicts([])[0].band, verdicts([2, 3])[0].band
    assert 0 < few < 0.6  # of one pair: two constant maps are no sign that unrelated maps are alike
    assert whole < 0.6
    found, passed = verdicts([0, 1, 2, 3, 4])  # and the model itself: nothing changed
    assert passed == [False, False]
    assert [found.values[name] for name in cascades] == [1, 1]


def test_a_check_is_decided_by_the_end_of_the_interval():
    """Not by its mean, which few images know badly."""

    def interval(low, mean, high):
        return Interval(mean, low, high, 8, 8)

    for name in ("other_target", "other_input"):
        assert _within(name, interval(0.7, 0.8, SAME - 0.01))
        assert not _within(name, interval(0.7, 0.8, SAME + 0.01))
    assert _within("input_shift", interval(UNCHANGED + 0.001, 0.995, 1))
    assert not _within("input_shift", interval(UNCHANGED - 0.001, 0.995, 1))


def test_other_classes_are_others_and_depend_on_the_id_alone():
    classes = torch.arange(200) % 5
    found = other_classes(classes, 5, range(200))
    assert not bool((found == classes).any())
    assert set(found.tolist()) == set(range(5))
    assert torch.equal(other_classes(classes[7:9], 5, [7, 8]), found[7:9])


def test_what_does_not_apply_is_said_so():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Conv2d(3, 2, 3)

        def forward(self, image):
            return self.layer(image).mean((2, 3))

    found = sanity(Saliency(), Plain(), images(3, (8, 8)), torch.tensor([1, 1, 1]), most=2)
    assert found.passed["other_input"] is None
    assert found.passed["other_target"] is None
    assert (
        sanity(Saliency(), Plain(), images(3, (8, 8)), torch.tensor([1, 1, 1]), class_count=2).passed["other_target"]
        is not None
    )
    single = sanity(Saliency(), make("baseline"), images(1, (16, 16)), torch.tensor([0]))
    assert set(single.passed.values()) == {None}


def test_an_explainer_without_maps_is_refused():
    def nothing(model, image, target):
        return Explanation(None, torch.zeros(len(image)), target, "intrinsic", "nothing")

    with pytest.raises(UnsupportedError, match="no map"):
        sanity(nothing, make("baseline"), images(2), torch.tensor([0, 1]))
