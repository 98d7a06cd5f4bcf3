"""Which channels of a layer together stand for a concept: weights over filters that segment it (Net2Vec).

After Fong and Vedaldi (2018): a concept's mask is predicted as ``sigmoid(sum_k w_k [A_k > T_k] + b)``, where A_k is the
map of a channel, brought to the image, and T_k its threshold; the weights make the cross-entropy over pixels least, in
which the concept's pixels count as much more as they are rarer. With few channels, the most important of all are taken
and fitted anew. It differs from the paper in three things. There is an offset b. The mask is what is above the level at
which the IoU is best on the images that are fitted on, and not above one half. The most important channels are those of
the largest |weight| times standard deviation, since a large weight against a concept alone would segment nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ibd.data.masked import MaskedImages
from ibd.distributed import progress
from ibd.errors import ConfigError, check_range
from ibd.explain.base import undisturbed
from ibd.explain.dissection.counts import Combinations
from ibd.explain.dissection.dissect import ordered_pairs
from ibd.explain.dissection.found import Dissection, LayerDissection
from ibd.explain.dissection.regions import Regions
from ibd.explain.layouts import Layout
from ibd.metrics.functional.checks import ratio

_MOST_VALUES = 2**24
"""Predictions of pixels at a time."""
_STRENGTH = 1.0
"""C of scikit-learn: the loss is summed over the pixels that are drawn, with weights of mean 1."""


@dataclass(frozen=True)
class ConceptWeights:
    """How well channels of a layer segment C concepts, scored on images that nothing was fitted on.

    Attributes:
        layer: name of the layer.
        names: the C concepts.
        filters: numbers F of channels; the last is that of all.
        weights: (F, C, U) of the channels; 0 of those left out.
        levels: (F, C) of what the sum of weights must be above, the offset taken in.
        iou: (F, C) IoU on unseen images; NaN of a concept that they, or those fitted on, do not have.
        chance: (F, C) the same with the masks of another image.
        single: (C,) IoU of the one channel that is best on the images fitted on, at its own threshold; as dissection.
        single_channel: (C,) number of that channel.
    """

    layer: str
    names: tuple[str, ...]
    filters: tuple[int, ...]
    weights: Tensor
    levels: Tensor
    iou: Tensor
    chance: Tensor
    single: Tensor
    single_channel: Tensor

    def table(self) -> str:
        """Return a line for each concept."""
        wide = max(map(len, self.names))
        heads = "  ".join(f"{_of(count, self.filters):>8}" for count in self.filters)
        lines = [f"{'concept':<{wide}}  {'one filter':>10}  {heads}  {'chance':>6}"]
        for c, name in enumerate(self.names):
            values = "  ".join(f"{value:>8.3f}" for value in self.iou[:, c].tolist())
            lines.append(f"{name:<{wide}}  {float(self.single[c]):>10.3f}  {values}  {float(self.chance[-1, c]):>6.3f}")
        return "\n".join(lines)

    def __str__(self) -> str:
        """Return the table."""
        return self.table()


def net2vec(
    model: nn.Module,
    found: Dissection,
    fitted: MaskedImages,
    unseen: MaskedImages,
    layer: str,
    filters: Sequence[int] = (1, 2, 3),
    pixels: int = 128,
    seed: int = 0,
    layout: Layout = "auto",
) -> ConceptWeights:
    """Return weights over the channels of a layer for each concept, and how well they segment it.

    A pass over the images that are fitted on, and one over the others. Of each of the first, pixels are drawn: half of
    those that have a concept, half of the others, weighted by what they stand for.

    Args:
        model: ours, or any of (B, 3, H, W) images in [0, 1]; it is left as it was.
        found: dissection of the layer, from the same images.
        fitted: images that weights are fitted on.
        unseen: images that they are scored on.
        layer: name of the layer.
        filters: numbers of channels, beside all.
        pixels: pixels that are drawn of each image.
        seed: seed of these.
        layout: axis of the layer's output that holds the channels.

    Raises:
        ConfigError: the layer was not dissected, or no such number of channels.
    """
    known = {each.layer: each for each in found.layers}
    if layer not in known:
        raise ConfigError(f"net2vec: layer '{layer}' was not dissected; there are {', '.join(known)}")
    check_range("pixels", pixels, least=2)
    for count in filters:
        check_range("filters", count, least=1)
    dissected = known[layer]
    counts = (*sorted({count for count in filters if count < len(dissected)}), len(dissected))
    with undisturbed(model), torch.no_grad():
        regions = Regions(model, [layer], layout)
        rows = _drawn(regions, dissected, fitted, pixels, seed)
        weights, levels = _fitted(rows, counts, len(dissected), found.names)
        iou, chance = _scored(regions, dissected, unseen, weights, levels)
    best = dissected.fitted.iou().nan_to_num(-1.0).argmax(0)
    learned = levels[-1].isfinite() & (dissected.unseen.area() > 0)
    iou, chance = (values.where(learned, torch.nan) for values in (iou, chance))
    single = dissected.iou.gather(0, best.unsqueeze(0))[0].where(learned, torch.nan)
    return ConceptWeights(layer, found.names, counts, weights, levels, iou, chance, single, best)


@dataclass(frozen=True)
class _Rows:
    """R pixels that were drawn: (R, U) where channels are above (sparse), combinations, and what each stands for."""

    above: Any
    combination: NDArray[np.int64]
    weight: NDArray[np.float64]
    held: Tensor

    def truth(self, concept: int) -> NDArray[np.bool_]:
        """Return whether each pixel has a concept, (R,)."""
        has: NDArray[np.bool_] = self.held[:, concept].numpy()[self.combination]
        return has


def _drawn(regions: Regions, dissected: LayerDissection, images: MaskedImages, pixels: int, seed: int) -> _Rows:
    from scipy import sparse

    concepts, layer = Combinations(len(images.names)), dissected.layer
    rows, columns = list[NDArray[np.int64]](), list[NDArray[np.int64]]()
    combination, weight = list[NDArray[np.int64]](), list[NDArray[np.float64]]()
    seen = 0
    for image, own, _ in progress(ordered_pairs(images, concepts), f"pixels of {layer}", _batches(images)):
        annotated = concepts.held().any(1)[own].numpy()
        drawn = [_places(each, pixels, seed, seen + row) for row, each in enumerate(annotated)]
        place = torch.from_numpy(np.stack([places for places, _ in drawn]))
        maps = regions.maps(image)[layer]
        for first, above in regions.above(layer, maps, dissected.thresholds, (image.shape[2], image.shape[3])):
            at = above.cpu().gather(2, place.unsqueeze(1).expand(-1, above.shape[1], -1))
            where, unit, draw = (index.numpy() for index in at.nonzero(as_tuple=True))
            rows.append((seen + where) * place.shape[1] + draw)
            columns.append(first + unit)
        combination.append(own.gather(1, place).flatten().numpy())
        weight += [weights for _, weights in drawn]
        seen += len(image)
    row, column = np.concatenate(rows), np.concatenate(columns)
    total = np.concatenate(weight)
    shape = (len(total), len(dissected))
    above = sparse.csr_matrix((np.ones(len(row)), (row, column)), shape=shape)
    return _Rows(above, np.concatenate(combination), total / total.mean(), concepts.held())


def _places(annotated: NDArray[np.bool_], pixels: int, seed: int, number: int) -> tuple[Any, Any]:
    """Return pixels of an image, drawn with replacement, half among those that have a concept; and their weights."""
    rng = np.random.default_rng([seed, number])
    groups = [group for group in (np.flatnonzero(annotated), np.flatnonzero(~annotated)) if len(group)]
    shares = [pixels] if len(groups) == 1 else [pixels // 2, pixels - pixels // 2]
    places = [rng.choice(group, share) for group, share in zip(groups, shares, strict=True)]
    weights = [np.full(share, len(group) / share) for group, share in zip(groups, shares, strict=True)]
    return np.concatenate(places), np.concatenate(weights)


def _fitted(rows: _Rows, counts: Sequence[int], units: int, names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return the (F, C, U) weights and the (F, C) levels; 0 and infinite for what is not there to be learned."""
    weights = torch.zeros(len(counts), len(names), units)
    levels = torch.full((len(counts), len(names)), torch.inf)
    for concept in progress(range(len(names)), "weights of concepts"):
        truth = rows.truth(concept)
        if not 0 < truth.sum() < len(truth):
            continue
        share = float(np.average(truth, weights=rows.weight))
        weight = rows.weight * np.where(truth, 1 - share, share) / (2 * share * (1 - share))  # of mean 1
        every = _logistic(rows.above, truth, weight)
        order = np.argsort(-np.abs(every) * _deviation(rows.above, weight), kind="stable")
        for index, count in enumerate(counts):
            some = order[:count] if count < units else np.arange(units)
            found = every if count == units else _logistic(rows.above[:, some], truth, weight)
            weights[index, concept, torch.from_numpy(some)] = torch.from_numpy(found).float()
            scores = rows.above[:, some] @ found.astype(np.float32).astype(np.float64)
            levels[index, concept] = _best_level(scores, truth, rows.weight)
    return weights, levels


