"""The vocabulary that every room shares.

Shapes: B images, C classes, K concepts, P parts, U units, H x W the image, h x w a feature map.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor

from ibd.errors import ConfigError


class HasFolder(Protocol):
    """What ``ibd.fit`` returns, to those who only read the run."""

    @property
    def folder(self) -> Path:
        """The run folder."""


RunLike = str | os.PathLike[str] | HasFolder
"""A run folder, a checkpoint file, or what ``ibd.fit`` returned."""

Resize = Literal["squash", "crop", "pad"]
Painting = Literal["pooling", "score_sign", "peak", "top", "minimum", "receptive_field"]
"""How what a unit contributes is laid out over its map: by how its score was pooled, or in another way
(`ibd.models.painting`)."""


@dataclass(frozen=True)
class Quantity:
    """A concept that is a number with a unit, such as a length in mm, and not true or false.

    Attributes:
        unit: its unit; "" where it has none.
        mean: mean over the training images, in the unit.
        deviation: standard deviation over them, above 0.
    """

    unit: str
    mean: float
    deviation: float

    def shown(self, value: float) -> str:
        """Return a value with its unit, such as ``12.5 mm``, to a hundredth of the deviation."""
        digits = max(0, 2 - math.floor(math.log10(self.deviation)))
        return f"{round(value, digits) + 0.0:.{min(digits, 12)}f} {self.unit}".rstrip()


@dataclass(frozen=True)
class DataSpec:
    """What a model must know of its data; travels in every checkpoint as plain values.

    Attributes:
        class_names: the C classes, in label order.
        concept_names: the K concepts, by convention ``group::value``.
        concept_groups: group name -> indices into `concept_names`; every concept is in exactly one group.
        exclusive_groups: the groups of which at most one concept holds in one image.
        part_names: the P annotated parts, the order of ``Batch.masks``.
        image_size: (height, width) that the network is fed with, in pixels.
        resize: way to bring an image of another size to `image_size` (see ``ibd.data.transforms``).
        quantities: name -> quantity, of the concepts that are numbers; the others are true or false.
    """

    class_names: tuple[str, ...]
    concept_names: tuple[str, ...] = ()
    concept_groups: dict[str, tuple[int, ...]] = field(default_factory=dict)
    exclusive_groups: tuple[str, ...] = ()
    part_names: tuple[str, ...] = ()
    image_size: tuple[int, int] = (224, 224)
    resize: Resize = "crop"
    quantities: dict[str, Quantity] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the specification as lists, dicts, strings and numbers only."""
        plain = dataclasses.asdict(self)
        plain["concept_groups"] = {name: list(indices) for name, indices in self.concept_groups.items()}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in plain.items()}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> DataSpec:
        """Rebuild a specification from what `to_dict` returned.

        Raises:
            ConfigError: it did not return that.
        """
        _check_plain(plain)
        values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
        values["concept_groups"] = {name: tuple(indices) for name, indices in plain.get("concept_groups", {}).items()}
        values["quantities"] = {name: Quantity(**given) for name, given in plain.get("quantities", {}).items()}
        return cls(**values)

    @property
    def measured(self) -> dict[int, Quantity]:
        """The quantities by the number of the concept."""
        return {self.concept_names.index(name): quantity for name, quantity in self.quantities.items()}

    @property
    def truths(self) -> list[int]:
        """The numbers of the concepts that are true or false, and no quantities."""
        return [index for index, name in enumerate(self.concept_names) if name not in self.quantities]


_MOST_PIXELS = 2**13
"""Along a side of an image that a network is fed with."""


def _check_plain(plain: dict[str, Any]) -> None:
    """Check the plain values of a specification: they come from a checkpoint, which anybody may have written."""
    for key in ("class_names", "concept_names", "exclusive_groups", "part_names"):
        names = plain.get(key, [])
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise ConfigError(f"spec.{key}: a list of names is needed")
    size = plain.get("image_size", [1, 1])
    if not isinstance(size, list | tuple) or len(size) != 2 or not all(_is_index(n - 1, _MOST_PIXELS) for n in size):
        raise ConfigError(f"spec.image_size: {size} given, a height and a width of 1 to {_MOST_PIXELS} are needed")
    groups, count = plain.get("concept_groups", {}), len(plain.get("concept_names", []))
    if not isinstance(groups, dict) or not all(_is_index(n, count) for members in groups.values() for n in members):
        raise ConfigError(f"spec.concept_groups: lists of numbers of the {count} concepts are needed")
    quantities = plain.get("quantities", {})
    if not isinstance(quantities, dict):
        raise ConfigError("spec.quantities: a unit, a mean and a deviation by concept are needed")
    for name, given in quantities.items():
        if name not in plain.get("concept_names", []) or not _is_quantity(given):
            raise ConfigError(
                f"spec.quantities: '{name}' is {given!r:.60}: a concept with its unit, its mean, and its deviation "
                "above 0 is needed"
            )
    if plain.get("resize", "crop") not in get_args(Resize):
        raise ConfigError(f"spec.resize: {plain['resize']!r} is not one of {', '.join(get_args(Resize))}")


