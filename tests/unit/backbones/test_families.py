"""Every backbone of the registry: shapes on the meta device; one member per family: values."""

import pytest
import torch
from torch.nn import functional as F
from torchvision import models

from ibd import registry
from ibd.backbones import build_backbone, prefers_channels_last
from ibd.errors import ConfigError

NAMES = registry.names("backbones")
FAMILIES = ["resnet18", "vgg11_bn", "densenet121", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny"]


@pytest.fixture
def shapes_only(monkeypatch):
    """Leave out what changes no shape: on the meta device it does nothing, slowly."""
    monkeypatch.setattr(torch.nn.functional, "batch_norm", lambda tensor, *_, **__: tensor)
    for name in ("kaiming_normal_", "kaiming_uniform_", "trunc_normal_", "normal_", "uniform_"):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)


@pytest.mark.usefixtures("shapes_only")
@pytest.mark.parametrize("name", NAMES)
def test_shape_and_names(name, monkeypatch):
    networks = []
    get_model = models.get_model
    monkeypatch.setattr(
        models, "get_model", lambda *args, **kwargs: networks.append(get_model(*args, **kwargs)) or networks[0]
    )
    with torch.device("meta"):
        backbone = build_backbone({"name": name}).eval()
        features = backbone(torch.empty(1, 3, 64, 96))
    assert features.shape[:2] == (1, backbone.out_channels)
    assert features.shape[2] >= 2
    if name.startswith("bagnet"):  # without padding
        seen = int(name.removeprefix("bagnet"))
        assert features.shape[2:] == ((64 - seen) // 8 + 1, (96 - seen) // 8 + 1)
    else:
        assert features.shape[3] == features.shape[2] * 3 // 2
    assert next(backbone.children()) is backbone.normalize
    names = {key for key in backbone.state_dict() if not key.startswith("normalize.")}
    if name.startswith("bcos_"):  # without biases and means
        assert all(key.endswith((".weight", ".running_square", ".batches")) for key in names)
    elif networks:
        assert names == {key for key in networks[0].state_dict() if not key.startswith(("fc.", "classifier."))}


@pytest.mark.parametrize("name", FAMILIES)
def test_features_equal_torchvisions_own(name):
    torch.manual_seed(0)
    backbone = build_backbone({"name": name, "normalize": "none"}).eval()
    with torch.device("meta"):
        network = models.get_model(name, weights=None).eval()
    for head in ("avgpool", "classifier", "fc"):
        setattr(network, head, torch.nn.Identity())
    network.load_state_dict(backbone.state_dict(), strict=False, assign=True)
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        features, expected = backbone(image), network(image)
    if name.startswith("densenet"):  # its pooling is a function
        features = features.mean((2, 3))
    torch.testing.assert_close(features.flatten(1), expected.flatten(1))


@pytest.mark.parametrize("name", ["small_cnn", "cifar_resnet", "resnet18", "mobilenet_v3_small"])
def test_autocast_and_channels_last_change_only_the_rounding(name):
    torch.manual_seed(0)
    backbone = build_backbone({"name": name}).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        expected = backbone(image)
        last = backbone.to(memory_format=torch.channels_last)(image)
        with torch.autocast("cpu", torch.bfloat16):
            half = backbone(image)
    torch.testing.assert_close(last / expected.std(), expected / expected.std(), rtol=1e-3, atol=1e-4)
    assert F.cosine_similarity(half.float().flatten(), expected.flatten(), dim=0, eps=1e-30) > 0.98


def test_normalization():
    image = torch.rand(2, 3, 64, 64)
    first = {name: build_backbone({"name": "small_cnn", "normalize": name}).normalize for name in ("none", "half")}
    assert torch.equal(first["none"](image), image)
    torch.testing.assert_close(first["half"](image), (image - 0.5) / 0.25)
    torch.testing.assert_close(
        build_backbone({"name": "resnet18"}).normalize.std.flatten(), torch.tensor([0.229, 0.224, 0.225])
    )


def test_statistics_are_those_of_the_published_weights():
    """EfficientNetV2-L was trained on [-1, 1], unlike all others."""
    from ibd.backbones.weights import statistics

    assert statistics("efficientnet_v2_l") == ((0.5,) * 3, (0.5,) * 3)
    assert statistics("vgg16", "IMAGENET1K_FEATURES")[1] == pytest.approx((1 / 255,) * 3)


def test_kaiming_keeps_the_scale_of_activations():
    torch.manual_seed(0)
    for name in ("small_cnn", "cifar_resnet", "vgg11"):
        backbone = build_backbone({"name": name}).train()
        assert 0.05 < backbone(torch.rand(8, 3, 64, 64)).detach().std() < 5, name


def test_group_norm_is_the_same_in_training_and_evaluation():
    for name in ("small_cnn", "cifar_resnet"):
        backbone = build_backbone({"name": name, "norm": "group", "width": 12})
        image = torch.rand(2, 3, 32, 32)
        assert torch.equal(backbone.train()(image), backbone.eval()(image))


@pytest.mark.parametrize(
    ("config", "channels", "parameters"),
    [
        ({"name": "small_cnn"}, 128, 97_680),
        ({"name": "small_cnn", "depth": 3, "width": 8}, 32, 6_088),
        ({"name": "cifar_resnet"}, 64, 271_824),
        ({"name": "cifar_resnet", "depth": 8, "width": 8}, 32, 19_624),
    ],
)
def test_size_of_small_networks(config, channels, parameters):
    backbone = build_backbone(config)
    assert backbone.out_channels == channels
    assert sum(p.numel() for p in backbone.parameters()) == parameters
    size = 64 if config["name"] == "small_cnn" else 32
    assert backbone(torch.rand(2, 3, size, size)).shape == (2, channels, 8, 8)


def test_channels_last_by_family_and_device():
    with torch.device("meta"):
        assert prefers_channels_last(build_backbone({"name": "small_cnn"}), "cpu")
        assert prefers_channels_last(build_backbone({"name": "resnet18"}), torch.device("cuda", 1))
        assert prefers_channels_last(build_backbone({"name": "convnext_tiny"}), "cuda")
        assert not prefers_channels_last(build_backbone({"name": "convnext_tiny"}), "cpu")
        assert not prefers_channels_last(build_backbone({"name": "small_cnn"}), "mps")
    assert not prefers_channels_last(torch.nn.Linear(2, 2), "cpu")


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        ({"name": "cifar_resnet", "depth": 8, "width": 8}, {"width": 16}),
        ({"name": "bagnet17", "width": 8, "blocks": [1, 1, 1, 1]}, {"width": 16}),
        ({"name": "small_cnn", "width": 4, "depth": 3, "field": 7}, {"field": 15}),
    ],
)
def test_not_channels_last_where_the_cpu_would_write_past_its_memory(narrow, wide):
    """A strided 1x1 convolution of fewer than 16 channels killed the training of these (oneDNN, issue 6035)."""
    with torch.device("meta"):
        assert not prefers_channels_last(build_backbone(narrow), "cpu")
        assert prefers_channels_last(build_backbone(narrow), "cuda")
        assert prefers_channels_last(build_backbone({**narrow, **wide}), "cpu")


