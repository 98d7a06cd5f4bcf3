"""Weights from torchvision, from a file, from an earlier run; and all that can be wrong with them."""

import urllib.error

import pytest
import torch
from torchvision import models

from ibd.backbones import build_backbone
from ibd.errors import CheckpointError, ConfigError

SMALL = {"name": "small_cnn", "width": 4}


@pytest.fixture
def backbone():
    torch.manual_seed(1)
    backbone = build_backbone(SMALL)
    backbone(torch.rand(4, 3, 64, 64))  # running statistics that are not those of a fresh network
    return backbone.eval()


@pytest.fixture
def run(tmp_path, backbone):
    """A run folder as ``ibd fit`` leaves it."""
    folder = tmp_path / "runs" / "cbm" / "2026-01-01"
    (folder / "checkpoints").mkdir(parents=True)
    state = {f"network.backbone.{key}": value for key, value in backbone.state_dict().items()}
    content = {"state_dict": {**state, "network.head.weight": torch.zeros(2, 2)}, "epoch": 3}
    torch.save(content, folder / "checkpoints" / "best.ckpt")
    torch.save({**content, "state_dict": {}}, folder / "checkpoints" / "last.ckpt")
    return folder


def assert_same(a, b):
    assert a.state_dict().keys() == b.state_dict().keys()
    for key, value in a.state_dict().items():
        assert torch.equal(value, b.state_dict()[key]), key


def message_of(error, config):
    with pytest.raises(error) as caught:
        build_backbone(config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 1},
        lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
        lambda state: {"state_dict": {f"network.backbone.{k}": v for k, v in state.items()} | {"x": torch.ones(1)}},
        lambda state: {key: value for key, value in state.items() if not key.startswith("normalize.")},
        lambda state: {**state, "head.weight": torch.ones(3), "fc.bias": torch.ones(3)},
    ],
)
def test_local_file(tmp_path, backbone, wrap):
    torch.save(wrap(backbone.state_dict()), tmp_path / "w.pth")
    assert_same(build_backbone({**SMALL, "weights": str(tmp_path / "w.pth")}), backbone)


def test_local_file_of_an_old_torchvision(tmp_path):
    """Without counters of batches; DenseNet's as published, with names that its modules may no longer have."""
    expected = build_backbone({"name": "densenet121"}).state_dict()
    state = {key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): value for key, value in expected.items()}
    state = {
        key: value for key, value in state.items() if not key.startswith("normalize.") and "num_batches" not in key
    }
    assert "features.denseblock1.denselayer1.norm.1.running_mean" in state
    torch.save({**state, "classifier.weight": torch.ones(2, 1024)}, tmp_path / "w.pth")
    loaded = build_backbone({"name": "densenet121", "weights": str(tmp_path / "w.pth")}).state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in loaded.items())


@pytest.mark.parametrize("which", ["", "checkpoints/best.ckpt", ".."])
def test_init_from(run, backbone, which):
    assert_same(build_backbone({**SMALL, "init_from": str(run / which)}), backbone)


def test_init_from_takes_the_statistics_unless_told_otherwise(run):
    content = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    content["state_dict"]["network.backbone.normalize.mean"].fill_(0.25)
    torch.save(content, run / "checkpoints" / "best.ckpt")
    assert build_backbone({**SMALL, "init_from": str(run)}).normalize.mean.flatten().tolist() == [0.25] * 3
    message = message_of(CheckpointError, {**SMALL, "init_from": str(run), "normalize": "half"})
    assert "was trained with normalize.mean [0.25, 0.25, 0.25], but the configuration says [0.5, 0.5, 0.5]" in message
    assert "normalize: auto" in message


@pytest.mark.parametrize("weights", ["IMAGENET1K_V1", "DEFAULT", "ResNet18_Weights.IMAGENET1K_V1"])
def test_published_weights(monkeypatch, weights):
    network = models.resnet18(weights=None)
    monkeypatch.setattr(models.ResNet18_Weights, "get_state_dict", lambda *_, **__: network.state_dict())
    backbone = build_backbone({"name": "resnet18", "weights": weights})
    assert torch.equal(backbone.layer4[1].bn2.weight, network.layer4[1].bn2.weight)
    assert torch.equal(backbone.conv1.weight, network.conv1.weight)


def test_published_weights_bring_their_statistics(monkeypatch):
    with torch.device("meta"):
        state = models.vgg16(weights=None).features.state_dict(prefix="features.")
    state = {key: torch.zeros(value.shape) for key, value in state.items()}
    monkeypatch.setattr(models.VGG16_Weights, "get_state_dict", lambda *_, **__: state)
    backbone = build_backbone({"name": "vgg16", "weights": "IMAGENET1K_FEATURES"})
    torch.testing.assert_close(backbone.normalize.std.flatten(), torch.full((3,), 1 / 255))


