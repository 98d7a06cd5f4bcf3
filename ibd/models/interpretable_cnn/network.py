"""The interpretable CNN: image -> filter maps -> each kept around its peak -> mean -> linear (Zhang et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibd.backbones.base import Backbone
from ibd.backbones.receptive_field import ReceptiveField, receptive_field
from ibd.errors import check_range, check_weights
from ibd.models.baseline.network import BaselineNetwork
from ibd.models.interpretable_cnn.templates import masks_at, peaks
from ibd.models.painting import spatial_mean
from ibd.types import DataSpec, Units


class InterpretableCNNNetwork(BaselineNetwork):
    """A unit is a filter, with a place in each image: its peak, around which its map is kept, and 0 elsewhere.

    Its score is the mean of what is kept, and logits are linear in the scores: every cell has its exact share.

    Args:
        backbone: feature extractor.
        spec: description of the data, with the C classes.
        filters: F, by a 3x3 convolution after the backbone, as published; None takes the backbone's own channels.
        beta: how steeply the mask around the peak falls: it is 0 from a distance of 1 / beta of a side on.

    Attributes:
        add_on: the convolution, or nothing.
        category: (F,) class that a filter is assigned to, whose images activate it most; -1 for none.
        activity: (C, F) mean activation in the images of each class, as the training has seen it last; NaN before.
    """

    unit_kind = "filter"
    linear_units = False  # a mask is chosen by the map
    category: Tensor
    activity: Tensor

    def __init__(self, backbone: Backbone, spec: DataSpec, filters: int | None = None, beta: float = 4.0) -> None:
        check_range("model.filters", 1 if filters is None else filters, least=1)
        check_range("model.beta", beta, above=0)
        super().__init__(backbone, spec.class_names)
        count, classes = filters or backbone.out_channels, len(spec.class_names)
        check_weights("model.filters", count, count * (9 * backbone.out_channels + classes))
        self.beta = beta
        self.add_on: nn.Module = nn.Identity()
        if filters is not None:
            self.add_on = nn.Conv2d(backbone.out_channels, count, 3, padding=1)
            nn.init.kaiming_normal_(self.add_on.weight, nonlinearity="relu")
            nn.init.zeros_(self.add_on.bias)  # type: ignore[arg-type]  # it has one
            self.head = nn.Linear(count, classes)
        self.register_buffer("category", torch.full((count,), -1))
        self.register_buffer("activity", torch.full((classes, count), torch.nan))
        self.register_load_state_dict_post_hook(_names_of_loaded)  # type: ignore[no-untyped-call]
        self.unit_names = [f"filter {j}" for j in range(count)]

    def encode_features(self, features: Tensor) -> Units:
        """Turn (B, D, h, w) features into filters; while it trains, `state` has their maps without masks."""
        maps = self.add_on(features).relu()
        masks = masks_at(peaks(maps), (maps.shape[2], maps.shape[3]), self.beta).to(maps.dtype)
        kept = maps * masks
        return Units(spatial_mean(kept), kept, (maps,) if self.training else ())

    def trace_receptive_field(self, image_size: tuple[int, int]) -> ReceptiveField:
        """Return which pixels the cells of the filters' maps see."""
        return receptive_field(nn.Sequential(self.backbone, self.add_on), image_size)

    def places(self, units: Units) -> Tensor:
        """Return the (row, column) of each filter's template in each image, (B, F, 2) int64."""
        cell, columns = peaks(units.maps), units.maps.shape[3]
        return torch.stack([cell.div(columns, rounding_mode="floor"), cell.remainder(columns)], 2)

    def assign(self, activity: Tensor) -> None:
        """Assign each filter to the class whose images activate it most; its name follows by `name_filters`.

        Args:
            activity: (C, F) mean activation, NaN for classes without images.
        """
        self.activity.copy_(activity)
        known = activity.nan_to_num(-1.0)
        self.category.copy_(torch.where(known.amax(0) > 0, known.argmax(0), -1))

    def own(self, labels: Tensor) -> Tensor:
        """Return which filters are assigned to the class of each image, (B, F) bool, of (B,) classes."""
        return labels.unsqueeze(1) == self.category

    def name_filters(self) -> None:
        """Name the filters by their classes, and group them."""
        category = self.category.tolist()
        self.unit_names = [
            f"filter {j} ({self.class_names[c]})" if c >= 0 else f"filter {j}" for j, c in enumerate(category)
        ]
        groups = {name: [j for j, c in enumerate(category) if c == k] for k, name in enumerate(self.class_names)}
        self.unit_groups = {name: members for name, members in groups.items() if members}

    def named_units(self) -> Tensor:
        """Return that filters are looked at by their class and part, (F,) bool: nothing passes them by."""
        return torch.ones(len(self.unit_names), dtype=torch.bool)


def _names_of_loaded(module: nn.Module, _: object) -> None:
    assert isinstance(module, InterpretableCNNNetwork)
    if not module.category.is_meta:  # as where a checkpoint's size is looked at
        module.name_filters()