def test_a_class_of_the_users_own(monkeypatch):
    import sys
    import types

    class Own(torch.nn.Module):
        def __init__(self, wide: int = 4, out_channels: int | None = None):
            super().__init__()
            self.out_channels = out_channels

    module = types.ModuleType("my_nets")
    module.Own = Own
    monkeypatch.setitem(sys.modules, "my_nets", module)
    assert isinstance(build_backbone({"name": "my_nets:Own", "out_channels": 4}), Own)
    with pytest.raises(ConfigError, match="'my_nets:Own': Own has no integer attribute out_channels"):
        build_backbone({"name": "my_nets:Own"})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "backbone: needs a name. Known: small_cnn, "),
        ({"name": "resnet19"}, "Did you mean one of: .*'resnet18'"),
        ({"name": "small_cnn", "widht": 3}, "backbone 'small_cnn' has no option 'widht'. Did you mean .*width"),
        ({"name": "resnet18", "depth": 3}, "backbone 'resnet18' has no option 'depth'. Known: weights, init_from"),
        ({"name": "small_cnn", "width": 0}, "^model.backbone.width: 0 given, at least 1"),
        ({"name": "small_cnn", "depth": 2}, "^model.backbone.depth: 2 given, at least 3"),
        (
            {"name": "small_cnn", "depth": 50, "width": 10**8},
            "^model.backbone.depth: 50 .* makes 10.41 weights or more",
        ),
        ({"name": "small_cnn", "depth": 10**9}, "at most 10.9 are allowed"),
        ({"name": "small_cnn", "width": 10**5}, "depth: 4 given with width 100000, which makes 10.13 weights"),
        ({"name": "small_cnn", "field": 40}, "^model.backbone.field: 40 given, .* 4 .* 1, 3, 7, 15, 31 .* mean 31"),
        ({"name": "small_cnn", "depth": 3, "field": 20}, "see 1, 3, 7, 15 pixels .* Did you mean 15"),
        ({"name": "small_cnn", "depth": 9, "field": 0}, "15, 31, ..., 111 pixels .* Did you mean 1?"),
        ({"name": "small_cnn", "field": 15, "norm": "group"}, "field: 15 given, but norm 'group' lets every cell see"),
        ({"name": "bagnet9", "width": 0}, "^model.backbone.width: 0 given, at least 1"),
        ({"name": "bagnet9", "width": 10**5}, "^model.backbone.width: 100000 given, which makes 10.13 weights or more"),
        ({"name": "bagnet9", "blocks": [3, 4, 6]}, "^model.backbone.blocks: .3, 4, 6. given, a number from 1 to 500"),
        ({"name": "bagnet9", "blocks": [3, 0, 6, 3]}, "needed for each of the four stages"),
        ({"name": "bagnet33", "depth": 50}, "backbone 'bagnet33' has no option 'depth'. Did you mean 'width'"),
        ({"name": "cifar_resnet", "width": 10**5}, "depth: 20 given with width 100000"),
        ({"name": "cifar_resnet", "depth": 6 * 10**8 + 2}, "10.13 weights or more"),
        ({"name": "cifar_resnet", "depth": 6002, "width": 1}, "^model.backbone.depth: 6002 given, at most 2000 is"),
        ({"name": "small_cnn", "weights": "IMAGENET1K_V1"}, "^model.backbone.weights: .* model.backbone.weights=null"),
        ({"name": "small_cnn", "norm": "layer"}, "norm: 'layer' is not one of batch, group"),
        ({"name": "small_cnn", "normalize": "no"}, "normalize: 'no' is not one of auto, imagenet, half, none"),
        ({"name": "cifar_resnet", "depth": 18}, "6n \\+ 2 layers, not 18. Did you mean 20"),
        ({"name": "cifar_resnet", "depth": 2}, "not 2. Did you mean 8"),
    ],
)
def test_mistakes(config, message):
    with pytest.raises(ConfigError, match=message) as caught:
        build_backbone(config)
    assert "\n" not in str(caught.value)


def test_a_name_that_torchvision_does_not_have():
    from ibd.backbones.torchvision import TorchvisionBackbone

    with pytest.raises(ConfigError, match="no torchvision backbone 'vit_b_16'"):
        TorchvisionBackbone("vit_b_16")
