"""Images laid out in two dimensions by what a model makes of them: a map of codes, and how far it can be believed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ibd.distributed import progress
from ibd.errors import ConfigError, DataError, UnsupportedError, check_range
from ibd.explain.activations import Reader, chunked, device_of, find_layer
from ibd.explain.arrangement import Arrangement
from ibd.explain.base import undisturbed
from ibd.explain.layer_features import Pooling, batch_of, pooled
from ibd.explain.layer_layout import as_map
from ibd.explain.scalars import logits_of, predicted_classes
from ibd.types import Batch

Method = Literal["tsne", "pca", "umap"]
UNITS = "units"
"""Name that stands for the scores of a model's units, in the place of a layer."""
_FIRST = 50
"""Principal components that t-SNE and UMAP are given, as the authors of t-SNE advise."""
_LEAST = 5
"""Images of the smallest map."""


@dataclass(frozen=True)
class Codes:
    """What a model makes of N images.

    Attributes:
        values: (N, D) float32 on the CPU.
        labels: (N,) classes.
        concepts: (N, K), NaN where unknown.
        index: (N,) positions in the split.
        predicted: (N,) classes that the model says; None of a model that returns no logits.
        complete: whether all images were read: not where that was interrupted.
    """

    values: Tensor
    labels: Tensor
    concepts: Tensor
    index: Tensor
    predicted: Tensor | None
    complete: bool = True


@dataclass(frozen=True)
class CodeMap:
    """Places of N codes in two dimensions.

    Attributes:
        places: (N, 2) in [0, 1]: across and up. The larger of both extents is 1, the other is centered in proportion.
        method: way in which they were laid out.
        kept: share of the nearest neighbours of the codes that are nearest on the map as well, 0 to 1.
        neighbours: number of neighbours that this counts, for each.
    """

    places: Tensor
    method: Method
    kept: float
    neighbours: int


def read_codes(
    model: nn.Module, data_loader: Iterable[object], layer: str, pooling: Pooling = "mean", title: str = "codes"
) -> Codes:
    """Return one code for each image, in one pass over the data; memory holds the codes and one batch.

    An interrupt (Ctrl-C) ends the reading; what was read by then is returned. The model is left as it was.

    Args:
        model: ours, or any of (B, 3, H, W) images in [0, 1].
        data_loader: loader of a `Batch`.
        layer: name of a layer that puts out a map of any layout, tokens or a vector; or "units" for the scores of the
            units of a model of ours.
        pooling: way in which a map becomes a code.
        title: title of the bar.

    Raises:
        ConfigError: there is no such layer.
        DataError: no images, or no `Batch`.
        UnsupportedError: the layer puts out neither a map nor a vector, or the model has no units.
    """
    if layer != UNITS:
        find_layer(model, layer)
    read, values, predicted = _CodeReader(model, layer, pooling), list[Tensor](), list[Tensor]()
    known: list[Batch] = []
    complete = True
    with undisturbed(model), torch.no_grad():
        try:
            for batch in progress(data_loader, title):
                kept = batch_of(batch)
                code, best = read(kept.image.to(device_of(model)))
                values.append(code.float().cpu())
                predicted += [] if best is None else [best.cpu()]
                known.append(Batch(kept.image[:, :, :0, :0], kept.label, kept.concepts, kept.index))
        except KeyboardInterrupt:
            if not known:
                raise
            complete = False
    if not known:
        raise DataError("the data loader yields no images")
    whole = min(len(values), len(known))  # an interrupt may have come between
    labels, concepts, index = (torch.cat([getattr(b, name) for b in known]) for name in ("label", "concepts", "index"))
    said = torch.cat(predicted[:whole]) if len(predicted) >= whole else None
    return Codes(torch.cat(values[:whole]), labels, concepts, index, said, complete)


