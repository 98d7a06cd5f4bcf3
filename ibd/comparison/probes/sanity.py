"""Whether an explanation depends on what it must depend on: what the model learned, the class, the image.

Pass or fail, no score: noise that is drawn anew passes (Adebayo et al. 2018; Binder et al. 2023).
"""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ibd.backbones.base import Normalize
from ibd.backbones.bcos.layers import TwoSided
from ibd.comparison.probes.explaining import Explain, maps_of, unrectified
from ibd.comparison.probes.randomize import random_network, randomize, stages
from ibd.comparison.probes.seeding import Id, numbers_of
from ibd.comparison.reference_maps import partners
from ibd.comparison.results import Sanity
from ibd.errors import ConfigError
from ibd.explain.activations import network_of
from ibd.metrics.functional.bootstrap import Interval, mean_interval
from ibd.metrics.functional.checks import ratio
from ibd.metrics.functional.ranks import average_ranks
from ibd.metrics.functional.self_consistency import randomization_verdict

Direction = Literal["top_down", "bottom_up"]
SAME = 0.9
"""An explanation of another class, or of another image, must be less similar than this; one that ignores it has 1."""
UNCHANGED = 0.99
"""An explanation of shifted pixels that mean the same must be more similar than this."""
SHIFT = 0.3
"""What is added to every pixel."""
_ROUNDING = 1e-6
"""A map whose values differ by no more than this share of the largest is constant, but for rounding."""


class Reference:
    """Maps that others are compared with, by Spearman's correlation over pixels; they are ranked once.

    Args:
        maps: (B, H, W).
        signed: whether to compare the values; by default their absolute values are compared.

    Attributes:
        constant: (B,) bool, maps that say the same of all pixels.
    """

    def __init__(self, maps: Tensor, signed: bool = False) -> None:
        self.signed = signed
        self.values = self._flat(maps)
        lowest, highest = self.values.aminmax(dim=1)
        self.constant = highest - lowest <= _ROUNDING * torch.maximum(highest.abs(), lowest.abs())
        self._ranks = self._centered(self.values)

    def similarity(self, maps: Tensor) -> Tensor:
        """Return (B,) float64 in [-1, 1]; NaN where a map holds a NaN.

        1 for equal maps and for two constant ones, which are the same picture; 0 where only one of two is constant: it
        has nothing in common with the other.

        Args:
            maps: (B, H, W).
        """
        return self.similarity_to(Reference(maps, self.signed))

    def similarity_to(self, other: Reference) -> Tensor:
        """Return the same of maps that are ranked already."""
        scale = (self._ranks.square().sum(1) * other._ranks.square().sum(1)).sqrt()
        rho = ratio((self._ranks * other._ranks).sum(1), scale).clamp(-1, 1)
        both, one = self.constant & other.constant, self.constant | other.constant
        rho = rho.masked_fill((one & ~scale.isnan().to(one.device)).to(rho.device), 0.0)
        return rho.masked_fill((both | (self.values == other.values).all(1)).to(rho.device), 1.0)

    def select(self, index: Tensor) -> Reference:
        """Return the maps at other places of the batch, (n,)."""
        selected = copy.copy(self)
        selected.values = self.values[index.to(self.values.device)]
        selected.constant = self.constant[index.to(self.constant.device)]
        selected._ranks = self._ranks[index.to(self._ranks.device)]
        return selected

    def _flat(self, maps: Tensor) -> Tensor:
        flat = maps.detach().flatten(1)
        return flat if self.signed else flat.abs()

    def _centered(self, values: Tensor) -> Tensor:
        return average_ranks(values) - (values.shape[1] + 1) / 2


@dataclass(frozen=True)
class Cascade:
    """Explanations while more and more of a network is random.

    Attributes:
        stages: names of the tensors that became random at each stage.
        similarity: (S, B) with the explanation of the trained network, by absolute values.
        last: (B, H, W) the maps of the network in which everything is random.
    """

    stages: list[str]
    similarity: Tensor
    last: Tensor


