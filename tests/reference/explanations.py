"""What explanations score, as the definitions say it: pixel by pixel, order by order of ties, in float64."""

import itertools
import math

import numpy as np


def orders(values):
    """Every order from the highest to the lowest, each as likely as the others; few values only."""
    for order in itertools.permutations(range(len(values))):
        if all(values[a] >= values[b] for a, b in itertools.pairwise(order)):
            yield order


def expected_hits(values, mask, k):
    """Mean over orders of ties of how many of the k highest lie in the mask, from one tied value to the next."""
    hits, left = 0.0, k
    for level in sorted(set(values), reverse=True):
        tied = [inside for value, inside in zip(values, mask, strict=True) if value == level]
        taken = min(left, len(tied))
        hits += taken * sum(tied) / len(tied)
        left -= taken
    return hits


def localization(image, mask):
    """Scores of one map (H, W)."""
    values, inside = [float(v) for v in np.ravel(image)], [bool(m) for m in np.ravel(mask)]
    size = sum(inside)
    positive = [max(0.0, v) for v in values]
    pairs = [(a > b) + (a == b) / 2 for a, i in zip(values, inside, strict=True) if i
             for b, j in zip(values, inside, strict=True) if not j]  # fmt: skip
    hits = expected_hits(values, inside, size)
    total = sum(positive)
    return {
        "mass_accuracy": sum(p for p, i in zip(positive, inside, strict=True) if i) / total if total else math.nan,
        "rank_accuracy": hits / size,
        "pointing_game": expected_hits(values, inside, 1),
        "roc_auc": sum(pairs) / len(pairs) if pairs else math.nan,
        "iou_at_size": hits / (2 * size - hits),
    }


def iou(image, mask, share):
    """IoU of what is above a share of the maximum."""
    above = np.asarray(image) > share * np.max(image)
    return (above & mask).sum() / (above | mask).sum()


def component_boxes(mask):
    """Boxes of the components by flooding, touching corners included; the largest first, then in reading order."""
    height, width = mask.shape
    seen, pieces = np.zeros_like(mask), []
    for start in itertools.product(range(height), range(width)):
        if not mask[start] or seen[start]:
            continue
        piece, edge = [start], [start]
        seen[start] = True
        while edge:
            y, x = edge.pop()
            for v, u in itertools.product((y - 1, y, y + 1), (x - 1, x, x + 1)):
                if 0 <= v < height and 0 <= u < width and mask[v, u] and not seen[v, u]:
                    seen[v, u] = True
                    piece.append((v, u))
                    edge.append((v, u))
        pieces.append(piece)
    boxes = []
    for piece in sorted(pieces, key=len, reverse=True):
        ys, xs = zip(*piece, strict=True)
        boxes.append([min(ys), min(xs), max(ys) + 1, max(xs) + 1])
    return boxes


def box_iou(a, b):
    """IoU of two boxes by counting pixels."""
    one, other = ({(y, x) for y in range(t, d) for x in range(s, r)} for t, s, d, r in (a, b))
    return len(one & other) / len(one | other)


def box_hits(image, mask, share, level=0.5):
    """Share of the boxes of the mask's K pieces that one of the K largest pieces of the map hits, pair by pair."""
    wanted = component_boxes(mask)
    found = component_boxes(image > share * image.max())[: len(wanted)]
    pairs = sorted(((box_iou(f, w), -i, -j) for i, f in enumerate(found) for j, w in enumerate(wanted)), reverse=True)
    taken, hits = set(), 0
    for iou, i, j in pairs:
        if iou >= level and not {("found", i), ("wanted", j)} & taken:
            taken |= {("found", i), ("wanted", j)}
            hits += 1
    return hits / len(wanted)


def shapley(table, parts):
    """Mean over all orders of what a part adds when it joins those before it."""
    phi = [0.0] * parts
    for order in itertools.permutations(range(parts)):
        subset = 0
        for part in order:
            phi[part] += (table[subset | 1 << part] - table[subset]) / math.factorial(parts)
            subset |= 1 << part
    return phi


def minimal(sufficient, parts):
    """Subsets that suffice while no proper subset does."""
    return [
        bool(sufficient[s]) and not any(sufficient[t] for t in range(1 << parts) if t != s and t & s == t)
        for s in range(1 << parts)
    ]


def removal_curve(importance, table):
    """Mean over orders of ties of the value without the first k parts."""
    full = (1 << len(importance)) - 1
    curves = [[table[full - sum(1 << p for p in order[:k])] for k in range(len(order) + 1)]
              for order in orders(importance)]  # fmt: skip
    return np.mean(curves, 0)


def set_scores(importance, sufficient):
    """CSDC, PC and DC of the k most important parts, mean over orders of ties."""
    parts = len(importance)
    sets = [s for s, is_minimal in enumerate(minimal(sufficient, parts)) if is_minimal]
    k = min((s.bit_count() for s in sets), default=0)
    if k == 0:
        return [math.nan] * 3
    scores = []
    for order in orders(importance):
        named = sum(1 << p for p in order[:k])
        scores.append([
            max((named & s).bit_count() / s.bit_count() for s in sets),
            float(sufficient[named]),
            float(not sufficient[(1 << parts) - 1 - named]),
        ])  # fmt: skip
    return np.mean(scores, 0)


def part_importance(image, masks, width):
    """Mean over each part minus mean over background no further than `width` pixels in both directions."""
    union = masks.any(0)
    found = []
    for mask in masks:
        inside = np.argwhere(mask)
        ring = [image[y, x] for y, x in np.argwhere(~union) if any(max(abs(y - v), abs(x - u)) <= width
                for v, u in inside)]  # fmt: skip
        found.append(image[mask].mean() - np.mean(ring) if len(inside) and ring else math.nan)
    return found


def gini(values):
    """Mean absolute difference of pairs, over twice the mean."""
    values = np.abs(np.ravel(values)).astype(float)
    return sum(abs(a - b) for a in values for b in values) / (2 * len(values) ** 2 * values.mean())


def kendall_tau(a, b):
    """Tau-b pair by pair."""
    pairs = [(np.sign(a[i] - a[j]), np.sign(b[i] - b[j])) for i in range(len(a)) for j in range(i)]
    left, right = sum(x != 0 for x, _ in pairs), sum(y != 0 for _, y in pairs)
    return sum(x * y for x, y in pairs) / math.sqrt(left * right) if left and right else math.nan


def mutual_information(a, b):
    """In nats, of two lists of codes."""
    n, found = len(a), 0.0
    for x, y in itertools.product(set(a), set(b)):
        both = sum(p == x and q == y for p, q in zip(a, b, strict=True)) / n
        if both:
            found += both * math.log(both / (list(a).count(x) / n) / (list(b).count(y) / n))
    return found