class _CodeReader:
    """Turns (B, 3, H, W) images into (B, D) codes and (B,) predicted classes, by one pass."""

    def __init__(self, model: nn.Module, layer: str, pooling: Pooling) -> None:
        self.model, self.layer, self.pooling = model, layer, pooling
        self.reader = Reader(model, [] if layer == UNITS else [layer])
        self.lie: Arrangement | None = None

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return codes and classes."""
        outputs, returned = self.reader.whole(image)
        if self.layer == UNITS:
            units = getattr(returned, "units", None)
            if units is None:
                raise UnsupportedError("this model has no units: name a layer")
            return units.scores, predicted_classes(logits_of(returned))
        output = outputs[self.layer]
        if output.dim() != 2:
            self.lie = self.lie or as_map(self.model, image, self.layer, output)[1]
            output = self.lie.to_map(output)
        try:
            best = predicted_classes(logits_of(returned))
        except UnsupportedError:  # a backbone alone
            return pooled(output, self.pooling), None
        return pooled(output, self.pooling), best


def lay_out(codes: Tensor, method: Method = "tsne", seed: int = 0, perplexity: float = 30.0) -> CodeMap:
    """Return where codes lie on a map.

    "pca" is a projection on the two directions of the largest variance: distances mean what they say, and much is not
    seen. "tsne" (van der Maaten & Hinton 2008) keeps neighbours together; how far groups lie from each other, and how
    large they are, means little. "umap" (McInnes et al. 2018) is alike, where ``umap-learn`` is installed. `kept` says
    how many neighbours are those of the codes.

    Args:
        codes: (N, D) finite numbers, N at least 5.
        method: method.
        seed: seed of the random numbers of t-SNE and UMAP.
        perplexity: number of neighbours that t-SNE and UMAP weigh, about; less where there are few images.

    Raises:
        ConfigError: another method, or a perplexity of 1 or less.
        DataError: too few codes, all the same, or not finite.
        UnsupportedError: UMAP is not installed.
    """
    if method not in get_args(Method):
        raise ConfigError(f"method: '{method}' is not one of {', '.join(get_args(Method))}")
    check_range("perplexity", perplexity, above=1.0)
    if codes.dim() != 2 or len(codes) < _LEAST:
        raise DataError(f"a map needs at least {_LEAST} codes (N, D), not {tuple(codes.shape)}")
    if not bool(codes.isfinite().all()):
        raise DataError("a map needs finite codes: a layer puts out NaN or infinity")
    values = codes.detach().double().cpu()
    if bool((values == values[0]).all()):
        raise DataError("all images have the same code: there is nothing to lay out")
    few = min(perplexity, (len(values) - 1) / 3)
    places = principal(values, 2) if method == "pca" else _fitted(values, method, seed, few)
    count = min(10, len(values) // 2)
    return CodeMap(_scaled(places), method, neighbours_kept(values, places, count), count)


def principal(values: Tensor, count: int) -> Tensor:
    """Return the (N, count) projections of (N, D) values on the directions of the largest variance, 0 where none is.

    The sign of a direction is that by which its largest entry is positive.
    """
    centered = values - values.mean(0)
    left, lengths, right = torch.linalg.svd(centered, full_matrices=False)
    signs = right.gather(1, right.abs().argmax(1, keepdim=True)).squeeze(1).sign()
    scores = left * (lengths * signs)
    return torch.nn.functional.pad(scores[:, :count], (0, max(0, count - scores.shape[1])))


def _fitted(values: Tensor, method: Method, seed: int, perplexity: float) -> Tensor:
    """Return the (N, 2) places by t-SNE or UMAP."""
    first = principal(values, min(_FIRST, *values.shape)).numpy().astype(np.float32)
    if method == "tsne":
        from sklearn.manifold import TSNE

        made = TSNE(2, perplexity=perplexity, init="random" if first.shape[1] < 2 else "pca", random_state=seed)
        return torch.from_numpy(made.fit_transform(first)).double()
    try:
        from umap import UMAP
    except ImportError:
        raise UnsupportedError("umap needs a package: pip install umap-learn; or take method=tsne") from None
    made = UMAP(n_neighbors=max(2, round(perplexity / 2)), random_state=seed, n_jobs=1)
    return torch.from_numpy(np.asarray(made.fit_transform(first))).double()


def neighbours_kept(codes: Tensor, places: Tensor, count: int) -> float:
    """Return the share of the `count` nearest neighbours by codes that are among those by places, the mean over all."""
    shared = [
        len(set(one) & set(other)) / count
        for one, other in zip(nearest(codes, count).tolist(), nearest(places.to(codes), count).tolist(), strict=True)
    ]
    return sum(shared) / len(shared)


def same_class(values: Tensor, labels: Tensor, count: int) -> float:
    """Return the share of the nearest neighbours that are of an image's own class, the mean over all.

    Of the `count` nearest, or of as many as there are others of its class: 1 where classes lie apart, however small.
    An image that is alone in its class does not count; NaN where all are.
    """
    alike = labels[nearest(values, count)] == labels.unsqueeze(1)
    looked = (torch.bincount(labels)[labels] - 1).clamp(max=count)
    alike = alike & (torch.arange(count) < looked.unsqueeze(1))
    return float((alike.sum(1) / looked)[looked > 0].double().mean())


def nearest(values: Tensor, count: int) -> Tensor:
    """Return the (N, count) positions of each row's nearest others; a few rows at a time, to bound the memory."""
    found = []
    for rows in chunked(len(values), 256):
        distance = torch.cdist(values[rows], values, compute_mode="donot_use_mm_for_euclid_dist")
        distance[torch.arange(len(distance)), torch.arange(rows.start, rows.stop)] = torch.inf
        found.append(distance.topk(count, dim=1, largest=False).indices)
    return torch.cat(found)


def _scaled(places: Tensor) -> Tensor:
    low, extent = places.amin(0), places.amax(0) - places.amin(0)
    return (0.5 + (places - low - extent / 2) / extent.max()).clamp(0, 1).float()
