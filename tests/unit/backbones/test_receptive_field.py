"""Receptive fields against published numbers, gradients, and what a NaN in one pixel reaches."""

import itertools

import pytest
import torch
from torch import nn

from ibd.backbones import build_backbone, receptive_field
from ibd.errors import UnsupportedError


def build(name, **arguments):
    torch.manual_seed(0)
    return build_backbone({"name": name, **arguments}).eval()


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("vgg11", 150),
        ("vgg16", 212),
        ("vgg19", 268),
        ("resnet18", 435),
        ("resnet34", 899),
        ("resnet50", 427),
        ("convnext_tiny", 1688),
    ],
)
def test_published_sizes(name, size):
    with torch.device("meta"):
        field = receptive_field(build(name), 224)
    assert field.size == (size, size)
    assert field.stride == (32, 32)
    assert field.grid == (7, 7)
    assert not field.whole_image


def box_by_gradient(module, image_size, row, column):
    """The pixels with a gradient, in the mean over images; positive weights, so that no ReLU is dead."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.weight.data.abs_()
    image = torch.rand(1, 3, *image_size, dtype=torch.float64, requires_grad=True)
    output = module.double()(image)[..., row, column].sum()
    (gradient,) = torch.autograd.grad(output, image)
    rows, columns = gradient[0].abs().sum(0).nonzero(as_tuple=True)
    return int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1


def boxes_by_nan(module, image_size):
    """Per cell, the rows and columns that spoil it when they are not a number."""
    height, width = image_size
    images = torch.rand(1, 3, height, width).repeat(height + width, 1, 1, 1)
    for y in range(height):
        images[y, :, y] = torch.nan
    for x in range(width):
        images[height + x, ..., x] = torch.nan
    with torch.no_grad():
        spoilt = module(images).isnan().any(1)
    boxes = {}
    for row, column in itertools.product(range(spoilt.shape[1]), range(spoilt.shape[2])):
        hit = spoilt[:, row, column]
        rows, columns = hit[:height].nonzero(), hit[height:].nonzero()
        boxes[row, column] = (int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1)
    return boxes


@pytest.mark.parametrize("name", ["small_cnn", "cifar_resnet"])
def test_box_of_small_networks(name):
    size = (48, 64) if name == "small_cnn" else (24, 32)
    backbone = build(name, width=4) if name == "small_cnn" else build(name, width=4, depth=8)
    field = receptive_field(backbone, size)
    boxes = boxes_by_nan(backbone, size)
    assert boxes == {cell: field.box(*cell) for cell in boxes}
    for cell in ((0, 0), (3, 4), (5, 7)):
        assert boxes[cell] == box_by_gradient(backbone, size, *cell)


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(nn.Conv2d(3, 4, 4, 4), nn.Conv2d(4, 4, 7, padding=3, dilation=1), nn.AvgPool2d(2)),
        nn.Sequential(nn.Conv2d(3, 4, (3, 5), (1, 2), padding=(1, 2)), nn.MaxPool2d(3, 2, 1)),
        nn.Sequential(nn.Conv2d(3, 4, 3, dilation=2, padding="same"), nn.MaxPool2d(2, ceil_mode=True)),
        nn.Sequential(nn.ZeroPad2d((3, 1, 2, 0)), nn.Conv2d(3, 4, 4, 2, bias=False)),
        nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Flatten(2), nn.Unflatten(2, (12, 16)), nn.Conv2d(4, 4, 3)),
    ],
)
def test_geometry_layer_by_layer(module):
    field = receptive_field(module, (24, 32))
    boxes = boxes_by_nan(module, (24, 32))
    assert len(boxes) == field.grid[0] * field.grid[1]
    assert boxes == {cell: field.box(*cell) for cell in boxes}


def test_slicing():
    class Shortcut(nn.Module):
        """Option A of He et al."""

        def forward(self, x):
            return nn.functional.pad(x[:, :, ::2, 1::2], (0, 0, 0, 0, 1, 1))

    field = receptive_field(Shortcut(), (8, 12))
    assert (field.size, field.stride, field.offset, field.grid) == ((1, 1), (2, 2), (0.5, 1.5), (4, 6))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "efficientnet_b0"])
def test_squeeze_and_excitation_sees_the_whole_image(name):
    backbone = build(name)
    field = receptive_field(backbone, 64)
    assert field.whole_image
    assert field.box(0, 0) == (0, 0, 64, 64)
    assert field.size[0] > 400  # of the convolutions alone
    image = torch.rand(1, 3, 64, 64)
    image[..., 63, 63] = torch.nan
    with torch.no_grad():
        assert backbone(image).isnan().any(1).all()


def test_group_normalization_and_attention_see_the_whole_image():
    class Attention(nn.Module):
        def forward(self, x):
            y = x.flatten(2).transpose(1, 2)
            return nn.functional.scaled_dot_product_attention(y, y, y).transpose(1, 2).reshape(x.shape)

    assert receptive_field(build("small_cnn", norm="group"), 64).whole_image
    assert receptive_field(nn.Sequential(nn.Conv2d(3, 4, 8, 8), Attention()), 64).whole_image


def test_a_product_with_constants_and_patches_side_by_side_are_followed():
    class Mixed(nn.Module):
        def forward(self, x):
            weight = torch.ones(1, 5, 4, device=x.device).expand(len(x), -1, -1)
            x = (weight @ x.flatten(2)).view(len(x), 5, *x.shape[2:])
            return nn.functional.unfold(x, 2).view(len(x), -1, x.shape[2] - 1, x.shape[3] - 1)

    field = receptive_field(nn.Sequential(nn.Conv2d(3, 4, 4, 4), Mixed()), 32)
    assert (field.size, field.stride, field.grid, field.whole_image) == ((8, 8), (4, 4), (7, 7), False)


def test_center_and_further_layers_on_top():
    backbone = build("small_cnn")
    field = receptive_field(nn.Sequential(backbone, nn.Conv2d(128, 8, 1), nn.Sigmoid()), 64)
    assert field == receptive_field(backbone, (64, 64))
    assert field.center(0, 0) == (0.5, 0.5)
    assert field.center(2, 3) == (16.5, 24.5)


def test_module_is_left_as_it_was():
    backbone = build("small_cnn").train()
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    receptive_field(backbone, 64)
    assert backbone.training
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())
    assert not any(p.is_meta or not p.requires_grad for p in backbone.parameters())


def test_inside_of_inference_mode():
    backbone = build("small_cnn")
    with torch.inference_mode():
        inside = receptive_field(backbone, 64)
    assert inside == receptive_field(backbone, 64)
    assert inside.stride == (8, 8)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.Upsample(scale_factor=2), "cannot follow upsample"),
        (nn.ConvTranspose2d(3, 3, 2), "cannot follow convolution where it enlarges"),
        (nn.AdaptiveAvgPool2d(1), "does not return a feature map"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 2)), "does not return a feature map"),
    ],
)
def test_what_has_none(module, message):
    with pytest.raises(UnsupportedError, match=message):
        receptive_field(module, 8)


def test_branches_of_different_stride():
    class Branches(nn.Module):
        def forward(self, x):
            return x[:, :, :4, :4] + x[:, :, ::2, ::2]

    with pytest.raises(UnsupportedError, match="two branches of different stride"):
        receptive_field(Branches(), 8)
