"""An explanation that jumps where the function does not, and one that goes along: f(x) = max(x_1, x_2)."""

import pytest
import torch
from torch import nn

from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.continuity import continuity_example, moved_right
from ibd.explain.continuity_figures import continuity_figure
from ibd.explain.gradients import GradientTimesInput, Saliency
from ibd.explain.intrinsic import Intrinsic
from ibd.metrics.functional.robustness import max_l1_change


@pytest.mark.parametrize("epsilon", [1e-1, 1e-3])
def test_the_gradient_of_a_maximum_jumps(epsilon):
    """(1 + e, 1) and (1, 1 + e): the gradient moves by 2, the images by e sqrt(2); a share of the sum hardly moves."""
    x = torch.tensor([[[[1 + epsilon, 1.0]]], [[[1.0, 1 + epsilon]]]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(x.amax((1, 2, 3)).sum(), [x])
    distance = (x[0] - x[1]).norm().detach().reshape(1, 1)
    jumps = max_l1_change(gradient[:1, 0], gradient[None, 1], distance)
    assert float(jumps) == pytest.approx(2 / (epsilon * 2**0.5))
    share = (x / x.sum((1, 2, 3), keepdim=True) * x.amax((1, 2, 3), keepdim=True)).detach()
    goes_along = max_l1_change(share[:1, 0], share[None, 1], distance)
    assert float(goes_along) == pytest.approx(2 * epsilon / (2 + epsilon) / (epsilon * 2**0.5))
    assert float(max_l1_change(1e6 * share[:1, 0], 1e6 * share[None, 1], distance)) == pytest.approx(float(goes_along))


def test_it_is_the_largest_of_what_counts():
    own = torch.ones(1, 2, 2)
    changed = torch.stack([own + 1, own + 3, own + 100], 1)
    distance, valid = torch.tensor([[1.0, 2.0, 1.0]]), torch.tensor([[True, True, False]])
    assert max_l1_change(own, changed, distance, valid).tolist() == [1.5]
    assert max_l1_change(own * 0, changed, distance).isnan().all()


class Left(nn.Module):
    """Two classes: brightness of the columns 0 to 3, and a constant."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))

    def forward(self, image):
        left = image[:, :, :, :4].sum((1, 2, 3))
        return self.scale * torch.stack([left, torch.full_like(left, 1.0)], 1)


def test_an_image_that_moves():
    image = torch.zeros(3, 6, 12)
    image[:, 2, 1] = 0.5
    moved = moved_right(image, 3, 1)
    assert [int(each[0, 2].argmax()) for each in moved] == [1, 2, 3, 4]
    found = continuity_example(Left(), image, [GradientTimesInput(), Saliency(), Intrinsic()], steps=3)
    # Two pixels of three channels change by 0.5 in every step.
    assert found.distance.tolist() == pytest.approx([(6 * 0.25) ** 0.5] * 3)
    # Where the spot goes, gradient times input goes: all of its map moves. At column 4 nobody looks any more.
    assert found.change["gradient_input"][:2].tolist() == pytest.approx([2 / 1.5**0.5] * 2)
    assert found.kept.tolist() == [True, True, True, False]
    assert found.change["gradient_input"][2].isnan()
    assert found.change["saliency"][:2].tolist() == [0.0, 0.0]  # the gradient is the same everywhere
    assert "intrinsic" not in found.maps  # a network of a stranger has no account of its own
    assert "left out: intrinsic: " in str(found)
    assert found.largest() == {"gradient_input": pytest.approx(2 / 1.5**0.5), "saliency": 0.0}
    assert str(found).splitlines()[1].startswith("saliency")
    assert "1 of 4 images are predicted as another class" in str(found)
    assert len(continuity_figure(found, "class 0").axes) == 3 * 4 + 1


def test_an_image_that_stays_the_same():
    found = continuity_example(Left(), torch.full((3, 6, 12), 0.5), [Saliency()], steps=2)
    assert found.change["saliency"].isnan().all()
    assert "the image is the same wherever it is moved" in str(found)


class OneLogit(Left):
    """One class: there where the columns 0 to 3 are darker than 6 in sum."""

    def forward(self, image):
        return 6 - super().forward(image)[:, :1]


def test_a_network_of_one_logit():
    """A bright image is not of its class: the absence is explained, and left out where the class is there."""
    image = torch.zeros(3, 6, 12)
    image[:, :, :4] = torch.tensor([0.0, 0.2, 0.3, 0.3])
    found = continuity_example(OneLogit(), image, [Saliency(), GradientTimesInput()], steps=3)
    assert found.value[0] == pytest.approx(3 * 6 * 0.8 - 6)
    assert found.value[0] > 0
    assert found.maps["gradient_input"][0].sum() > 0
    assert found.kept.tolist() == [bool(value > 0) for value in found.value]
    assert found.kept[0]
    assert not found.kept[-1]


def test_bad_requests():
    with pytest.raises(ConfigError, match="steps: 12 of 1 pixels leave nothing of an image 12 pixels wide"):
        continuity_example(Left(), torch.rand(3, 6, 12), [Saliency()], steps=12)
    with pytest.raises(UnsupportedError, match="none of the methods gives a map: intrinsic"):
        continuity_example(Left(), torch.rand(3, 6, 12), [Intrinsic()])
