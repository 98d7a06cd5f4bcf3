"""Backbones whose cells see a patch: its size by hand, and what one pixel changes."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ibd.backbones import build_backbone, receptive_field
from ibd.backbones.bagnet import BagNet
from ibd.errors import ConfigError

NARROW = {"width": 2, "blocks": [1, 1, 1, 1]}
SIZES = [(64, 64), (65, 41), (33, 38), (47, 72)]


def make(**config):
    """Return a backbone in float64 without a negative number, so that no pixel is lost on a ReLU."""
    torch.manual_seed(0)
    backbone = build_backbone({**config, "normalize": "none"}).double().eval()
    for weight in backbone.parameters():
        weight.data.abs_()
    return backbone


NETWORKS = {
    "bagnet9": ({"name": "bagnet9", **NARROW}, 9),
    "bagnet17": ({"name": "bagnet17", **NARROW}, 17),
    "bagnet33": ({"name": "bagnet33", **NARROW, "blocks": [1, 2, 1, 2]}, 33),
    "small 15": ({"name": "small_cnn", "width": 2, "depth": 5, "field": 15}, 15),
    "small 31": ({"name": "small_cnn", "width": 2, "depth": 6, "field": 31}, 31),
    "small 7": ({"name": "small_cnn", "width": 2, "depth": 3, "field": 7}, 7),
}


def by_hand(seen, size, row, column):
    """Return the box of a cell: without padding from pixel 8i on, with padding around pixel 8i."""
    low = [8 * cell for cell in (row, column)] if seen in (9, 17, 33) else [8 * c - seen // 2 for c in (row, column)]
    return *(max(0, x) for x in low), *(min(x + seen, side) for x, side in zip(low, size, strict=True))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("key", NETWORKS)
def test_a_cell_sees_its_patch_and_no_pixel_more(key, size):
    config, seen = NETWORKS[key]
    backbone = make(**config)
    field = receptive_field(backbone, size)
    padded = config["name"] == "small_cnn"
    grid = tuple((side - 1) // 8 + 1 if padded else (side - seen) // 8 + 1 for side in size)
    assert (field.size, field.stride, field.grid, field.whole_image) == ((seen, seen), (8, 8), grid, False)
    for cell in {(0, 0), (grid[0] // 2, grid[1] // 2), (grid[0] - 1, grid[1] - 1)}:
        assert field.box(*cell) == by_hand(seen, size, *cell)
        inside, outside = pixels_at_the_edges(field.box(*cell), size)
        changed = changes(backbone, size, cell, inside + outside)
        assert changed[: len(inside)].min() > 1e-9, (cell, inside)
        assert (changed[len(inside) :] < 1e-12).all(), (cell, outside)


def pixels_at_the_edges(box, size):
    """Return the corners and middles of the edges of a box, and the pixels just outside of these."""
    top, left, bottom, right = box
    y, x = (top + bottom) // 2, (left + right) // 2
    inside = [(a, b) for a in (top, y, bottom - 1) for b in (left, x, right - 1)]
    around = [(top - 1, x), (bottom, x), (y, left - 1), (y, right), (bottom, right), (top - 1, left - 1)]
    return inside, [(a, b) for a, b in around if 0 <= a < size[0] and 0 <= b < size[1]]


def changes(backbone, size, cell, pixels):
    """Return how much a cell's features change, relative to their size, with each of the pixels alone."""
    torch.manual_seed(1)
    images = torch.rand(1, 3, *size, dtype=torch.float64).repeat(1 + len(pixels), 1, 1, 1)
    for index, (y, x) in enumerate(pixels):
        images[1 + index, :, y, x] += 1
    with torch.inference_mode():
        features = backbone(images)[..., cell[0], cell[1]]
    return (features[1:] - features[:1]).abs().amax(1) / features[0].abs().max()


def test_the_smallest_image_is_one_field():
    for name, seen in (("bagnet9", 9), ("bagnet17", 17), ("bagnet33", 33)):
        backbone = build_backbone({"name": name, **NARROW}).eval()
        assert backbone(torch.rand(1, 3, seen, seen)).shape == (1, 64, 1, 1)
        with pytest.raises(RuntimeError, match=r"[Kk]ernel size"):
            backbone(torch.rand(1, 3, seen - 1, seen))


