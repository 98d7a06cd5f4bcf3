"""Our gradients against captum's (extra `peers`)."""

import pytest
import torch
from torchvision.models import resnet18

from ibd.explain.boxes import placed
from ibd.explain.cam import GradCAM
from ibd.explain.gradients import GradientTimesInput, IntegratedGradients, Saliency
from ibd.explain.relu_modes import Deconvnet, GuidedBackprop
from ibd.models.logits import Logits
from tests.explainer_makers import images, make

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


@pytest.mark.parametrize("name", ["cbm", "protopnet", "concept_whitening"])
def test_captum_on_the_plain_logits_of_ours(name):
    """The same numbers as ours of the whole model."""
    model = make(name).double().eval()  # of one family the network alone
    logits = model.logits if hasattr(model, "logits") else Logits(model)
    image = images(2, (32, 32) if name == "protopnet" else (16, 16)).double()
    theirs = attr.InputXGradient(logits).attribute(image.clone().requires_grad_(), 1).sum(1)
    assert error(GradientTimesInput()(model, image, 1).map, theirs) < 1e-9
    theirs = attr.IntegratedGradients(logits).attribute(image, target=1, n_steps=8).sum(1)
    assert error(IntegratedGradients(steps=8)(model, image, 1).map, theirs) < 1e-6
    theirs = attr.Saliency(logits).attribute(image.clone().requires_grad_(), 1).amax(1)
    assert error(Saliency()(model, image, 1).map, theirs) < 1e-9


def test_captum_by_a_layer_of_ours():
    model = make("cbm").double().eval()
    image = images(2, (16, 16)).double()
    theirs = attr.LayerGradCam(model.logits, model.network.backbone).attribute(image, 1)[:, 0]
    size = (16, 16)
    ours = GradCAM("backbone", relu=False)(model, image, 1)
    assert error(ours.map, placed(theirs, size, model.network.receptive_field(size))) < 1e-6


def test_measures_of_captum_on_an_explainer_of_ours():
    """Captum's own sensitivity asks our explainer again and again, as it would its own."""
    metrics = pytest.importorskip("captum.metrics")
    model, image = unshared().float(), images(2, (32, 32))
    ours = GradientTimesInput().on(model)
    torch.manual_seed(0)
    found = metrics.sensitivity_max(ours.attribute, image, target=3, n_perturb_samples=2)
    theirs = attr.InputXGradient(model)

    def summed(x, target):
        found = theirs.attribute(x, target)
        return (found[0].sum(1, keepdim=True),) if isinstance(x, tuple) else found.sum(1, keepdim=True)

    torch.manual_seed(0)
    expected = metrics.sensitivity_max(summed, image, target=3, n_perturb_samples=2)
    torch.testing.assert_close(found, expected.detach(), rtol=1e-3, atol=1e-5)
