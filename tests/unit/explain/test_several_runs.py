"""A layer that runs more than once: where one run is not all of the score, its map is none of the score."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ibd.errors import UnsupportedError
from ibd.explain.attribution import layer_attribution
from ibd.explain.cam import GradCAM, HiResCAM
from ibd.explain.gradients import GradientTimesInput
from ibd.explain.lrp import LRP
from ibd.explain.targets import Target
from tests.explainer_makers import images

IMAGE = images(2, (8, 8)).double()


class Runs(nn.Module):
    """A body of convolutions, and a linear head of the means of what `how` makes of it and the image."""

    def __init__(self, how, name="body"):
        super().__init__()
        torch.manual_seed(0)
        self.name, self.how = name, how
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        setattr(self, name, nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU()))
        self.head = nn.Linear(4, 3)
        self.double().eval()

    def forward(self, image):
        body = getattr(self, self.name)
        return self.head(self.how(body, self.stem(image)).mean((2, 3)))


def mirrored(body, x):
    return 0.2 * body(x) + 0.8 * body(x.flip(3))


def skipping(body, x):
    """What ran first is also used beside what it feeds."""
    first = body(x)
    return first + body(first)


def fed(body, x):
    return body(body(x))


def unused(body, x):
    body(x.flip(3))
    return body(x)


ONE_LINE = "layer '{}' runs 2 times, and the score depends on several of the runs, .*'integrated_gradients'"


@pytest.mark.parametrize("how", [mirrored, skipping])
def test_one_of_several_runs_is_refused(how):
    model = Runs(how)
    for explainer in (GradCAM("body"), HiResCAM("body"), GradientTimesInput(layer="body"), LRP(layer="body")):
        for target in (1, Target.classes([0, 2])):
            with pytest.raises(UnsupportedError, match=ONE_LINE.format("body")) as caught:
                explainer(model, IMAGE, target)
            assert "\n" not in str(caught.value)
    with pytest.raises(UnsupportedError, match=ONE_LINE.format("body")):
        layer_attribution(model, IMAGE, "body", 1)


def test_of_a_backbone_that_runs_twice_what_both_runs_lead_to_is_taken():
    model = Runs(skipping, "backbone")
    found = HiResCAM()(model, IMAGE, 1)
    a = skipping(model.backbone, model.stem(IMAGE)).detach()
    assert found.layer == "add of 'backbone'"
    torch.testing.assert_close(found.map, torch.einsum("bchw,c->bhw", a, model.head.weight[1].detach()) / 64)


@pytest.mark.parametrize("how", [fed, unused])
def test_the_last_run_counts_where_all_of_the_score_comes_through_it(how):
    """CAM in closed form: weights of the class times the last output, over the 64 cells."""
    model = Runs(how)
    a = how(model.body, model.stem(IMAGE)).detach()
    expected = torch.einsum("bchw,c->bhw", a, model.head.weight[1].detach()) / 64
    torch.testing.assert_close(HiResCAM("body")(model, IMAGE, 1).map, expected)
    assert F.mse_loss(expected, expected.flip(2)) > 0
