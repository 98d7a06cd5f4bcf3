"""Faithfulness, robustness and rank correlation of one image at a time, by plain loops."""

import torch


def trapezoid(values, x):
    return sum((a + b) / 2 * (q - p) for a, b, p, q in zip(values, values[1:], x, x[1:], strict=False)) / (x[-1] - x[0])


def removal(score, image, cover, order, groups, steps):
    """Return shares and scores while groups of pixels are covered in an order; `groups` is (H, W) numbers."""
    total = len(order)
    shares, values = [], []
    for step in range(steps + 1):
        count = round(step * total / steps)
        gone = torch.zeros(groups.shape, dtype=torch.bool)
        for number in order[:count]:
            gone |= groups == number
        shares.append(count / total)
        values.append(score(torch.where(gone, cover, image)))
    return shares, values


def pixel_order(heat):
    return sorted(range(heat.numel()), key=lambda i: -float(heat.flatten()[i]))


def region_order(heat, cells):
    """Return the order of cells x cells regions by mean, and the (H, W) numbers of the regions."""
    side = heat.shape[0]
    numbers = torch.tensor(
        [[(y * cells // side) * cells + x * cells // side for x in range(side)] for y in range(side)]
    )
    means = [float(heat[numbers == number].mean()) for number in range(cells * cells)]
    return sorted(range(cells * cells), key=lambda i: -means[i]), numbers


def max_sensitivity(heat, others):
    return max(float((heat - other).norm() / heat.norm()) for other in others)


def ranks(values):
    order = sorted(range(len(values)), key=lambda i: values[i])
    found = [0.0] * len(values)
    for place, i in enumerate(order):
        found[i] = float(place)
    return torch.tensor(found, dtype=torch.float64)


def spearman(a, b):
    """Return the rank correlation of values without ties."""
    return float(torch.corrcoef(torch.stack([ranks(a.flatten().tolist()), ranks(b.flatten().tolist())]))[0, 1])