def cascade(
    explain: Explain,
    model: nn.Module,
    images: Tensor,
    classes: Tensor,
    reference: Reference,
    direction: Direction = "top_down",
    most: int = 8,
    draw: int = 0,
    batch_size: int = 64,
) -> Cascade:
    """Make a copy of a network random in stages, each on top of the ones before, and explain it after each.

    Args:
        explain: the explainer.
        model: ours, or any other; left as it is.
        images: (B, 3, H, W).
        classes: (B,) the explained classes.
        reference: the maps of the trained network.
        direction: the order, from the logits to the pixels, or the other way.
        most: stages at most.
        draw: number of the draw of the random tensors.
        batch_size: images explained at a time.
    """
    parts = stages(model, images, most)
    if direction == "top_down":
        parts = parts[::-1]
    with torch.inference_mode(False):
        network = copy.deepcopy(network_of(model)).eval()
    similarities, maps = [], None
    for _, names in parts:
        with torch.inference_mode(False):
            randomize(network, names, draw)
        maps = maps_of(explain, network, images, classes, batch_size)
        similarities.append(reference.similarity(maps))
    if maps is None:
        raise ConfigError("the model has no tensor that could be made random")
    return Cascade([name for name, _ in parts], torch.stack(similarities), maps)


def other_classes(classes: Tensor, count: int, ids: Sequence[Id]) -> Tensor:
    """Return another class for each of the classes (B,), drawn by the image's id alone.

    Args:
        classes: (B,) in 0..count - 1.
        count: number of classes C.
        ids: ids of the images.
    """
    step = torch.tensor([1 + text % max(1, count - 1) for text in numbers_of([f"other {text}" for text in ids])])
    return (classes + step.to(classes.device)) % count


def shifted_model(model: nn.Module) -> nn.Module:
    """Return a copy that says of ``image + SHIFT`` what the model says of the image.

    Ours have the mean of their first layer moved; any other model gets the shift taken away before it.
    """
    with torch.inference_mode(False), torch.no_grad():
        network = copy.deepcopy(network_of(model)).eval()
        backbone = getattr(network, "backbone", None)
        first = getattr(backbone, "normalize", None)
        if isinstance(first, Normalize):
            first.mean += SHIFT
            return network
        if isinstance(first, TwoSided):
            first.shift += SHIFT
            return network
        return _Unshifted(network).eval()


