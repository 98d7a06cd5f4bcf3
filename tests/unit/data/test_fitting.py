"""One image brought to the network's size by torch alone, against torchvision's transforms."""

import pytest
import torch

from ibd.data.fitting import covering_size, fit_image, padding
from ibd.data.transforms import eval_transform
from ibd.errors import ConfigError


def test_sizes_by_hand():
    image = torch.zeros(3, 10, 30)
    assert covering_size(image, (20, 20)) == (20, 60)
    assert padding(image, (20, 20)) == [0, 0, 10, 10]
    assert padding(image, (10, 41)) == [5, 6, 0, 0]


@pytest.mark.parametrize("resize", ["squash", "crop", "pad"])
@pytest.mark.parametrize("size", [(16, 16), (64, 48)])
@pytest.mark.parametrize("shape", [(16, 16), (17, 90), (91, 33), (48, 64), (5, 3), (64, 48)])
def test_to_the_bit_what_the_validation_sees(resize, size, shape):
    image = torch.randint(256, (3, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    found = fit_image(image, size, resize)
    assert found.dtype == torch.uint8
    assert found.shape == (3, *size)
    assert torch.equal(found.to(torch.float32).div_(255), eval_transform(size, resize)(image))


def test_where_torch_does_not_resize_bytes(monkeypatch):
    """By float32, as torchvision does there: it differs by rounding alone."""
    image = torch.randint(256, (3, 40, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    here = fit_image(image, (16, 16), "crop")
    monkeypatch.setattr("ibd.data.fitting._resizes_bytes", lambda: False)
    assert int((fit_image(image, (16, 16), "crop").int() - here.int()).abs().max()) <= 1


def test_another_way():
    with pytest.raises(ConfigError, match=r"data\.resize: 'fill' given, one of squash, crop, pad is needed"):
        fit_image(torch.zeros(3, 4, 4), (2, 2), "fill")
