"""The prototype network: image -> patches -> similarity to prototypes -> class logits (Chen et al. 2019)."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from ibd.backbones.base import Account, Backbone
from ibd.backbones.bcos.layers import b_of
from ibd.backbones.receptive_field import ReceptiveField, receptive_field
from ibd.errors import ConfigError, check_range, check_weights
from ibd.models.linear_head import seen_range
from ibd.models.protopnet.add_on import AddOn, build_add_on
from ibd.models.protopnet.distance import all_distances, nearest_patches, patches_of
from ibd.models.protopnet.provenance import Provenance
from ibd.models.protopnet.similarity import Activation, Distance, activate, comparable, from_squared, is_blank
from ibd.models.prototypes import LinearPrototypes
from ibd.types import DataSpec, Units


@dataclasses.dataclass(frozen=True)
class Matches:
    """How the patches of some images compare with the prototypes.

    Attributes:
        distance: (B, P, k) of the k nearest patches, ascending.
        position: (B, P, k) int64, row * columns + column.
        grid: rows and columns of the patches.
        maps: (B, P, h, w) similarity at every position, where asked for.
    """

    distance: Tensor
    position: Tensor
    grid: tuple[int, int]
    maps: Tensor | None


class PrototypeNetwork(LinearPrototypes):
    """A unit is a prototype; its score is how alike the most alike patch of the image is.

    Args:
        backbone: feature extractor.
        spec: description of the data, with the C classes.
        per_class: K; the prototypes of class c are c * K to c * K + K - 1.
        dimension: D of a prototype; for `add_on` "none" it must be the backbone's channels.
        extent: cells of the feature map that a prototype covers, along both sides.
        add_on: layers between backbone and prototypes.
        distance: "l2" (squared) or "cosine" (1 - cosine).
        activation: function that makes a distance a similarity.
        top_k: number of most similar positions whose mean is the score; 1 takes the maximum.

    Attributes:
        prototypes: (P, D * extent * extent).
        head: linear, without bias: 1 to the own class and -0.5 to others, at first.
        mask: (P,) bool, False for a pruned prototype.
        factor: (P,) what a person multiplies the similarities with, 1 unless edited.
        provenance: training patches that the prototypes are.
    """

    linear_units = True
    value_title = "similarity"
    detail_title = "x weight, class of the prototype, its source (row, column)"
    classes: Tensor

    def __init__(
        self,
        backbone: Backbone,
        spec: DataSpec,
        per_class: int = 10,
        dimension: int = 128,
        extent: int = 1,
        add_on: AddOn = "regular",
        distance: Distance = "l2",
        activation: Activation = "log",
        top_k: int = 1,
    ) -> None:
        check_range("model.per_class", per_class, least=1)
        check_range("model.dimension", dimension, least=1)
        check_range("model.extent", extent, least=1)
        check_range("model.top_k", top_k, least=1)
        if add_on == "none" and dimension != backbone.out_channels:
            raise ConfigError(
                f"model.dimension: {dimension} given, but without add-on layers a prototype has the backbone's "
                f"{backbone.out_channels} channels"
            )
        count = per_class * len(spec.class_names)
        check_weights("model.dimension", dimension, dimension * backbone.out_channels)
        check_weights("model.extent", extent, dimension * extent**2)
        check_weights("model.per_class", per_class, count * (dimension * extent**2 + len(spec.class_names)))
        groups = {name: list(range(c * per_class, (c + 1) * per_class)) for c, name in enumerate(spec.class_names)}
        super().__init__(backbone, count, spec.class_names, groups)
        self.per_class, self.dimension, self.extent, self.top_k = per_class, dimension, extent, top_k
        self.pooling = "max" if top_k == 1 else "top_k"
        self.distance: Distance = distance
        self.activation: Activation = activation
        self.add_on = build_add_on(add_on, backbone.out_channels, dimension, sigmoid=distance == "l2", b=b_of(backbone))
        self.prototypes = nn.Parameter(torch.rand(count, dimension * extent * extent))
        if distance == "cosine":  # directions of all signs, as those of features without a sigmoid
            nn.init.normal_(self.prototypes)
        self.head = nn.Linear(count, len(spec.class_names), bias=False)
        classes = [label for label in range(len(spec.class_names)) for _ in range(per_class)]
        self.register_buffer("classes", torch.tensor(classes))  # of `arange`, some releases of torch bring sympy
        self.provenance = Provenance(count)
        with torch.no_grad():
            self.head.weight.copy_(self.initial_head())

    def initial_head(self) -> Tensor:
        """Return the (C, P) last layer that training starts with: 1 to the own class, -0.5 to the others."""
        count = len(self.class_names)
        by_class = torch.full((count, count), -0.5, device=self.classes.device).fill_diagonal_(1.0)
        return by_class.index_select(1, self.classes)  # arithmetic, and `scatter_`, without memory import a compiler

    def own(self) -> Tensor:
        """Return which connections of the last layer are between a prototype and its own class, (C, P) bool."""
        return self.initial_head() > 0

    def features(self, image: Tensor) -> Tensor:
        """Return the (B, D, h, w) features that patches are cut from."""
        return self.add_on(self.backbone_maps(image))  # type: ignore[no-any-return]

    def trace_receptive_field(self, image_size: tuple[int, int]) -> ReceptiveField:
        """Return what the patches that are compared with prototypes see: `extent` cells along both sides."""
        field, more = receptive_field(nn.Sequential(self.backbone, self.add_on), image_size), self.extent - 1
        (height, width), (down, across), (top, left) = field.size, field.stride, field.offset
        return dataclasses.replace(
            field,
            size=(height + more * down, width + more * across),
            offset=(top + more / 2 * down, left + more / 2 * across),
            grid=(field.grid[0] - more, field.grid[1] - more),
        )

    def match(self, features: Tensor, maps: bool = True, k: int | None = None) -> Matches:
        """Compare all patches of (B, D, h, w) features with all prototypes, in float32 or better.

        Args:
            features: features from `features`.
            maps: whether to return also the similarity at every position.
            k: number of nearest patches; by default `top_k`.
        """
        if min(features.shape[2:]) < self.extent:
            raise ConfigError(
                f"model.extent: {self.extent} given, but the feature map has {features.shape[2]} x {features.shape[3]} "
                "cells"
            )
        patches, grid = patches_of(features, (self.extent, self.extent))
        blank = is_blank(patches) if self.distance == "cosine" else None  # (B, L), of no direction
        patches = comparable(patches, self.distance, 2)
        prototypes = comparable(self.prototypes, self.distance, 1)
        # Where a map is asked for, somebody looks at places, and they must not hang on the batch or the processor.
        nearest = nearest_patches(patches, prototypes, min(k or self.top_k, patches.shape[1]), first=maps)
        distance = from_squared(nearest.distance, self.distance)
        if blank is not None:
            places = nearest.position.flatten(1)
            distance = distance.masked_fill(blank.gather(1, places).view_as(nearest.position), 1.0)
        similarity = None
        if maps:
            everywhere = from_squared(all_distances(patches, prototypes, nearest), self.distance)
            if blank is not None:
                everywhere = everywhere.masked_fill(blank.unsqueeze(1), 1.0)
            similarity = activate(everywhere, self.activation, self.distance).view(*everywhere.shape[:2], *grid)
        return Matches(distance, nearest.position, grid, similarity)

    @property
    def account(self) -> Account:
        """Down to where the account is exact: to pixels for the cosine, linear in a patch's direction."""
        known = super().account
        linear = self.distance == "cosine" and self.activation == "linear"
        return "units" if known == "pixels" and not linear else known

    def linear_pass(self, image: Tensor) -> tuple[Units, Tensor]:
        """Return the units, and the (B, P) cosines with the patches that the scores are of: what is a sum over pixels.

        The cosines are made anew of these patches: a distance has squares in it, which are not linear.
        """
        features = self.features(image)
        with torch.no_grad():
            matches = self.match(features.detach(), maps=True)  # positions are (B, P, k)
        patches, _ = patches_of(features, (self.extent, self.extent))
        cosines = comparable(patches, self.distance, 2) @ comparable(self.prototypes, self.distance, 1).t()
        return self._units_of(matches), cosines.transpose(1, 2).gather(2, matches.position).mean(2)

    def score(self, distance: Tensor) -> Tensor:
        """Return (..., P) similarities of (..., P, k) distances."""
        return activate(distance, self.activation, self.distance).mean(-1)

    def encode(self, image: Tensor) -> Units:
        """Turn (B, 3, H, W) images into similarities and their maps.

        The state is the (B, P) distances to the nearest patches, which the losses read. In training mode the maps are
        (B, P, 0, 0): nobody looks at them.
        """
        return self._units_of(self.match(self.features(image), maps=not self.training))

    def encode_features(self, features: Tensor) -> Units:
        """Turn the (B, D', h, w) features of the backbone into similarities and their maps, as `encode` does."""
        return self._units_of(self.match(self.add_on(features), maps=not self.training))

    def _units_of(self, matches: Matches) -> Units:
        scores = self.score(matches.distance)
        maps = scores.new_empty(*scores.shape, 0, 0) if matches.maps is None else matches.maps
        return Units(scores, maps, (matches.distance[..., 0],))

    def perfect_score(self) -> float:
        """Return the similarity of a patch that is the prototype itself: the highest there is."""
        return float(activate(torch.zeros(()), self.activation, self.distance))

    def value_range(self, passed: Tensor | None = None) -> tuple[float, float]:
        """Return the lowest and the highest similarity; a squared distance has no bound, but that of some images."""
        low = 0.0
        if self.activation == "linear":
            low = seen_range(passed)[0] if self.distance == "l2" else -1.0
        return low, self.perfect_score()

    def detail(self, unit: int, class_index: int) -> str:
        """Return the weight to a class, and where the prototype is from."""
        width = max(map(len, self.class_names))
        text = f"{super().detail(unit, class_index)}  {self.class_names[int(self.classes[unit])]:<{width}}"
        text += "" if bool(self.mask[unit]) else "  (pruned)"
        if bool(self.provenance.valid):
            row, column = self.provenance.position[unit].tolist()
            text += f"  {self.provenance.name_of(unit)} ({row}, {column})"
        return text

    def replace(self, prototype: str | int, image: Tensor, row: int, column: int, name: str = "") -> None:
        """Set a prototype to a patch of another image, for good.

        Args:
            prototype: name or index.
            image: (3, H, W) in [0, 1] at the training size.
            row: row of the patch in the feature map.
            column: column of the patch.
            name: name to remember as its source.

        Raises:
            ConfigError: there is no such prototype or position.
        """
        index = self.unit_index(prototype)
        with torch.no_grad():
            patches, (rows, columns) = patches_of(self.features(image.unsqueeze(0)), (self.extent, self.extent))
            if not (0 <= row < rows and 0 <= column < columns):
                raise ConfigError(
                    f"there is no position ({row}, {column}): patches lie in {rows} rows, {columns} columns"
                )
            self.prototypes[index] = patches[0, row * columns + column].to(self.prototypes.dtype)
            names = self.provenance.names()
            names[index] = name
            self.provenance.name(names)
            self.provenance.index[index] = -1  # of no training image
            self.provenance.position[index] = torch.tensor([row, column])
            self.provenance.moved[index] = torch.nan
