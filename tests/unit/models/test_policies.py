"""Intervention policies and accuracies against loops over images, groups and decode calls."""

import itertools

import pytest
import torch

from ibd.models.cbm import policies
from ibd.models.cbm.finish import ReadSplit
from ibd.models.cbm.group_scores import expected_gain
from ibd.models.cbm.intervention import cached_bottleneck
from ibd.types import DataSpec, groups_of
from tests.model_makers import make_network, random_concepts
from tests.reference import intervention as reference

NETWORKS = {
    "probabilities": {},
    "softmax": {"softmax_groups": ["wing"]},
    "logits": {"bottleneck": "logits"},
    "hard": {"bottleneck": "hard"},
    "mlp": {"head": "mlp", "hidden_units": 5},
}


@pytest.fixture(params=NETWORKS)
def network(request):
    return make_network(**NETWORKS[request.param]).requires_grad_(False)


def read(count=14, unknown=0.2, seed=0):
    generator = torch.Generator().manual_seed(seed + 100)
    scores = 1.5 * torch.randn(count, 6, generator=generator)
    labels = torch.randint(3, (count,), generator=generator)
    return ReadSplit(scores, random_concepts(count, seed=seed, unknown=unknown), labels)


def orders_of(ranks):
    return ranks.argsort(1).tolist()


def test_accuracy_by_budget(network):
    data = read()
    bottleneck = cached_bottleneck(network, data)
    orders = [torch.randperm(3, generator=torch.Generator().manual_seed(i)).tolist() for i in range(14)]
    ranks = torch.tensor(orders).argsort(1)
    assert orders_of(ranks) == orders
    expected = reference.curve(network, *data[:3], orders)
    assert policies.accuracy_by_budget(bottleneck, ranks).tolist() == pytest.approx(expected)


def test_random_orders_differ_between_images_and_seeds_and_can_be_repeated(network):
    bottleneck = cached_bottleneck(network, read(200))
    first, second = policies.random_ranks(bottleneck, 0), policies.random_ranks(bottleneck, 1)
    assert torch.equal(first, policies.random_ranks(bottleneck, 0))
    assert not torch.equal(first, second)
    assert torch.equal(first.sort(1).values, torch.arange(3).expand(200, 3))
    counts = torch.stack([(first == r).sum(0) for r in range(3)])
    assert (counts - 200 / 3).abs().max() < 30  # each group is as often first as last


def test_uncertainty(network):
    data = read()
    expected = [reference.uncertainty_order(network, x) for x in data.scores]
    assert orders_of(policies.uncertainty_ranks(cached_bottleneck(network, data))) == expected


def test_expected_change(network):
    data = read()
    expected = [reference.expected_change_order(network, x, c) for x, c in zip(data.scores, data.concepts, strict=True)]
    assert orders_of(policies.expected_change_ranks(cached_bottleneck(network, data))) == expected


def test_expected_change_of_each_group(network):
    data = read(6)
    bottleneck = cached_bottleneck(network, data)
    for index, group in enumerate(network.unit_groups.values()):
        beliefs, now = bottleneck.beliefs(bottleneck.untold()), network.classify(bottleneck.predicted)
        found = expected_gain(bottleneck, beliefs, now, bottleneck.untold(), bottleneck.images, index)
        expected = [
            reference.expected_change(network, network.activation(x[None])[0], p, group)
            for x, p in zip(data.scores, bottleneck.probability, strict=True)
        ]
        torch.testing.assert_close(found, torch.tensor(expected, dtype=found.dtype), rtol=1e-4, atol=1e-5)


def test_learned_order(network):
    data = read(20)
    bottleneck = cached_bottleneck(network, data)
    order = policies.learned_order(bottleneck)
    assert order == reference.learned_order(network, *data[:3])
    ranks = policies.fixed_ranks(bottleneck, order)
    assert orders_of(ranks) == [order] * 20
    first = policies.accuracy_by_budget(bottleneck, ranks)[1]
    assert float(first) == pytest.approx(reference.best_first_group(network, *data[:3]))


def test_orders_are_nested_by_construction(network):
    """What the head reads at n + 1 groups differs from n in one group of each image."""
    bottleneck = cached_bottleneck(network, read())
    for ranks in (policies.random_ranks(bottleneck, 3), policies.expected_change_ranks(bottleneck)):
        assert torch.equal(ranks.sort(1).values, torch.arange(3).expand(14, 3))
        rank = ranks[:, bottleneck.group_of]
        for before, after in itertools.pairwise(range(4)):
            newly = (rank < after) & ~(rank < before)
            assert all(len({int(bottleneck.group_of[k]) for k in row.nonzero()}) == 1 for row in newly)


def test_unknown_concepts_stay_as_predicted(network):
    data = read(unknown=1.0)
    bottleneck = cached_bottleneck(network, data)
    torch.testing.assert_close(bottleneck.corrected, bottleneck.predicted)
    assert len(set(policies.accuracy_by_budget(bottleneck, policies.uncertainty_ranks(bottleneck)).tolist())) == 1


def test_a_one_tells_the_unknown_rest_of_an_exclusive_group():
    data = read(1)._replace(concepts=torch.tensor([[1, torch.nan, torch.nan, torch.nan, 1, torch.nan]]))
    bottleneck = cached_bottleneck(make_network(), data)
    torch.testing.assert_close(bottleneck.corrected[0, :3], torch.tensor([1.0, 0, 0]))
    assert bottleneck.corrected[0, 3] == bottleneck.predicted[0, 3]  # `size` is not exclusive


def test_with_a_perfect_head_all_policies_end_at_the_same_point():
    """The class is the first concept that holds; every concept is a group, and the predictions are noise."""
    names = tuple("uvw")
    spec = DataSpec(("a", "b", "c"), names, groups_of(names))
    network = make_network(spec).requires_grad_(False)
    network.head.weight.copy_(10 * torch.eye(3))
    network.head.bias.zero_()
    labels = torch.arange(30) % 3
    scores = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    bottleneck = cached_bottleneck(network, ReadSplit(scores, torch.eye(3)[labels], labels))
    ranks = [
        policies.random_ranks(bottleneck, 0),
        policies.uncertainty_ranks(bottleneck),
        policies.expected_change_ranks(bottleneck),
        policies.fixed_ranks(bottleneck, policies.learned_order(bottleneck)),
    ]
    curves = [policies.accuracy_by_budget(bottleneck, rank) for rank in ranks]
    assert all(curve[-1] == 1 for curve in curves)
    assert len({float(curve[0]) for curve in curves}) == 1
    assert curves[0][0] < 0.9
