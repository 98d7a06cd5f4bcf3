"""Which features of all of a network's layers tell its classes: regression under a budget (Oramas et al. 2019)."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ibd.errors import ConfigError, DataError, UnsupportedError, check_once, check_range
from ibd.explain.activations import device_of, find_layer, network_of, visit
from ibd.explain.base import undisturbed
from ibd.explain.layer_features import LayerFeatures, batch_of, pooled, read_features
from ibd.explain.layouts import Layout

Response = Literal["max", "mean"]
"""How strongly a channel responds to an image: its maximum or its mean over the cells."""
_STEPS = 2000
"""Of a path of solutions, at most; every step brings in a feature, or takes one out."""


@dataclass(frozen=True)
class Unit:
    """A channel of a layer that was selected for a class, with its weight for features of variance 1."""

    layer: str
    channel: int
    weight: float

    @property
    def name(self) -> str:
        """The layer and the channel in words."""
        return f"{self.layer} channel {self.channel}"


@dataclass(frozen=True)
class RelevantFeatures:
    """Features of F channels in all, and what each says of the C classes.

    Attributes:
        layers: names of the layers, in the order in which they run.
        channels: number of channels of each.
        class_names: names of the classes.
        weights: (C, F) float64, for features and classes of variance 1; 0 of what was not selected. F runs over the
            channels of the first layer, then of the second, and so on.
        mean: (F,) mean response of each channel to the images that it was selected by.
        deviation: (F,) standard deviation of it.
        response: how a channel's response is read from its map.
        budget: largest sum of the absolute weights of a class.
        images: number of images that features were selected by.
        accuracy: share of these that the selected features alone tell rightly, by the class of the largest sum.
    """

    layers: tuple[str, ...]
    channels: tuple[int, ...]
    class_names: tuple[str, ...]
    weights: Tensor
    mean: Tensor
    deviation: Tensor
    response: Response
    budget: float
    images: int
    accuracy: float

    def selected(self, index: int) -> list[Unit]:
        """Return what was selected for a class, the largest weight first."""
        row = self.weights[index]
        order = row.abs().argsort(descending=True, stable=True).tolist()
        return [Unit(*self.place(f), float(row[f])) for f in order if float(row[f])]

    def place(self, feature: int) -> tuple[str, int]:
        """Return the layer and the channel of a feature."""
        for layer, count in zip(self.layers, self.channels, strict=True):
            if feature < count:
                return layer, feature
            feature -= count
        raise IndexError(feature)

    def part(self, layer: str) -> slice:
        """Return which features are those of a layer."""
        place = self.layers.index(layer)
        start = sum(self.channels[:place])
        return slice(start, start + self.channels[place])

    def table(self, most: int = 5) -> str:
        """Return what was selected as text: a line for each class, with its largest weights."""
        wide = max(map(len, self.class_names))
        lines = []
        for index, name in enumerate(self.class_names):
            units = self.selected(index)
            said = ", ".join(f"{unit.name} ({unit.weight:+.2f})" for unit in units[:most])
            more = f", ... ({len(units)} in all)" if len(units) > most else ""
            lines.append(f"{name:<{wide}}  {said}{more}" if units else f"{name:<{wide}}  none")
        return "\n".join(lines)

    def __str__(self) -> str:
        """Return the table."""
        return self.table()


def relevant_features(
    model: nn.Module,
    data_loader: Iterable[object],
    class_names: Sequence[str],
    layers: Sequence[str] | None = None,
    response: Response = "max",
    budget: float = 1.0,
    positive: bool = True,
    layout: Layout = "auto",
) -> RelevantFeatures:
    """Return the channels of layers by whose responses the classes can be told, with a budget for each class.

    The labels, (N, C) zeros and ones, are regressed on all channels' responses, features and labels brought to mean 0
    and variance 1: ``min |X w_c - l_c|^2`` with ``|w_c|_1 <= budget``. Few weights are not 0 then. The solution is
    exact, from the path of least angle regression.

    Args:
        model: ours, or any of (B, 3, H, W) images in [0, 1]; it is left as it was.
        data_loader: loader of a `Batch`; training images.
        class_names: names of the C classes, in the order of the labels.
        layers: names of layers that put out maps; None takes all in whose maps nothing is negative, see
            `rectified_layers`.
        response: how a channel's response is read from its map.
        budget: largest sum of the absolute weights of a class: more selects more channels.
        positive: whether a weight may not be negative, so that all that is selected speaks for the class; the published
            method lets it be either.
        layout: axis of a layer's output that holds the channels; "auto" tells it, or refuses.

    Raises:
        ConfigError: no such layer or option.
        DataError: no images, or all of one class.
        UnsupportedError: a layer puts out no map, or no layer was found.
    """
    check_range("budget", budget, above=0)
    if response not in ("max", "mean"):
        raise ConfigError(f"response: '{response}' is not one of max, mean")
    loader = list(data_loader) if layers is None and not hasattr(data_loader, "__len__") else data_loader
    named = checked_layers(model, layers) if layers is not None else rectified_layers(model, _first(loader))
    read = read_features(model, loader, named, lambda maps: pooled(maps, response), layout)
    return select_features(read, class_names, named, response, budget, positive)


def select_features(
    read: LayerFeatures,
    class_names: Sequence[str],
    layers: Sequence[str],
    response: Response = "max",
    budget: float = 1.0,
    positive: bool = True,
) -> RelevantFeatures:
    """Return the same from features that were read before; see `relevant_features`."""
    features = torch.cat([read.values[layer] for layer in layers], 1).double()
    if not bool(features.isfinite().all()):
        raise DataError("relevant features: the responses are not all finite")
    if len(set(read.labels.tolist())) < 2:
        raise DataError("relevant features: all images are of one class: there is nothing to tell apart")
    mean, deviation = features.mean(0), features.std(0, correction=0)
    scaled = (features - mean) / deviation.where(deviation > 1e-6 * (1 + mean.abs()), torch.inf)
    weights = torch.stack([_class_weights(scaled, read.labels == c, budget, positive) for c in range(len(class_names))])
    told = (scaled @ weights.t()).argmax(1) == read.labels
    return RelevantFeatures(
        layers=tuple(layers),
        channels=tuple(read.values[layer].shape[1] for layer in layers),
        class_names=tuple(class_names),
        weights=weights,
        mean=mean,
        deviation=deviation,
        response=response,
        budget=budget,
        images=len(features),
        accuracy=float(told.double().mean()),
    )


def within_budget(features: Tensor, target: Tensor, budget: float, positive: bool = False) -> Tensor:
    """Return the (F,) float64 w of the least ``|X w - y|^2`` with ``|w|_1 <= budget``, exactly.

    Along the path of least angle regression (Efron et al. 2004) the solutions for all budgets are joined by straight
    lines, so that the one for a budget lies between two of its corners.

    Args:
        features: (N, F) X, of mean 0.
        target: (N,) y, of mean 0.
        budget: largest sum of absolute weights.
        positive: whether weights may not be negative.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import lars_path

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # of features that are alike one is left out
        found = lars_path(
            features.numpy(), target.numpy(), method="lasso", Gram=None, max_iter=_STEPS, positive=positive
        )
    corners = torch.from_numpy(found[2]).t()
    sizes = corners.abs().sum(1)
    beyond = (sizes > budget).nonzero().flatten()
    if not len(beyond):
        return corners[-1]
    after = int(beyond[0])
    before, size = corners[after - 1], float(sizes[after - 1])
    share = (budget - size) / (float(sizes[after]) - size)
    return before + share * (corners[after] - before)


