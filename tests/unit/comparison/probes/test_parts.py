"""Tables of part subsets: each picture drawn and asked once, Shapley values of an additive model."""

import numpy as np
import pytest
import torch
from torch import nn

from ibd.comparison.probes import parts
from ibd.comparison.probes.network import Predictor
from ibd.comparison.reference_maps import REFERENCE_MAPS, reference_maps
from ibd.data.toybirds.datamodule import ToyBirds
from ibd.data.toybirds.parts import PARTS
from ibd.data.toybirds.render import render
from ibd.errors import DataError
from ibd.metrics.functional.components import component_boxes
from ibd.metrics.functional.localization import localize
from tests.unit.comparison.probes.makers import Convolutions, Linear

SIZE = 32


@pytest.fixture(scope="module")
def birds():
    return ToyBirds(preset="tiny", train_size=2, val_size=2, test_size=4).dataset("test")


class Seen(nn.Module):
    """The centered logit of class 0 is the sum of the weights of the parts whose first pixel is white."""

    def __init__(self, weights):
        super().__init__()
        self.weights, self.images = weights, 0

    def forward(self, image):
        self.images += len(image)
        score = image[:, 0, 0, : len(PARTS)].double() @ self.weights
        return torch.stack([score, -score], 1)


def painted(scene, size):
    picture = np.zeros((size, size, 3), dtype=np.uint8)
    picture[0, : len(PARTS), 0] = [255 * (scene.parts[part] is not None) for part in PARTS]
    return picture, None


def test_shapley_values_of_an_additive_model_are_its_weights(birds, monkeypatch):
    monkeypatch.setattr(parts, "render", painted)
    weights = torch.tensor([0.5, -1.0, 0.0, 2.0, 0.25], dtype=torch.float64)
    predictor = Predictor(Seen(weights), torch.zeros(1, 3, SIZE, SIZE))
    scenes = [birds.scene(0), birds.scene(1).remove("eye", "wing")]
    table = parts.subset_tables(predictor, scenes, torch.zeros(2, dtype=torch.int64), SIZE)
    values = parts.part_values(table.centered)
    torch.testing.assert_close(values[0], weights, rtol=0, atol=1e-9)
    there = torch.tensor([part not in ("eye", "wing") for part in PARTS])
    torch.testing.assert_close(values[1], weights * there, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "classes"), [(lambda: Linear(torch.randn(3, SIZE, SIZE) / SIZE), [0, 1, 0]), (Convolutions, [2, 1, 0])]
)
def test_every_picture_is_drawn_and_asked_once(birds, monkeypatch, make, classes):
    drawn = []

    def counting(scene, size):
        drawn.append(scene)
        return render(scene, size)

    monkeypatch.setattr(parts, "render", counting)
    scenes = [birds.scene(0), birds.scene(1).remove("tail"), birds.scene(2)]
    predictor, classes = Predictor(make(), torch.rand(2, 3, SIZE, SIZE)), torch.tensor(classes)
    before = predictor.forwards
    table = parts.subset_tables(predictor, scenes, classes, SIZE)
    assert len(drawn) == 32 + 16 + 32
    asked = predictor.forwards - before
    assert asked == sum(len(parts.draw_subsets(scene, SIZE)[0]) for scene in scenes) <= 80
    for row, scene in enumerate(scenes):
        pictures = np.stack([render(each, SIZE)[0] for each in scene.subset_grid()])
        images = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
        each = predictor.centered(images, classes[row].expand(32))
        torch.testing.assert_close(table.centered[row], each, rtol=1e-4, atol=1e-5)
        total = parts.part_values(table.centered)[row].sum()
        torch.testing.assert_close(total, table.centered[row, -1] - table.centered[row, 0])


def test_the_oracle_says_of_each_part_what_it_is_worth(birds):
    masks = torch.stack([birds.masks(i) for i in range(2)])
    masks[:, 0] |= masks[:, 1]  # the beak shares all pixels of the eye, which has none for itself
    masks[1, 3, :, :16] |= masks[1, 4, :, :16]
    values = torch.tensor([[1.0, -2.0, 3.0, 0.0, torch.nan], [5.0, 4.0, 3.0, 2.0, 1.0]], dtype=torch.float64)
    maps = parts.oracle_maps(values, masks)
    for image in range(2):
        for part in (0, 2, 3, 4):
            found = maps[image][masks[image, part]].double().mean()
            assert float(found) == pytest.approx(float(values[image, part].nan_to_num(0.0)), abs=1e-5)
    assert maps[0][masks[0, 1]].unique().tolist() == [-0.5]
    assert bool((maps[~masks.any(1)] == 0).all())


