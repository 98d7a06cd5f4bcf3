"""The accuracy of a network without more and more channels of a layer, the most relevant first, or the least."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ibd.distributed import progress
from ibd.errors import ConfigError, DataError, check_range
from ibd.explain.activations import device_of
from ibd.explain.attribution import layer_attribution
from ibd.explain.base import undisturbed
from ibd.explain.feature_ablation import without_channels
from ibd.explain.layer_features import batch_of, pooled, read_features
from ibd.explain.layer_layout import layer_arrangement
from ibd.explain.layouts import Layout
from ibd.explain.scalars import logits_of, predicted_classes
from ibd.explain.targets import Target
from ibd.metrics.functional.student import t_quantile

Replacement = Literal["zero", "mean"]
"""What takes the place of a channel: 0, or its mean over images and places."""


@dataclass(frozen=True)
class UnitAblation:
    """Accuracy without channels of a layer.

    Attributes:
        layer: name of the layer.
        channels: number D of its channels.
        counts: (n,) channels that are taken out, from 0 to D.
        most: (n,) accuracy without the most relevant ones.
        least: (n,) accuracy without the least relevant ones.
        random: (R, n) accuracy without random ones.
        images: number of images.
        by_class: whether each image goes by an order of its own class, which the network is not told.
    """

    layer: str
    channels: int
    counts: tuple[int, ...]
    most: Tensor
    least: Tensor
    random: Tensor
    images: int
    by_class: bool = False

    def interval(self, level: float = 0.95) -> tuple[Tensor, Tensor]:
        """Return the (n,) ends of Student's interval of the mean over draws of random channels, within [0, 1]."""
        draws = len(self.random)
        half = self.random.std(0) / draws**0.5 * t_quantile(level, torch.tensor(float(draws - 1)))
        return (self.random.mean(0) - half).clamp(min=0), (self.random.mean(0) + half).clamp(max=1)

    @property
    def areas(self) -> tuple[float, float, Tensor]:
        """Area under the curves of the most relevant, of the least, and (R,) of each draw, over the share taken out."""
        share = torch.tensor(self.counts, dtype=torch.float64) / self.channels
        most, least, *others = [torch.trapezoid(curve, share) for curve in (self.most, self.least, *self.random)]
        return float(most), float(least), torch.stack(others)

    def __str__(self) -> str:
        """Return the curve as text."""
        low, high = self.interval()
        lines = [f"{'channels':>8} {'most':>6} {'least':>6} {'random':>6}  95 % interval"]
        for place, count in enumerate(self.counts):
            lines += [
                f"{count:>8} {float(self.most[place]):>6.3f} {float(self.least[place]):>6.3f} "
                f"{float(self.random[:, place].mean()):>6.3f}  {float(low[place]):.3f} to {float(high[place]):.3f}"
            ]
        most, least, others = self.areas
        lines.append(
            f"area under the curve: {most:.3f} the most relevant first, {least:.3f} the least, "
            f"{float(others.mean()):.3f} at random ({float(others.min()):.3f} to {float(others.max()):.3f})"
        )
        return "\n".join(lines)


def channel_relevance(
    model: nn.Module,
    data_loader: Iterable[object],
    layer: str,
    classes: int,
    method: str = "gradient_input",
    layout: Layout = "auto",
) -> Tensor:
    """Return what each channel of a layer accounts for in the images of each class, (C, D) float64; NaN without images.

    Of the logit of an image's own class less the mean logit, summed over the places of the map, and the mean over the
    images of the class. The model is left as it was. It takes about a forward and a backward pass an image.

    Args:
        model: ours, or any classifier of (B, 3, H, W) images in [0, 1].
        data_loader: loader of a `Batch`.
        layer: name of the layer.
        classes: number C of classes.
        method: way to divide it among channels, see `layer_attribution`.
        layout: axis of the layer's output that holds the channels.

    Raises:
        DataError: no images.
        ConfigError, UnsupportedError: what `layer_attribution` raises.
    """
    told, labels = list[Tensor](), list[Tensor]()
    for batch in progress(data_loader, "relevance of channels"):
        kept = batch_of(batch)
        image = kept.image.to(device_of(model))
        target = Target.cls(kept.label.tolist(), "centered_logit")
        told.append(layer_attribution(model, image, layer, target, method, layout).channels.detach().double().cpu())
        labels.append(kept.label)
    if not told:
        raise DataError("the data loader yields no images")
    values, label = torch.cat(told), torch.cat(labels)
    return torch.stack([values[label == c].mean(0) for c in range(classes)])