def rectified_layers(model: nn.Module, image: Tensor) -> list[str]:
    """Return the layers of whose maps of some images nothing is negative, in the order in which they run.

    Of several modules that put out the same tensor the first is named. Left out are modules that run several times,
    pooled maps, which only repeat what was there, and what runs before the first weights: pixels. Without any, as in
    networks of smooth activations, the convolutions are returned.

    Raises:
        UnsupportedError: there are no layers with maps.
    """
    seen: list[tuple[str, Tensor, bool]] = []
    parts = dict(network_of(model).named_modules())
    runs: Counter[str] = Counter()
    weighted = {name for name, part in parts.items() if any(weight.dim() > 1 for weight in part.parameters())}

    def note(name: str, output: Tensor) -> None:
        runs[name] += 1
        if not weighted & set(runs):
            return
        if output.dim() == 4 and output.shape[2] * output.shape[3] > 1 and "Pool" not in type(parts[name]).__name__:
            seen.append((name, output, not bool((output < 0).any())))  # kept alive: no other takes its place in memory

    with undisturbed(model):
        visit(model, image.to(device_of(model)), note)
    once = [(name, output, rectified) for name, output, rectified in seen if runs[name] == 1]
    chosen, tensors = list[str](), set[int]()
    for name, output, rectified in once:
        if rectified and output.data_ptr() not in tensors:
            tensors.add(output.data_ptr())
            chosen.append(name)
    chosen = chosen or [name for name, _, _ in once if isinstance(parts[name], nn.Conv2d)]
    if not chosen:
        raise UnsupportedError(f"{type(network_of(model)).__name__} has no layers with maps that are known to be such")
    return chosen


def checked_layers(model: nn.Module, layers: Sequence[str]) -> list[str]:
    """Return layers that are named, each once.

    Raises:
        ConfigError: none is named, one twice, or there is no such layer.
    """
    if not layers:
        raise ConfigError("layers: at least one is needed")
    check_once("layers", list(layers))
    for layer in layers:
        find_layer(model, layer)
    return list(layers)


def _class_weights(features: Tensor, holds: Tensor, budget: float, positive: bool) -> Tensor:
    """Return the weights of a class; 0 for one without images."""
    target = holds.double()
    deviation = target.std(correction=0)
    if not float(deviation):
        return features.new_zeros(features.shape[1])
    return within_budget(features, (target - target.mean()) / deviation, budget, positive)


def _first(loader: Iterable[object]) -> Tensor:
    """Return a few of the first images of a loader."""
    for batch in loader:
        return batch_of(batch).image[:8]
    raise DataError("the data loader yields no images")
