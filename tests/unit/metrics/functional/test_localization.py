"""Localization against definitions; chance levels, invariances, and what is undefined."""

import numpy as np
import pytest
import torch

from ibd.errors import ConfigError
from ibd.metrics import auc_matrix
from ibd.metrics.functional import localization as loc
from ibd.metrics.functional.components import box_iou, component_boxes, matched_boxes
from ibd.metrics.functional.ranks import Order
from tests.reference import explanations as reference

SCORES = ("mass_accuracy", "rank_accuracy", "pointing_game", "roc_auc", "iou_at_size")
BY_RANK = SCORES[1:]


def case(kind="ties", images=6, height=7, width=9, seed=0):
    g = torch.Generator().manual_seed(seed)
    maps = torch.randn(images, height, width, generator=g)
    mask = torch.rand(images, height, width, generator=g) < 0.3
    mask[:, 2, 3] = True
    maps = maps + 0.7 * mask
    return {"ties": maps.mul(2).round(), "plain": maps, "negative": maps - 9}[kind], mask


@pytest.mark.parametrize("kind", ["ties", "plain", "negative"])
def test_all_scores_are_as_defined(kind):
    maps, mask = case(kind)
    found = loc.localize(maps, mask)
    for i in range(len(maps)):
        expected = reference.localization(maps[i].double(), mask[i])
        for name in SCORES:
            assert found[name].dtype == torch.float64
            np.testing.assert_allclose(found[name][i], expected[name], atol=1e-9, err_msg=name)
            np.testing.assert_array_equal(getattr(loc, name)(maps, mask)[i], found[name][i])
    boxes = loc.box_hits(maps, mask)
    np.testing.assert_array_equal(found["box_hits"], boxes)
    assert boxes.isnan().all() == (kind == "negative")


def test_auc_is_that_of_axes():
    maps, mask = case()
    expected = [auc_matrix(m.view(-1, 1), s.view(-1, 1).float()).item() for m, s in zip(maps, mask, strict=True)]
    np.testing.assert_allclose(loc.roc_auc(maps, mask), expected, atol=1e-12)


def test_a_constant_map_scores_chance_exactly():
    _, mask = case()
    share = mask.double().mean((1, 2))
    found = loc.localize(torch.full(mask.shape, 0.3), mask)
    for name in ("mass_accuracy", "rank_accuracy", "pointing_game"):
        torch.testing.assert_close(found[name], share, rtol=0, atol=1e-7)
    assert found["roc_auc"].tolist() == [0.5] * 6
    torch.testing.assert_close(found["iou_at_size"], share / (2 - share))


def test_noise_scores_chance_in_the_mean_and_the_truth_is_perfect():
    g = torch.Generator().manual_seed(0)
    mask = torch.zeros(400, 20, 20, dtype=torch.bool)
    mask[:, 3:9, 5:15] = True
    found = loc.localize(torch.rand(mask.shape, generator=g), mask)
    for name in ("mass_accuracy", "rank_accuracy", "pointing_game"):
        mean, error = found[name].mean(), found[name].std() / 20
        assert abs(mean - 0.15) < 4 * error
    assert abs(found["roc_auc"].mean() - 0.5) < 4 * found["roc_auc"].std() / 20
    truth = loc.localize(mask.float(), mask)
    assert all((truth[name] == 1).all() for name in (*SCORES, "iou_curve", "box_hits"))


def test_order_is_all_that_rank_scores_see():
    maps, mask = case("plain")
    for change in (torch.exp, lambda a: 3 * a - 100, lambda a: a.double() ** 3):
        for name in BY_RANK:
            assert torch.equal(getattr(loc, name)(change(maps), mask), getattr(loc, name)(maps, mask)), name
    assert torch.equal(loc.rank_accuracy(Order.of(maps), mask), loc.rank_accuracy(maps, mask))


def test_a_sample_does_not_depend_on_its_neighbors():
    maps, mask = case()
    maps[1] *= 1000  # a maximum over the batch would be this one's
    whole = loc.localize(maps, mask)
    for part in (slice(0, 1), slice(2, 5)):
        for name, value in loc.localize(maps[part], mask[part]).items():
            torch.testing.assert_close(value, whole[name][part], rtol=0, atol=1e-14, equal_nan=True)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9])
