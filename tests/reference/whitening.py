"""Concept whitening as its paper says it: one image, one position, one window at a time, in float64.

Where a gradient is wanted the values are torch tensors, and autograd differentiates these loops.
"""

import torch

DOUBLE = torch.float64


def positions(x):
    """The vectors of (B, D, h, w) features, image by image in reading order."""
    _, _, height, width = x.shape
    return [image[:, y, z] for image in x.to(DOUBLE) for y in range(height) for z in range(width)]


def statistics(x, groups=1):
    """Mean and, by group, covariance of the positions (divided by their number)."""
    vectors = positions(x)
    mean = sum(vectors) / len(vectors)
    size = len(mean) // groups
    covariances = []
    for k in range(groups):
        part = slice(k * size, (k + 1) * size)
        covariances.append(sum(torch.outer((v - mean)[part], (v - mean)[part]) for v in vectors) / len(vectors))
    return mean, covariances


def shrunk(covariance, shrinkage, eps):
    """(1 - rho) S + (rho tr(S) / C + eps) I."""
    size = len(covariance)
    variance = sum(covariance[i, i] for i in range(size)) / size
    return (1 - shrinkage) * covariance + (shrinkage * variance + eps) * torch.eye(size, dtype=DOUBLE)


def inverse_root(matrix, steps=40):
    """S^(-1/2) by Denman and Beavers: Y, Z <- (Y + Z^-1) / 2, (Z + Y^-1) / 2 from S, I. Autograd can follow."""
    root, inverse = matrix, torch.eye(len(matrix), dtype=matrix.dtype)
    for _ in range(steps):
        root, inverse = (root + torch.linalg.inv(inverse)) / 2, (inverse + torch.linalg.inv(root)) / 2
    return inverse


def affine(mean, covariances, rotation, shrinkage, eps):
    """A and c of z = A x + c: A = R S^(-1/2), c = -A mean."""
    blocks = [inverse_root(shrunk(covariance, shrinkage, eps)) for covariance in covariances]
    matrix = rotation.to(DOUBLE) @ torch.block_diag(*blocks)
    return matrix, -matrix @ mean


def transform(x, matrix, constant):
    """A x + c at every position, as (B, D, h, w)."""
    batch, channels, height, width = x.shape
    vectors = torch.stack([matrix @ v + constant for v in positions(x)])
    return vectors.view(batch, height, width, channels).permute(0, 3, 1, 2)


def whiten(x, rotation, shrinkage, eps, groups=1):
    """What a batch becomes with its own statistics."""
    mean, covariances = statistics(x, groups)
    return transform(x, *affine(mean, covariances, rotation, shrinkage, eps))


def covariance_of(maps):
    """Covariance of the positions of the maps."""
    return statistics(maps)[1][0]


def uncoupled_newton(matrix, iterations=10):
    """P <- 1.5 P - 0.5 P^3 S, from the identity, over the trace: the published iteration, in the matrix's own dtype."""
    trace = matrix.trace()
    root = torch.eye(len(matrix), dtype=matrix.dtype)
    for _ in range(iterations):
        root = 1.5 * root - 0.5 * root @ root @ root @ (matrix / trace)
    return root / trace.sqrt()


def _windows(height, width):
    """The 3 x 3 windows side by side, and what is too small for one as it is."""
    tall, wide = min(3, height), min(3, width)
    return [
        [(y + dy, x + dx) for dy in range(tall) for dx in range(wide)]
        for y in range(0, height - tall + 1, tall)
        for x in range(0, width - wide + 1, wide)
    ]


def weights(values, activation):
    """The positions of one (h, w) map that count, with the weight of each; twice the same adds up."""
    values = values.detach()
    height, width = values.shape
    everywhere = [(y, x) for y in range(height) for x in range(width)]
    if activation == "mean":
        return [(place, 1 / len(everywhere)) for place in everywhere]
    if activation == "max":
        return [(max(everywhere, key=lambda place: float(values[place])), 1.0)]
    if activation == "positive_mean":
        positive = [place for place in everywhere if values[place] > 0]
        return [(place, 1 / (len(positive) + 1e-4)) for place in positive]
    windows = _windows(height, width)
    return [(max(window, key=lambda place: float(values[place])), 1 / len(windows)) for window in windows]


def activation_of(values, activation):
    """The activation of one (h, w) map."""
    return sum((w * values[place] for place, w in weights(values, activation)), torch.zeros((), dtype=values.dtype))


def mean_activation(white, rows, concepts, activation):
    """Sum over concepts j, and the images that have them, of the activation of the axis `rows[j]`.

    Args:
        white: (B, D, h, w) whitened, not rotated.
        rows: (K, D).
        concepts: (B, K) of truth values.
    """
    total = torch.zeros((), dtype=DOUBLE)
    for j, row in enumerate(rows):
        for image, there in zip(white, concepts[:, j], strict=True):
            if there:
                total = total + activation_of(torch.einsum("d,dhw->hw", row, image), activation)
    return total


def true_gradient(white, rotation, concepts, activation):
    """(K, D): of that sum by the first K rows of the rotation, by autograd."""
    rows = rotation[: concepts.shape[1]].clone().requires_grad_()
    return torch.autograd.grad(mean_activation(white, rows, concepts, activation), rows)[0]


def published_gradient(white, rotation, concepts, activation):
    """The published one: component c from where the map of axis c is large, not that of the concept's axis j."""
    count, channels = concepts.shape[1], white.shape[1]
    result = torch.zeros(count, channels, dtype=DOUBLE)
    for j in range(count):
        for image, there in zip(white, concepts[:, j], strict=True):
            maps = torch.einsum("kd,dhw->khw", rotation, image)
            for c in range(channels if there else 0):
                chosen = weights(maps[c], activation)
                result[j, c] += sum(w * image[c][place] for place, w in chosen)
    return result


def cayley(rotation, gradient, t):
    """The point at t of the curve (I + t/2 A)^-1 (I - t/2 A) R, A = G R^T - R G^T, with matrices of full size."""
    full = torch.zeros_like(rotation)
    full[: len(gradient)] = gradient
    skew = full @ rotation.mT - rotation @ full.mT
    eye = torch.eye(len(rotation), dtype=rotation.dtype)
    return torch.linalg.inv(eye + t / 2 * skew) @ (eye - t / 2 * skew) @ rotation


def cayley_slope(rotation, gradient, t):
    """The derivative of <G, Y(t)> along that curve, by a central difference."""
    count, step = len(gradient), 1e-5 * max(t, 1e-3)
    ahead, behind = (float((gradient * cayley(rotation, gradient, s)[:count]).sum()) for s in (t + step, t - step))
    return (ahead - behind) / (2 * step)
