"""Concept losses, ratios and metrics as their papers say them: one number at a time, in float64."""

import math

import numpy as np


def imbalance_ratio(concepts):
    """N / n1 - 1 of each concept (dataset.py of Koh et al. 2020), N counting the known; 1 where n1 is 0 or N."""
    ratios = []
    for column in np.asarray(concepts, dtype=float).T:
        known = [c for c in column if not math.isnan(c)]
        positive = sum(1 for c in known if c > 0.5)
        ratios.append(1.0 if positive in (0, len(known)) else len(known) / positive - 1)
    return ratios


def concept_loss(logits, concepts, ratio, imbalance="none", softmax_groups=()):
    """Sum over concepts and images of the known cross-entropies, times K / (known pairs)."""
    logits, concepts, ratio = (np.asarray(x, dtype=float) for x in (logits, concepts, ratio))
    in_softmax = {k for group in softmax_groups for k in group}
    total, known = 0.0, 0
    for row, truth in zip(logits, concepts, strict=True):
        for k, (x, c) in enumerate(zip(row, truth, strict=True)):
            if k in in_softmax or math.isnan(c):
                continue
            p = 1 / (1 + math.exp(-x))
            positive, negative = -c * math.log(p), -(1 - c) * math.log(1 - p)
            if imbalance == "concept":
                positive, negative = ratio[k] * positive, ratio[k] * negative
            elif imbalance == "pos_weight":
                positive = ratio[k] * positive
            total += positive + negative
            known += 1
        for group in softmax_groups:
            told = [truth[k] for k in group]
            if 1.0 in told:
                told = [0.0 if math.isnan(t) else t for t in told]
            if any(math.isnan(t) for t in told):
                continue
            partition = 1 + sum(math.exp(row[k]) for k in group)
            total -= sum(t * math.log(math.exp(row[k]) / partition) for k, t in zip(group, told, strict=True))
            total -= (1 - sum(told)) * math.log(1 / partition)
            known += len(group)
    return total * logits.shape[1] / known if known else 0.0


def joint_loss(task, concept_losses, weight, normalize):
    """train.py of Koh et al. 2020: the class loss and each concept's, weighted; over the sum of the weights."""
    losses = [task, *(weight * loss for loss in concept_losses)]
    return sum(losses) / (1 + weight * len(concept_losses)) if normalize else sum(losses)


def probabilities(logits, softmax_groups=()):
    """Sigmoids; in a softmax group exp(x) / (1 + sum of exp)."""
    logits = np.asarray(logits, dtype=float)
    result = 1 / (1 + np.exp(-logits))
    for group in softmax_groups:
        for row in range(len(logits)):
            partition = 1 + sum(math.exp(logits[row, k]) for k in group)
            for k in group:
                result[row, k] = math.exp(logits[row, k]) / partition
    return result


def auroc(score, target):
    """The share of (positive, negative) pairs in the right order, a tie counting half; NaN without such a pair."""
    pairs = [(s, t) for s, t in zip(score, target, strict=True) if not math.isnan(t)]
    positive = [s for s, t in pairs if t > 0.5]
    negative = [s for s, t in pairs if t <= 0.5]
    if not positive or not negative:
        return math.nan
    won = sum(1.0 if p > n else 0.5 if p == n else 0.0 for p in positive for n in negative)
    return won / (len(positive) * len(negative))
