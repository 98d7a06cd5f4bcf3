"""LIME and KernelSHAP: exact where the model is linear in regions; one line where captum is missing."""

import importlib

import pytest
import torch
from torch import nn

from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.explain.baselines import covered_with
from ibd.explain.surrogates import KernelShap, LeastSquares, Lime, rectangles
from ibd.explain.targets import Target

SIZE = (9, 13)
IMAGES = torch.rand(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE[0] * SIZE[1], 4))


def exact(model, k, segments):
    """Return what each region adds to the score of a linear model, (B, H, W)."""
    moved = model[1].weight[k].view(3, *SIZE) * (IMAGES - covered_with(IMAGES, "mean"))
    by_pixel = moved.sum(1).detach()
    return torch.stack(
        [
            torch.zeros(segments.max() + 1).index_add(0, segments.flatten(), each.flatten())[segments]
            for each in by_pixel
        ]
    )


def test_rectangles_share_the_image_out():
    found = rectangles(SIZE, 2, 3)
    assert found.unique().tolist() == list(range(6))
    assert found[0, 0] == 0
    assert found[-1, -1] == 5
    assert found.flatten().bincount().min() >= 16


def test_least_squares_is_the_weighted_normal_equations():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(30, size, generator=generator) for size in (4, 1))
    weight = torch.rand(30, 1, generator=generator)
    model = LeastSquares(0.7)
    model.fit([(x[:20], y[:20], weight[:20]), (x[20:], y[20:], weight[20:])])
    design = torch.cat([x, torch.ones(30, 1)], 1).double()
    penalty = torch.diag(torch.tensor([0.7] * 4 + [0.0])).double()
    solved = torch.linalg.solve(design.T @ (weight * design) + penalty, design.T @ (weight * y).double())
    torch.testing.assert_close(model.representation(), solved[:4].T.float())


@pytest.mark.parametrize("make", [lambda: KernelShap(60, grid=(2, 3)), lambda: Lime(60, grid=(2, 3), ridge=0.0)])
def test_a_linear_model_is_explained_exactly(make):
    pytest.importorskip("captum")
    model = linear()
    random = torch.get_rng_state()
    found = make()(model, IMAGES, Target.classes([2, 0]))
    assert torch.equal(torch.get_rng_state(), random)
    segments = rectangles(SIZE, 2, 3)
    for k, index in enumerate((2, 0)):
        torch.testing.assert_close(found.map[:, k], exact(model, index, segments), atol=2e-3, rtol=2e-3)
    assert torch.equal(make()(model, IMAGES, Target.classes([2, 0])).map, found.map)


def test_segments_of_ones_own():
    pytest.importorskip("captum")
    model, segments = linear(), torch.full(SIZE, 7)
    segments[2:5, 3:9] = 40
    segments[6:] = -1
    found = KernelShap(40, segments=segments)(model, IMAGES, 1)
    expected = exact(model, 1, segments.unique(return_inverse=True)[1])
    torch.testing.assert_close(found.map, expected, atol=2e-3, rtol=2e-3)


def test_without_captum_there_is_one_line(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(UnsupportedError) as caught:
        Lime()(linear(), IMAGES, 0)
    assert str(caught.value) == 'LIME and KernelSHAP need captum: pip install "ibd[captum]"'


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Lime(samples=0), ConfigError, "samples: 0 given"),
        (lambda: KernelShap(20, grid=8)(linear(), IMAGES), ConfigError, "20 samples of 64 regions"),
        (lambda: Lime(baseline="gray"), ConfigError, "baseline: 'gray'"),
        (
            lambda: KernelShap(segments=torch.zeros(3, 3).long())(linear(), IMAGES),
            DataError,
            r"segments of shape \(3, 3\)",
        ),
    ],
)
def test_mistakes(make, error, message):
    with pytest.raises(error, match=message):
        make()
