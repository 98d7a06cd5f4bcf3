"""The most activating patches: those of brute force, with boxes that hold all that the cell sees."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.explain.patches import maximally_activating_patches
from ibd.types import Batch
from tests.model_makers import make_embedding, make_module, make_prototypes, make_whitening

IMAGES = torch.rand(23, 3, 15, 18, generator=torch.Generator().manual_seed(0))


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, 2),
    )  # fmt: skip


def brute(maps, k):
    """Return (score, image, row, column) of each channel, best first."""
    found = []
    for channel in range(maps.shape[1]):
        best = []
        for number, each in enumerate(maps[:, channel]):
            cells = [(-float(each[r, c]), r, c) for r in range(each.shape[0]) for c in range(each.shape[1])]
            score, row, column = min(cells)
            best.append((score, number, row, column))
        found.append([(-score, *rest) for score, *rest in sorted(best)[:k]])
    return found


@pytest.mark.parametrize("batch_size", [1, 5, 23])
@pytest.mark.parametrize("k", [1, 4, 30])
def test_patches_are_those_of_brute_force(batch_size, k):
    model = net().train()
    found = maximally_activating_patches(model, DataLoader(TensorDataset(IMAGES), batch_size), "2", k=k)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())
    with torch.no_grad():
        expected = brute(model[:3].eval()(IMAGES), k)
    for channel, row in enumerate(expected):
        filled = len(row)
        torch.testing.assert_close(found.score[channel, :filled], torch.tensor([each[0] for each in row]))
        assert found.image[channel].tolist() == [each[1] for each in row] + [-1] * (k - filled)
        assert found.position[channel, :filled].tolist() == [list(each[2:]) for each in row]
    assert found.names[5] == "2 channel 5"
    assert found.exact
    row, column = found.position[0, 0].tolist()
    assert found.box[0, 0].tolist() == [2 * row, 2 * column, 2 * row + 7, 2 * column + 7]  # 3 + 2 (3 - 1) pixels


def test_the_box_holds_all_that_counts():
    """What is outside may change at will."""
    model = net().eval()
    found = maximally_activating_patches(model, [IMAGES], "2", channels=[3], k=2)
    top, left, bottom, right = found.box[0, 0].tolist()
    number, (row, column) = int(found.image[0, 0]), found.position[0, 0].tolist()
    other = torch.zeros_like(IMAGES[:1])
    other[..., top:bottom, left:right] = IMAGES[number, :, top:bottom, left:right]
    torch.testing.assert_close(float(model[:3](other)[0, 3, row, column].detach()), float(found.score[0, 0]))
    crop = found.pictures(TensorDataset(IMAGES), size=7)
    assert crop.shape == (1, 2, 3, 7, 7)
    torch.testing.assert_close(crop[0, 0], IMAGES[number, :, top:bottom, left:right])


def test_equal_activations_go_to_the_earlier_image_whatever_the_order():
    images = IMAGES[:1].repeat(6, 1, 1, 1)
    order = torch.tensor([4, 2, 5, 0, 1, 3])
    parts = [
        Batch(images[part], torch.zeros(2).long(), torch.zeros(2, 1), order[part])
        for part in (slice(0, 2), slice(2, 4), slice(4, 6))
    ]
    found = maximally_activating_patches(net(), parts, "2", k=3)
    assert found.image.tolist() == [[0, 1, 2]] * 6


@pytest.mark.parametrize(
    "make", [make_module, make_embedding, make_whitening, make_prototypes, lambda: make_prototypes(extent=2)]
)
def test_units_of_our_models(make):
    """Boxes are receptive fields: whatever is beyond one, the unit is the same there."""
    module = make().eval()
    images = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    names = module.network.unit_names
    found = maximally_activating_patches(module, [images[:3], images[3:]], channels=[names[1], 0], k=2)
    assert found.names == [names[1], names[0]]
    with torch.no_grad():
        maps = module.network.encode(images).maps[:, [1, 0]].flatten(2).amax(2)
    torch.testing.assert_close(found.score, maps.topk(2, 0).values.t())
    assert found.exact
    top, left, bottom, right = found.box[0, 0].tolist()
    assert (bottom - top) * (right - left) < 32 * 32
    other = torch.rand(1, 3, 32, 32)
    other[..., top:bottom, left:right] = images[int(found.image[0, 0]), :, top:bottom, left:right]
    row, column = found.position[0, 0].tolist()
    with torch.no_grad():
        torch.testing.assert_close(module.network.encode(other).maps[0, 1, row, column], found.score[0, 0])


def test_mistakes():
    with pytest.raises(UnsupportedError, match="has no units: name a layer"):
        maximally_activating_patches(net(), [IMAGES])
    with pytest.raises(UnsupportedError, match="layer '5' returns"):
        maximally_activating_patches(net(), [IMAGES], "5")
    with pytest.raises(ConfigError, match="no layer '9'"):
        maximally_activating_patches(net(), [IMAGES], "9")
    with pytest.raises(ConfigError, match="no channel 6: there are 6"):
        maximally_activating_patches(net(), [IMAGES], "2", channels=[6])
    with pytest.raises(ConfigError, match=r"no unit 'wing::rod'. Did you mean"):
        maximally_activating_patches(make_module(), [torch.rand(1, 3, 16, 16)], channels=["wing::rod"])
    with pytest.raises(DataError, match="yields no images"):
        maximally_activating_patches(net(), [], "2")
    with pytest.raises(DataError, match="all must have one size"):
        maximally_activating_patches(net(), [IMAGES, IMAGES[..., 1:]], "2")
