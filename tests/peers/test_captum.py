"""Our gradients against captum's (extra `peers`)."""

import pytest
import torch
from torchvision.models import resnet18

from ibd.explain.cam import GradCAM
from ibd.explain.gradients import GradientTimesInput, IntegratedGradients, Saliency
from ibd.explain.relu_modes import Deconvnet, GuidedBackprop
from tests.explainer_makers import images

attr = pytest.importorskip("captum.attr")


def unshared():
    """Return a ResNet without a ReLU that runs twice, which captum refuses."""
    torch.manual_seed(0)
    model = resnet18(weights=None).double().eval()
    for block in model.modules():
        if hasattr(block, "downsample") and hasattr(block, "relu"):
            block.relu.inplace = False
    model.relu.inplace = False
    return model


def error(ours, theirs):
    return float((ours - theirs).detach().abs().max() / theirs.detach().abs().max())


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Saliency(reduce="sum"), lambda m, x: attr.Saliency(m).attribute(x, 3, abs=False)),
        (GradientTimesInput(), lambda m, x: attr.InputXGradient(m).attribute(x, 3)),
        (IntegratedGradients(steps=20), lambda m, x: attr.IntegratedGradients(m).attribute(x, target=3, n_steps=20)),
        (GuidedBackprop(), lambda m, x: attr.GuidedBackprop(m).attribute(x, 3)),
        (Deconvnet(), lambda m, x: attr.Deconvolution(m).attribute(x, 3)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_same_gradients(ours, theirs, record_property):
    model, image = unshared(), images(2, (64, 64)).double()
    found = ours(model, image, 3).map
    expected = theirs(model, image.clone().requires_grad_()).sum(1)
    record_property("relative_error", error(found, expected))
    assert error(found, expected) < 1e-7  # their quadrature has float32 nodes


def test_same_grad_cam():
    model, image = unshared(), images(2, (96, 96)).double()
    found = GradCAM("layer3", relu=False)(model, image, 3)
    expected = attr.LayerGradCam(model, model.layer3).attribute(image, 3)
    expected = attr.LayerAttribution.interpolate(expected, (96, 96), interpolate_mode="bilinear")[:, 0]
    assert error(found.map, expected) < 1e-5


def test_same_layer_attribution():
    model, image = unshared(), images(2, (64, 64)).double()
    found = GradientTimesInput("layer3")(model, image, 3)
    expected = attr.LayerGradientXActivation(model, model.layer3).attribute(image, 3)
    assert error(found.unit_maps, expected) < 1e-9
