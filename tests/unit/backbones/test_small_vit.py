"""The small vision transformer: its cells are the patches, in rows, and each sees the whole image."""

import pytest
import torch

from ibd.backbones import build_backbone, receptive_field, small_vit
from ibd.errors import ConfigError, DataError
from ibd.explain.attention_maps import AttentionRollout
from ibd.explain.cam import CAM, HiResCAM
from ibd.models.baseline.lightning import Baseline
from tests import model_makers as makers

BLOCK = {"name": "small_vit", "width": 16, "depth": 2, "heads": 2, "patch": 4}
close = torch.testing.assert_close


def backbone(**options):
    torch.manual_seed(0)
    return build_backbone({**BLOCK, **options}).eval()


def images(rows=3, columns=5):
    return torch.rand(2, 3, 4 * rows, 4 * columns, generator=torch.Generator().manual_seed(0))


def patches(image):
    return image.unflatten(3, (-1, 4)).unflatten(2, (-1, 4)).transpose(3, 4)  # (B, 3, h, w, 4, 4)


def test_cells_are_patches_in_rows(monkeypatch):
    """Without places a transformer does not know the order of its patches: others' order is the features' order."""
    network, image = backbone(), images()
    moved = patches(image)[:, :, [2, 0, 1]][:, :, :, [3, 1, 4, 0, 2]].transpose(3, 4).flatten(4).flatten(2, 3)
    assert network(image).shape == (2, 16, 3, 5)
    assert not torch.allclose(network(moved), network(image)[:, :, [2, 0, 1]][..., [3, 1, 4, 0, 2]], atol=1e-2)
    monkeypatch.setattr(small_vit, "positions", lambda cells: cells.new_zeros(cells.shape[1]))
    close(network(moved), network(image)[:, :, [2, 0, 1]][..., [3, 1, 4, 0, 2]])


def test_places_differ_and_are_apart_in_rows_and_columns():
    places = small_vit.positions(torch.zeros(1, 16, 3, 5)).view(3, 5, 2, 8)
    assert torch.cdist(places.flatten(2).flatten(0, 1), places.flatten(2).flatten(0, 1)).fill_diagonal_(9).min() > 0.1
    close(places[:, :1, 0].expand(3, 5, 8), places[:, :, 0])  # half is of the row alone
    close(places[:1, :, 1].expand(3, 5, 8), places[:, :, 1])  # half is of the column alone


def test_every_cell_sees_all_and_is_centered_on_its_patch():
    field = receptive_field(backbone(), (12, 20))
    assert field.whole_image
    assert (field.grid, field.center(0, 0), field.center(2, 4)) == ((3, 5), (2.0, 2.0), (10.0, 18.0))
    image = images().requires_grad_()
    gradient = torch.autograd.grad(backbone()(image)[0, 0, 0, 0], image)[0]
    assert patches(gradient[:1]).abs().sum((1, 4, 5)).min() > 0


def test_a_classifier_on_it_is_explained_by_its_cells():
    torch.manual_seed(0)
    model = Baseline(makers.SPEC, {**BLOCK, "patch": 8}).eval()
    image = torch.rand(2, 3, 64, 64)
    close(CAM()(model, image, 1).map / 64, HiResCAM()(model, image, 1).map)
    rolled = AttentionRollout()(model, image, 1).map
    close(
        torch.nn.functional.interpolate(rolled[:, None], (8, 8), mode="area").sum((1, 2, 3)),
        torch.ones(2),
        rtol=0.02,
        atol=0.0,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 10}, r"width: 10 given, but it has to be a multiple of 4, and of heads, which is 2"),
        ({"heads": 3}, r"width: 16 given, .* heads, which is 3"),
        ({"patch": 0}, r"patch: 0 given, at least 1 is needed"),
        ({"width": 8192}, r"width: 8192 given, at most 4096"),
        ({"depth": 1000}, r"depth: 1000 given, at most 100"),
    ],
)
def test_mistakes_in_options(options, message):
    with pytest.raises(ConfigError, match=message):
        backbone(**options)


def test_images_that_patches_do_not_fill():
    with pytest.raises(DataError, match="images of 12 x 21 pixels given, but patches of 4 pixels do not fill them"):
        backbone()(torch.rand(1, 3, 12, 21))
