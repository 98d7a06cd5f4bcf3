"""The post-hoc bottleneck: frozen features -> activations of directions -> a sparse linear head (Yuksekgonul 2023)."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from ibd.backbones.base import Backbone
from ibd.backbones.precision import full_precision
from ibd.errors import ConfigError
from ibd.explain.directions import Reading
from ibd.explain.elastic_net import SparseHead
from ibd.explain.nonnegative import nonnegative_codes
from ibd.models.base import InterpretableNetwork
from ibd.models.cbm.network import ConceptBottleneckNetwork
from ibd.models.linear_head import seen_range
from ibd.models.painting import spatial_mean
from ibd.models.sliders import Asked, Sliders, plain, value_sliders
from ibd.models.sparse_heads import possible_budgets
from ibd.models.values import Values
from ibd.types import DataSpec, Units, groups_of


class PosthocNetwork(ConceptBottleneckNetwork):
    """A bottleneck of logits whose concepts are directions of the features, read at each place and averaged.

    Where the directions are planes between labelled examples whose distance is calibrated, a score is the log odds of
    the concept, which is edited and read as a truth value. Otherwise it is an activation on a scale of its own: of a
    linear reading in deviations from the mean of the training images, of another the activation itself, which is 0
    where nothing of the concept is there.

    With a rest there is, for each class, one more unit: what the features say for it beyond the concepts, which nobody
    has named, see `named_units`.

    Args:
        backbone: feature extractor with D channels.
        spec: description of the data, with the C classes.
        units: what the K concepts are, as plain values: their "names"; "reading" and "active", how features become
            activations (`ibd.explain.directions.Directions`); "truth", whether scores are calibrated log odds;
            "budgets", effective concepts a class of further heads.
        rest: whether there are units beyond the concepts.

    Attributes:
        budgets: effective concepts a class of the further heads; before these are made, `possible_budgets`.
        deviation: (U,) of the scores over the training images.
        few_weight: (budgets, C, K) weights of heads with so many effective concepts a class.
        few_bias: (budgets, C).
    """

    deviation: Tensor
    few_weight: Tensor
    few_bias: Tensor
    head: nn.Linear

    def __init__(self, backbone: Backbone, spec: DataSpec, units: dict[str, Any], rest: bool = False) -> None:
        names, self.reading = _names(units), _reading(units)
        truth, classes = bool(units.get("truth")), list(spec.class_names)
        groups: dict[str, tuple[int, ...]] = {name: (k,) for k, name in enumerate(names)}
        if truth:
            groups = groups_of(names)
        own = dataclasses.replace(
            spec,
            concept_names=names,
            concept_groups=groups,
            exclusive_groups=tuple(name for name in spec.exclusive_groups if name in groups) if truth else (),
            quantities={},
        )
        super().__init__(backbone, own, "logits", residual=len(classes) if rest else 0)
        self.unit_names[len(names) :] = [f"rest of {name}" for name in classes] if rest else []
        self.truth_values = truth
        self.known_columns = [_column(name, spec) for name in names] if truth else []
        self.active = int(units.get("active") or 0)
        self.linear_units = self.reading == "linear"
        self.from_offset = self.from_offset and self.linear_units
        self.budgets = _budgets(units, len(names))
        self.register_buffer("deviation", torch.ones(len(self.unit_names)))
        self.register_buffer("few_weight", torch.zeros(len(self.budgets), len(classes), len(names)))
        self.register_buffer("few_bias", torch.zeros(len(self.budgets), len(classes)))

    @torch.no_grad()
    def set_directions(self, vectors: Tensor, offsets: Tensor) -> None:
        """Set what the concepts are: (K, D) and (K,)."""
        assert self.concepts.bias is not None
        self.concepts.weight[: self.concept_count] = vectors[:, :, None, None].to(self.concepts.weight)
        self.concepts.bias[: self.concept_count] = offsets.to(self.concepts.bias)

    @torch.no_grad()
    def set_rest(self, weight: Tensor, bias: Tensor) -> None:
        """Set what the features say for each class beyond the concepts: (C, D) and (C,)."""
        assert self.concepts.bias is not None
        self.concepts.weight[self.concept_count :] = weight[:, :, None, None].to(self.concepts.weight)
        self.concepts.bias[self.concept_count :] = bias.to(self.concepts.bias)

    @torch.no_grad()
    def set_head(self, head: SparseHead, few: Iterable[SparseHead] = ()) -> None:
        """Set what the classes are made of, and the heads of `budgets`; a rest counts for its own class as it is."""
        own = torch.eye(len(self.class_names))[:, : len(self.unit_names) - self.concept_count]
        self.head.weight.copy_(torch.cat([head.weight.to(own.device), own.to(head.weight.dtype)], 1))
        self.head.bias.copy_(head.bias)
        for place, each in enumerate(few):
            self.few_weight[place], self.few_bias[place] = each.weight, each.bias

    def encode_features(self, features: Tensor) -> Units:
        """Turn (B, D, h, w) features into activations and their maps, in float32 also under autocast."""
        with full_precision(features):
            features = features.to(self.concepts.weight.dtype)
            maps = self.concepts(features)
            if self.reading != "linear":
                maps = torch.cat(
                    [self._read(maps[:, : self.concept_count], features), maps[:, self.concept_count :]], 1
                )
        return Units(spatial_mean(maps), maps)

    def _read(self, maps: Tensor, features: Tensor) -> Tensor:
        """Return the (B, K, h, w) activations of features, of which (B, K, h, w) are the products with the vectors."""
        if self.reading == "relu":
            return maps.relu()
        if self.reading == "topk":
            largest, where = maps.topk(self.active, dim=1)
            return torch.zeros_like(maps).scatter(1, where, largest).relu()
        rows = features.permute(0, 2, 3, 1).flatten(0, 2)
        codes = nonnegative_codes(rows, self.concepts.weight[: self.concept_count].flatten(1))
        return codes.view(len(maps), *maps.shape[2:], self.concept_count).permute(0, 3, 1, 2)

    def few_logits(self, units: Units) -> Tensor:
        """Return the (budgets, B, C) logits of the heads with so many effective concepts a class."""
        with full_precision(units.scores):
            scores = units.scores[:, : self.concept_count].to(self.few_weight.dtype)
            return scores @ self.few_weight.transpose(1, 2) + self.few_bias.unsqueeze(1)

    def labelled(self, concepts: Tensor) -> Tensor:
        """Return what is known of the concepts, (N, K), of those of the data; NaN where they are not calibrated."""
        if not self.truth_values:
            return concepts.new_full((len(concepts), self.concept_count), torch.nan)
        return concepts[:, self.known_columns]

    def edit(self, units: Units, values: Values) -> Units:
        """Set calibrated concepts to truth values in [0, 1], and other units to an activation, or scale them.

        Raises:
            ConfigError: as for `ConceptBottleneckNetwork.edit`.
        """
        resolved = self.resolve_values(values)
        truths = {index: value for index, value in resolved.items() if self.truth_values and index < self.concept_count}
        edited = super().edit(units, truths) if truths else units
        scores = edited.scores.clone()
        for index, value in resolved.items():
            if index not in truths:
                scores[:, index] = self.changed(value, scores[:, index])
        return Units(scores, units.maps, units.state)

    def rounded(self, units: Units) -> Units:
        """Return the concepts set to true or false, and a rest as it is.

        Raises:
            UnsupportedError: they are not calibrated.
        """
        return super().rounded(units) if self.truth_values else InterpretableNetwork.rounded(self, units)

    def readable(self, units: Units) -> Tensor:
        """Return the probabilities of calibrated concepts, and the activations of other units, (B, U)."""
        return super().readable(units) if self.truth_values else units.scores

    def unit_scale(self) -> Tensor:
        """Return 1 for truth values, and the deviation over the training images for other units, (U,)."""
        return torch.where(self.named_units().to(self.deviation.device) & self.truth_values, 1.0, self.deviation)

    def value_range(self, passed: Tensor | None = None) -> tuple[float, float] | None:
        """Return what stands for false and true, or how far activations go."""
        return super().value_range(passed) if self.truth_values else seen_range(passed)

    def sliders(self, units: Units, seen: Tensor | None = None) -> Sliders:
        """Return sliders that set calibrated concepts to truth values, and other units to an activation."""
        activations = None if seen is None else seen.to(units.scores.device) + self._nothing()
        parts = units.scores, self.head.weight, self.head.bias, activations
        by_value = value_sliders(self.unit_names, self.class_names, self.unit_groups, *parts)
        if not self.truth_values:
            return by_value
        told = super().sliders(units, seen)
        low, high = seen_range(units.scores[:, self.concept_count :])
        rest = ~plain(self.named_units()).astype(bool)
        asked: list[Asked] = [kind or "value" for kind in told.asked]
        return dataclasses.replace(
            told, asked=asked, low=np.where(rest, low, told.low), high=np.where(rest, high, told.high)
        )

    @property
    def edit_note(self) -> str:
        """What stands for true and false, where concepts have truth values."""
        return super().edit_note if self.truth_values else ""


def _budgets(units: dict[str, Any], count: int) -> list[int]:
    """Return the effective concepts a class of the further heads.

    Raises:
        ConfigError: they are no whole numbers from 1.
    """
    given = units.get("budgets", possible_budgets(count))
    if not isinstance(given, list | tuple) or not all(type(budget) is int and budget >= 1 for budget in given):
        raise ConfigError(f"model.units: budgets: {given} given, whole numbers from 1 are needed")
    return list(given)


def _names(units: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the concepts.

    Raises:
        ConfigError: there are none, or one comes twice.
    """
    names = units.get("names")
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise ConfigError("model.units: names: a list of names of concepts is needed")
    if len(set(names)) < len(names):
        raise ConfigError("model.units: names: one is given twice")
    return tuple(names)


def _column(name: str, spec: DataSpec) -> int:
    """Return which concept of the data has a name.

    Raises:
        ConfigError: none has, or it is a quantity.
    """
    if name not in spec.concept_names:
        raise ConfigError(f"model.units: names: the data has no concept '{name}'")
    if name in spec.quantities:
        raise ConfigError(f"model.units: names: '{name}' is a quantity, which no image is an example of")
    return spec.concept_names.index(name)


def _reading(units: dict[str, Any]) -> Reading:
    """Return how features become activations.

    Raises:
        ConfigError: there is no such way, or too many may be active.
    """
    reading, active = units.get("reading", "linear"), units.get("active")
    if reading not in get_args(Reading):
        raise ConfigError(f"model.units: reading: '{reading}' is not one of {', '.join(get_args(Reading))}")
    if reading == "topk" and not (isinstance(active, int) and 1 <= active <= len(_names(units))):
        raise ConfigError(f"model.units: active: {active} given, 1 to the number of concepts is needed")
    return cast(Reading, reading)
