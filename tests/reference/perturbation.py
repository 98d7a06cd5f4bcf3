"""Occlusion and RISE by loops over windows, masks and pixels, in float64."""

import math

import torch


def occlusion(score, image, window, stride, cover):
    """Return the (H, W) map of one (C, H, W) image; `score` takes (1, C, H, W) and returns a number."""
    _, height, width = image.shape
    lost = torch.zeros(height, width, dtype=torch.float64)
    count = torch.zeros(height, width, dtype=torch.float64)
    tops = [*list(range(0, height - window, stride)), height - window]
    lefts = [*list(range(0, width - window, stride)), width - window]
    clean = score(image[None])
    for top in tops:
        for left in lefts:
            covered = image.clone()
            covered[:, top : top + window, left : left + window] = cover[:, top : top + window, left : left + window]
            lost[top : top + window, left : left + window] += clean - score(covered[None])
            count[top : top + window, left : left + window] += 1
    return lost / count


def rise_mask(grid, shift, size):
    """Return an (H, W) mask: each pixel interpolates between the four nearest cells of the enlarged grid."""
    cells = len(grid)
    scale = [(cells + 1) * math.ceil(side / cells) / cells for side in size]
    mask = torch.zeros(size, dtype=torch.float64)
    for row in range(size[0]):
        for column in range(size[1]):
            at = [max((p + s + 0.5) / k - 0.5, 0) for p, s, k in zip((row, column), shift, scale, strict=True)]
            low = [min(int(a), cells - 1) for a in at]
            high = [min(a + 1, cells - 1) for a in low]
            y, x = at[0] - low[0], at[1] - low[1]
            mask[row, column] = (
                (1 - y) * (1 - x) * grid[low[0], low[1]]
                + (1 - y) * x * grid[low[0], high[1]]
                + y * (1 - x) * grid[high[0], low[1]]
                + y * x * grid[high[0], high[1]]
            )
    return mask


def rise(score, image, masks, keep, cover):
    """Return the (H, W) map of one image: sum of score times mask over N * keep."""
    total = torch.zeros(image.shape[1:], dtype=torch.float64)
    for mask in masks:
        total += score((mask * image + (1 - mask) * cover)[None]) * mask
    return total / (len(masks) * keep)
