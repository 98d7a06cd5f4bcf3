"""The concept-whitening network: a backbone with whitened layers, spatial mean, linear layer (Chen et al. 2020)."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ibd.backbones.base import Account, Backbone
from ibd.backbones.precision import full_precision
from ibd.backbones.receptive_field import ReceptiveField, receptive_field
from ibd.errors import ConfigError, UnsupportedError
from ibd.models.base import InterpretableNetwork
from ibd.models.concept_whitening.activation import Activation, axis_activation
from ibd.models.concept_whitening.folding import fold
from ibd.models.concept_whitening.layer import ConceptWhiteningLayer
from ibd.models.concept_whitening.placement import choose_layers, replace_layers, without_whitening
from ibd.models.concept_whitening.split import Halves, does_nothing, drop_last_rectifiers, halve, in_order, trace
from ibd.models.concept_whitening.whitening import Whitening
from ibd.models.linear_head import linear_contributions, replaced
from ibd.models.painting import spatial_mean
from ibd.models.sliders import Sliders
from ibd.models.values import Values
from ibd.types import Units, groups_of

_MOST_VALUES = 2**24
"""Values of the largest tensor that `contributions` makes at a time: 64 MiB in float32."""


class ConceptWhiteningNetwork(InterpretableNetwork):
    """Its units are the axes of the deepest whitened layer: the first K mean the concepts, the others nothing.

    `encode` runs the backbone up to and with that layer; `decode` runs the rest from there. On a B-cos backbone a
    rectifier that would be all that follows the axes is left out: they are signed, and the logits sums over them.

    Args:
        backbone: feature extractor with batch normalization; changed in place.
        class_names: the C classes.
        concepts: names of the K concepts, of the first K axes of every whitened layer.
        layers: batch normalizations to replace, see `choose_layers`.
        activation: function that pools an axis's map to its score.
        whitening: settings of the whitening.

    Attributes:
        centered: whether the mean over the data is taken from what is whitened.
        concept_names: the K concepts.
        layer_names: the whitened layers, in the order in which they run.
        low, high: (D,) the 5th and 95th percentile of each axis's score over the training images; NaN until training
            has ended.

    Raises:
        ConfigError: no such layers, no concepts, or a layer narrower than there are concepts.
        UnsupportedError: the backbone cannot be cut in two there.
    """

    unit_kind = "axis"
    linear_units = True
    additive = False
    has_bias = False
    centered = True
    value_title = "activation"
    detail_title = "5 to 95 % of training images"
    low: Tensor
    high: Tensor

    def __init__(
        self,
        backbone: Backbone,
        class_names: Sequence[str],
        concepts: Sequence[str],
        layers: Sequence[str] | None = None,
        activation: Activation = "pool_max",
        whitening: Whitening | None = None,
    ) -> None:
        if not concepts:
            raise ConfigError(
                "concept whitening needs concepts: a concepts.csv beside the images, or model.concept_folder with a "
                "folder of images for each"
            )
        chosen = choose_layers(backbone, layers)
        whitening = whitening or Whitening()
        if whitening.center is None:
            whitening = dataclasses.replace(whitening, center=getattr(backbone, "account", "cells") != "pixels")
        replace_layers(backbone, chosen, len(concepts), whitening)
        centered = whitening.center is not False
        ordered = in_order(trace(backbone, chosen, training=False), chosen)
        width = backbone.get_submodule(ordered[-1]).channels
        names = [*concepts, *(f"axis {index}" for index in range(len(concepts), int(width)))]  # type: ignore[arg-type]
        groups = {name: list(members) for name, members in groups_of(list(concepts)).items()}
        super().__init__(backbone, names, class_names, groups)
        self.centered = centered
        self.concept_names, self.layer_names, self.activation = list(concepts), ordered, activation
        self.pooling = activation
        self.head = nn.Linear(backbone.out_channels, len(class_names))
        self._halves: dict[bool, Halves] = {}  # a dict, which nn.Module does not look into
        # Where nothing follows the axes but their mean and the linear layer, logits are a sum over them.
        if getattr(backbone, "account", "cells") == "pixels":
            drop_last_rectifiers(backbone, self.halves.second)
        self.additive = self.has_bias = activation == "mean" and does_nothing(self.halves.second)
        self.register_buffer("low", torch.full((len(names),), torch.nan))
        self.register_buffer("high", torch.full((len(names),), torch.nan))

    @property
    def halves(self) -> Halves:
        """The backbone until the deepest whitened layer, and the rest, in the mode that it is in.

        They are made of the backbone's own modules, but for those around the layer (``layer4`` and ``layer4.1``, say):
        hooks on these do not run, hooks on what is inside of them do.
        """
        mode = self.backbone.training
        halves = self._halves.get(mode)
        if halves is None or not halves.current(self.backbone):
            graph = trace(self.backbone, self.layer_names, mode)
            halves = self._halves[mode] = halve(self.backbone, graph, self.layer_names[-1])
        return halves

    @property
    def whitened(self) -> dict[str, ConceptWhiteningLayer]:
        """Name -> whitened layer, in the order in which they run; none once they are folded."""
        layers = {name: self.backbone.get_submodule(name) for name in self.layer_names}
        return {name: layer for name, layer in layers.items() if isinstance(layer, ConceptWhiteningLayer)}

    def encode(self, image: Tensor) -> Units:
        """Turn (B, 3, H, W) images into axis activations (B, D) and maps (B, D, h, w): the backbone up to the layer."""
        maps, *carried = self.halves.first(image)
        return Units(self.pool(maps), maps, (maps, *carried))

    def decode(self, units: Units) -> Tensor:
        """Turn the whitened features, as they may have been edited, into (B, C) logits: the rest of the network."""
        pooled = spatial_mean(self.halves.second(*units.state))
        with full_precision(pooled):
            return self.head(pooled.to(self.head.weight.dtype))  # type: ignore[no-any-return]

    def trace_receptive_field(self, image_size: tuple[int, int]) -> ReceptiveField:
        """Return what the cells of the backbone's last map see: whitening moves nothing."""
        return receptive_field(without_whitening(self.backbone), image_size)

    def pool(self, maps: Tensor) -> Tensor:
        """Return the activation of each axis, (B, U), of (B, U, h, w) maps."""
        return axis_activation(maps, self.activation)

    def edit(self, units: Units, values: Values) -> Units:
        """Set an axis to a value at every position, or scale its map; the mean over the data is 0.

        ``{"wing::red": 0}`` removes the axis, ``{"wing::red": 2.5}`` makes it 2.5 (`readable`) everywhere,
        ``{"wing::red": Scale(0.5)}`` halves what is there.

        Raises:
            ConfigError: an unknown axis, or a value or factor that is no finite number.
        """
        maps = units.state[0].clone()
        for index, value in self.resolve_values(values).items():
            maps[:, index] = self.changed(value, maps[:, index])
        return Units(self.pool(maps), maps, (maps, *units.state[1:]))

    def contributions(self, units: Units) -> Tensor:
        """Return the logits lost when an axis alone is removed (set to 0; where it is centered, its mean), (B, D, C).

        Where something follows the axes they do not add up to the logit (`additive` is False), and cost D passes of the
        rest of the network, in batches.
        """
        if self.additive:
            return linear_contributions(self.passed(units), self.head.weight)
        logits = self.decode(units)
        return logits.unsqueeze(1) - self.without(units, range(len(self.unit_names)))

    @property
    def account(self) -> Account:
        """Down to where the account is exact: to pixels where no mean is taken away, for which no pixel stands."""
        known = super().account
        return "units" if known == "pixels" and self.centered else known

    def linear_pass(self, image: Tensor) -> tuple[Units, Tensor]:
        """Return the units, and the mean of each axis over the positions, (B, D)."""
        units = self.encode(image)
        return units, self.passed(units)

    def without(self, units: Units, axes: Sequence[int]) -> Tensor:
        """Return the logits when one axis alone is removed, for each of `axes`, (B, A, C); many at a time."""
        maps, *carried = units.state
        batch = len(maps)
        at_once = max(1, _MOST_VALUES // (batch * max(part[0].numel() for part in units.state)))
        parts = []
        for chosen in torch.split(torch.as_tensor(list(axes), device=maps.device), at_once):
            count = len(chosen)
            removed = maps.repeat(count, 1, 1, 1)
            removed.view(count, *maps.shape)[torch.arange(count, device=maps.device), :, chosen] = 0
            state = (removed, *(part.repeat(count, *[1] * (part.dim() - 1)) for part in carried))
            parts.append(self.decode(Units(units.scores, removed, state)).view(count, batch, -1))
        return torch.cat(parts).transpose(0, 1)

    def bias(self) -> Tensor:
        """Return the bias of the linear layer, (C,), where nothing but that follows the axes.

        Else zeros: what remains without any axis depends on the image, and on what passes the layer by.
        """
        return self.head.bias if self.additive else self.head.weight.new_zeros(len(self.class_names))

    def passed(self, units: Units) -> Tensor:
        """Return the mean of each axis over the positions, (B, D)."""
        return units.state[0].mean((2, 3))

    def decode_without(self, units: Units, off: Tensor, value: Tensor | float = 0.0) -> Tensor:
        """Return the (B, C) logits with some axes constant over the image: 0 is their mean over the data."""
        maps = replaced(units.state[0], off[:, :, None, None], torch.as_tensor(value).view(-1, 1, 1))
        return self.decode(Units(units.scores, maps, (maps, *units.state[1:])))

    def linear_weight(self) -> Tensor | None:
        """Return the (C, D) weight of the linear layer, where nothing but a mean comes before it."""
        return self.head.weight if self.additive else None

    def sliders(self, units: Units, seen: Tensor | None = None) -> Sliders:
        """Return sliders that set axes to a value at every position.

        Raises:
            UnsupportedError: more than a mean and a linear layer follows the axes.
        """
        if not self.additive:
            raise UnsupportedError("layers of the network follow the axes: what setting one does, they alone tell")
        return self._value_sliders(units, seen)

    def unit_scale(self) -> Tensor:
        """Return what lies between the 5th and the 95th percentile of each axis over the training images, (D,)."""
        return (self.high - self.low).detach().cpu()

    def named_units(self) -> Tensor:
        """Return which axes stand for a concept, (D,) bool."""
        return torch.arange(len(self.unit_names)) < len(self.concept_names)

    def for_inference(self) -> ConceptWhiteningNetwork:
        """Return a copy whose whitened layers are folded away, see `fold`: it cannot be trained or aligned any more."""
        network = copy.deepcopy(self).eval()
        fold(network.backbone, network.layer_names)
        return network

    def readable(self, units: Units) -> Tensor:
        """Return the activations, (B, D), in standard deviations of a position over the data.

        Without centering, in root mean squares.
        """
        return units.scores

    def detail(self, unit: int, class_index: int) -> str:
        """Return what range the activation of an axis had on the training images."""
        low, high = float(self.low[unit]), float(self.high[unit])
        return "" if low != low else f"{low:.2f} to {high:.2f}"

    def depth_maps(self, image: Tensor) -> dict[str, Tensor]:
        """Return the (B, D, h, w) maps of every whitened layer, by name, in the order in which they run."""
        maps: dict[str, Tensor] = {}
        handles = [
            self.backbone.get_submodule(name).register_forward_hook(
                lambda _, __, output, name=name: maps.update({name: output})
            )
            for name in self.layer_names
        ]
        try:
            self.halves.first(image)
        finally:
            for handle in handles:
                handle.remove()
        return maps
