"""The one shape of every network here: image -> named units -> logits."""

from __future__ import annotations

import abc
import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ibd.backbones.base import Account, Backbone
from ibd.backbones.bcos.pixels import PixelMaps, PixelPass, reaches_pixels, what_it_takes
from ibd.backbones.receptive_field import ReceptiveField, receptive_field
from ibd.errors import ConfigError, UnsupportedError
from ibd.models.linear_head import replaced, seen_range
from ibd.models.painting import Pooling, paint
from ibd.models.quantities import deviations
from ibd.models.sliders import Sliders, value_sliders
from ibd.models.values import Scale, Values, resolved, unit_index
from ibd.types import Output, Painting, Quantity, Units


class InterpretableNetwork(nn.Module, abc.ABC):
    """A classifier whose logits are computed from units that a person can name.

    Shapes: B images, U units, C classes, h x w the feature map.

    Attributes:
        unit_kind: kind of the units: "concept", "prototype", "axis" or "channel".
        unit_names: the U names.
        unit_groups: group name -> indices of its units.
        class_names: the C names.
        backbone: network that turns images into feature maps.
        additive: whether ``logits == bias + contributions.sum(1)`` holds exactly.
        has_bias: whether the logits have a part that no unit accounts for, whatever the image, see `bias`.
        pooling: way in which a unit's map becomes its score.
        proportional: whether a contribution is the score times a number that does not depend on it, so that of a mean
            every position has an exact share, be it negative.
        linear_units: whether the sums of `linear_pass` are linear in the backbone's features, but for factors and
            choices.
        truth_values: whether `edit` sets units to truth values, 1 for true and 0 for false, and `readable` returns the
            probabilities of these. Such a network edits and decodes by the scores alone, without maps.
        quantities: the units that are numbers with a unit all the same: `edit` and `readable` have these in their unit.
        exclusive_groups: lists of units of which at most one is true in an image.
    """

    unit_kind: str
    additive: bool = True
    has_bias: bool = True
    pooling: Pooling = "mean"
    proportional: bool = False
    linear_units: bool = False
    truth_values: bool = False
    value_title: str = "value"
    """What the numbers of `readable` are, for the head of a table."""
    detail_title: str = ""
    """What `detail` says, for the head of a table."""

    def __init__(
        self,
        backbone: Backbone,
        unit_names: Sequence[str],
        class_names: Sequence[str],
        unit_groups: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.unit_names = list(unit_names)
        self.class_names = list(class_names)
        self.unit_groups = {name: list(indices) for name, indices in (unit_groups or {}).items()}
        self.exclusive_groups: list[list[int]] = []
        self.quantities: dict[int, Quantity] = {}
        self._fields: dict[tuple[int, int], ReceptiveField | None] = {}

    @abc.abstractmethod
    def encode(self, image: Tensor) -> Units:
        """Turn (B, 3, H, W) images in [0, 1] into units: the one pass of the backbone."""

    def encode_features(self, features: Tensor) -> Units:
        """Turn (B, D, h, w) features of the backbone into units; an UnsupportedError where these are not enough."""
        raise UnsupportedError(f"{type(self).__name__} makes its units of images, and not of features")

    @abc.abstractmethod
    def decode(self, units: Units) -> Tensor:
        """Turn units into (B, C) logits, without the backbone."""

    @abc.abstractmethod
    def edit(self, units: Units, values: Values) -> Units:
        """Return `units` with some of them set, ready to be decoded again.

        Args:
            units: units from `encode`.
            values: unit name or index -> value for all images, or a (B,) tensor of one value per image; see
                `resolve_values`.

        Raises:
            ConfigError: an unknown unit, or a value that the unit cannot take.
        """

    @abc.abstractmethod
    def contributions(self, units: Units) -> Tensor:
        """Return how much each unit adds to each class logit: (B, U, C)."""

    def shares(self, units: Units, painting: Painting = "pooling") -> Tensor:
        """Return where each unit's score came from: the share of every position, (B, U, h, w), adding up to 1 for each.

        What a unit contributes, times its shares, is its picture; it adds up to the contribution.

        Args:
            units: units from `encode`.
            painting: painting by the network's own pooling, or another way to lay it out; see
                `ibd.models.painting.paint`.
        """
        return paint(units.maps, units.scores, self.pooling, painting, self.proportional)

    @property
    def account(self) -> Account:
        """Down to where the network's account of itself is exact.

        "pixels": a class's logit, less the bias, is a sum over the pixels, see `pixel_maps`; "cells": over the cells of
        the map, each of which adds what the units say there (how much of the image a cell sees, `receptive_field`
        tells); "units": over the units alone, whose `shares` are a way to paint them, or, where the network is not
        `additive`, nothing is.
        """
        if self.linear_units and self.additive and reaches_pixels(self.backbone):
            return "pixels"
        return "cells" if self.proportional else "units"

    def linear_pass(self, image: Tensor) -> tuple[Units, Tensor]:
        """Return units of images, and their (B, U) scores less those without any image: what is a sum over pixels."""
        units = self.encode(image)
        return units, units.scores

    def pixel_pass(self, image: Tensor) -> PixelPass:
        """Return one pass of images to the units, whose scores can then be laid out over the pixels.

        Args:
            image: (B, 3, H, W) in [0, 1].

        Raises:
            UnsupportedError: `account` is not "pixels", or the backbone does not run its first layer, ``normalize``.
        """
        if self.account != "pixels":
            raise UnsupportedError(
                f"the account of this network is exact down to its {self.account}, not to pixels: "
                f"{what_it_takes(self.backbone)}"
            )
        with evaluating(self):
            return PixelPass(self, image)

    def pixel_maps(
        self,
        image: Tensor,
        contributions: Tensor | None = None,
        units: Sequence[int] | None = None,
        weights: bool = True,
    ) -> PixelMaps:
        """Return what units contribute, laid out over the pixels that their scores are the sum of, by one `pixel_pass`.

        Args:
            image: (B, 3, H, W) in [0, 1].
            contributions: (B, K, U) of K questions; None lays out the scores of `units`, one by one.
            units: units whose scores are laid out where no contributions are, by default all.
            weights: whether to keep the linear map, six times as large as the heat.
        """
        return self.pixel_pass(image).lay_out(contributions, weights=weights, units=units)

    def receptive_field(self, image_size: tuple[int, int]) -> ReceptiveField | None:
        """Return which pixels of an image the cells of the units' maps see; None where that cannot be told.

        Args:
            image_size: (H, W) in pixels.
        """
        if image_size not in self._fields:
            try:
                self._fields[image_size] = self.trace_receptive_field(image_size)
            except UnsupportedError:
                self._fields[image_size] = None
        return self._fields[image_size]

    def trace_receptive_field(self, image_size: tuple[int, int]) -> ReceptiveField:
        """Work out what `receptive_field` returns, and keeps.

        Raises:
            UnsupportedError: it cannot be told.
        """
        return receptive_field(self.backbone, image_size)

    @abc.abstractmethod
    def bias(self) -> Tensor:
        """Return the (C,) logits that no unit accounts for, whatever the image: zeros unless `has_bias`."""

    @abc.abstractmethod
    def readable(self, units: Units) -> Tensor:
        """Return the (B, U) values that a person reads, such as a concept's probability."""

    def passed(self, units: Units) -> Tensor:
        """Return the (B, U) numbers that the classes are made of: by default the scores.

        They are what is replaced where a unit is off.
        """
        return units.scores

    def decode_without(self, units: Units, off: Tensor, value: Tensor | float = 0.0) -> Tensor:
        """Return the (B, C) logits with some units of each image switched off, without the backbone.

        Args:
            units: units of B images.
            off: (B, U) bool.
            value: value of `passed` there, (U,) or one for all.

        Raises:
            UnsupportedError: the units of this network cannot be switched off.
        """
        return self.decode(Units(replaced(units.scores, off, value), units.maps, units.state))

    def beside(self, units: Units) -> Tensor:
        """Return the (B, R) numbers that classes are made of beside what units with a name say: R may be 0.

        By default, what is `passed` of the units without a name.
        """
        return self.passed(units)[:, ~self.named_units()]

    def decode_named(self, units: Units, beside: Tensor) -> Tensor:
        """Return the (B, C) logits of the units with a name alone: what is `beside` them is the same for every image.

        Args:
            units: units of B images.
            beside: (R,) what it is, such as the mean over the training images.

        Raises:
            UnsupportedError: as for `decode_without`.
        """
        off = ~self.named_units().to(units.scores.device)
        value = beside.new_zeros(len(off)).masked_scatter(off.to(beside.device), beside)
        return self.decode_without(units, off.expand(len(units.scores), -1), value)

    def linear_weight(self) -> Tensor | None:
        """Return the (C, U) weight W with which ``logits == passed @ W.T + bias``; None where there is none."""
        return None

    def value_range(self, passed: Tensor | None = None) -> tuple[float, float] | None:
        """Return the lowest and the highest value that `passed` takes; None where that is not known.

        Args:
            passed: (N, U) of some images; by default the range of these, and without them 0 to 1.
        """
        return seen_range(passed)

    def sliders(self, units: Units, seen: Tensor | None = None) -> Sliders:
        """Return as plain numbers what `edit` and `decode` make of units: for a page that answers without Python.

        Args:
            units: units from `encode`, not edited.
            seen: (N, U) of `passed` of some images, which may tell how far values go.

        Raises:
            UnsupportedError: these numbers are not known, as for any network that does not say what they are.
        """
        raise UnsupportedError(f"setting {self.unit_plural} takes the network itself")

    def _value_sliders(self, units: Units, seen: Tensor | None) -> Sliders:
        """Return the sliders of a network whose `edit` sets what is `passed`, of which its logits are linear."""
        weight = self.linear_weight()
        assert weight is not None
        parts = self.passed(units), weight, self.bias(), seen
        return value_sliders(self.unit_names, self.class_names, self.unit_groups, *parts)

    def rounded(self, units: Units) -> Units:
        """Return units set to true where their probability is above 0.5, else to false; quantities stay as they are.

        Raises:
            UnsupportedError: the units are not true or false.
        """
        if not self.truth_values:
            raise UnsupportedError(f"{self.unit_plural} cannot be rounded: they are not true or false")
        truth = (self.readable(units) > 0.5).to(units.scores.dtype)
        return self.edit(units, {k: truth[:, k] for k in range(truth.shape[1]) if k not in self.quantities})

    def unit_scale(self) -> Tensor | None:
        """Return what changes of `readable` are measured in, (U,), NaN where unknown, None for nothing.

        By default that is 1 for truth values, and their standard deviation for quantities.
        """
        return deviations(self.quantities, len(self.unit_names)) if self.truth_values else None

    def perfect_score(self) -> float | None:
        """Return the score of a patch that is exactly what a unit looks for; None where units look for no patch."""
        return None

    def named_units(self) -> Tensor:
        """Return which units mean something that a person can name, (U,) bool: by default all."""
        return torch.ones(len(self.unit_names), dtype=torch.bool)

    def for_inference(self) -> InterpretableNetwork:
        """Return a copy, in evaluation mode, that computes the same, faster where that can be: what is measured."""
        return copy.deepcopy(self).eval()

    def forward(self, image: Tensor) -> Output:
        """Return logits and units of (B, 3, H, W) images in [0, 1]."""
        units = self.encode(image)
        return Output(self.decode(units), units)

    def class_probabilities(self, logits: Tensor) -> Tensor:
        """Return the (B, C) class probabilities that (B, C) logits stand for."""
        return logits.softmax(1)

    def abstains(self, logits: Tensor) -> Tensor:
        """Return for which images there is no prediction, (B,) bool: for none, unless a network knows of such."""
        return torch.zeros(len(logits), dtype=torch.bool, device=logits.device)

    def unit_index(self, key: str | int) -> int:
        """Return the index of a unit given by name or index.

        Raises:
            ConfigError: there is no such unit; the message names the nearest ones.
        """
        return unit_index(self, key)

    def detail(self, unit: int, class_index: int) -> str:
        """Return what else a reader should know of a unit beside a class, in a few words; "" for nothing."""
        return ""

    @property
    def article(self) -> str:
        """The article of `unit_kind`."""
        return "an" if self.unit_kind[0] in "aeiou" else "a"

    @property
    def unit_plural(self) -> str:
        """What several units are called."""
        return "axes" if self.unit_kind == "axis" else f"{self.unit_kind}s"

    def unmoved(self, units: Units) -> Units | None:
        """Return units with those that moved with others where the image had them; None where none can move."""
        return None

    @property
    def edit_note(self) -> str:
        """What a reader of an edited prediction must know of the values it shows; appended to a note."""
        return ""

    def resolve_values(self, values: Values) -> dict[int, float | Tensor | Scale]:
        """Return index -> value; a string is a group's member: ``{"group": "member"}`` is ``{"group::member": 1}``.

        Raises:
            ConfigError: an unknown unit or group member, a value that is no number, a unit given twice, or no mapping.
        """
        return resolved(self, values)

    def changed(self, value: float | Tensor | Scale, current: Tensor) -> Tensor:
        """Return what a unit becomes that is set to a value, or scaled, like what it is now, (B, ...).

        Raises:
            ConfigError: as for `column`.
        """
        given = value.factor if isinstance(value, Scale) else value
        column = self.column(given, current).view(-1, *[1] * (current.dim() - 1))
        return current * column if isinstance(value, Scale) else column.expand_as(current)

    def column(self, value: float | Tensor | Scale, scores: Tensor) -> Tensor:
        """Return a value of `edit` as one for each image, (B,), of the type of scores, (B, ...).

        Raises:
            ConfigError: a tensor of another shape, a value that is not finite, or a factor.
        """
        if isinstance(value, Scale):
            raise ConfigError(f"{self.article} {self.unit_kind} cannot be scaled by a factor: a number is needed")
        column = torch.as_tensor(value, dtype=scores.dtype, device=scores.device)
        if column.numel() != 1 and column.shape != scores.shape[:1]:
            raise ConfigError(
                f"{self.article} {self.unit_kind} is set to a tensor of shape {tuple(column.shape)}: one value, or "
                f"one for each of the {len(scores)} images is needed"
            )
        if not bool(column.isfinite().all()):
            raise ConfigError(f"{self.article} {self.unit_kind} is set to {value}: a finite number is needed")
        return column.flatten().expand(len(scores))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode for a while; each of its parts gets back the mode that it had."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
