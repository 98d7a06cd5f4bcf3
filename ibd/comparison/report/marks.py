"""Which explainers of a table are the best under a metric, and which are not clearly different from the best."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from torch import Tensor

from ibd.comparison.report.differences import differences
from ibd.metrics.functional.bootstrap import Interval

OVER_NOISE = ("Faithfulness", "Parts", "Localization")
"""ComparedImages that a map which knows nothing answers by chance. A map of noise may well be the most stable one."""

Key = tuple[str, str]
"""An explainer and a metric."""


def best_and_tied(
    values: Mapping[Key, Tensor],
    means: Mapping[Key, Interval],
    real: Sequence[str],
    higher: Mapping[str, bool],
    noise: Mapping[str, str],
) -> dict[Key, tuple[bool, bool]]:
    """Return (best, tied with the best) of the explainers that are compared, where there is something to mark.

    Nothing is marked under a metric whose best is no better than noise, and nothing is the best of explainers of which
    none differs clearly from it. The best was picked as the best of all: it is corrected for all pairs of explainers.

    Args:
        values: (M, N) scores.
        means: means of the same.
        real: names of the explainers that are compared.
        higher: metric -> whether higher is better.
        noise: metric -> name of the reference map that stands for noise, where chance is a score to be beaten.
    """
    best = {}
    for metric, upwards in higher.items():
        there = [(name, metric) for name in real if (name, metric) in means]
        if len(there) > 1:
            best[metric] = max(there, key=lambda key: means[key].mean if upwards else -means[key].mean)
    best = _over_noise(best, values, higher, noise)
    keys = [(name, metric) for metric in best for name in real if (name, metric) in means]
    others = [key for key in keys if means[key].mean != means[best[key[1]]].mean]
    count = Counter(metric for _, metric in keys)
    pairs = {metric: k * (k - 1) // 2 for metric, k in count.items()}
    results = differences([(values[k], values[best[k[1]]]) for k in others], [metric for _, metric in others], pairs)
    apart = {key for key, difference in zip(others, results, strict=True) if difference.apart}
    told = {metric for _, metric in apart}
    first = {key for key in keys if key[1] in told and key not in others}
    return {key: (key in first, key not in first and key not in apart) for key in keys}


def _over_noise(
    best: dict[str, Key], values: Mapping[Key, Tensor], higher: Mapping[str, bool], noise: Mapping[str, str]
) -> dict[str, Key]:
    """Return the best of those metrics under which it is better than noise, or noise is not asked for."""
    asked = [m for m, key in best.items() if (n := (noise.get(m, ""), m)) in values and _alike(values, key, n)]
    results = differences([(values[best[m]], values[noise[m], m]) for m in asked], asked)
    poor = {
        m
        for m, difference in zip(asked, results, strict=True)
        if not (difference.apart and _ahead(difference.interval, higher[m]))
    }
    return {metric: key for metric, key in best.items() if metric not in poor}


def _alike(values: Mapping[Key, Tensor], one: Key, other: Key) -> bool:
    return values[one].shape == values[other].shape


def _ahead(interval: Interval, higher: bool) -> bool:
    return (interval.mean > 0) == higher
