"""The curve and the policies of dependent concepts, against one image, one group and one edit at a time."""

import torch

from ibd.models.cbm import policies
from ibd.models.cbm.finish import ReadSplit
from ibd.models.cbm.intervention import cached_bottleneck
from tests.model_makers import make_stochastic, random_concepts
from tests.reference import intervention as reference

GROUPS = [[0, 1, 2], [3, 4], [5]]


def split(network, count=8, unknown=0.2):
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        units = network.encode(torch.rand(count, 3, 16, 16, generator=generator))
    labels = torch.randint(3, (count,), generator=generator)
    return units, ReadSplit(units.scores, random_concepts(count, unknown=unknown), labels, units.state)


def told(network, units, concepts, row, groups):
    """The units of one image after its groups were corrected, by `edit`, a concept at a time."""
    one, truth = units[row : row + 1], concepts[row].clone()
    if bool((truth[:3] == 1).any()):
        truth[:3] = truth[:3].nan_to_num(0.0)
    for group in groups:
        for k in GROUPS[group]:
            if not truth[k].isnan():
                one = network.edit(one, {k: float(truth[k])})
    return one


def test_the_curve_is_that_of_edits_one_by_one():
    network = make_stochastic(covariance="amortized")
    units, read = split(network)
    bottleneck = cached_bottleneck(network, read)
    ranks = policies.random_ranks(bottleneck, 0)
    right = policies.right_by_budget(bottleneck, ranks)
    for row, order in enumerate(ranks.argsort(1).tolist()):
        for budget in range(4):
            logits = network.decode(told(network, units, read.concepts, row, order[:budget]))
            assert bool(right[budget, row]) == (int(logits.argmax()) == int(read.labels[row]))


def greedy(network, units, read, score):
    """The order of each image by a score of (its units now, group)."""
    orders = []
    for row in range(len(read.labels)):
        order = []
        while len(order) < 3:
            now = told(network, units, read.concepts, row, order)
            left = [g for g in range(3) if g not in order]
            order.append(max(left, key=lambda g: score(now, g)))
        orders.append(order)
    return orders


def ordered(ranks):
    return ranks.argsort(1).tolist()


def outcomes(network, now, group):
    """What correcting a group may turn out to be: the units then, and how likely."""
    p = network.readable(now)[0]
    if group == 0:
        total = max(1.0, float(p[:3].sum()))
        for k in GROUPS[0]:
            yield network.edit(now, {j: float(j == k) for j in GROUPS[0]}), float(p[k]) / total
        yield network.edit(now, dict.fromkeys(GROUPS[0], 0.0)), max(0.0, 1 - float(p[:3].sum()))
        return
    for k in GROUPS[group]:
        for truth, share in ((1.0, float(p[k])), (0.0, 1 - float(p[k]))):
            yield network.edit(now, {k: truth}), share / len(GROUPS[group])


def test_expected_change_and_certainty():
    network = make_stochastic(seed=2)
    units, read = split(network, 5, unknown=0.0)
    bottleneck = cached_bottleneck(network, read)

    def change(now, group):
        before = network.decode(now)[0]
        return sum(w * reference.kl(network.decode(then)[0], before) for then, w in outcomes(network, now, group))

    def certainty(now, group):
        def negentropy(logits):
            logs = logits.double().log_softmax(0)
            return float((logs.exp() * logs).sum())

        return sum(w * negentropy(network.decode(then)[0]) for then, w in outcomes(network, now, group))

    assert ordered(policies.expected_change_ranks(bottleneck)) == greedy(network, units, read, change)
    assert ordered(policies.expected_certainty_ranks(bottleneck)) == greedy(network, units, read, certainty)


def test_uncertainty_error_and_contribution_are_those_of_now():
    network = make_stochastic(seed=1)
    units, read = split(network, unknown=0.0)
    bottleneck = cached_bottleneck(network, read)
    weight = network.head.weight.abs().sum(0)

    def entropy(now, group):
        p = network.readable(now)[0].double().clamp(1e-12, 1 - 1e-12)[GROUPS[group]]
        return float(-(p * p.log() + (1 - p) * (1 - p).log()).sum())

    def carried(now, group):
        return float((network.readable(now)[0] * weight)[GROUPS[group]].sum())

    assert ordered(policies.uncertainty_ranks(bottleneck)) == greedy(network, units, read, entropy)
    assert ordered(policies.contribution_ranks(bottleneck)) == greedy(network, units, read, carried)
    first = policies.concept_error_ranks(bottleneck).argmin(1).tolist()
    for row, group in enumerate(first):
        apart = (network.readable(units)[row] - read.concepts[row]).abs()
        assert group == max(range(3), key=lambda g: float(apart[GROUPS[g]].sum()))


def test_variance_is_taken_where_concepts_depend_on_each_other():
    """Flies tells size::big and size::loud, all as uncertain; wing tells nothing and is as good as certain."""
    network = make_stochastic(placement="percentile")
    network.concepts.weight.zero_()
    network.concepts.bias.copy_(torch.tensor([-9.0, -9, -9, 0, 0, 0]))
    matrix = torch.eye(6)
    matrix[3:, 3:] = torch.tensor([[1.0, 0.1, 0.9], [0.1, 1.0, 0.4], [0.9, 0.4, 1.0]])
    network.covariance.set_matrix(matrix)
    _, read = split(network, 2, unknown=0.0)
    ranks = policies.variance_ranks(cached_bottleneck(network, read))
    assert ranks.argsort(1).tolist() == [[1, 2, 0]] * 2  # both sizes: two whole variances, and most of that of flies
    network.covariance.set_matrix(torch.diag(torch.tensor([1.0, 1, 1, 0.2, 0.2, 1])))
    ranks = policies.variance_ranks(cached_bottleneck(network, read))
    assert ranks.argsort(1).tolist() == [[2, 1, 0]] * 2
