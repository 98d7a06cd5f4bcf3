"""Prototype networks as their papers say them: one image, one prototype, one position at a time, in float64."""

import math

import numpy as np

EPSILON = 1e-4


def patches(features, extent=1):
    """The patches of one (D, h, w) feature map in reading order, each flat as (channel, row, column)."""
    features = np.asarray(features, dtype=float)
    _, height, width = features.shape
    return [
        features[:, y : y + extent, x : x + extent].reshape(-1)
        for y in range(height - extent + 1)
        for x in range(width - extent + 1)
    ]


def distance(patch, prototype, kind="l2"):
    """Squared L2, or 1 - cosine."""
    patch, prototype = np.asarray(patch, dtype=float), np.asarray(prototype, dtype=float)
    if kind == "l2":
        return sum((a - b) ** 2 for a, b in zip(patch, prototype, strict=True))
    dot = sum(a * b for a, b in zip(patch, prototype, strict=True))
    return 1 - dot / math.sqrt(sum(a * a for a in patch) * sum(b * b for b in prototype))


def similarity(d, activation, kind="l2"):
    """How alike a patch and a prototype at distance d are."""
    if activation == "log":
        return math.log((d + 1) / (d + EPSILON))
    if activation == "exponential":
        return math.exp(-d)
    return 1 - d if kind == "cosine" else -d


def nearest(features, prototype, kind="l2", extent=1):
    """(distance, position) of every patch of one image, nearest first, among equals the first position."""
    return sorted((distance(z, prototype, kind), i) for i, z in enumerate(patches(features, extent)))


def cluster(distances, labels, classes, active):
    """Mean over images of the distance to the nearest prototype of their class, of those that are not pruned."""
    return _mean(distances, labels, classes, active, lambda own: own)


def separation(distances, labels, classes, active):
    """Mean over images of the distance to the nearest prototype of any other class."""
    return _mean(distances, labels, classes, active, lambda own: not own)


def _mean(distances, labels, classes, active, wanted):
    found = []
    for row, label in zip(distances, labels, strict=True):
        near = [float(d) for d, c, on in zip(row, classes, active, strict=True) if on and wanted(int(c) == int(label))]
        if near:
            found.append(min(near))
    return sum(found) / len(found) if found else 0.0


def orthogonality(prototypes, classes, active):
    """Mean over classes of the squares of (Gram matrix of the directions of a class's prototypes) - identity."""
    prototypes = np.asarray(prototypes, dtype=float)
    total = 0.0
    for c in sorted(set(map(int, classes))):
        members = [p for p, owner, on in zip(prototypes, classes, active, strict=True) if owner == c and on]
        for i, p in enumerate(members):
            for j, q in enumerate(members):
                total += (1 - distance(p, q, "cosine") - (i == j)) ** 2
    return total / len(set(map(int, classes)))


def objective(x, labels, weight, start, own, l1, ridge):
    """Cross-entropy + l1 * |W off the own classes|_1 + ridge / 2 * |W - W0|^2."""
    logits = x @ weight.T
    top = logits.max(1, keepdims=True)
    log_sum = top[:, 0] + np.log(np.exp(logits - top).sum(1))
    fit = (log_sum - logits[np.arange(len(x)), labels]).mean()
    return fit + l1 * np.abs(weight[~own]).sum() + ridge / 2 * ((weight - start) ** 2).sum()


def last_layer(x, labels, start, own, kept, l1, ridge, steps=20000):
    """Proximal gradient descent, without momentum, until nothing moves."""
    x, start = np.asarray(x, dtype=float) * np.asarray(kept), np.asarray(start, dtype=float) * np.asarray(kept)
    labels, own = np.asarray(labels), np.asarray(own)
    step = 1 / (0.5 * np.linalg.eigvalsh(x.T @ x / len(x))[-1] + ridge)
    target = np.eye(len(start))[labels]
    weight = start.copy()
    for _ in range(steps):
        logits = x @ weight.T
        p = np.exp(logits - logits.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
        moved = weight - step * ((p - target).T @ x / len(x) + ridge * (weight - start))
        shrunk = np.sign(moved) * np.maximum(np.abs(moved) - step * l1 * ~own, 0)
        if np.abs(shrunk - weight).max() < 1e-13:
            break
        weight = shrunk
    return weight, objective(x, labels, weight, start, own, l1, ridge)


def push(features, labels, prototypes, classes, kind="l2", extent=1):
    """(image, position, distance, patch) of the nearest patch of the class of every prototype."""
    features = np.asarray(features, dtype=float)
    result = []
    for prototype, c in zip(prototypes, classes, strict=True):
        own = [i for i in range(len(features)) if int(labels[i]) == int(c)]
        d, image, position = min((d, i, at) for i in own for d, at in nearest(features[i], prototype, kind, extent))
        result.append((image, position, d, patches(features[image], extent)[position]))
    return result


def kept(features, labels, prototypes, classes, k, threshold, kind="l2", extent=1):
    """Whether enough of the k nearest patches, one of each image, are of the prototype's class."""
    result = []
    for prototype, c in zip(prototypes, classes, strict=True):
        near = sorted((nearest(f, prototype, kind, extent)[0][0], i) for i, f in enumerate(features))[:k]
        result.append(sum(int(labels[i]) == int(c) for _, i in near) >= threshold)
    return result
