"""One image brought to the network's size by torch alone, against torchvision's transforms."""

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from ibd.data.fitting import covering_size, fit_image, padding
from ibd.data.transforms import Fit, eval_transform
from ibd.errors import ConfigError


def test_sizes_by_hand():
    image = torch.zeros(3, 10, 30)
    assert covering_size(image, (20, 20)) == (20, 60)
    assert padding(image, (20, 20)) == [0, 0, 10, 10]
    assert padding(image, (10, 41)) == [5, 6, 0, 0]


def by_torchvision(size, resize):
    if resize == "squash":
        return v2.Resize(size, antialias=True)
    if resize == "crop":
        return lambda image: v2.CenterCrop(size)(v2.Resize(covering_size(image, size), antialias=True)(image))
    return lambda image: v2.Resize(size, antialias=True)(
        functional.pad(image, [padding(image, size)[i] for i in (0, 2, 1, 3)])
    )


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(16, 16), (64, 48)])
@pytest.mark.parametrize("shape", [(16, 16), (17, 90), (91, 33), (48, 64), (5, 3), (64, 48)])
def test_what_torchvision_makes_of_it(resize, size, shape):
    """But for a rounding: on some processors releases of torchvision resize bytes by way of floats."""
    image = torch.randint(256, (3, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = fit_image(image, size, resize)
    assert found.dtype == torch.uint8
    assert found.shape == (3, *size)
    expected = by_torchvision(size, resize)(image)
    assert int((found.int() - expected.int()).abs().max()) <= 1
    assert torch.equal(found.to(torch.float32).div_(255), eval_transform(size, resize)(image))
    lines = image.permute(1, 2, 0).contiguous().permute(2, 0, 1)  # as a decoder writes pixels
    assert int((fit_image(lines, size, resize).int() - found.int()).abs().max()) <= 1  # another kernel, by processor


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
def test_masks_follow_the_image(resize):
    """A white rectangle, and its mask: their edges stay together."""
    image = torch.zeros(3, 90, 40, dtype=torch.uint8)
    image[:, 35:60, 10:30] = 255
    fitted, mask = Fit((32, 32), resize)(image, tv_tensors.Mask(image[:1] > 0))
    assert mask.shape == (1, 32, 32)
    unclear = (fitted[0] > 0) & (fitted[0] < 255)
    assert 20 < int(mask.sum()) < 700
    assert torch.equal(mask[0][~unclear].bool(), fitted[0][~unclear] > 0)


def test_where_torch_does_not_resize_bytes(monkeypatch):
    """By float32, as torchvision does there: it differs by rounding alone."""
    image = torch.randint(256, (3, 40, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    here = fit_image(image, (16, 16), "crop")
    monkeypatch.setattr("ibd.data.fitting._resizes_bytes", lambda: False)
    assert int((fit_image(image, (16, 16), "crop").int() - here.int()).abs().max()) <= 1


def test_another_way():
    with pytest.raises(ConfigError, match=r"data\.resize: 'fill' given, one of squash, crop, pad is needed"):
        fit_image(torch.zeros(3, 4, 4), (2, 2), "fill")
