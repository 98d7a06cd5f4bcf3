"""Our CAM family against pytorch-grad-cam's (extra `peers`), before it erases sign and size."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from ibd.explain import cam
from ibd.explain.base import Call, undisturbed
from ibd.explain.cam.base import cut_map
from ibd.explain.targets import Target
from tests.explainer_makers import images, make

theirs = pytest.importorskip("pytorch_grad_cam")
targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")

PAIRS = {
    "GradCAM": cam.GradCAM,
    "HiResCAM": cam.HiResCAM,
    "GradCAMPlusPlus": cam.GradCAMPlusPlus,
    "XGradCAM": cam.XGradCAM,
    "LayerCAM": cam.LayerCAM,
    "EigenCAM": cam.EigenCAM,
    "ScoreCAM": cam.ScoreCAM,
    "AblationCAM": cam.AblationCAM,
}
TOLERANCE = {"GradCAMPlusPlus": 2e-2, "ScoreCAM": 1e-3}
"""They add constants to denominators: 1e-6 to one that is of the size of squared gradients."""


def small():
    torch.manual_seed(0)
    model = resnet18(weights=None, width_per_group=64).eval()
    model.layer3, model.layer4, model.fc = nn.Identity(), nn.Identity(), nn.Linear(128, 10)
    with torch.no_grad():
        model.fc.weight.mul_(30)
    return model


def raw_theirs(name, model, image, k):
    """Return what is there before ReLU, resizing and normalization."""
    method = getattr(theirs, name)(model, [model.layer2])
    chosen = [targets.ClassifierOutputTarget(k)] * len(image)
    kept = []
    inside = method.get_cam_image
    method.get_cam_image = lambda *args, **kwargs: kept.append(inside(*args, **kwargs)) or kept[-1]
    method(input_tensor=image, targets=chosen)
    return torch.as_tensor(kept[0])


@pytest.mark.parametrize("name", PAIRS)
def test_same_maps(name, record_property, monkeypatch):
    # Theirs puts the corners of a mask on the centers of the image's corner pixels; the authors' code does not.
    monkeypatch.setattr(nn, "UpsamplingBilinear2d", lambda size: nn.Upsample(size=size, mode="bilinear"))
    model, image = small(), images(2, (48, 48))
    ours = PAIRS[name]("layer2", relu=False)
    with undisturbed(model):
        at = cut_map(Call(model, Target.cls(3)), image, "layer2", ours.replays)
        found = ours.maps(at)[:, 0].detach()
        score = at.scores[:, 0].detach()
    expected = raw_theirs(name, model, image, 3).to(found.dtype)
    if name == "AblationCAM":  # theirs divides by the score with its sign
        expected = expected * score.sign().view(-1, 1, 1)
    if name == "EigenCAM":  # theirs has a sign by chance
        agreement = (expected * found).sum((1, 2), keepdim=True).sign()
        expected = expected * agreement
    error = float((found - expected).abs().max() / expected.abs().max())
    record_property("relative_error", error)
    assert error < TOLERANCE.get(name, 1e-4)


def test_pytorch_grad_cam_on_the_plain_logits_of_ours():
    model = make("cbm").eval()
    image = images(2, (16, 16))
    chosen = [targets.ClassifierOutputTarget(1)] * 2
    with theirs.GradCAM(model=model.logits, target_layers=[model.network.backbone]) as method:
        found = torch.from_numpy(method(input_tensor=image, targets=chosen))
    ours = cam.GradCAM("backbone")(model.logits, image, 1).map
    assert found.shape == ours.shape
    # Theirs is resized otherwise and brought to 0 to 1: it peaks where ours does.
    assert torch.equal(found.flatten(1).argmax(1), ours.flatten(1).argmax(1))
