"""Pertinent negatives and positives in pixels: in closed form on linear models."""

import pytest
import torch
from torch import nn

from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.pertinent import pertinent_negative, pertinent_positive

SHAPE = (3, 4, 4)


def linear(seed=0, classes=2, bias=(0.0, 0.0)):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, classes))
    with torch.no_grad():
        model[1].weight.mul_(10)
        model[1].bias.copy_(torch.tensor(bias[:classes]))
    return model


def smallest(weight, gap, beta):
    """Return the d of least ``beta |d|_1 + |d|^2`` with ``weight . d >= gap``: soft(mu w, beta) / 2, by bisection."""
    low, high = 0.0, 1e4
    for _ in range(200):
        mu = (low + high) / 2
        change = (mu * weight).sign() * ((mu * weight).abs() - beta).clamp(min=0) / 2
        low, high = (mu, high) if float(change @ weight) < gap else (low, mu)
    return change


@pytest.mark.parametrize("beta", [0.0, 0.1])
def test_the_smallest_change_of_a_linear_model_is_the_closed_form(beta):
    model = linear()
    image = 0.45 + 0.1 * torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    found = pertinent_negative(model, image, beta=beta)
    assert bool(found.found.all())
    assert bool((found.before != found.after).all())
    with torch.no_grad():
        logits = model(image)
    for row in range(2):
        label = int(found.before[row])
        weight = (model[1].weight[1 - label] - model[1].weight[label]).detach().double()
        expected = smallest(weight, float(logits[row, label] - logits[row, 1 - label]), beta)
        size = float(beta * expected.abs().sum() + expected.square().sum())
        assert size * (1 - 1e-3) < float(found.size[row]) < 1.02 * size
        torch.testing.assert_close(found.change[row].flatten().double(), expected, atol=8e-3, rtol=0)
        assert float(expected.abs().max()) > 0.02


def test_what_is_enough_of_a_linear_model_is_the_closed_form():
    """From black, which is class 0 by its bias: as little of the image as makes it class 1."""
    model = linear(bias=(1.0, 0.0))
    with torch.no_grad():
        model[1].weight[0].zero_()
        image = (model[1].weight[1] > 0).float().view(1, *SHAPE)  # every pixel that speaks for class 1 is white
    found = pertinent_positive(model, image, "black", beta=0.1)
    assert int(found.before[0]) == int(found.after[0]) == 1
    expected = smallest(model[1].weight[1].detach().double().clamp(min=0), 1.0, 0.1)
    size = float(0.1 * expected.abs().sum() + expected.square().sum())
    assert size * (1 - 1e-3) < float(found.size[0]) < 1.02 * size
    torch.testing.assert_close(found.change[0].flatten().double(), expected, atol=0.02, rtol=0)
    torch.testing.assert_close(found.image, found.change)


def test_cells_baselines_and_classes():
    model, image = linear(classes=3, bias=(0.0, 0.0, 0.0)), torch.full((1, *SHAPE), 0.4)
    with torch.no_grad():
        other = int(model(image)[0].argmin())
    found = pertinent_negative(model, image, is_class=other, cell=2, margin=0.1, steps=40)
    assert int(found.after[0]) == other
    with torch.no_grad():
        ahead = model(found.image)[0].sort(descending=True).values
    assert float(ahead[0] - ahead[1]) >= 0.1 - 1e-5
    cells = found.change.unfold(2, 2, 2).unfold(3, 2, 2).flatten(4)
    assert torch.equal(cells.amax(-1), cells.amin(-1))
    added = pertinent_negative(model, image, baseline="black", steps=40)
    assert float(added.change.min()) >= 0  # what is not there is added, nothing is taken away
    assert float(found.image.min()) >= 0
    assert float(found.image.max()) <= 1


def test_where_there_is_none():
    model = linear(bias=(1000.0, 0.0))
    found = pertinent_negative(model, torch.rand(1, *SHAPE), steps=5, searches=2)
    assert not bool(found.found[0])
    assert float(found.change.abs().max()) == 0
    assert int(found.after[0]) == int(found.before[0]) == 0


def test_what_cannot_be_asked():
    image = torch.rand(1, *SHAPE)
    with pytest.raises(UnsupportedError, match="logits of two classes or more"):
        pertinent_negative(linear(classes=1, bias=(0.0,)), image)
    with pytest.raises(ConfigError, match="is_class: 7 given, there are 2 classes"):
        pertinent_negative(linear(), image, is_class=7)
    with pytest.raises(ConfigError, match="cell: 0 given"):
        pertinent_positive(linear(), image, cell=0)
