"""Subsets of parts and importance of parts against definitions by enumeration."""

import math

import numpy as np
import pytest
import torch

from ibd.errors import ConfigError
from ibd.metrics.functional import part_scores as scores, subsets
from ibd.metrics.functional.ranks import average_ranks
from tests.reference import explanations as reference

NAN = torch.nan


def case(parts=4, images=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    importance = torch.randint(-2, 3, (images, parts), generator=g).float()
    return importance, torch.randn(images, 1 << parts, generator=g), torch.rand(images, 1 << parts, generator=g) < 0.4


@pytest.mark.parametrize("parts", [1, 2, 5])
def test_shapley_is_the_mean_over_orders(parts):
    _, table, _ = case(parts)
    found = subsets.shapley(table)
    expected = [reference.shapley(row, parts) for row in table.double().tolist()]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    torch.testing.assert_close(found.sum(1), table.double()[:, -1] - table.double()[:, 0])
    torch.testing.assert_close(subsets.shapley(table + 9), found, atol=1e-5, rtol=0)
    assert subsets.shapley(table[2:3]).equal(found[2:3])


def test_a_part_that_changes_nothing_has_no_value():
    _, table, _ = case(3)
    table[:, 4:] = table[:, :4]  # with or without part 2
    assert (subsets.shapley(table)[:, 2] == 0).all()


def test_minimal_sets():
    _, _, sufficient = case()
    expected = [reference.minimal(row, 4) for row in sufficient.tolist()]
    assert subsets.minimal_sufficient(sufficient).tolist() == expected
    assert subsets.minimal_sufficient(torch.ones(1, 8, dtype=torch.bool)).nonzero().tolist() == [[0, 0]]


def test_removal_is_the_mean_over_orders_of_ties():
    importance, table, _ = case()
    found = subsets.removal_curve(importance, table)
    rows = zip(importance.tolist(), table.double().tolist(), strict=True)
    np.testing.assert_allclose(found, [reference.removal_curve(*row) for row in rows], atol=1e-12)


def test_only_visible_parts_are_removed():
    importance, table, _ = case(3)
    table[:, 4:] = table[:, :4]  # part 2 is not to be seen
    seen = torch.tensor([[True, True, False]]).expand(6, -1)
    two = subsets.removal_curve(importance[:, :2], table[:, :4])
    found = subsets.removal_curve(importance, table, seen)
    torch.testing.assert_close(found[:, :3], two)
    assert found[:, 3].isnan().all()
    torch.testing.assert_close(subsets.removal_auc(found), subsets.removal_auc(two))
    unsaid = importance.clone()
    unsaid[:, 0] = NAN
    last = importance.clone()
    last[:, 0] = -99
    torch.testing.assert_close(subsets.removal_curve(unsaid, table), subsets.removal_curve(last, table))
    assert subsets.removal_auc(subsets.removal_curve(importance, table, seen & False)).isnan().all()


def test_set_scores_are_means_over_orders_of_ties():
    importance, _, sufficient = case(images=12)
    sufficient[:, -1], sufficient[0, 0], sufficient[1:, 0] = True, True, False
    found = subsets.set_scores(importance, sufficient)
    expected = [reference.set_scores(*row) for row in zip(importance.tolist(), sufficient.tolist(), strict=True)]
    np.testing.assert_allclose(torch.stack([found["csdc"], found["pc"], found["dc"]], 1), expected, atol=1e-12)
    assert all(value[0].isnan() for value in found.values())  # the empty set suffices
    none = subsets.set_scores(importance, torch.zeros_like(sufficient))
    assert all(value.isnan().all() for value in none.values())


def test_naming_more_parts_does_not_help():
    """Of FunnyBirds' completeness without D: naming all parts is perfect there."""
    sufficient = torch.zeros(1, 16, dtype=torch.bool)
    sufficient[0, [s for s in range(16) if s & 1]] = True  # part 0 alone decides
    everything, right, wrong = torch.ones(1, 4), torch.tensor([[2.0, 1, 1, 1]]), torch.tensor([[0.0, 1, 1, 1]])
    assert [subsets.set_scores(i, sufficient)["csdc"].item() for i in (everything, right, wrong)] == [0.25, 1.0, 0.0]


def images(seed=0):
    g = torch.Generator().manual_seed(seed)
    masks = torch.zeros(3, 4, 16, 20, dtype=torch.bool)
    masks[:, 0, 2:5, 3:12] = True
    masks[:, 1, 8:9, 8:9] = True
    masks[:, 2, 0:2, 16:20] = True
    return torch.randn(3, 16, 20, generator=g), masks  # part 3 is not visible


@pytest.mark.parametrize("ring", [1 / 16, 0.2])
def test_importance_of_parts(ring):
    maps, masks = images()
    found = scores.part_importance(maps, masks, ring)
    width = math.ceil(ring * 16)
    expected = [
        reference.part_importance(m, s.numpy(), width) for m, s in zip(maps.double().numpy(), masks, strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    torch.testing.assert_close(scores.part_importance(maps + 5, masks, ring), found, atol=1e-5, rtol=0, equal_nan=True)
    assert found[:, 3].isnan().all()
    none = scores.part_importance(maps, masks, ring, background=torch.zeros(3, 16, 20))
    assert none.isnan().all()
    everywhere = scores.part_importance(masks[:, 0].float(), masks, ring, background=torch.ones(3, 16, 20))
    assert everywhere[:, 0].tolist() == [1.0] * 3  # a part is not the ring around itself


def test_means_and_sums_of_overlapping_parts():
    maps = torch.arange(12.0).view(1, 3, 4)
    masks = torch.zeros(1, 3, 3, 4, dtype=torch.bool)
    masks[0, 0, 0], masks[0, 1, :, 0] = True, True  # a row and a column, which share a pixel; the third is not there
    assert scores.part_means(maps, masks)[0, :2].tolist() == [1.5, 4.0]
    assert scores.part_sums(maps, masks)[0, :2].tolist() == [6.0, 12.0]
    assert scores.part_means(maps, masks)[0, 2].isnan()
    assert scores.part_sums(maps, masks)[0, 2].isnan()
    free = maps[0, 1:, 1:].mean()  # within two pixels of both, and of neither
    found = scores.part_importance(maps, masks, ring=0.5)
    torch.testing.assert_close(found[0, 0], 1.5 - free.double())
    assert scores.part_means(maps, masks[:, :0]).shape == (1, 0)
    with pytest.raises(ConfigError, match="beside maps"):
        scores.part_sums(maps, masks[..., :3])


def test_two_cells_are_no_ranking():
    truth = torch.tensor([[1.0, 2, NAN, NAN], [1, 2, 3, NAN], [1, 2, 3, 4]])
    said = torch.tensor([[1.0, 2, 3, 4], [3, 2, 1, 0], [1, NAN, NAN, 4]])
    found = scores.cell_spearman(said, truth)
    assert found[[0, 2]].isnan().all()
    assert found[1] == -1.0


def test_noise_does_not_find_large_parts():
    """Summed over parts as FunnyBirds does, a map of noise ranks the parts by their area."""
    g = torch.Generator().manual_seed(0)
    masks = torch.zeros(500, 4, 32, 32, dtype=torch.bool)
    for part, side in enumerate((2, 4, 6, 8)):
        masks[:, part, 2 + 8 * (part // 2) : 2 + 8 * (part // 2) + side, 16 * (part % 2) + 2 :][..., :side] = True
    truth = torch.tensor([[1.0, 2, 3, 4]]).expand(500, -1)
    noise = torch.rand(500, 32, 32, generator=g)
    summed = (noise.unsqueeze(1) * masks).sum((2, 3))
    assert scores.part_spearman(summed, truth).mean() > 0.9
    by_mean = scores.part_spearman(scores.part_importance(noise, masks), truth)
    assert abs(by_mean.mean()) < 4 * by_mean.std() / math.sqrt(500)


def test_spearman_of_parts():
    truth = torch.tensor([[1.0, 2, 3, NAN], [1, 2, 3, NAN], [2, 2, 2, NAN], [1, 2, 3, 4], [1, NAN, NAN, NAN]])
    said = torch.tensor([[10.0, 20, 30, -5], [0, 0, 0, 0], [1, 2, 3, 4], [torch.inf, 2, NAN, -torch.inf], [1, 1, 1, 1]])
    found = scores.part_spearman(said, truth)
    assert found[:2].tolist() == [1.0, 0.0]  # saying nothing is chance, and does not fall out of the mean
    assert found[3] == -1.0
    assert found[[2, 4]].isnan().all()
    importance, table, _ = case(5, images=40)
    pairs = zip(average_ranks(importance), average_ranks(table[:, :5]), strict=True)
    with np.errstate(invalid="ignore"):
        expected = [np.corrcoef(*pair)[0, 1] for pair in pairs]
    np.testing.assert_allclose(scores.part_spearman(importance, table[:, :5]), np.nan_to_num(expected), atol=1e-12)


def test_sign_error_and_top():
    truth = torch.tensor([[1.0, -2, 0, NAN], [0, 0, 0, 0]])
    assert scores.sign_agreement(torch.tensor([[5.0, 0, 3, 1]]), truth[:1]).tolist() == [0.75]
    assert scores.sign_agreement(truth, truth)[1].isnan()
    for scale, expected in ((3.0, 0.0), (1e30, 0.0), (-3.0, 1.0), (0.0, 1.0)):
        assert scores.normalized_mse(truth[:1] * scale, truth[:1]).item() == pytest.approx(expected, abs=1e-12)
    importance, table, _ = case(4)
    target = table[:, :4].double()
    grid = torch.linspace(0, 3, 3001, dtype=torch.float64).view(-1, 1, 1)
    least = ((grid * importance - target).square().sum(2) / target.square().sum(1)).amin(0)
    np.testing.assert_allclose(scores.normalized_mse(importance, target), least, atol=1e-6)
    assert scores.normalized_mse(truth, truth)[1].isnan()
    said = torch.tensor([[1.0, 2, 2, 0], [0, 0, 0, 0], [9, 1, NAN, 1]])
    right = torch.tensor([[0.0, 1, 0, 0], [4, 1, 2, 3], [1, 2, 9, 1]])
    assert scores.top_part_hit(said, right).tolist() == [0.5, 0.25, 0.0]
    assert scores.top_part_hit(said, torch.ones(3, 4)).isnan().all()


def test_wrong_tables():
    with pytest.raises(ConfigError, match="2 to the number of parts"):
        subsets.shapley(torch.zeros(2, 6))
    with pytest.raises(ConfigError, match="for 3 parts"):
        subsets.removal_curve(torch.zeros(2, 2), torch.zeros(2, 8))
    with pytest.raises(ConfigError, match="beside"):
        scores.part_spearman(torch.zeros(2, 3), torch.zeros(2, 4))
    assert subsets.shapley(torch.zeros(2, 1)).shape == (2, 0)
    assert subsets.set_scores(torch.zeros(0, 3), torch.zeros(0, 8, dtype=torch.bool))["pc"].shape == (0,)
