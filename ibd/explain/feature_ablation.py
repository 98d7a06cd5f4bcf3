"""What a network loses without the channels that were selected for a class, and without as many others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ibd.distributed import progress
from ibd.errors import ConfigError, DataError, UnsupportedError, check_range
from ibd.explain.activations import device_of, find_layer
from ibd.explain.arrangement import Arrangement
from ibd.explain.base import undisturbed
from ibd.explain.feature_selection import RelevantFeatures
from ibd.explain.layer_features import batch_of
from ibd.explain.layer_layout import layer_arrangement
from ibd.explain.scalars import logits_of, predicted_classes
from ibd.metrics.functional.student import t_quantile

Keep = dict[str, Tensor]
"""Layer -> (B, D) factors of its channels: 1 to keep one, 0 to take it out."""


@dataclass(frozen=True)
class Ablation:
    """Accuracy on images of a class without channels, mean over the classes.

    Attributes:
        counts: (n,) channels that are taken out, 0 among them; of a class with fewer selected ones, all of these.
        selected: (n,) accuracy without those selected for the image's class, the largest weights first.
        random: (R, n) without as many others of the same layers, drawn at random.
        classes: (n, C) the first by class; NaN of a class without images.
        images: number of images.
    """

    counts: tuple[int, ...]
    selected: Tensor
    random: Tensor
    classes: Tensor
    images: int

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """Return the (n,) ends of Student's interval of the mean over draws of random channels."""
        draws = len(self.random)
        half = self.random.std(0) / draws**0.5 * t_quantile(level, torch.tensor(float(draws - 1)))
        return self.random.mean(0) - half, self.random.mean(0) + half

    def table(self) -> str:
        """Return the curve as text."""
        low, high = self.interval()
        lines = [f"{'channels':>8} {'selected':>8} {'random':>8}  95 % interval"]
        for place, count in enumerate(self.counts):
            mean = float(self.random[:, place].mean())
            lines.append(
                f"{count:>8} {float(self.selected[place]):>8.3f} {mean:>8.3f}  "
                f"{float(low[place]):.3f} to {float(high[place]):.3f}"
            )
        return "\n".join(lines)

    def __str__(self) -> str:
        """Return the table."""
        return self.table()


def ablation_curve(
    model: nn.Module,
    found: RelevantFeatures,
    data_loader: Iterable[object],
    counts: Sequence[int] = (0, 1, 2, 3, 5, 8, 12),
    draws: int = 5,
    seed: int = 0,
) -> Ablation:
    """Return the accuracy on each class's images without channels that were selected for it; the model is left alone.

    A channel is taken out by setting its map to 0 where its layer puts it out; all that comes after runs on.

    Args:
        model: ours, or any classifier of (B, 3, H, W) images in [0, 1].
        found: what was selected, see `relevant_features`.
        data_loader: loader of a `Batch`; images that nothing was selected by.
        counts: how many channels of each class are taken out.
        draws: sets of random channels; each is drawn once, larger counts take more of it.
        seed: seed of these.

    Raises:
        ConfigError: counts that are none, or a layer that there is not.
        DataError: no images.
        UnsupportedError: a layer runs several times.
    """
    check_range("draws", draws, least=2)
    steps = tuple(sorted({0, *counts}))
    if steps[0] < 0 or len(steps) < 2:
        raise ConfigError(f"counts: {list(counts)} given, numbers of channels from 1 are needed")
    rng = np.random.default_rng(seed)
    orders = [_selected(found), *(_others(found, rng) for _ in range(draws))]
    keeps = [[_keep(found, order, count) for count in steps] for order in orders]
    with undisturbed(model), torch.no_grad():
        right, labels = _right(model, found, data_loader, keeps)
    classes = torch.stack([right[..., labels == c].double().mean(-1) for c in range(len(found.class_names))], -1)
    means = classes.nanmean(-1)
    return Ablation(steps, means[0], means[1:], classes[0], len(labels))


