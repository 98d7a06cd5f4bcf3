"""Occlusion and RISE: against loops, in closed form on linear models, whatever the batch size."""

import pytest
import torch
from torch import nn

from ibd.errors import ConfigError
from ibd.explain.base import undisturbed
from ibd.explain.baselines import blurred, covered_with
from ibd.explain.perturbation import Occlusion, Rise, enlarge
from ibd.explain.targets import Target
from tests.model_makers import make_embedding, make_network, make_pipnet, make_prototypes, make_whitening
from tests.reference import perturbation as reference

SIZE = (13, 17)
IMAGES = torch.rand(3, 3, *SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def linear(classes=4):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE[0] * SIZE[1], classes)).double()


def curved(classes=4):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, stride=2), nn.BatchNorm2d(5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(5, classes),
    ).double()  # fmt: skip


def score_of(model, k):
    return lambda image: float(model(image)[0, k])


@pytest.mark.parametrize(("window", "stride"), [(4, 2), (5, 5), (3, 1), (13, 4)])
@pytest.mark.parametrize("baseline", ["mean", "black", "blur", 0.3])
def test_occlusion_is_the_loop(window, stride, baseline):
    model = curved().eval()
    found = Occlusion(window, stride, baseline, batch_size=7)(model, IMAGES, Target.cls([0, 3, 1]))
    cover = covered_with(IMAGES, baseline)
    with torch.no_grad():
        for row, k in enumerate((0, 3, 1)):
            expected = reference.occlusion(score_of(model, k), IMAGES[row], window, stride, cover[row])
            torch.testing.assert_close(found.map[row], expected)
            assert float(found.value[row]) == pytest.approx(score_of(model, k)(IMAGES[row : row + 1]))


def test_occlusion_of_a_linear_model_is_exact():
    model = linear()
    found = Occlusion(1, 1, "black")(model, IMAGES, 2)
    weight = model[1].weight[2].view(3, *SIZE)
    torch.testing.assert_close(found.map, (weight * IMAGES).sum(1))
    torch.testing.assert_close(found.map.sum((1, 2)), found.value - model[1].bias[2])
    assert found.cost.forwards == 3 * (1 + SIZE[0] * SIZE[1])


def test_rise_is_the_loop():
    model = curved().eval()
    options = {"masks": 20, "cells": 4, "keep": 0.3, "seed": 5, "batch_size": 6}
    method = Rise(**options, centered=False)
    grids, shifts = method._draw(SIZE)
    masks = [reference.rise_mask(grid, shift.tolist(), SIZE) for grid, shift in zip(grids, shifts, strict=True)]
    torch.testing.assert_close(enlarge(grids, shifts, SIZE).double(), torch.stack(masks), atol=1e-6, rtol=0)
    found = method(model, IMAGES, 1)
    cover = covered_with(IMAGES, "mean")
    with torch.no_grad():
        expected = [reference.rise(score_of(model, 1), IMAGES[b], masks, 0.3, cover[b]) for b in range(3)]
        torch.testing.assert_close(found.map, torch.stack(expected), atol=1e-5, rtol=1e-5)
        for b in range(3):
            scores = [score_of(model, 1)((mask * IMAGES[b] + (1 - mask) * cover[b])[None]) for mask in masks]
            mean = sum(scores) / len(masks)
            expected[b] = reference.rise(lambda x, m=mean: score_of(model, 1)(x) - m, IMAGES[b], masks, 0.3, cover[b])
    torch.testing.assert_close(Rise(**options)(model, IMAGES, 1).map, torch.stack(expected), atol=1e-5, rtol=1e-5)


