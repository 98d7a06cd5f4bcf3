"""What a model says of images: read once, and used by every measure that needs no maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ibd.comparison.self_consistency.redrawing import chunks, redrawn, require_scenes
from ibd.data.dataset import ImageDataset
from ibd.data.masked import load_batch
from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.activations import network_of
from ibd.explain.targets import logits_of
from ibd.models.base import InterpretableNetwork, evaluating
from ibd.types import Units


@dataclass(frozen=True)
class Reading:
    """What a model says of N images, on the CPU.

    Attributes:
        logits: (N, C).
        scores: (N, U) of the units.
        values: (N, U) as a person reads them: probabilities of concepts, activations, similarities.
        state: what `decode` reads beside the scores, (N, ...) each, of units with truth values; else none is kept.
    """

    logits: Tensor
    scores: Tensor
    values: Tensor
    state: tuple[Tensor, ...] = ()

    def units(self, network: InterpretableNetwork) -> Units:
        """Return the units of a network with truth values, which are set without a look at the maps: these are 0."""
        scores = placed_as(self.scores, network)
        maps = scores.new_zeros(*scores.shape, 1, 1)
        return Units(scores, maps, tuple(placed_as(part, network) for part in self.state))


@dataclass(frozen=True)
class RedrawnReading:
    """What a model says of N images of toy birds, and of each with one of P parts replaced.

    Attributes:
        before: outputs of the model for the images.
        after: the same with (N, P + 1, ...) values: part p in another variant; the last one with everything behind the
            bird new.
        seen: (N, P) bool: part p can be seen before and after.
        variants: N lists of the P new variants.
    """

    before: Reading
    after: Reading
    seen: Tensor
    variants: list[list[str]]


def require_network(model: nn.Module) -> InterpretableNetwork:
    """Return the network of a module, or what is one itself.

    Raises:
        UnsupportedError: a model that says nothing of its units.
    """
    network = network_of(model)
    if not isinstance(network, InterpretableNetwork):
        raise UnsupportedError(f"a {type(network).__name__} has no units: an interpretable network is needed")
    return network


def placed_as(image: Tensor, model: nn.Module) -> Tensor:
    """Return images on the model's device, in its precision."""
    weight = next(model.parameters(), image)
    return image.to(weight.device, weight.dtype)


def encoded(model: nn.Module, image: Tensor) -> tuple[Tensor, Units]:
    """Return logits and units of images, on the model's device."""
    network = require_network(model)
    units = network.encode(placed_as(image, model))
    return network.decode(units), units


def classified(model: nn.Module, image: Tensor) -> Tensor:
    """Return the (B,) classes of the highest logit, on the model's device."""
    return logits_of(network_of(model)(placed_as(image, model))).argmax(1)


def check_indices(indices: Sequence[int]) -> None:
    """Check that there are images to measure on.

    Raises:
        ConfigError: there are none.
    """
    if not len(indices):
        raise ConfigError("self_consistency: no images given, at least one is needed")


def read(model: nn.Module, dataset: ImageDataset, indices: Sequence[int], batch_size: int = 64) -> Reading:
    """Return what a model says of images of a data set.

    Args:
        model: a module of ours, or its network.
        dataset: split of the data.
        indices: indices of the images in it.
        batch_size: images in a pass.
    """
    check_indices(indices)
    with evaluating(model), torch.inference_mode():
        parts = [_said(model, load_batch(dataset, some).image) for some in chunks(indices, batch_size)]
    return _joined(parts)


def read_redrawn(
    model: nn.Module,
    dataset: ImageDataset,
    indices: Sequence[int],
    batch_size: int = 64,
    seed: int = 0,
) -> RedrawnReading:
    """Return what a model says of images, and of the same images with each part replaced.

    Args:
        model: a module of ours, or its network.
        dataset: a split of toy birds.
        indices: indices of the images in it.
        batch_size: pictures in a pass.
        seed: seed of the variants that parts are replaced by.

    Raises:
        UnsupportedError: the images cannot be drawn anew.
        ConfigError: no images.
    """
    check_indices(indices)
    rows, seen, variants = [], [], []
    with evaluating(model), torch.inference_mode():
        for batch in redrawn(require_scenes(dataset), indices, batch_size, seed):
            pictures = torch.cat([batch.image.unsqueeze(1), batch.changed], 1)
            said = _said(model, pictures.flatten(0, 1))
            rows.append([values.view(*pictures.shape[:2], *values.shape[1:]) for values in said])
            seen.append(batch.seen)
            variants += batch.variants
    every = [torch.cat(row) for row in zip(*rows, strict=True)]
    return RedrawnReading(
        _joined([[values[:, 0] for values in every]]),
        _joined([[values[:, 1:] for values in every]]),
        torch.cat(seen),
        variants,
    )


def _said(model: nn.Module, image: Tensor) -> list[Tensor]:
    """Return logits, scores, values and what there is of a state to keep."""
    logits, units = encoded(model, image)
    network = require_network(model)
    state = units.state if network.truth_values else ()
    return [part.cpu() for part in (logits, units.scores, network.readable(units), *state)]


def _joined(parts: Sequence[Sequence[Tensor]]) -> Reading:
    """Return what `_said` returned of several batches."""
    logits, scores, values, *state = (torch.cat(part) for part in zip(*parts, strict=True))
    return Reading(logits, scores, values, tuple(state))
