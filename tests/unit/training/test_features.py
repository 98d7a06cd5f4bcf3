"""Frozen backbones: the features in the file are the backbone's, and training on them is training on images."""

import errno
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import ibd
from ibd.data.features import FeatureDataset
from ibd.data.folder import ConceptFolder
from ibd.data.given import GivenImages
from ibd.errors import ConfigError
from ibd.explain import GradCAM, Target
from ibd.models.baseline.lightning import Baseline
from ibd.models.cbm.lightning import ConceptBottleneck
from ibd.models.concept_whitening.lightning import ConceptWhitening
from ibd.models.pipnet.lightning import PIPNet
from ibd.models.protopnet.lightning import ProtoPNet
from ibd.training import features as room
from ibd.training.features import _why_not, features_of
from tests.data_makers import make_concept_folder, write_image

FROZEN = {"name": "small_cnn", "width": 4, "depth": 3, "frozen": True}


class Means(nn.Module):
    """A backbone whose features are known: the mean color of each quarter of the image."""

    out_channels = 3

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.images = 0

    def forward(self, image):
        self.images += len(image)
        return nn.functional.adaptive_avg_pool2d(image, 2) * self.scale


@pytest.fixture
def data(tmp_path):
    root = make_concept_folder(tmp_path / "data", train=12, val=11, test=1)  # 36 and 33 images: 2 parts each
    return ConceptFolder(str(root), image_size=32, resize="squash", augment="none", batch_size=8)


@pytest.fixture
def model(data):
    model = Baseline(data.spec, {"name": f"{__name__}:Means", "frozen": True})
    model.network.backbone.images = 0
    return model


def compute(model, data, folder, split="train"):
    before = model.network.backbone.images
    file = features_of(model, data, split, folder, "32-true")
    return file, model.network.backbone.images - before


def test_features_are_those_of_each_image_in_order(model, data, tmp_path):
    file, images = compute(model, data, tmp_path / "cache")
    assert images == 36
    dataset = FeatureDataset(data.dataset("train"), file)
    for index in (0, 31, 32, 35):
        image = data.dataset("train")[index].image
        sample = dataset[index]
        expected = torch.stack([image[:, a : a + 16, b : b + 16].mean((1, 2)) for a in (0, 16) for b in (0, 16)], 1)
        torch.testing.assert_close(sample.features.flatten(1), expected)
        assert (sample.index, sample.label) == (index, int(data.dataset("train").labels[index]))
    again, images = compute(model, data, tmp_path / "cache")
    assert images == 32  # the first of which are compared
    assert torch.equal(again[35], file[35])


def test_a_killed_computation_goes_on(model, data, tmp_path, monkeypatch):
    expected, _ = compute(model, data, tmp_path / "whole")
    forward = Means.forward

    def dying(self, image):
        if self.images == 32:
            raise KeyboardInterrupt
        return forward(self, image)

    monkeypatch.setattr(Means, "forward", dying)
    model.network.backbone.images = 0
    with pytest.raises(KeyboardInterrupt):
        compute(model, data, tmp_path / "cache")
    monkeypatch.setattr(Means, "forward", forward)
    file, images = compute(model, data, tmp_path / "cache")
    assert images == 32 + 4
    assert all(torch.equal(file[i], expected[i]) for i in range(36))


def test_damage_is_noticed_and_mended(model, data, tmp_path, caplog):
    expected, _ = compute(model, data, tmp_path / "whole")
    file, _ = compute(model, data, tmp_path / "cache")
    numbers = np.memmap(file.path, np.float32, "r+", shape=file.shape)
    numbers[33, 1, 0, 1] += 1e-6
    numbers.flush()
    file, images = compute(model, data, tmp_path / "cache")
    assert images == 32 + 4
    assert "1 of 2 parts of " in caplog.text
    assert torch.equal(file[33], expected[33])
    file.path.write_bytes(file.path.read_bytes()[:-4])  # cut off
    file, images = compute(model, data, tmp_path / "cache")
    assert images == 36
    assert torch.equal(file[35], expected[35])