@contextmanager
def without_channels(
    model: nn.Module, arrangements: Mapping[str, Arrangement], keep: Keep, fill: Mapping[str, Tensor] | None = None
) -> Iterator[None]:
    """Multiply the channels of layers while a model runs; hooks go away whatever happens.

    Args:
        model: model.
        arrangements: layer -> how what it puts out lies.
        keep: layer -> (B, D) factors.
        fill: layer -> (D,) what takes the place of what is taken out; None is 0.

    Raises:
        UnsupportedError: a layer runs a second time.
    """
    ran: set[str] = set()

    def hook_of(layer: str) -> Callable[[nn.Module, object, Tensor], Tensor]:
        def hook(_: nn.Module, __: object, output: Tensor) -> Tensor:
            if layer in ran:
                raise UnsupportedError(f"layer '{layer}' runs several times: name a layer that runs once")
            ran.add(layer)
            factor = keep[layer].to(output)
            rest = 0.0 if fill is None else (1 - factor) * fill[layer].to(output)
            if output.dim() == 2:
                return output * factor + rest
            lies = arrangements[layer]
            more = rest if isinstance(rest, float) else rest[:, :, None, None]
            return lies.to_layer(lies.to_map(output) * factor[:, :, None, None] + more, output)

        return hook

    handles = [find_layer(model, layer).register_forward_hook(hook_of(layer)) for layer in keep]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _selected(found: RelevantFeatures) -> list[list[int]]:
    """Return the features of each class, the largest weight first."""
    orders = found.weights.abs().argsort(dim=1, descending=True, stable=True).tolist()
    return [[f for f in order if float(row[f])] for order, row in zip(orders, found.weights, strict=True)]


def _others(found: RelevantFeatures, rng: np.random.Generator) -> list[list[int]]:
    """Return for each feature of each class another one of its layer, at random, that was not selected for the class.

    Where too few are left, as of a layer that was selected nearly whole, there are fewer.
    """
    drawn = []
    for order in _selected(found):
        taken = set(order)
        others: list[int] = []
        for feature in order:
            part = found.part(found.place(feature)[0])
            left = [f for f in range(part.start, part.stop) if f not in taken]
            if left:
                others.append(int(rng.choice(left)))
                taken.add(others[-1])
        drawn.append(others)
    return drawn


def _keep(found: RelevantFeatures, orders: Sequence[Sequence[int]], count: int) -> Keep:
    """Return layer -> (C, D) factors that take the first few features of each class out."""
    factors = torch.ones(found.weights.shape)
    for row, order in zip(factors, orders, strict=True):
        row[list(order[:count])] = 0
    return {layer: factors[:, found.part(layer)] for layer in found.layers}


def _right(
    model: nn.Module, found: RelevantFeatures, loader: Iterable[object], keeps: Sequence[Sequence[Keep]]
) -> tuple[Tensor, Tensor]:
    """Return (1 + R, n, N) bool, which images are classified rightly, and the (N,) labels."""
    arrangements: dict[str, Arrangement] = {}
    right, labels = list[Tensor](), list[Tensor]()
    touched = [
        layer for layer in found.layers if any(bool((keep[layer] == 0).any()) for kept in keeps for keep in kept)
    ]
    for batch in progress(loader, "ablation"):
        kept = batch_of(batch)
        image = kept.image.to(device_of(model))
        if not right:
            arrangements = {layer: layer_arrangement(model, image, layer) for layer in touched}
        told = []
        for several in keeps:
            for keep in several:
                own = {layer: keep[layer][kept.label] for layer in touched}
                with without_channels(model, arrangements, own):
                    told.append(predicted_classes(logits_of(model(image))).cpu() == kept.label)
        right.append(torch.stack(told).view(len(keeps), -1, len(kept)))
        labels.append(kept.label)
    if not right:
        raise DataError("the data loader yields no images")
    return torch.cat(right, 2), torch.cat(labels)
