"""Objects pasted on scenes in a comparison: patches of known networks, and two linear networks from end to end."""

import numpy as np
import pytest
import torch
from torch import nn

import ibd
from ibd.comparison.probes.pasted import insignificant_patches
from ibd.data.pasted import PastedScenes
from ibd.errors import ConfigError

SIZE = 32


class Half(nn.Module):
    """Brightness of the left half, against that of the same half below the middle: what is on the right is nothing."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(20.0))

    def forward(self, image):
        left = image.mean(1)[:, :, : SIZE // 2]
        return self.scale * torch.stack([left[:, :16].mean((1, 2)), left[:, 16:].mean((1, 2))], 1)


def test_a_patch_that_is_not_seen_stays_as_it_is_and_one_that_is_becomes_insignificant():
    bare = torch.rand(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    start, mask = torch.ones_like(bare), torch.zeros(2, SIZE, SIZE, dtype=torch.bool)
    mask[0, 4:12, 20:28] = True  # to the right: nothing that the network reads
    mask[1, 4:12, 4:12] = True
    patched, found = insignificant_patches(Half(), bare, start, mask)
    assert found.all()
    assert torch.equal(patched[0][:, mask[0]], start[0][:, mask[0]])
    assert torch.equal(patched.where(~mask[:, None], 0), bare.where(~mask[:, None], 0))
    before, after = (Half()(images).softmax(1) for images in (bare, patched))
    assert (before - after).abs().max() <= 0.02
    assert (patched - bare)[1][:, mask[1]].abs().mean() >= 0.05
    assert not insignificant_patches(Half(), bare, bare, mask)[1].any()  # what is not seen is no patch


class Linear(nn.Module):
    """A linear classifier that is right about given images: their labels are interpolated."""

    def __init__(self, images, labels, classes):
        super().__init__()
        wanted = nn.functional.one_hot(labels, classes).double() - 1 / classes
        self.layer = nn.Linear(3 * SIZE * SIZE, classes, bias=False)
        self.layer.weight.data = 10 * (torch.linalg.pinv(images.flatten(1).double()) @ wanted).t().float()

    def forward(self, image):
        return self.layer(image.flatten(1))


@pytest.fixture(scope="module")
def data():
    return PastedScenes("object", image_size=SIZE, train_size=6, val_size=6, test_size=12)


def networks(data):
    """Return networks of objects and of scenes that are right about all test pictures, and the bare places."""
    dataset = data.dataset("test")
    images = torch.stack([dataset[i].image for i in range(12)])
    bare = torch.stack([dataset.bare(i) for i in range(12)])
    objects = Linear(images, dataset.objects, 6)
    return objects, Linear(torch.cat([images, bare]), dataset.scenes.repeat(2), 6)


def test_two_networks_from_end_to_end(data):
    objects, scenes = networks(data)
    options = {"data": data, "preprocess": "unit", "explainers": ["gradient_input"], "images": 12, "progress": False}
    report = ibd.compare(models={"objects": objects}, contrast=scenes, metrics=["bim"], **options)
    scores = report.comparison.scores
    contrast = scores["objects", "gradient_input", "model_contrast"]
    assert np.isfinite(contrast).all()  # both are right about every picture
    assert np.isfinite(scores["objects", "gradient_input", "input_dependence_rate"]).all()
    assert (scores["objects", "center", "model_contrast"] == 0).all()  # what looks at no network shows no contrast
    assert (scores["objects", "center", "input_dependence_rate"] == 0.5).all()
    independent = scores["objects", "center", "input_independence_rate"]
    assert (independent[np.isfinite(independent)] == 1).all()
    assert "contrast" in report.comparison.settings
    # By hand: gradient times input of a linear network, of the label's logit less the mean of all.
    dataset = data.dataset("test")
    image, mask = dataset[0].image, dataset.masks(0)
    attributions = []
    for network, label in ((objects, dataset.objects[0]), (scenes, dataset.scenes[0])):
        weight = (network.layer.weight[label] - network.layer.weight.mean(0)).view_as(image)
        heat = (weight * image).sum(0).double().clamp(min=0).detach()
        share = (heat / np.quantile(heat, 0.99)).clamp(max=1)
        attributions.append(float(share[mask[0]].mean()))
    place = report.comparison.image_ids.index("pasted/test/0")
    assert contrast[place] == pytest.approx(attributions[0] - attributions[1], abs=1e-4)


def test_what_is_missing_is_said(data):
    objects, scenes = networks(data)
    options = {"data": data, "preprocess": "unit", "explainers": ["gradient_input"], "images": 6, "progress": False}
    with pytest.raises(ConfigError, match=r"'model_contrast' cannot be measured: no network that was trained on the"):
        ibd.compare(models={"objects": objects}, metrics=["bim"], **options)
    alone = ibd.compare(
        models={"scenes": scenes}, metrics=["input_dependence_rate"], **options | {"data": data.relabeled("scene")}
    )
    assert np.isfinite(alone.comparison.scores["scenes", "gradient_input", "input_dependence_rate"]).all()
