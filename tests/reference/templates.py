"""The filter loss (Zhang et al. 2018), one map, template and position at a time, in float64."""

import math


def templates(height, width, beta, tau):
    """Every positive template in reading order, then the negative one, as lists of h * w numbers."""
    cells = [(y, x) for y in range(height) for x in range(width)]
    size = tau / len(cells)
    made = [[size * max(1 - beta * (abs(y - a) / height + abs(x - b) / width), -1) for y, x in cells] for a, b in cells]
    return [*made, [-size] * len(cells)]


def information(maps, beta=4.0, tau=0.5):
    """Mutual information in nats of the maps of one filter, h x w each, and the templates."""
    every = templates(len(maps[0]), len(maps[0][0]), beta, tau)
    fit = [[sum(t * v for t, v in zip(one, _flat(x), strict=True)) for one in every] for x in maps]
    normal = [sum(math.exp(row[k]) for row in fit) for k in range(len(every))]
    given = [[math.exp(row[k]) / normal[k] for k in range(len(every))] for row in fit]
    prior = 1 / len(every)  # alpha / n of each place, and 1 - alpha of none, with alpha = n / (1 + n)
    total = 0.0
    for row in given:
        anyhow = sum(prior * value for value in row)
        total += sum(prior * value * math.log(value / anyhow) for value in row)
    return total


def target_gradient(maps, own, beta=4.0, tau=0.5):
    """The paper's gradient of the loss, -MI, by every position of every map, with the one template it is to fit."""
    every = templates(len(maps[0]), len(maps[0][0]), beta, tau)
    fit = [[sum(t * v for t, v in zip(one, _flat(x), strict=True)) for one in every] for x in maps]
    normal = [sum(math.exp(row[k]) for row in fit) for k in range(len(every))]
    found = []
    for x, row, mine in zip(maps, fit, own, strict=True):
        flat = _flat(x)
        k = flat.index(max(flat)) if mine else len(every) - 1
        anyhow = sum(math.exp(value) / z / len(every) for value, z in zip(row, normal, strict=True))
        factor = math.exp(row[k]) / normal[k] / len(every) * (row[k] - math.log(normal[k]) - math.log(anyhow))
        found.append([-factor * t for t in every[k]])
    return found


def _flat(grid):
    return [float(value) for row in grid for value in row]
