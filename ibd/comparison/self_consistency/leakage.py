"""How much the classes of a concept bottleneck rest on what its concepts tell beside whether they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ibd.comparison.self_consistency.reading import Reading, read, require_network
from ibd.data.dataset import ImageDataset
from ibd.errors import UnsupportedError
from ibd.metrics.functional.information import concept_task_leakage, interconcept_leakage
from ibd.metrics.functional.self_consistency import leakage_gap
from ibd.models.base import evaluating


@dataclass(frozen=True)
class Leakage:
    """What soft concepts tell beyond hard ones, over N images.

    Attributes:
        soft: (N,) 1 where the class is right from the concepts as predicted, else 0.
        hard: (N,) from the concepts rounded to true and false.
        gap: (N,) soft - hard: its mean is the difference of the accuracies.
        task: (K,) concept-task leakage of each concept; NaN where no concept is annotated, or there is one class.
        between: (K, K) inter-concept leakage; NaN on the diagonal.
    """

    soft: Tensor
    hard: Tensor
    gap: Tensor
    task: Tensor
    between: Tensor

    def figures(self) -> dict[str, float]:
        """Return the means."""
        return {
            "accuracy_soft": float(self.soft.mean()),
            "accuracy_hard": float(self.hard.mean()),
            "leakage_gap": float(self.gap.mean()),
            "concept_task_leakage": float(self.task.nanmean()),
            "interconcept_leakage": float(self.between.nanmean()),
        }


def concept_leakage(
    model: nn.Module,
    dataset: ImageDataset,
    indices: Sequence[int],
    batch_size: int = 64,
    reading: Reading | None = None,
) -> Leakage:
    """Return how much is lost where concepts are rounded, and how much they tell of classes and of each other.

    Rounded is the probability, at 0.5; where the bottleneck is logits, the training percentiles stand for true and
    false, as in an intervention; quantities stay as they are. Information is measured on what the head reads.
    Quantities, and concepts that are not annotated, are left out of it.

    Args:
        model: a network whose units are true or false, as of a concept bottleneck, or its module.
        dataset: split of the data.
        indices: indices of the images in it.
        batch_size: images in a pass.
        reading: reading from `read` on the same images, which saves the passes.

    Raises:
        UnsupportedError: the units of the model have no truth values, or others than the data tells, or what stands for
            true and false in it is unknown.
    """
    network = require_network(model)
    if not network.truth_values:
        raise UnsupportedError(
            f"only a concept bottleneck can leak: {network.unit_plural} do not pretend to be yes or no"
        )
    if len(network.quantities) == len(network.unit_names):
        raise UnsupportedError(f"all {network.unit_plural} are quantities: they do not pretend to be yes or no")
    readings = reading or read(model, dataset, indices, batch_size)
    places = torch.as_tensor(list(indices))
    labels, concepts = dataset.labels[places], dataset.concepts[places]
    named = network.named_units()
    known, count = concepts.shape[1], int(named.sum())
    if known != count:
        raise UnsupportedError(f"the data annotates {known} concepts, and the model has {count} {network.unit_plural}")
    concepts = concepts.clone()
    concepts[:, list(network.quantities)] = torch.nan
    with evaluating(model), torch.inference_mode():
        units = readings.units(network)
        passed = network.passed(units)[:, named].cpu()
        hard = network.decode(network.rounded(units)).cpu()
    return Leakage(
        soft=(readings.logits.argmax(1) == labels).double(),
        hard=(hard.argmax(1) == labels).double(),
        gap=leakage_gap(readings.logits, hard, labels),
        task=concept_task_leakage(passed, concepts, labels),
        between=interconcept_leakage(passed, concepts),
    )