def test_features_of_other_weights_or_images_are_not_taken(model, data, tmp_path, caplog):
    compute(model, data, tmp_path / "cache")
    path = data.root / "train" / "owl" / "007.png"  # none of those that are looked into
    write_image(path, (9, 200, 9), (24, 32), seed=1)
    file, images = compute(model, data, tmp_path / "cache")
    assert images == 36
    assert file[24 + 7][1].mean() > 0.7
    with torch.no_grad():
        model.network.backbone.scale.fill_(2)
    twice, images = compute(model, data, tmp_path / "cache")
    assert images == 36
    torch.testing.assert_close(twice[5], 2 * file[5])
    assert len(list((tmp_path / "cache").iterdir())) == 3
    assert not caplog.messages


def test_any_image_in_memory_that_was_replaced_is_noticed(tmp_path):
    """Few of 200 images, none of those that are looked into; no file tells that they have changed."""
    images = torch.rand(200, 3, 8, 8)
    data = GivenImages({"train": [(image, index % 3) for index, image in enumerate(images)]})
    model = Baseline(data.spec, {"name": f"{__name__}:Means", "frozen": True})
    first, _ = compute(model, data, tmp_path / "cache")
    again, computed = compute(model, data, tmp_path / "cache")
    assert (again.path, computed) == (first.path, 32)
    images[150:155] = 0.25
    file, _ = compute(model, data, tmp_path / "cache")
    assert file.path != first.path
    assert bool((file[152] == 0.25).all())


def test_features_of_other_code_are_not_taken(model, data, tmp_path, monkeypatch, caplog):
    """What no fingerprint knows, a library that computes something else now, is seen by the first image."""
    file, _ = compute(model, data, tmp_path / "cache")
    old = file[35]
    forward = Means.forward
    monkeypatch.setattr(Means, "forward", lambda self, image: 3 * forward(self, image))
    file, images = compute(model, data, tmp_path / "cache")
    assert images == 36
    assert "are not those of the first image" in caplog.text
    torch.testing.assert_close(file[35], 3 * old)


def test_a_full_disk_is_said_before_anything_is_written(model, data, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(ConfigError, match=r"model.backbone.cache: cannot write to .*: No space left on device"):
        compute(model, data, tmp_path / "cache")


FAMILIES = {
    "baseline": {},
    "cbm": {"regime": "sequential", "head_epochs": 20},
    "protopnet": {
        "per_class": 2,
        "dimension": 8,
        "warm": {"epochs": 1},
        "joint": {"epochs": 2},
        "push": {"start": 1, "every": 1},
    },
}


def fit(data, name, tmp_path, *changes, **backbone):
    config = {
        "name": name,
        "output": str(tmp_path / "runs"),
        "model": {"name": name, "backbone": {**FROZEN, "cache": str(tmp_path / "cache"), **backbone}, **FAMILIES[name]},
        "data": {
            "name": "folder",
            "root": str(data.root),
            "image_size": 32,
            "resize": "squash",
            "augment": "none",
            "batch_size": 8,
        },
        "optimizer": {"lr": 0.01, "schedule": "constant"},
        "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "max_epochs": 3},
        "logger": {"mode": "off", "figures_every": 0},
    }
    return ibd.fit(config, *changes)


def counted(monkeypatch):
    """Count the images that are read."""
    read = []
    load = ibd.data.files.FileDataset.load
    monkeypatch.setattr(ibd.data.files.FileDataset, "load", lambda self, i: read.append(i) or load(self, i))
    return read


@pytest.mark.parametrize("name", FAMILIES)
def test_training_on_features_is_training_on_images(name, data, tmp_path, monkeypatch, caplog):
    read = counted(monkeypatch)
    cached = fit(data, name, tmp_path)
    few = len(read)
    assert "its weights are random and stay so" in caplog.text
    read.clear()
    plain = fit(data, name, tmp_path, cache=None)
    assert few < len(read)
    one, two = (ibd.load_model(run.folder, which="last") for run in (cached, plain))
    start = Baseline(data.spec, FROZEN).network.backbone.state_dict()
    for key, value in one.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, two.state_dict()[key], rtol=1e-3, atol=1e-4, msg=key)
        if key.endswith(("running_mean", "num_batches_tracked")):
            assert torch.equal(value, start[key.removeprefix("network.backbone.")])
    image = data.dataset("val")[0].image[None]
    torch.testing.assert_close(one.eval()(image).logits, two.eval()(image).logits, rtol=1e-3, atol=1e-3)
    if name == "protopnet":
        assert float(one.verify_projection(data).max()) < 1e-5
    assert not data.features


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_in_mixed_precision_too(name, data, tmp_path, monkeypatch):
    """Features are kept as the backbone computes them under autocast, apart from those of full precision."""
    read = counted(monkeypatch)
    fit(data, name, tmp_path)
    apart = set((tmp_path / "cache").iterdir())
    read.clear()
    cached = fit(data, name, tmp_path, "trainer.precision=bf16-mixed")
    few = len(read)
    made = set((tmp_path / "cache").iterdir()) - apart
    assert len(made) == len(apart) == 2
    read.clear()
    plain = fit(data, name, tmp_path, "trainer.precision=bf16-mixed", cache=None)
    assert few < len(read)
    one, two = (ibd.load_model(run.folder, which="last") for run in (cached, plain))
    images = torch.stack([data.dataset("train")[i].image for i in range(8)])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = one.network.backbone(images).float()
    shape = expected.shape[1:]
    kept = [np.fromfile(folder / "features.f32", np.float32).reshape(-1, *shape)[:8] for folder in made]
    assert any(np.allclose(found, expected, atol=1e-2 * float(expected.abs().max())) for found in kept)
    assert all(np.array_equal(found, torch.from_numpy(found).bfloat16().float()) for found in kept)
    torch.testing.assert_close(one(images).logits, two(images).logits, rtol=0.05, atol=0.05)
    if name == "protopnet":
        assert float(one.verify_projection(data).max()) < 1e-5


