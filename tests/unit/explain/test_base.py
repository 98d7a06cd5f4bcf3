"""The shared call."""

import pytest
import torch
from torch import nn

from ibd.errors import DataError, UnsupportedError
from ibd.explain.base import Call, Explainer, as_target, undisturbed
from ibd.explain.targets import Target
from tests.explainer_makers import images, make
from tests.model_state import check_untouched, snapshot


class Half(Explainer):
    """A map of half the size."""

    name = "half"

    def explain(self, call, image):
        assert not call.model.training
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()
        image.requires_grad_()
        scores = call.scores(image)
        gradients = call.gradients(scores, image)
        return self.answer(call, gradients.sum(2)[..., ::2, ::2], scores, size=tuple(image.shape[2:]))


def test_the_answer():
    model, image = make("functional"), images()
    one, several = Half()(model, image, 1), Half()(model, image, Target.classes([1, 0]))
    assert one.map.shape == (3, 33, 38)
    assert several.map.shape == (3, 2, 33, 38)
    torch.testing.assert_close(several.map[:, 0], one.map)
    assert (one.kind, one.method, one.target) == ("posthoc", "half", Target.cls(1))
    assert (one.cost.forwards, one.cost.backwards, several.cost.backwards) == (3, 3, 6)
    assert one.cost.seconds > 0
    assert image.requires_grad is False


@pytest.mark.parametrize(
    "image",
    [torch.rand(3, 8, 8), torch.randint(9, (1, 3, 8, 8)), torch.rand(0, 3, 8, 8), "image", torch.rand(1, 3, 8, 8) / 0],
)
def test_no_image(image):
    with pytest.raises(DataError):
        Half()(make("functional"), image)


def test_everything_comes_back():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.BatchNorm1d(2))
    model[1].eval()
    model[0].bias.requires_grad_(False)
    before = snapshot(model)

    def fail():
        assert not any(each.requires_grad for each in model.parameters())
        assert not any(each.training for each in model.modules())
        assert torch.is_grad_enabled()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), torch.no_grad(), undisturbed(model):
        fail()
    check_untouched(model, before)


def test_as_target():
    assert as_target(None) == Target.predicted()
    assert as_target(3) == Target.cls(3)
    assert as_target("bee") == Target.cls("bee")
    assert as_target(Target.unit(1)) == Target.unit(1)
    assert Call(make("cbm"), Target.cls("bee")).target == Target.cls(1)


class Plain(nn.Module):
    """Its weights are a tensor that is no parameter and no buffer, made in inference mode."""

    def __init__(self):
        super().__init__()
        with torch.inference_mode():
            self.weight = torch.rand(3, 2)

    def forward(self, image):
        return image.mean((2, 3)).relu() @ self.weight


def test_tensors_made_in_inference_mode_are_named_as_what_they_are():
    with pytest.raises(
        UnsupportedError, match=r"a tensor of the model that is neither a parameter nor a buffer was made inside of"
    ):
        Half()(Plain(), images(), 1)
