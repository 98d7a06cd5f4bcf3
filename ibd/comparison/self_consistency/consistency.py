"""Whether a concept set in the bottleneck does to the classes what the same change does in the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ibd.comparison.self_consistency.locality import units_of_parts
from ibd.comparison.self_consistency.reading import Reading, RedrawnReading, read_redrawn, require_network
from ibd.data.dataset import ImageDataset
from ibd.data.toybirds.parts import PARTS
from ibd.data.toybirds.vocabulary import holding
from ibd.errors import UnsupportedError
from ibd.metrics.functional.checks import beyond_rounding
from ibd.metrics.functional.ranks import spearman
from ibd.metrics.functional.self_consistency import intervention_consistency, same_prediction
from ibd.models.base import InterpretableNetwork, evaluating


@dataclass(frozen=True)
class Consistency:
    """What the two ways to change a part have in common, for each image and part; NaN where the part cannot be seen.

    Attributes:
        parts: the P parts that have concepts.
        same_class: (N, P) 1 where both predict one class, else 0.
        similarity: (N, P) 1 - total variation of the class probabilities, in [0, 1].
        correlation: (N, P) Spearman's, over classes, of how far the two change the log-odds, in [-1, 1].
        same_class_unchanged: (N, P) 1 where the picture's change leaves the predicted class as it was: what a
            bottleneck that answers to nothing would reach.
        similarity_unchanged: (N, P) the same of `similarity`.
    """

    parts: list[str]
    same_class: Tensor
    similarity: Tensor
    correlation: Tensor
    same_class_unchanged: Tensor
    similarity_unchanged: Tensor

    def figures(self) -> dict[str, float]:
        """Return the means over all pairs of image and part."""
        named = {
            "intervention_consistency": self.similarity,
            "intervention_consistency_unchanged": self.similarity_unchanged,
            "intervention_same_class": self.same_class,
            "intervention_same_class_unchanged": self.same_class_unchanged,
            "intervention_correlation": self.correlation,
        }
        return {name: float(values.nanmean()) for name, values in named.items()}

    def breakdown(self) -> dict[str, dict[str, float]]:
        """Return the shares of one class by part."""
        named = {
            "intervention_same_class": self.same_class,
            "intervention_same_class_unchanged": self.same_class_unchanged,
        }
        return {
            name: {part: float(values[:, p].nanmean()) for p, part in enumerate(self.parts)}
            for name, values in named.items()
        }


def bottleneck_against_pixels(
    model: nn.Module,
    dataset: ImageDataset,
    indices: Sequence[int],
    batch_size: int = 64,
    seed: int = 0,
    reading: RedrawnReading | None = None,
) -> Consistency:
    """Compare the predictions after a part's concepts are set to a variant, and after the part is drawn in it.

    The bottleneck is edited and decoded: the backbone does not run again for it.

    Args:
        model: a network whose units are true or false, as of a concept bottleneck, or its module.
        dataset: a split of toy birds.
        indices: indices of the images in it.
        batch_size: pictures in a pass.
        seed: seed of the variants.
        reading: reading from `read_redrawn` on the same images, which saves the passes.

    Raises:
        UnsupportedError: the units of the model have no truth values, none is named for a part, or what stands for true
            and false in it is unknown; or the images cannot be drawn anew.
    """
    network = require_network(model)
    if not network.truth_values:
        raise UnsupportedError(
            f"needs units that can be set to true and false, as concepts can; {network.unit_plural} cannot"
        )
    named = units_of_parts(network.unit_names)
    groups = {
        part: kept for part, units in named.items() if (kept := [u for u in units if u not in network.quantities])
    }
    if not groups:
        raise UnsupportedError(f"no {network.unit_kind} is named for a part of the images")
    readings = reading or read_redrawn(model, dataset, indices, batch_size, seed)
    columns: dict[str, list[Tensor]] = {}
    with evaluating(model), torch.inference_mode():
        for part, members in groups.items():
            p = PARTS.index(part)
            variants = [row[p] for row in readings.variants]
            edited = _decoded(network, readings.before, part, members, variants)
            row = _compared(network, readings.before.logits, edited, readings.after.logits[:, p])
            for name, values in row.items():
                columns.setdefault(name, []).append(values.where(readings.seen[:, p], torch.nan))
    return Consistency(list(groups), **{name: torch.stack(values, 1) for name, values in columns.items()})


def _decoded(
    network: InterpretableNetwork, before: Reading, part: str, members: Sequence[int], variants: Sequence[str]
) -> Tensor:
    """Return the (N, C) logits with the concepts of a part set to one variant for each image."""
    held = [{*holding("variants", part, v), *holding("factored", part, v)} for v in variants]
    values: dict[str | int, float | str | Tensor] = {
        k: torch.tensor([float(network.unit_names[k] in names) for names in held]) for k in members
    }
    return network.decode(network.edit(before.units(network), values)).cpu()


def _compared(network: InterpretableNetwork, before: Tensor, edited: Tensor, pixels: Tensor) -> dict[str, Tensor]:
    probability, plain, drawn = (network.class_probabilities(logits) for logits in (edited, before, pixels))
    return {
        "same_class": same_prediction(edited, pixels),
        "similarity": intervention_consistency(probability, drawn),
        "correlation": spearman(log_odds_change(before, edited), log_odds_change(before, pixels)),
        "same_class_unchanged": same_prediction(before, pixels),
        "similarity_unchanged": intervention_consistency(plain, drawn),
    }


def log_odds_change(before: Tensor, after: Tensor) -> Tensor:
    """Return how far the log-odds of each class move, (N, C) float64; 0 where that is no more than rounding.

    Rounding is that of the largest logit, see `beyond_rounding`.
    """
    largest = torch.cat([before, after], 1).double().abs().amax(1, keepdim=True)
    return beyond_rounding(log_odds(after) - log_odds(before), largest)


def log_odds(logits: Tensor) -> Tensor:
    """Return log(p / (1 - p)) of each class, (N, C) float64: its logit less the log-sum of the others'."""
    values = logits.double()
    itself = torch.eye(values.shape[1], dtype=torch.bool, device=values.device)
    return values - values.unsqueeze(1).masked_fill(itself, -torch.inf).logsumexp(2)