def published(kernels, blocks=(3, 4, 6, 3), width=2, classes=5):
    """Return a state dict with the names and shapes of the published ones, of which some are 1x1 and some 3x3."""
    state = {"conv1.weight": (width, 3, 1, 1), "conv2.weight": (width, width, 3, 3), **norm("bn1", width)}
    before = width
    for stage, count in enumerate(blocks):
        inner = width * 2**stage
        for index in range(count):
            name, k = f"layer{stage + 1}.{index}", kernels[stage] if index == 0 else 1
            state |= {f"{name}.conv1.weight": (inner, before, 1, 1), **norm(f"{name}.bn1", inner)}
            state |= {f"{name}.conv2.weight": (inner, inner, k, k), **norm(f"{name}.bn2", inner)}
            state |= {f"{name}.conv3.weight": (4 * inner, inner, 1, 1), **norm(f"{name}.bn3", 4 * inner)}
            if index == 0:
                state |= {f"{name}.downsample.0.weight": (4 * inner, before, 1, 1)}
                state |= norm(f"{name}.downsample.1", 4 * inner)
            before = 4 * inner
    state |= {"fc.weight": (classes, before), "fc.bias": (classes,)}
    torch.manual_seed(3)
    return {name: 0.5 + torch.rand(shape, dtype=torch.float64) / 2 for name, shape in state.items()}


def norm(name, channels):
    return {f"{name}.{key}": (channels,) for key in ("weight", "bias", "running_mean", "running_var")}


def pass_by_hand(state, image, blocks):
    """Return the features that a state dict of the published names stands for."""

    def normed(x, name):
        mean, var, scale, shift = (
            state[f"{name}.{key}"].view(-1, 1, 1) for key in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (var + 1e-5).sqrt() * scale + shift

    mean, std = (torch.tensor(v).double().view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x = F.conv2d(F.conv2d((image - mean) / std, state["conv1.weight"]), state["conv2.weight"])
    x = normed(x, "bn1").relu()
    for stage, count in enumerate(blocks):
        for index in range(count):
            name, stride = f"layer{stage + 1}.{index}", 2 if index == 0 and stage < 3 else 1
            y = normed(F.conv2d(x, state[f"{name}.conv1.weight"]), f"{name}.bn1").relu()
            y = normed(F.conv2d(y, state[f"{name}.conv2.weight"], stride=stride), f"{name}.bn2").relu()
            y = normed(F.conv2d(y, state[f"{name}.conv3.weight"]), f"{name}.bn3")
            if index == 0:
                x = normed(F.conv2d(x, state[f"{name}.downsample.0.weight"], stride=stride), f"{name}.downsample.1")
            x = (y + x[..., : y.shape[2], : y.shape[3]]).relu()
    return x


@pytest.mark.parametrize(("name", "kernels"), [("bagnet9", (3, 3, 1, 1)), ("bagnet33", (3, 3, 3, 3))])
def test_a_published_file_loads_as_it_is(name, kernels, tmp_path):
    state = published(kernels)
    torch.save(state, tmp_path / "bagnet.pth.tar")
    backbone = build_backbone({"name": name, "width": 2, "weights": str(tmp_path / "bagnet.pth.tar")}).double().eval()
    own = {key for key in backbone.state_dict() if not key.startswith("normalize.")}
    assert {key for key in own if "num_batches" not in key} == {key for key in state if not key.startswith("fc.")}
    image = torch.rand(2, 3, 43, 50, dtype=torch.float64)
    backbone.load_state_dict(state, strict=False)  # in float64, which the file's numbers are
    with torch.inference_mode():
        torch.testing.assert_close(backbone(image), pass_by_hand(state, image, (3, 4, 6, 3)), rtol=1e-6, atol=0)


def test_size_and_names_as_published():
    with torch.device("meta"):
        backbone = build_backbone({"name": "bagnet33"})
    assert backbone.out_channels == 2048
    assert sum(p.numel() for p in backbone.parameters()) == 18_310_184 - 2048 * 1000 - 1000
    with pytest.raises(ConfigError, match=r"no BagNet 'bagnet8'\. Did you mean one of: 'bagnet9', "):
        BagNet("bagnet8")


def test_without_a_field_nothing_is_changed():
    plain, bounded = (build_backbone({"name": "small_cnn", "depth": 5, "field": f}) for f in (None, 15))
    assert list(plain.state_dict()) == list(bounded.state_dict())
    sizes = [[m.kernel_size[0] for m in net.modules() if isinstance(m, nn.Conv2d)] for net in (plain, bounded)]
    assert sizes == [[3, 3, 3, 3, 3], [3, 3, 3, 1, 1]]
    full = build_backbone({"name": "small_cnn", "depth": 5, "field": 47})
    assert [v.shape for v in full.state_dict().values()] == [v.shape for v in plain.state_dict().values()]


def test_after_no_3x3_convolution_a_cell_sees_one_pixel():
    backbone = make(name="small_cnn", width=2, depth=3, field=1)
    field = receptive_field(backbone, (17, 24))
    assert (field.size, field.grid, field.box(2, 1)) == ((1, 1), (3, 3), (16, 8, 17, 9))