def test_rise_of_a_linear_model_finds_the_pixel_that_counts():
    """E[score * mask(x)] / keep = keep * sum of the others + E[mask(x)^2] / keep * own: largest there."""
    model = linear()
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.zero_()
        model[1].weight.view(4, 3, *SIZE)[1, :, 5, 9] = 1.0
    found = Rise(masks=600, cells=6, baseline="black", centered=False)(model, torch.ones_like(IMAGES[:1]), 1)
    row, column = divmod(int(found.map[0].argmax()), SIZE[1])
    assert max(abs(row - 5), abs(column - 9)) <= 1  # neighbors are mostly seen together
    masks = enlarge(*Rise(masks=4000, cells=6)._draw(SIZE), SIZE).double()
    assert float(masks.mean()) == pytest.approx(0.5, abs=0.01)
    far = float(found.map[0, 12, 0])
    assert far == pytest.approx(3 * 0.5, rel=0.12)  # independent of the pixel: three channels, each seen half the time
    assert float(found.map[0].max()) == pytest.approx(3 * float(masks[:, 5, 9].square().mean()) / 0.5, rel=0.1)


METHODS = [
    lambda batch: Occlusion(5, 3, batch_size=batch),
    lambda batch: Rise(masks=30, cells=4, seed=2, batch_size=batch),
]


@pytest.mark.parametrize("make", METHODS)
def test_batch_size_does_not_matter_and_many_are_as_single_ones(make):
    model = curved()
    target = Target.classes([3, 0])
    found = make(1000)(model, IMAGES, target)
    assert found.map.shape == (3, 2, *SIZE)
    for batch in (1, 2, 7):
        torch.testing.assert_close(make(batch)(model, IMAGES, target).map, found.map)
    for k, index in enumerate((3, 0)):
        for row in range(3):
            single = make(9)(model, IMAGES[row : row + 1], index)
            torch.testing.assert_close(single.map[0], found.map[row, k])
            torch.testing.assert_close(single.value[0], found.value[row, k])
    assert found.cost.forwards == make(4)(model, IMAGES, 0).cost.forwards  # many targets share the passes


@pytest.mark.parametrize("make", METHODS)
def test_seeds_and_what_is_left_alone(make):
    model = curved().train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    with torch.inference_mode():
        first = make(8)(model, IMAGES).map
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.equal(make(8)(model, IMAGES).map, first)
    assert model.training
    assert model[1].training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    if isinstance(make(8), Rise):
        assert not torch.equal(Rise(masks=30, cells=4, seed=3)(model, IMAGES).map, first)


def test_predicted_is_what_the_clean_image_is_predicted_as():
    """A covered image may be of another class: it is asked about the first one all the same."""
    model = linear()
    with undisturbed(model), torch.no_grad():
        best = model(IMAGES).argmax(1)
    for method in (Occlusion(9, 4), Rise(masks=20, cells=3)):
        torch.testing.assert_close(method(model, IMAGES).map, method(model, IMAGES, Target.cls(best)).map)


@pytest.mark.parametrize("make", [make_network, make_embedding, make_whitening, make_pipnet, make_prototypes])
def test_units_of_our_models(make):
    model = make()
    images = torch.rand(2, 3, 32, 32)
    found = Occlusion(8, 8)(model, images, Target.units([0, 2]))
    assert found.map.shape == (2, 2, 32, 32)
    assert bool(found.map.isfinite().all())
    assert float(found.map.abs().max()) > 0


def test_blur_keeps_the_mean_of_a_flat_image_and_spreads_a_point():
    torch.testing.assert_close(blurred(torch.full((1, 3, 8, 9), 0.4), 2.0), torch.full((1, 3, 8, 9), 0.4))
    point = torch.zeros(1, 1, 21, 21)
    point[0, 0, 10, 10] = 1
    spread = blurred(point, 2.0)
    place = torch.arange(21.0) - 10
    assert float(spread.sum()) == pytest.approx(1, abs=1e-5)
    assert float((spread[0, 0].sum(0) * place.square()).sum()) == pytest.approx(4.0, rel=0.05)  # sigma squared


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Occlusion(0), "window: 0 given, at least 1"),
        (lambda: Occlusion(4, baseline="white"), "baseline: 'white' is not one of mean, black, blur, a number"),
        (lambda: Rise(keep=1.0), "keep: 1.0 given, a probability"),
        (lambda: Rise(masks=0), "masks: 0 given"),
        (lambda: Occlusion(3, 5)(linear(), IMAGES), "a stride of 5 leaves gaps between windows of 3 pixels"),
    ],
)
def test_mistakes(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