def test_the_second_oracle_adds_up_to_what_each_part_is_worth():
    masks = torch.zeros(2, 4, 1, 12, dtype=torch.bool)
    masks[0, 0, 0, :4] = masks[0, 1, 0, 2:8] = masks[0, 2, 0, 10:] = True  # the first two share two pixels
    masks[1, 0, 0, :4] = masks[1, 1, 0, :4] = True  # these two share all: their sums are the same
    values = torch.tensor([[2.0, -6.0, 0.5, torch.nan], [1.0, 4.0, 3.0, 0.0]], dtype=torch.float64)
    maps = parts.additive_maps(values, masks)
    sums = (maps.unsqueeze(1) * masks).sum((2, 3))
    torch.testing.assert_close(sums[0], torch.tensor([2.0, -6.0, 0.5, 0.0]))
    torch.testing.assert_close(sums[1], torch.tensor([2.5, 2.5, 0.0, 0.0]))  # a part without a pixel says nothing
    # by hand: a / 4 pixels of the first, b / 6 of the second, where they overlap both: 4 a + 2 b = 2, 2 a + 6 b = -6
    expected = [1.2] * 2 + [-0.2] * 2 + [-1.4] * 4 + [0] * 2 + [0.25] * 2
    torch.testing.assert_close(maps[0, 0], torch.tensor(expected))


def test_mistakes(birds):
    predictor = Predictor(Convolutions(), torch.rand(1, 3, SIZE, SIZE))
    with pytest.raises(DataError, match="as many classes"):
        parts.subset_tables(predictor, [birds.scene(0)], torch.tensor([0, 1]), SIZE)


def test_parts_that_decide_are_worth_a_tenth_of_the_best_visible_one():
    masks = torch.zeros(3, 5, 4, 10, dtype=torch.bool)
    for part in range(5):
        masks[:, part, :, 2 * part] = True
    masks[1, 0] = False  # the best one cannot be seen
    values = torch.tensor([[2.0, 0.21, 0.19, -1, 0], [50, 0.21, 0.01, 2, torch.nan], [-1, 0, -2, -0.1, 0]])
    found = parts.deciding_mask(values.double(), masks)
    assert found[:, 0, ::2].tolist() == [[1, 1, 0, 0, 0], [0, 1, 0, 1, 0], [0] * 5]
    assert not found[:, :, 1::2].any()


def test_a_part_decides_by_its_value_whatever_it_shares_with_others():
    masks = torch.zeros(1, 3, 1, 30, dtype=torch.bool)
    masks[0, 0, 0, :10] = masks[0, 1, 0, 1:15] = masks[0, 2, 0, 20:25] = True  # 9 of 10 pixels are shared
    found = parts.deciding_mask(torch.tensor([[1.0, 0.0, 0.4]]), masks)
    assert found[0, 0].nonzero().squeeze(1).tolist() == [*range(10), *range(20, 25)]


def test_what_moves_by_rounding_alone_is_worth_nothing():
    noise = 1e-6 * torch.randn(1, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(parts.part_values(5 + noise), torch.zeros(1, 5, dtype=torch.float64))
    assert bool((parts.part_values(5 + 1e4 * noise) != 0).all())


@pytest.fixture(scope="module")
def scenes():
    """Pictures and masks of birds, with values of their parts: large, small, none, and against the class."""
    data = ToyBirds(preset="tiny", train_size=2, val_size=2, test_size=24).dataset("test")
    masks = torch.stack([data.masks(i) for i in range(24)])
    images = torch.stack([data[i].image for i in range(24)])
    values = torch.tensor([3.0, 1.0, 0.5, 0.02, -2.0], dtype=torch.float64)
    g = torch.Generator().manual_seed(0)
    return images, masks, torch.stack([values[torch.randperm(5, generator=g)] for _ in range(24)])


def test_the_oracle_is_first_and_what_knows_nothing_last_wherever_maps_are_looked_for(scenes):
    images, masks, values = scenes
    truth = parts.deciding_mask(values, masks)
    rows = {name: reference_maps(name, images, list(range(24))) for name in REFERENCE_MAPS}
    rows["all parts"] = masks.any(1).float()
    scores = {name: localize(maps, truth) for name, maps in (rows | {"oracle": truth.float()}).items()}
    for name in ("mass_accuracy", "rank_accuracy", "pointing_game", "roc_auc", "iou_at_size", "iou_curve", "box_hits"):
        mean = {row: float(found[name].nanmean(0).amax()) for row, found in scores.items()}
        assert mean["oracle"] > (0.95 if name == "mass_accuracy" else 1 - 1e-9), name
        assert max(mean[row] for row in rows) < mean["oracle"] - 0.02, name
        if name == "box_hits":
            assert max(mean[row] for row in REFERENCE_MAPS) < 0.15 < mean["all parts"]
    assert components_apart(truth) > 1.5


def components_apart(masks):
    """Return the mean number of pieces."""
    return float((~component_boxes(masks)[..., 0].isnan()).sum(1).double().mean())