def unit_ablation(
    model: nn.Module,
    scores: Tensor,
    data_loader: Iterable[object],
    layer: str,
    counts: Sequence[int] | None = None,
    draws: int = 5,
    replacement: Replacement = "zero",
    seed: int = 0,
    layout: Layout = "auto",
) -> UnitAblation:
    """Return the accuracy without more and more channels of a layer; the model is left as it was.

    It costs ``2 + draws`` forward passes an image for each count between none and all of them, and two more.

    Args:
        model: ours, or any classifier of (B, 3, H, W) images in [0, 1].
        scores: (D,) relevance of each channel, or (C, D): an image then goes by the scores of its own class.
        data_loader: loader of a `Batch`, read once, or twice for means.
        layer: name of a layer that puts out a map, tokens or a vector, and runs once.
        counts: how many channels are taken out; by default powers of 2. None and all are always among them.
        draws: random orders.
        replacement: what takes the place of a channel.
        seed: seed of the random orders.
        layout: axis of the layer's output that holds the channels.

    Raises:
        ConfigError: scores that are no such tensor or not finite, counts that there are not, another replacement.
        DataError: no images.
        UnsupportedError: the layer runs several times, or its layout cannot be told.
    """
    check_range("draws", draws, least=2)
    if replacement not in get_args(Replacement):
        raise ConfigError(f"replacement: '{replacement}' is not one of {', '.join(get_args(Replacement))}")
    if scores.dim() not in (1, 2) or not bool(scores.isfinite().all()):
        raise ConfigError(f"scores of shape {tuple(scores.shape)} given: finite (D,) or (C, D) are needed")
    rows = scores.detach().double().cpu().reshape(-1, scores.shape[-1])
    total = rows.shape[1]
    steps = ablation_steps(total, counts)
    places = _places(rows, draws, seed)
    fill = None
    if replacement == "mean":
        read = read_features(model, data_loader, [layer], lambda maps: pooled(maps, "mean"), layout)
        fill = {layer: read.values[layer].mean(0)}
    right, images = _right(model, data_loader, layer, places, steps, fill, layout)
    share = right.double() / images
    return UnitAblation(layer, total, steps, share[0], share[1], share[2:], images, len(rows) > 1)


def ablation_steps(total: int, counts: Sequence[int] | None = None) -> tuple[int, ...]:
    """Return how many of `total` channels are taken out: none, all, and the given or powers of 2 between.

    Raises:
        ConfigError: a count that is none.
    """
    given = [2**power for power in range(total.bit_length()) if 2**power < total] if counts is None else list(counts)
    steps = tuple(sorted({0, total, *given}))
    if steps[0] < 0 or steps[-1] > total:
        raise ConfigError(f"counts: {given} given, numbers of channels from 1 to {total} are needed")
    return steps


def _places(rows: Tensor, draws: int, seed: int) -> Tensor:
    """Return (2 + R, C, D) int64: the place of each channel in each order, from which it is out."""
    rng = np.random.default_rng(seed)
    orders = [rows.argsort(dim=1, descending=True, stable=True), rows.argsort(dim=1, stable=True)]
    orders += [
        torch.from_numpy(np.stack([rng.permutation(rows.shape[1]) for _ in range(len(rows))])) for _ in range(draws)
    ]
    return torch.stack(orders).argsort(2)


def _right(
    model: nn.Module,
    loader: Iterable[object],
    layer: str,
    places: Tensor,
    steps: Sequence[int],
    fill: dict[str, Tensor] | None,
    layout: Layout,
) -> tuple[Tensor, int]:
    """Return (2 + R, n) int64, how many images are classified rightly, and how many there are."""
    right, images = torch.zeros(len(places), len(steps), dtype=torch.int64), 0
    arrangements = {}
    with undisturbed(model), torch.no_grad():
        for batch in progress(loader, f"without channels of {layer}"):
            kept = batch_of(batch)
            image = kept.image.to(device_of(model))
            if not images:
                arrangements = {layer: layer_arrangement(model, image[:1], layer, layout)}
            own = kept.label if places.shape[1] > 1 else torch.zeros_like(kept.label)
            for n, count in enumerate(steps):
                # Without none or all of them every order is the same.
                for order in range(1 if count in (0, steps[-1]) else len(places)):
                    keep = {layer: (places[order, own] >= count).float()}
                    with without_channels(model, arrangements, keep, fill):
                        hits = int((predicted_classes(logits_of(model(image))).cpu() == kept.label).sum())
                    right[order if 0 < count < steps[-1] else slice(None), n] += hits
            images += len(kept)
    if not images:
        raise DataError("the data loader yields no images")
    return right, images