def test_iou_above_a_threshold(share):
    maps, mask = case()
    expected = [reference.iou(m.numpy(), s.numpy(), share) for m, s in zip(maps, mask, strict=True)]
    np.testing.assert_allclose(loc.iou_curve(maps, mask, [share])[:, 0], expected, atol=1e-12)


def test_the_threshold_is_chosen_elsewhere():
    curves = torch.tensor([[0.1, 0.4, torch.nan], [0.3, 0.4, 0.4]])
    assert loc.best_threshold(curves, [0.2, 0.4, 0.6]) == (0.4, pytest.approx(0.4))
    with pytest.raises(ConfigError, match="no image has a curve"):
        loc.best_threshold(curves * torch.nan, [0.2, 0.4, 0.6])


def test_edges():
    maps, mask = case()
    maps[0, 0, 0], mask[1], mask[2], maps[3] = torch.nan, False, True, -maps[3].abs() - 1
    found = loc.localize(maps, mask)
    for name, value in found.items():
        assert value[:2].isnan().all(), name  # NaN in the map; an empty mask
        assert value[4:].isfinite().all(), name
    assert found["roc_auc"][2].isnan()
    assert [found[name][2].item() for name in SCORES if name != "roc_auc"] == [1.0] * 4
    for name in ("mass_accuracy", "iou_curve", "box_hits"):
        assert found[name][3].isnan().all()  # nothing is positive
    assert all(found[name][3].isfinite() for name in BY_RANK)
    one = loc.localize(torch.ones(1, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool))
    assert [one[name].item() for name in SCORES if name != "roc_auc"] == [1.0] * 4
    assert all(not len(value) for value in loc.localize(maps[:0], mask[:0]).values())
    with pytest.raises(ConfigError, match="beside"):
        loc.localize(maps, mask[:, 1:])


def test_energy_by_region():
    maps, mask = case("plain")
    regions = torch.stack([mask, ~mask, torch.zeros_like(mask)], 1)
    shares = loc.energy_shares(maps, regions)
    torch.testing.assert_close(shares[:, 0], loc.mass_accuracy(maps, mask))
    torch.testing.assert_close(shares[:, :2].sum(1), torch.ones(6, dtype=torch.float64))
    assert shares[:, 2].isnan().all()
    assert loc.energy_shares(maps, regions[:, :0]).shape == (6, 0)


@pytest.mark.parametrize("density", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_boxes_of_components(density):
    g = torch.Generator().manual_seed(3)
    masks = torch.rand(12, 9, 11, generator=g) < density
    expected = [reference.component_boxes(mask.numpy()) for mask in masks]
    most = max(len(boxes) for boxes in expected)
    for count in (None, 1, 2, most + 3):
        found = component_boxes(masks, count)
        wanted = most if count is None else count
        assert found.shape == (12, wanted, 4)
        for boxes, mine in zip(expected, found, strict=True):
            filled = boxes[:wanted] + [[np.nan] * 4] * (wanted - len(boxes))
            np.testing.assert_array_equal(mine, np.reshape(filled, (wanted, 4)))


def test_components_that_wind():
    spiral = torch.tensor([[int(c) for c in row] for row in
                           ("1111111", "0000001", "1111101", "1000101", "1011101", "1000001", "1111111")])  # fmt: skip
    blobs = torch.zeros(7, 7)
    blobs[0, 6] = blobs[6, 0] = blobs[1, 5] = 1  # the last column of a row does not touch the first of the next
    boxes = component_boxes(torch.stack([spiral, blobs]).bool())
    assert boxes[:, 0].tolist() == [[0, 0, 7, 7], [0, 5, 2, 7]]
    assert boxes[1, 1].tolist() == [6, 0, 7, 1]
    assert boxes[0, 1].isnan().all()
    assert component_boxes(torch.zeros(2, 4, 4, dtype=torch.bool)).shape == (2, 0, 4)


def test_box_arithmetic():
    a, b = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 1, 3, 3], [2, 2, 4, 4], [-5, -5, -1, -1]])
    torch.testing.assert_close(box_iou(a, b), torch.tensor([1 / 7, 0.0, 0.0]))


