"""Intervention policies and curves, one image, one group and one decode at a time."""

import itertools
import math

import torch


def decode(network, scores):
    """Class logits of one image's concept logits."""
    return network.classify(network.activation(scores[None]))[0]


def correct(network, scores, truth, groups):
    """The concept logits of one image with the known concepts of `groups` corrected."""
    truth = truth.clone()
    for group in network.exclusive_groups:  # a 1 tells the others
        if any(truth[k] == 1 for k in group):
            truth[group] = truth[group].nan_to_num(0.0)
    indices = [k for group in groups for k in group]
    known = torch.zeros_like(truth, dtype=torch.bool)
    known[indices] = ~truth[indices].isnan()
    return network.truth_logits(scores[None], truth[None].nan_to_num(0.0), known[None])[0]


def curve(network, scores, truth, labels, orders):
    """Accuracy at every budget, given each image's order of groups."""
    groups = list(network.unit_groups.values())
    result = []
    for budget in range(len(groups) + 1):
        right = 0
        for x, c, y, order in zip(scores, truth, labels, orders, strict=True):
            edited = correct(network, x, c, [groups[g] for g in order[:budget]])
            right += int(decode(network, edited).argmax()) == int(y)
        result.append(right / len(scores))
    return result


def uncertainty_order(network, scores):
    """The groups of one image by the sum of their concepts' entropies."""
    p = network.probabilities(scores[None])[0].double()
    entropy = [-(q * math.log(q) + (1 - q) * math.log(1 - q)) for q in p.tolist()]
    groups = list(network.unit_groups.values())
    return sorted(range(len(groups)), key=lambda g: -sum(entropy[k] for k in groups[g]))


def kl(first, second):
    """Kullback-Leibler divergence between the class probabilities of two rows of logits."""
    p, q = first.double().softmax(0), second.double().softmax(0)
    return sum(float(a) * math.log(float(a) / float(b)) for a, b in zip(p, q, strict=True))


def expected_change(network, reads, probability, group):
    """Expected change of one image's prediction from correcting a group; `reads` is what the head reads now."""
    if network.bottleneck == "logits":
        absent, present = network.low, network.high
    else:
        absent, present = torch.zeros_like(reads), torch.ones_like(reads)
    now = network.classify(reads)

    def changed(edits):
        edited = reads.clone()
        for k, holds in edits.items():
            edited[k] = present[k] if holds else absent[k]
        return kl(network.classify(edited), now)

    p = {k: float(probability[k]) for k in group}
    if list(group) in network.exclusive_groups and len(group) > 1:
        scale = max(1.0, sum(p.values()))
        holds = sum(p[k] / scale * changed({j: j == k for j in group}) for k in group)
        return holds + max(0.0, 1 - sum(p.values())) * changed(dict.fromkeys(group, False))
    return sum(p[k] * changed({k: True}) + (1 - p[k]) * changed({k: False}) for k in group) / len(group)


def expected_change_order(network, scores, truth):
    """The groups of one image, each time the one of the largest expected change, after the corrections so far."""
    groups = list(network.unit_groups.values())
    probability = network.probabilities(scores[None])[0]
    order = []
    while len(order) < len(groups):
        edited = correct(network, scores, truth, [groups[g] for g in order])
        reads = network.activation(edited[None])[0]
        left = [g for g in range(len(groups)) if g not in order]
        order.append(max(left, key=lambda g: expected_change(network, reads, probability, groups[g])))
    return order


def learned_order(network, scores, truth, labels):
    """The greedy order: next the group that gives the highest accuracy, among equals the lowest loss."""
    groups = list(network.unit_groups.values())
    order = []
    while len(order) < len(groups):
        ranked = []
        for g in range(len(groups)):
            if g in order:
                continue
            logits = [
                decode(network, correct(network, x, c, [groups[i] for i in [*order, g]]))
                for x, c in zip(scores, truth, strict=True)
            ]
            right = sum(int(row.argmax()) == int(y) for row, y in zip(logits, labels, strict=True))
            loss = sum(float(-row.double().log_softmax(0)[y]) for row, y in zip(logits, labels, strict=True))
            ranked.append((-right, loss, g))
        order.append(min(ranked)[2])
    return order


def best_first_group(network, scores, truth, labels):
    """The first group of the best of all orders by accuracy after one correction (a check of the greedy start)."""
    groups = list(network.unit_groups.values())
    orders = itertools.permutations(range(len(groups)))
    return max(curve(network, scores, truth, labels, [list(o)] * len(scores))[1] for o in orders)
