"""Prototype metrics as their papers say them: one image, one prototype and one part at a time, in float64."""

import math

import numpy as np


def cubic_line(values, pixels):
    """Bicubic interpolation (Keys 1981, A = -0.75) of one line, pixel centers aligned, its ends repeated."""
    a, cells = -0.75, len(values)
    result = []
    for pixel in range(pixels):
        at = (pixel + 0.5) * cells / pixels - 0.5
        total = 0.0
        for cell in range(math.floor(at) - 1, math.floor(at) + 3):
            d = abs(at - cell)
            if d <= 1:
                weight = (a + 2) * d**3 - (a + 3) * d**2 + 1
            else:
                weight = a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
            total += weight * values[min(max(cell, 0), cells - 1)]
        result.append(total)
    return result


def linear_line(values, pixels):
    """Linear interpolation of one line, pixel centers aligned, its ends repeated."""
    cells = len(values)
    result = []
    for pixel in range(pixels):
        at = min(max((pixel + 0.5) * cells / pixels - 0.5, 0), cells - 1)
        low = min(int(at), cells - 2) if cells > 1 else 0
        high = min(low + 1, cells - 1)
        result.append((1 - (at - low)) * values[low] + (at - low) * values[high])
    return result


def upsample(grid, size, line):
    """Both axes, one after the other."""
    rows = [line(row, size[1]) for row in np.asarray(grid, dtype=float)]
    return np.array([line(column, size[0]) for column in np.array(rows).T]).T


def peak(grid, size):
    """(y, x) of the first pixel in reading order that is highest to 1e-6 of the map's range; None for a flat map."""
    grid = np.asarray(grid, dtype=float)
    if not grid.max() > grid.min():
        return None
    image = upsample(grid, size, cubic_line)
    bar = image.max() - 1e-6 * (image.max() - image.min())
    return next((y, x) for y in range(size[0]) for x in range(size[1]) if image[y, x] >= bar)


def center(mask):
    """Center of mass of a mask; None if it is empty."""
    pixels = [(y, x) for y in range(len(mask)) for x in range(len(mask[0])) if mask[y][x]]
    return tuple(np.mean(pixels, axis=0)) if pixels else None


def hit(at, part, half, size):
    """Is the part's center in the box around the peak, clipped to the image?"""
    if at is None or part is None:
        return False
    low = [max(a - half, 0) for a in at]
    high = [min(a + half, s - 1) for a, s in zip(at, size, strict=True)]
    return all(lo <= p <= hi for lo, p, hi in zip(low, part, high, strict=True))


def best_share(images, u, hits, visible):
    """Over parts, the largest share of the images with the part visible in which prototype u hits it."""
    shares = []
    for p in range(len(visible[0])):
        seen = [i for i in images if visible[i][p]]
        if seen:
            shares.append(sum(bool(hits[i][u][p]) for i in seen) / len(seen))
    return max(shares) if shares else math.nan


def consistency(hits, visible, own, threshold=0.8):
    """Share of the prototypes with evidence that are consistent."""
    best = [best_share([i for i in range(len(own)) if own[i][u]], u, hits, visible) for u in range(len(own[0]))]
    known = [b for b in best if not math.isnan(b)]
    return sum(b >= threshold for b in known) / len(known) if known else math.nan


def stability(hits, noisy, own):
    """Mean over prototypes of the share of own images with the same part vector."""
    values = []
    for u in range(len(own[0])):
        images = [i for i in range(len(own)) if own[i][u]]
        if images:
            values.append(sum(list(hits[i][u]) == list(noisy[i][u]) for i in images) / len(images))
    return float(np.mean(values)) if values else math.nan


def purity(scores, hits, visible, index, top=10):
    """Purity of each prototype; every index counts once, with its highest score, ties by the smaller index."""
    result = []
    for u in range(len(scores[0])):
        best = {}
        for i in range(len(scores)):
            if index[i] >= 0 and (index[i] not in best or scores[i][u] > scores[best[index[i]]][u]):
                best[index[i]] = i
        order = sorted(best.values(), key=lambda i: (-scores[i][u], index[i]))
        result.append(best_share(order[:top], u, hits, visible))
    return result


def pointing(peaks, masks, own):
    """Share of (image, own prototype) pairs whose peak lies in a mask; `peaks` has None for a map without a peak."""
    points, pairs = 0, 0
    for i in range(len(own)):
        union = np.any(masks[i], axis=0)
        for u in range(len(own[0])):
            if own[i][u] and peaks[i][u] is not None and union.any():
                points += bool(union[peaks[i][u]])
                pairs += 1
    return points / pairs if pairs else math.nan


def energy(grid, masks):
    """Share of a map's energy, upsampled bilinearly, that lies in a mask."""
    union = np.any(masks, axis=0)
    image = upsample(np.maximum(grid, 0), union.shape, linear_line)
    return image[union].sum() / image.sum() if union.any() and image.sum() > 0 else math.nan


def explanation_size(contributions, label, share=0.95):
    """Number of prototypes, largest first, that reach the share for one image (U, C)."""
    size = sorted((abs(float(row[label])) for row in contributions), reverse=True)
    if sum(size) == 0:
        return math.nan
    return next(n for n in range(1, len(size) + 1) if sum(size[:n]) >= share * sum(size) * (1 - 1e-6))


def instability(peaks, centers, own, diagonal):
    """Of each filter the mean over parts of the deviation of the distance; None without evidence."""
    found = []
    for u in range(len(own[0])):
        deviations = []
        for p in range(len(centers[0])):
            pairs = [(peaks[i][u], centers[i][p]) for i in range(len(own)) if own[i][u]]
            far = [math.dist(a, b) / diagonal for a, b in pairs if not any(map(math.isnan, [*a, *b]))]
            if len(far) > 1:
                mean = sum(far) / len(far)
                deviations.append(math.sqrt(sum((d - mean) ** 2 for d in far) / (len(far) - 1)))
        found.append(sum(deviations) / len(deviations) if deviations else None)
    return found