@pytest.mark.parametrize(
    "error", [urllib.error.URLError("Name or service not known"), RuntimeError("invalid hash value"), TimeoutError()]
)
def test_no_network(monkeypatch, tmp_path, error):
    def refuse(*_, **__):
        raise error

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    message = message_of(CheckpointError, {"name": "resnet18", "weights": "DEFAULT"})
    assert "weights: cannot get ResNet18_Weights.IMAGENET1K_V1" in message
    assert "fetch https://download.pytorch.org/models/resnet18-" in message
    assert str(tmp_path / "hub" / "checkpoints" / "resnet18-") in message
    assert "`weights: /path/to/resnet18-" in message
    assert "`weights: null`" in message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "resnet18", "weights": "IMAGENET_V1"}, "Did you mean 'IMAGENET1K_V1'?"),
        ({"name": "resnet18", "weights": "ResNet50_Weights.DEFAULT"}, "resnet18 has no published weights 'ResNet50_W"),
        ({**SMALL, "weights": "DEFAULT"}, "SmallCNN has no published weights 'DEFAULT', and there is no such file"),
        ({**SMALL, "weights": ""}, "SmallCNN has no published weights ''"),
        ({**SMALL, "weights": "a.pt", "init_from": "runs/x"}, "weights and init_from both say"),
    ],
)
def test_mistakes_in_the_configuration(config, message):
    assert message in message_of(ConfigError, config)


@pytest.mark.parametrize("config", [SMALL, {"name": "resnet18"}])
def test_no_such_file(tmp_path, config):
    path = str(tmp_path / "w.pth")
    assert message_of(CheckpointError, {**config, "weights": path}) == f"weights: there is no file '{path}'"
    stranger = "~nobody-of-that-name/w.pt"
    assert message_of(CheckpointError, {**config, "weights": stranger}) == f"weights: there is no file '{stranger}'"


def test_a_run_given_as_weights(run):
    assert "is a folder; use init_from for the backbone of an earlier run" in message_of(
        CheckpointError, {**SMALL, "weights": str(run)}
    )


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 broken"])
def test_corrupt_file(tmp_path, run, content):
    (tmp_path / "w.pth").write_bytes(content)
    assert "is not a readable PyTorch file" in message_of(
        CheckpointError, {**SMALL, "weights": str(tmp_path / "w.pth")}
    )
    (run / "checkpoints" / "best.ckpt").write_bytes(content)
    assert "best.ckpt" in message_of(CheckpointError, {**SMALL, "init_from": str(run)})


def test_a_file_that_would_run_code(tmp_path):
    torch.save({"state_dict": print}, tmp_path / "w.pth")
    assert "is not a readable" in message_of(CheckpointError, {**SMALL, "weights": str(tmp_path / "w.pth")})


@pytest.mark.parametrize("content", [[1, 2], {}, {"state_dict": {"epoch": 3}}, torch.ones(2)])
def test_no_state_dict_in_the_file(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    assert "holds no state dict" in message_of(CheckpointError, {**SMALL, "weights": str(tmp_path / "w.pth")})


def test_another_width(tmp_path, backbone):
    torch.save(backbone.state_dict(), tmp_path / "w.pth")
    message = message_of(CheckpointError, {**SMALL, "width": 8, "weights": str(tmp_path / "w.pth")})
    assert "does not fit SmallCNN: " in message
    assert "of another shape: stage1.conv.weight (4x3x3x3 for 8x3x3x3), " in message
    assert message.endswith(", ...")


def test_another_architecture(tmp_path, run):
    message = message_of(CheckpointError, {"name": "cifar_resnet", "depth": 8, "init_from": str(run)})
    assert f"init_from '{run}' does not fit CifarResNet: " in message
    assert "missing: conv1.weight, bn1.weight, bn1.bias, ..." in message


@pytest.mark.parametrize(("larger", "smaller"), [(14, 8), (8, 14)])
def test_another_depth_does_not_load_in_part(tmp_path, larger, smaller):
    config = {"name": "cifar_resnet", "width": 4}
    torch.save(build_backbone({**config, "depth": larger}).state_dict(), tmp_path / "w.pth")
    message = message_of(CheckpointError, {**config, "depth": smaller, "weights": str(tmp_path / "w.pth")})
    assert ("unknown" if larger > smaller else "missing") + ": layer1.1.conv1.weight" in message


def test_no_run(tmp_path):
    assert "no run" in message_of(CheckpointError, {**SMALL, "init_from": str(tmp_path / "nowhere")})


def test_a_run_without_a_backbone(run):
    torch.save({"state_dict": {"weight": torch.ones(2)}}, run / "checkpoints" / "best.ckpt")
    message = message_of(CheckpointError, {**SMALL, "init_from": str(run)})
    assert "holds no backbone: none of its weights is named network.backbone.*" in message


def test_an_empty_run(tmp_path):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert "no checkpoint yet" in message_of(CheckpointError, {**SMALL, "init_from": str(tmp_path / "run")})
