"""What concepts are worth to classes: against sums by hand, and closed forms of Sobol indices."""

import pytest
import torch
from torch import nn

from ibd.explain.base import Call
from ibd.explain.directions import Directions
from ibd.explain.discovery.importance import class_importance, exact_parts, total_indices
from ibd.explain.layers import LayerCut
from ibd.explain.targets import Target


class Network(nn.Module):
    """A convolution and a ReLU, pooled and mapped to three classes."""

    def __init__(self, square=False):
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU())
        self.head = nn.Linear(4, 3)
        self.square = square

    def forward(self, image):
        pooled = self.features(image).mean((2, 3))
        return self.head(pooled.square() if self.square else pooled)


def _directions():
    names = ("a", "b", "c", "d")
    return Directions("features", torch.eye(4), torch.zeros(4), names, "nmf", "nonnegative")


def test_parts_of_a_linear_head_add_up_to_the_logit():
    model, images = Network().eval(), torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    cut = LayerCut(Call(model, Target.cls(2)), images, "features", replay=True)
    parts = exact_parts(cut, _directions())
    pooled = model.features(images).mean((2, 3))
    assert torch.allclose(parts, pooled * model.head.weight[2], atol=1e-4)
    assert torch.allclose(parts.sum(1) + model.head.bias[2], model(images)[:, 2], atol=1e-4)


def test_linear_rest_is_told_from_one_that_is_not():
    images = [torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    exact = class_importance(Network().eval(), images, "features", _directions())
    assert (exact.kind, exact.designs, exact.images) == ("exact", 0, 3)
    estimated = class_importance(Network(square=True).eval(), images, "features", _directions(), designs=16)
    assert (estimated.kind, estimated.designs) == ("sobol", 16)
    assert bool((estimated.values >= 0).all())
    assert bool((estimated.values.sum(0) > 0.7).all())


def test_class_without_images_has_no_number():
    images = [torch.rand(2, 3, 8, 8), torch.empty(0, 3, 8, 8), torch.rand(2, 3, 8, 8)]
    found = class_importance(Network().eval(), images, "features", _directions())
    assert found.values.isnan().any(0).tolist() == [False, True, False]


def test_model_is_left_as_it_was():
    model = Network().train()
    class_importance(model, [torch.rand(2, 3, 8, 8)] * 3, "features", _directions())
    assert model.training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert not model.features._forward_hooks


def test_total_indices_of_a_sum_are_known():
    """Of f = sum a_k m_k they are a_k^2 / sum a^2."""
    weights = torch.tensor([[3.0], [2.0], [1.0], [0.0]])
    found = total_indices(lambda masks: masks @ weights, 4, designs=512)
    assert torch.allclose(found[:, 0].float(), torch.tensor([9, 4, 1, 0]) / 14, atol=0.02)


def test_total_indices_of_a_product_are_known():
    """Of m_0 m_1 the variance is 1/9 - 1/16, and 1 - (1/4 Var m) / Var f = 4/7 is the total index of each."""
    found = total_indices(lambda masks: masks[:, :1] * masks[:, 1:2], 2, designs=1024)
    assert found[:, 0].tolist() == pytest.approx([4 / 7, 4 / 7], abs=0.02)


def test_score_that_does_not_change_has_no_indices():
    assert total_indices(lambda masks: torch.full((len(masks), 1), 2.0), 3, 8).tolist() == [[0], [0], [0]]