def _is_quantity(given: object) -> bool:
    if (
        not isinstance(given, dict)
        or given.keys() != {"unit", "mean", "deviation"}
        or not isinstance(given["unit"], str)
    ):
        return False
    mean, deviation = given["mean"], given["deviation"]
    return all(isinstance(n, int | float) and math.isfinite(n) for n in (mean, deviation)) and deviation > 0


def _is_index(value: object, count: int) -> bool:
    return isinstance(value, int) and 0 <= value < count


def groups_of(concept_names: tuple[str, ...] | list[str]) -> dict[str, tuple[int, ...]]:
    """Return group name -> concept indices by the ``group::value`` convention.

    A name without ``::`` is a group of its own.
    """
    groups: dict[str, list[int]] = {}
    for index, name in enumerate(concept_names):
        groups.setdefault(name.split("::", 1)[0], []).append(index)
    return {name: tuple(indices) for name, indices in groups.items()}


@dataclass(frozen=True)
class Sample:
    """One item of a dataset: what `collate` stacks into a `Batch`."""

    image: Tensor
    """(3, H, W) float32 in [0, 1]."""
    label: int
    concepts: Tensor
    """(K,) float32 in [0, 1], quantities in their units; NaN where unknown."""
    index: int
    """Position in its split."""
    masks: Tensor | None = None
    """(P, H, W) bool: the visible pixels of each part; masks may overlap."""
    features: Tensor | None = None
    """(D, h, w) of a frozen backbone, which stand for the image: that is (3, 0, 0) then."""


@dataclass  # not frozen: Lightning writes the fields of a copy where it converts them (precision 64-true)
class Batch:
    """A batch of images with all that is known of them.

    Attributes:
        image: (B, 3, H, W) float32 in [0, 1].
        label: (B,) int64.
        concepts: (B, K) float32, 0 or 1 (or between, for soft annotations), a quantity in its unit; NaN where unknown.
        index: (B,) int64 position in the split; -1 marks padding that must not be counted.
        masks: (B, P, H, W) bool or None.
        features: (B, D, h, w) of a frozen backbone, which stand for the images, (B, 3, 0, 0) then; or None.
    """

    image: Tensor
    label: Tensor
    concepts: Tensor
    index: Tensor
    masks: Tensor | None = None
    features: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return int(self.image.shape[0])

    def _map(self, name: str, *args: object, **kwargs: object) -> Batch:
        values: dict[str, Any] = {}
        for part in dataclasses.fields(self):
            value = getattr(self, part.name)
            values[part.name] = None if value is None else getattr(value, name)(*args, **kwargs)
        return Batch(**values)

    def to(self, *args: Any, **kwargs: Any) -> Batch:
        """Move every tensor, as ``Tensor.to`` does (Lightning calls this)."""
        return self._map("to", *args, **kwargs)

    def pin_memory(self) -> Batch:
        """Pin every tensor (the data loader calls this)."""
        return self._map("pin_memory")

    def select(self, keep: Tensor) -> Batch:
        """Return the images where `keep`, a (B,) bool tensor, is true."""
        return self._map("__getitem__", keep)


@dataclass(frozen=True)
class Units:
    """What an image was turned into: the named things that the class logits are computed from.

    Attributes:
        scores: (B, U).
        maps: (B, U, h, w): where in the image each unit was seen.
        state: tensors that ``decode`` reads beside the scores, (B, ...) each; empty where it reads nothing else.
    """

    scores: Tensor
    maps: Tensor
    state: tuple[Tensor, ...] = ()

    def __getitem__(self, keep: Any) -> Units:
        """Return the units of some of the images."""
        return Units(self.scores[keep], self.maps[keep], tuple(part[keep] for part in self.state))

    @classmethod
    def cat(cls, parts: Sequence[Units]) -> Units:
        """Return the units of several batches as those of one."""
        return cls(
            torch.cat([part.scores for part in parts]),
            torch.cat([part.maps for part in parts]),
            tuple(torch.cat(same) for same in zip(*(part.state for part in parts), strict=True)),
        )

    def detach(self) -> Units:
        """Return the same values outside of the autograd graph."""
        return Units(self.scores.detach(), self.maps.detach(), tuple(part.detach() for part in self.state))


class Output(NamedTuple):
    """What a network returns: (B, C) logits and the units they rest on."""

    logits: Tensor
    units: Units


def stack_samples(samples: list[Sample]) -> Batch:
    """Stack dataset items into a batch (the ``collate_fn`` of every loader)."""
    masks = [s.masks for s in samples if s.masks is not None]
    if masks and len(masks) < len(samples):
        raise ValueError("some of these samples have masks and some have none")
    features = [s.features for s in samples if s.features is not None]
    return Batch(
        image=torch.stack([s.image for s in samples]),
        label=torch.tensor([s.label for s in samples], dtype=torch.int64),
        concepts=torch.stack([s.concepts for s in samples]),
        index=torch.tensor([s.index for s in samples], dtype=torch.int64),
        masks=torch.stack(masks) if masks else None,
        features=torch.stack(features) if features else None,
    )
