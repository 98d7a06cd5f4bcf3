"""Where a unit's score came from: hand-made maps whose right picture is known, for every pooling and sign."""

import pytest
import torch

from ibd.models.concept_whitening.activation import axis_activation
from ibd.models.painting import paint
from ibd.types import Units
from tests.model_makers import LARGE, make_module, make_network, make_pipnet, make_prototypes, make_whitening

# One peak among dissimilar patches: its mean is negative, its maximum positive.
PEAK = [[-0.4, -0.2, -0.4], [-0.2, 0.8, 0.2], [-0.4, -0.2, -0.4]]
SPLIT = [[2.0, -1.0, 0.0], [1.0, -1.0, 0.0], [0.0, 0.0, 0.0]]  # of mean 1 / 9
NONE = [[-3.0, -1.0, -2.0], [-2.0, -3.0, -3.0], [-3.0, -3.0, -3.0]]  # nothing is like the prototype
FLAT = [[0.5] * 3] * 3


def shares(rows, score, pooling, painting="pooling", signed=False):
    maps = torch.tensor(rows)[None, None]
    found = paint(maps, torch.tensor([[score]]), pooling, painting, signed)
    assert float(found.sum()) == pytest.approx(1, abs=1e-6)
    return found[0, 0].tolist()


def rows(*values):
    return [pytest.approx(list(row), abs=1e-6) for row in values]


def only(*places, value=None):
    table = [[0.0] * 3 for _ in range(3)]
    for row, column in places:
        table[row][column] = value or 1 / len(places)
    return rows(*table)


@pytest.mark.parametrize("pooling", ["max", "top_k"])
def test_what_was_most_alike_is_painted_where_the_map_has_a_negative_mean(pooling):
    found = shares(PEAK, 0.8, pooling)
    assert found == rows([0, 0, 0], [0, 0.8, 0.2], [0, 0, 0])


@pytest.mark.parametrize("pooling", ["max", "top_k"])
def test_a_negative_maximum_is_painted_where_it_is_least_negative(pooling):
    assert shares(NONE, -1.0, pooling) == rows([0, 0.5, 0.25], [0.25, 0, 0], [0, 0, 0])


def test_a_mean_is_painted_by_the_part_of_its_own_sign():
    assert shares(SPLIT, 1 / 9, "mean") == rows([2 / 3, 0, 0], [1 / 3, 0, 0], [0, 0, 0])
    against = [[-value for value in row] for row in SPLIT]
    assert shares(against, -1 / 9, "mean") == rows([2 / 3, 0, 0], [1 / 3, 0, 0], [0, 0, 0])


def test_a_mean_whose_contribution_is_proportional_to_it_has_an_exact_share_at_every_position():
    assert shares(SPLIT, 1 / 9, "mean", signed=True) == rows([2, -1, 0], [1, -1, 0], [0, 0, 0])


def test_a_mean_of_what_is_positive_comes_from_there():
    assert shares(PEAK, 0.5, "positive_mean") == rows([0, 0, 0], [0, 0.8, 0.2], [0, 0, 0])
    assert shares(NONE, 0.0, "positive_mean") == rows(*[[1 / 9] * 3] * 3)


def test_a_mean_of_maxima_comes_from_the_maxima_of_the_windows():
    maps = torch.full((1, 1, 6, 6), -1.0)
    maps[0, 0, 1, 2], maps[0, 0, 0, 0], maps[0, 0, 4, 5] = 3.0, 2.0, 1.0  # the 2 is in the window of the 3
    score = axis_activation(maps, "pool_max")
    assert float(score) == pytest.approx((3 - 1 - 1 + 1) / 4)
    found = paint(maps, score, "pool_max")[0, 0]
    assert found.nonzero().tolist() == [[1, 2], [4, 5]]
    assert found[1, 2].item() == pytest.approx(3 / 4)
    negative = paint(-maps.abs(), axis_activation(-maps.abs(), "pool_max"), "pool_max")[0, 0]
    assert negative.count_nonzero() == 4  # one in each window, all alike here
    assert negative.sum().item() == pytest.approx(1)