def test_a_training_goes_on_with_the_backbone_of_its_checkpoint(data, tmp_path):
    torch.manual_seed(5)
    backbone = Baseline(data.spec, {"name": "small_cnn", "width": 4, "depth": 3}).network.backbone
    torch.save(backbone.state_dict(), tmp_path / "w.pth")
    whole = fit(data, "baseline", tmp_path, weights=str(tmp_path / "w.pth"))
    part = fit(data, "baseline", tmp_path, "trainer.max_epochs=1", weights=str(tmp_path / "w.pth"))
    (tmp_path / "w.pth").unlink()
    count = len(list((tmp_path / "cache").iterdir()))
    part = ibd.fit(part.folder / "config.yaml", "trainer.max_epochs=3", resume=part)
    assert len(list((tmp_path / "cache").iterdir())) == count
    one, two = (ibd.load_model(run.folder, which="last").state_dict() for run in (whole, part))
    assert all(torch.equal(value, two[key]) for key, value in one.items())


def test_who_needs_images_says_so(data):
    trainer = SimpleNamespace(world_size=1, precision="32-true")
    baseline = Baseline(data.spec, FROZEN)
    assert _why_not(baseline, trainer) is None
    assert (
        _why_not(baseline, SimpleNamespace(world_size=2, precision="32-true")) == "the training has several processes"
    )
    assert "bf16-true" in _why_not(baseline, SimpleNamespace(world_size=1, precision="bf16-true"))
    assert "two views of each image" in _why_not(PIPNet(data.spec, FROZEN, prototypes=4), trainer)
    assert room.CHUNK == ibd.models.protopnet.scan.CHUNK


def test_what_cannot_be_frozen_is_refused(data):
    with pytest.raises(ConfigError, match=r"model.backbone.frozen: concept whitening learns in layers inside"):
        ConceptWhitening(data.spec, FROZEN)
    with pytest.raises(ConfigError, match=r"model.pretrain.rates: model.prototypes is needed"):
        PIPNet(data.spec, FROZEN)
    with pytest.raises(ConfigError, match=r"model.joint.epochs: 3 given, but only the backbone would learn"):
        ProtoPNet(data.spec, FROZEN, joint={"epochs": 3, "rates": {"backbone": 1.0}})
    with pytest.raises(ConfigError, match=r"model.backbone.frozen: a conversion goes on"):
        Baseline(data.spec, {"name": "bcos_resnet18", "converted": True, "frozen": True})


def test_a_frozen_network_is_explained_as_one_that_learns(data):
    torch.manual_seed(0)
    frozen = ConceptBottleneck(data.spec, FROZEN)
    free = ConceptBottleneck(data.spec, {**FROZEN, "frozen": False})
    free.load_state_dict(frozen.state_dict())
    image = torch.rand(2, 3, 32, 32)
    assert not frozen.train().network.backbone.training
    maps = [GradCAM()(model.eval(), image, Target.cls(1)).map for model in (frozen, free)]
    torch.testing.assert_close(*maps)