def test_each_box_is_matched_once():
    one, wider, apart = [0.0, 0, 4, 4], [0.0, 0, 4, 5], [8.0, 8, 9, 9]
    nothing = [torch.nan] * 4
    wanted = torch.tensor([[one, apart], [one, apart], [one, wider], [one, wider], [one, nothing], [one, nothing]])
    found = torch.tensor([[apart, one], [one, wider], [wider, one], [one, apart], [wider, one], [nothing, apart]])
    assert matched_boxes(found, wanted).tolist() == [2, 1, 2, 1, 1, 0]
    assert matched_boxes(found, wanted, 0.9).tolist() == [2, 1, 2, 1, 1, 0]
    assert matched_boxes(found[:, :1], wanted, 0.9).tolist() == [1, 1, 1, 1, 0, 0]


def test_boxes_of_one_object_are_those_of_box_accuracy():
    """A hit if the largest piece's box has an IoU of a half with the object's, whatever other pieces there are."""
    g = torch.Generator().manual_seed(5)
    mask = torch.zeros(60, 12, 12, dtype=torch.bool)
    for i, (y, x, h, w) in enumerate(torch.randint(2, 7, (60, 4), generator=g).tolist()):
        mask[i, y : y + h, x : x + w] = True
    maps = 1.5 * mask + torch.randn(mask.shape, generator=g)
    for share in (0.1, 0.25, 0.5, 0.75):
        cut = maps > share * maps.amax((1, 2), keepdim=True)
        largest, true = (torch.tensor([reference.component_boxes(m.numpy())[0] for m in some]) for some in (cut, mask))
        ious = [reference.box_iou(*pair) for pair in zip(largest.tolist(), true.tolist(), strict=True)]
        hits = loc.box_hits(maps, mask, [share])[:, 0].tolist()
        assert hits == [float(iou >= 0.5) for iou in ious]
        if share == 0.25:
            assert 0.1 < sum(hits) / 60 < 0.9  # both happen


def pieces():
    """Return three parts that lie apart, and one box around them all."""
    mask = torch.zeros(1, 16, 16, dtype=torch.bool)
    mask[:, 1:5, 1:5] = mask[:, 10:14, 2:6] = mask[:, 3:6, 11:15] = True
    around = torch.zeros_like(mask)
    around[:, 1:14, 1:15] = True
    return mask, around


def test_a_truth_in_pieces_has_a_box_for_each():
    mask, around = pieces()
    painted = mask.float()
    painted[:, 10:14, 2:6], painted[:, 3:6, 11:15] = 0.6, 0.3  # parts of different worth
    assert loc.box_hits(painted, mask, [0.1, 0.5, 0.75])[0].tolist() == pytest.approx([1, 2 / 3, 1 / 3])
    assert loc.box_hits(around.float(), mask)[0].tolist() == [0] * 4  # what lies between parts is no part
    more = painted.clone()
    more[:, 8:15, 8:15] = 1  # the largest piece is wrong: there is room for two others
    assert loc.box_hits(more, mask, [0.1]).item() == pytest.approx(2 / 3)
    assert loc.box_hits(painted, torch.ones_like(mask)).tolist() == [[0] * 4]
    assert loc.box_hits(painted, around).tolist() == [[0] * 4]
    joined = mask.clone()
    joined[:, 3, 4:12] = True  # two parts that touch are one piece
    assert loc.box_hits(joined.float(), joined).tolist() == [[1] * 4]
    assert component_boxes(joined).shape[1] == 2


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.75])
def test_boxes_that_are_hit(share):
    g = torch.Generator().manual_seed(7)
    mask = torch.rand(30, 10, 10, generator=g) < torch.linspace(0.05, 0.3, 30).view(-1, 1, 1)
    mask[:, 4, 4] = True
    maps = mask + 0.5 * torch.randn(mask.shape, generator=g)
    expected = [reference.box_hits(m.numpy(), s.numpy(), share) for m, s in zip(maps, mask, strict=True)]
    np.testing.assert_allclose(loc.box_hits(maps, mask, [share])[:, 0], expected, atol=1e-12)


def test_a_multiple_of_a_map_is_cut_in_the_same_place():
    """Also where values lie on a threshold, as those of 8-bit maps do."""
    mask = case()[1][:1]
    maps = (torch.arange(63).view(1, 7, 9) % 21) / 20
    for scale in (1e-6, 3, 7 / 3, 1e6):
        for measure in (loc.iou_curve, loc.box_hits):
            assert torch.equal(measure(scale * maps, mask), measure(maps, mask))
    assert loc.above(maps, [0.5, 0.95]).sum((2, 3)).tolist() == [[30, 3]]
    assert not loc.above(-maps - 1, [0.5]).any()
