"""Slow, plain re-implementations of the CAM family and the gradient methods, in float64 and with loops."""

import math

import torch


def positions(maps):
    return [(i, j) for i in range(maps.shape[-2]) for j in range(maps.shape[-1])]


def combine(weights, activations):
    """``sum_c w_c A_c`` of one image: (C,), (C, h, w) -> (h, w)."""
    result = torch.zeros(activations.shape[1:], dtype=torch.float64)
    for channel, weight in enumerate(weights):
        for i, j in positions(activations):
            result[i, j] += float(weight) * float(activations[channel, i, j])
    return result


def gradcam(a, g):
    return combine([sum(float(g[c, i, j]) for i, j in positions(a)) / len(positions(a)) for c in range(len(a))], a)


def hirescam(a, g):
    result = torch.zeros(a.shape[1:], dtype=torch.float64)
    for c in range(len(a)):
        for i, j in positions(a):
            result[i, j] += float(g[c, i, j]) * float(a[c, i, j])
    return result


def layercam(a, g):
    return hirescam(a, g.clamp(min=0))


def gradcam_plus_plus(a, g):
    weights = []
    for c in range(len(a)):
        total, weight = sum(float(a[c, i, j]) for i, j in positions(a)), 0.0
        for i, j in positions(a):
            each = float(g[c, i, j])
            below = 2 * each**2 + total * each**3
            weight += (each**2 / below if below else 0.0) * max(each, 0.0)
        weights.append(weight)
    return combine(weights, a)


def xgradcam(a, g):
    weights = []
    for c in range(len(a)):
        total = sum(float(a[c, i, j]) for i, j in positions(a))
        weights.append(sum(float(g[c, i, j]) * float(a[c, i, j]) for i, j in positions(a)) / total if total else 0.0)
    return combine(weights, a)


def eigencam(a):
    """By a singular value decomposition, with the sign that agrees with ``sum_c |A_c|``."""
    cells = torch.stack([a[:, i, j] for i, j in positions(a)]).double()
    centered = cells - cells.mean(0)
    _, _, directions = torch.linalg.svd(centered)
    found, strength = centered @ directions[0], cells.abs().sum(1)
    if float((found * (strength - strength.mean())).sum()) < 0:
        found = -found
    return found.view(a.shape[1:])


def ablationcam(a, head):
    """`head` maps (C, h, w) to the score; relative to the size of the score."""
    score, weights = float(head(a)), []
    for c in range(len(a)):
        without = a.clone()
        without[c] = 0
        weights.append((score - float(head(without))) / abs(score))
    return combine(weights, a)


def scorecam(a, image, model):
    """`model` maps (3, H, W) to the score."""
    scores = []
    for channel in a:
        mask = torch.nn.functional.interpolate(channel[None, None], image.shape[1:], mode="bilinear")[0, 0]
        low, high = float(mask.min()), float(mask.max())
        mask = (mask - low) / (high - low) if high > low else torch.zeros_like(mask)
        scores.append(float(model(image * mask)))
    largest = max(scores)
    total = sum(math.exp(score - largest) for score in scores)
    return combine([math.exp(score - largest) / total for score in scores], a)


def integrated_gradients(x, gradient, steps):
    """By the midpoint rule from black: an independent quadrature."""
    total = torch.zeros_like(x)
    for step in range(steps):
        total += gradient((step + 0.5) / steps * x) / steps
    return x * total
