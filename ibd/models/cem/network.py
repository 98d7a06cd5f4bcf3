"""The concept embedding network: a concept passes two vectors, mixed by its probability (Espinosa Zarlenga 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.backbones.base import Backbone
from ibd.backbones.precision import full_precision
from ibd.errors import UnsupportedError
from ibd.models.cbm.concepts import ConceptNetwork
from ibd.models.cbm.sliders import concept_sliders
from ibd.models.linear_head import replaced
from ibd.models.painting import spatial_mean
from ibd.models.sliders import Sliders
from ibd.types import DataSpec, Units

SLOPE = 0.01
"""Slope of the leaky rectifier below 0."""


class ConceptEmbeddingNetwork(ConceptNetwork):
    """Every concept has a vector for "it holds" and one for "it does not"; the head reads their mixture.

    Of the pooled features h, ``[c+_i; c-_i] = LeakyReLU(W_i h + b_i)``, ``p_i = sigmoid(w . [c+_i; c-_i] + b)`` with w
    shared by all concepts, and the head reads ``p_i c+_i + (1 - p_i) c-_i``. A correction replaces p_i.

    The vectors come from the whole image, and are no part of what a concept's name says: what they tell of the class
    passes the names by (`beside`). A concept's logit is the mean of its map: what each position adds to it where the
    rectifier is as it is for the pooled features. Its contributions are exact, its map is of its logit alone: the
    account is exact down to the units, on any backbone.

    Args:
        backbone: feature extractor with D channels.
        spec: description of the data, with the K concepts, their groups and the C classes.
        embedding_size: m, the length of each vector.
    """

    def __init__(self, backbone: Backbone, spec: DataSpec, embedding_size: int = 16) -> None:
        if spec.quantities:
            raise UnsupportedError(
                f"concept embeddings mix two vectors by a probability, and '{min(spec.quantities)}' is a quantity, "
                "which has none: take model.name=cbm"
            )
        super().__init__(backbone, spec)
        self.embedding_size = embedding_size
        self.embeddings = nn.Linear(backbone.out_channels, self.concept_count * 2 * embedding_size)
        self.scorer = nn.Linear(2 * embedding_size, 1)
        self.head = nn.Linear(self.concept_count * embedding_size, len(spec.class_names))

    def encode(self, image: Tensor) -> Units:
        """Turn (B, 3, H, W) images into concept logits (B, K), maps (B, K, h, w) and vectors (B, K, 2m)."""
        return self.encode_features(self.backbone(image))

    def encode_features(self, features: Tensor) -> Units:
        """Turn (B, D, h, w) features into concept logits, their maps and vectors, in float32 also under autocast."""
        with full_precision(features):
            features = features.to(torch.promote_types(features.dtype, self.scorer.weight.dtype))
            before = self.embeddings(spatial_mean(features).to(self.embeddings.weight.dtype))
            before = before.view(-1, self.concept_count, 2 * self.embedding_size)
            vectors = F.leaky_relu(before, SLOPE)
            scores = self.scorer(vectors).squeeze(2)
            maps = self._maps(features, torch.ones_like(before).masked_fill(before <= 0, SLOPE))
        return Units(scores, maps, (vectors,))

    def _maps(self, features: Tensor, slopes: Tensor) -> Tensor:
        """Return what each position adds to the logits, (B, K, h, w), with the (B, K, 2m) slopes of the rectifier."""
        factors = slopes * self.scorer.weight[0]
        weight, bias = (part.view(*slopes.shape[1:], -1) for part in (self.embeddings.weight, self.embeddings.bias))
        direction = torch.einsum("bkm,kmd->bkd", factors, weight)
        offset = (factors * bias[..., 0]).sum(2) + self.scorer.bias
        maps: Tensor = torch.einsum("bkd,bdhw->bkhw", direction, features.to(direction.dtype))
        return maps + offset[:, :, None, None]

    def decode(self, units: Units) -> Tensor:
        """Turn concept logits and vectors into (B, C) class logits, in float32 also under autocast."""
        return self.classify(self.head_input(units))

    def head_input(self, units: Units) -> Tensor:
        """Return the mixed vectors, (B, K m)."""
        return self.mixed(self.probabilities(units.scores), units.state[0]).flatten(1)

    def mixed(self, probability: Tensor, vectors: Tensor) -> Tensor:
        """Return ``p c+ + (1 - p) c-``, (B, K, m), of (B, K) probabilities and (B, K, 2m) vectors."""
        present, absent = vectors.chunk(2, 2)
        return absent + probability.unsqueeze(2).to(vectors.dtype) * (present - absent)

    def classify(self, head_input: Tensor) -> Tensor:
        """Apply the head to mixed vectors: (..., K m) -> (..., C)."""
        with full_precision(head_input):
            return self.head(head_input.to(self.head.weight.dtype))  # type: ignore[no-any-return]

    def certain(self, units: Units, truth: float) -> Tensor:
        """Return the vectors of concepts that certainly hold (1), or not (0), (B, K m)."""
        return self.mixed(torch.full_like(units.scores, truth), units.state[0]).flatten(1)

    @property
    def columns(self) -> Tensor:
        """Which of the K m numbers that the head reads are a concept's, (K, m)."""
        return torch.arange(self.head.in_features).view(self.concept_count, -1)

    def head_weight(self) -> Tensor:
        """Return the (C, K m) weight of the head."""
        return self.head.weight

    def contributions(self, units: Units) -> Tensor:
        """Return what the mixed vector of each concept adds to each class logit, (B, K, C)."""
        mixed = self.mixed(self.probabilities(units.scores), units.state[0])
        weight = self.head.weight.view(-1, *mixed.shape[1:])
        return torch.einsum("bkm,ckm->bkc", mixed, weight.to(mixed.dtype))

    def sliders(self, units: Units, seen: Tensor | None = None) -> Sliders:
        """Return sliders that set concepts to truth values: logits are linear in them, in each image its own way."""
        present, absent = units.state[0].chunk(2, 2)
        weight = self.head.weight.view(-1, *absent.shape[1:]).to(absent.dtype)
        nothing, more = (torch.einsum("bkm,ckm->bkc", part, weight) for part in (absent, present - absent))
        probability = self.probabilities(units.scores)
        note = "each image has vectors of its own, so that a concept counts differently in each"
        return concept_sliders(self, units, probability, probability, more, self.head.bias + nothing.sum(1), note=note)

    def bias(self) -> Tensor:
        """Return the (C,) bias of the head."""
        return self.head.bias

    def passed(self, units: Units) -> Tensor:
        """Return the concept probabilities, (B, K): what a correction replaces, and a name tells of what is passed."""
        return self.probabilities(units.scores)

    def decode_without(self, units: Units, off: Tensor, value: Tensor | float = 0.0) -> Tensor:
        """Return the (B, C) logits with some probabilities replaced; the vectors stay."""
        return self.classify(self.mixed(replaced(self.passed(units), off, value), units.state[0]).flatten(1))

    def beside(self, units: Units) -> Tensor:
        """Return the vectors, (B, 2 K m): what passes the probabilities by."""
        return units.state[0].flatten(1)

    def decode_named(self, units: Units, beside: Tensor) -> Tensor:
        """Return the (B, C) logits with the vectors of every image replaced by the same ones, (2 K m,)."""
        vectors = beside.to(units.state[0]).view(1, *units.state[0].shape[1:]).expand_as(units.state[0])
        return self.decode(Units(units.scores, units.maps, (vectors,)))