def test_what_is_left_over_beside_the_windows_has_no_share():
    maps = torch.zeros(1, 1, 4, 4)
    maps[0, 0, 3, 3], maps[0, 0, 1, 1] = 9.0, 1.0
    assert paint(maps, axis_activation(maps, "pool_max"), "pool_max")[0, 0].nonzero().tolist() == [[1, 1]]


@pytest.mark.parametrize("pooling", ["mean", "max", "top_k", "positive_mean", "pool_max"])
def test_a_flat_map_is_painted_evenly(pooling):
    wanted = only((0, 0)) if pooling == "pool_max" else rows(*[[1 / 9] * 3] * 3)  # the first of equal maxima
    assert shares(FLAT, 0.5, pooling) == wanted
    assert shares([[0.0] * 3] * 3, 0.0, pooling) == rows(*[[1 / 9] * 3] * 3)


def test_the_other_paintings():
    assert shares(PEAK, 0.8, "max", "peak") == only((1, 1))
    assert shares(NONE, -1.0, "max", "peak") == only((0, 1))
    assert shares(SPLIT, 1 / 9, "mean", "peak") == only((0, 0))
    assert shares(SPLIT, -1 / 9, "mean", "peak") == only((0, 1))  # a negative mean: the lowest is what made it
    assert shares(PEAK, 0.8, "max", "top") == only((1, 1))  # 5 % of nine positions is one
    assert shares(NONE, -1.0, "max", "minimum") == rows([0, 0.5, 0.25], [0.25, 0, 0], [0, 0, 0])
    assert shares(SPLIT, -1 / 9, "mean", "minimum")[0] == pytest.approx([0, 3 / 17, 2 / 17])
    assert shares(SPLIT, 1 / 9, "mean", "score_sign", signed=True) == rows([2 / 3, 0, 0], [1 / 3, 0, 0], [0, 0, 0])
    assert shares(PEAK, 0.8, "max", "receptive_field") == shares(PEAK, 0.8, "max")


def test_the_top_of_a_map_of_64_positions_is_four_of_them():
    maps = torch.arange(64.0).view(1, 1, 8, 8)
    found = paint(maps, maps.amax((2, 3)), "max", "top").flatten()
    assert found.nonzero().flatten().tolist() == [60, 61, 62, 63]
    assert set(found[60:].tolist()) == {0.25}


def test_every_network_paints_by_its_own_pooling():
    assert make_prototypes().network.pooling == "max"
    assert make_prototypes(top_k=3).network.pooling == "top_k"
    assert make_pipnet().network.pooling == "max"
    assert make_module().network.pooling == "mean"
    for activation in ("mean", "max", "positive_mean", "pool_max"):
        assert make_whitening(activation=activation).network.pooling == activation
    assert make_network(bottleneck="logits").proportional
    assert not make_network().proportional
    assert not make_network(bottleneck="logits", head="mlp").proportional


@pytest.mark.parametrize("options", [{}, {"distance": "l2", "activation": "log"}, {"top_k": 3}])
def test_every_prototype_is_painted_most_at_its_match(options):
    network = make_prototypes(**options).network
    torch.manual_seed(3)
    with torch.no_grad():
        units = network.encode(torch.rand(6, 3, *LARGE.image_size))
        painted = network.shares(units).flatten(2)
    match = units.maps.flatten(2).amax(2)
    at_match = painted.gather(2, units.maps.flatten(2).argmax(2, keepdim=True)).squeeze(2)
    torch.testing.assert_close(at_match, painted.amax(2))
    assert bool((at_match > 0).all())
    if options.get("top_k", 1) == 1:
        torch.testing.assert_close(match, units.scores)


def test_an_edited_unit_is_painted_where_it_was_seen():
    network = make_network()
    units = Units(torch.tensor([[2.0, -2.0, 0, 0, 0, 0]]), torch.randn(1, 6, 3, 3))
    found = network.shares(units)
    assert bool((found[0, 0][units.maps[0, 0] < 0] == 0).all())
    assert bool((found[0, 1][units.maps[0, 1] > 0] == 0).all())