def _logistic(above: Any, truth: NDArray[np.bool_], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the weights of a logistic regression with an offset, (U,)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # near enough after these steps
        found = LogisticRegression(C=_STRENGTH, max_iter=200).fit(above, truth, sample_weight=weight)
    values: NDArray[np.float64] = found.coef_[0]
    return values


def _deviation(above: Any, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard deviation of each channel, (U,), of pixels with weights of mean 1."""
    share = np.asarray(above.T @ weight) / len(weight)
    deviation: NDArray[np.float64] = np.sqrt((share * (1 - share)).clip(0))
    return deviation


def _best_level(scores: NDArray[np.float64], truth: NDArray[np.bool_], weight: NDArray[np.float64]) -> float:
    """Return the level above which pixels have the best IoU with the truth, midway between two values of scores."""
    values, place = np.unique(scores, return_inverse=True)
    inside = np.bincount(place, weight * truth, len(values))[::-1].cumsum()[::-1]
    above = np.bincount(place, weight, len(values))[::-1].cumsum()[::-1]
    best = int(np.argmax(inside / ((weight * truth).sum() + above - inside)))
    return float(values[best] - 1e-3 if best == 0 else (values[best - 1] + values[best]) / 2)


def _scored(
    regions: Regions, dissected: LayerDissection, images: MaskedImages, weights: Tensor, levels: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the (F, C) IoU of what is predicted, with the masks of its image and of another one."""
    concepts, layer = Combinations(len(images.names)), dissected.layer
    shared, other, area, true = (torch.zeros(levels.shape, dtype=torch.int64) for _ in range(4))
    for image, own, others in progress(ordered_pairs(images, concepts), f"segmenting by {layer}", _batches(images)):
        size, held = (image.shape[2], image.shape[3]), concepts.held()
        maps = regions.maps(image)[layer]
        per_pass = max(1, _MOST_VALUES // (size[0] * size[1] * levels.numel()))
        for start in range(0, len(maps), per_pass):
            some = slice(start, start + per_pass)
            told = _predicted(regions, dissected, maps[some], size, weights, levels).cpu()
            truth, elsewhere = held[own[some]].flatten(0, 1), held[others[some]].flatten(0, 1)
            shared += (told & truth.unsqueeze(1)).sum(0)
            other += (told & elsewhere.unsqueeze(1)).sum(0)
            area += told.sum(0)
            true += truth.sum(0)
    total = (area + true).double()
    return ratio(shared.double(), total - shared), ratio(other.double(), total - other)


def _predicted(
    regions: Regions, dissected: LayerDissection, maps: Tensor, size: tuple[int, int], weights: Tensor, levels: Tensor
) -> Tensor:
    """Return where each of F numbers of channels sees each of C concepts, (B * H * W, F, C) bool."""
    by_unit = weights.flatten(0, 1).t().to(maps)
    scores = maps.new_zeros(len(maps) * size[0] * size[1], by_unit.shape[1])
    for first, above in regions.above(dissected.layer, maps, dissected.thresholds, size):
        image, unit, pixel = above.nonzero(as_tuple=True)
        scores.index_add_(0, image * above.shape[2] + pixel, by_unit[first + unit])
    return scores.view(-1, *levels.shape) > levels.to(maps)


def _batches(images: MaskedImages) -> int:
    return -(-len(images) // images.batch_size)


def _of(count: int, counts: Sequence[int]) -> str:
    return f"all {count}" if count == counts[-1] else str(count)