class _Unshifted(nn.Module):
    """Takes a constant from the image before a model sees it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> object:
        return self.model(image - SHIFT)


def sanity(
    explain: Explain,
    model: nn.Module,
    images: Tensor,
    classes: Tensor,
    ids: Sequence[Id] | None = None,
    maps: Tensor | None = None,
    class_count: int | None = None,
    most: int = 8,
    more: int = 2,
    seed: int = 0,
    batch_size: int = 64,
) -> Sanity:
    """Check an explainer on a model; one that rectifies its maps, by its maps before that (`unrectified`).

    Two cascades, whose last networks are independent draws, and a few more random networks: what the explanations of
    each two of them have in common is the null, whose band ends where its central 95 % over pairs and images end. A
    cascade is passed if the upper end of the 95 % interval of the mean similarity after its last stage lies below that.
    Similarity is Spearman's over pixels: of absolute values in the cascades, in the other checks of signed values where
    the maps of the trained network have both signs. A map that became constant has a similarity of 0; in the null a
    pair with a constant map is left out, and where no two pairs remain the band is 1: only what stayed fails.

    - "other_target": of a random other class; passed if the upper end of the interval is below `SAME`.
    - "other_input": of an image that was given another class; likewise. None if all have one class.
    - "input_shift": of ``image + SHIFT``, the model changed so that it says the same; passed if the lower end is above
      `UNCHANGED`.

    A figure is NaN, and its check None, where fewer than two images have one: a map with a NaN has none.

    Args:
        explain: the explainer.
        model: ours, or any other; left as it is.
        images: (B, 3, H, W).
        classes: (B,) the explained classes.
        ids: ids of the images; their places by default.
        maps: (B, H, W) of the trained network, where they are known already; asked anew if they are rectified.
        class_count: C, asked from the model's ``class_names`` by default; without it there is no "other_target".
        most: stages at most.
        more: random networks beside those of the cascades; with one pair alone the band is that of two networks.
        seed: seed of the random networks.
        batch_size: images explained at a time.
    """
    signed = unrectified(explain)
    if maps is None or signed is not explain:
        maps = maps_of(signed, model, images, classes, batch_size)
    explain = signed
    both_signs = bool((maps < 0).any()) and bool((maps > 0).any())
    size, values = Reference(maps), Reference(maps, signed=both_signs)
    first = seed * (more + 2)
    down = cascade(explain, model, images, classes, size, "top_down", most, first, batch_size)
    up = cascade(explain, model, images, classes, size, "bottom_up", most, first + 1, batch_size)
    others = (random_network(model, draw) for draw in range(first + 2, first + 2 + more))
    maps_of_random = [maps_of(explain, network, images, classes, batch_size) for network in others]
    random = [Reference(stage) for stage in (down.last, up.last, *maps_of_random)]
    null = _null(random)
    passed: dict[str, bool | None] = {}
    figures: dict[str, float] = {}
    for name, direction in (("cascade_top_down", down), ("cascade_bottom_up", up)):
        figures[name] = mean_interval(direction.similarity[-1]).mean
        try:
            passed[name] = randomization_verdict(direction.similarity[-1], null).passed
        except ConfigError:  # too few images
            passed[name] = None
    checks = _checks(explain, model, images, classes, ids, values, class_count, batch_size)
    for name, interval in checks.items():
        figures[name] = interval.mean
        passed[name] = None if interval.n < 2 else _within(name, interval)
    intervals = [mean_interval(row) for row in down.similarity]
    return Sanity(
        stages=down.stages,
        similarity=np.array([interval.mean for interval in intervals]),
        low=np.array([interval.low for interval in intervals]),
        high=np.array([interval.high for interval in intervals]),
        band=float(torch.quantile(null, 0.975)),
        passed=passed,
        values=figures,
    )


def _null(random: Sequence[Reference]) -> Tensor:
    """Return (n,) similarities of the maps of each two random networks, where neither is constant; 1 where few are."""
    rows = []
    for one, other in itertools.combinations(random, 2):
        similarity = one.similarity_to(other)
        constant = (one.constant | other.constant).to(similarity.device)
        rows.append(similarity[~constant & ~similarity.isnan()])
    null = torch.cat(rows)
    return null if len(null) > 1 else null.new_ones(2)


def _within(name: str, interval: Interval) -> bool:
    return interval.low > UNCHANGED if name == "input_shift" else interval.high < SAME


def _checks(
    explain: Explain,
    model: nn.Module,
    images: Tensor,
    classes: Tensor,
    ids: Sequence[Id] | None,
    values: Reference,
    class_count: int | None,
    batch_size: int,
) -> dict[str, Interval]:
    """Return the similarity of the explanation of another class, of another image, and of shifted pixels."""
    nothing = Interval(float("nan"), float("nan"), float("nan"), 0, len(images))
    checks = {"other_target": nothing, "other_input": nothing}
    count = class_count or len(getattr(network_of(model), "class_names", ()))
    if count > 1:
        others = other_classes(classes, count, range(len(images)) if ids is None else ids)
        checks["other_target"] = mean_interval(values.similarity(maps_of(explain, model, images, others, batch_size)))
    if len(set(classes.tolist())) > 1:
        checks["other_input"] = mean_interval(values.similarity_to(values.select(partners(classes))))
    with warnings.catch_warnings():  # that 0 means another color after the shift is what the check is about
        warnings.filterwarnings("ignore", message=".*images range from")
        moved = maps_of(explain, shifted_model(model), images + SHIFT, classes, batch_size)
    return checks | {"input_shift": mean_interval(values.similarity(moved))}
