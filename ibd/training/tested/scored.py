"""All that a test of a split has come to, before it is written down or said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ibd.data.base import Split
from ibd.data.dataset import ImageDataset
from ibd.data.grouping import AND
from ibd.metrics.functional.by_group import ByGroup
from ibd.metrics.functional.concepts_by_group import ConceptsByGroup, concepts_by_group
from ibd.metrics.functional.where_wrong import WhereWrong
from ibd.models.columns import written
from ibd.training.tested.on_thresholds import OnImages


@dataclass(frozen=True)
class Scored:
    """Where a model is wrong on a split, and all that is said of it.

    Attributes:
        found: where it is wrong.
        dataset: the images.
        split: name of the split.
        abstains: (N,) bool, the images that get no answer: those without a prediction, and those that the model is not
            sure enough of by its calibration or threshold of confidence.
        figures: metrics of the split by name, such as "test/accuracy"; of a group "test/COLUMN=GROUP/accuracy".
        groups: accuracy and calibration by each column that was asked for.
        members: column -> the group of each image, None where it is not known.
        calibrated: whether probabilities are calibrated ones.
        about: what else is to be known of the test, as plain values: checkpoint, versions.
        thresholds: what the thresholds of the run come to on these images; nothing else goes by those of concepts.
    """

    found: WhereWrong
    dataset: ImageDataset
    split: Split
    abstains: Tensor
    figures: Mapping[str, float] = field(default_factory=dict)
    groups: Sequence[ByGroup] = ()
    members: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    calibrated: bool = False
    about: Mapping[str, Any] = field(default_factory=dict)
    thresholds: Sequence[OnImages] = ()

    def name_of(self, image: int) -> str:
        """Return what names an image, as any program can read it."""
        return written(self.dataset.sample_id(image))

    def concepts_by(self, group: ByGroup) -> ConceptsByGroup | None:
        """Return how well concepts are predicted in each of the groups; None where none is known.

        Without those that the groups are made by: what is read of these where they hold is their sensitivity.
        """
        found, own = self.found, {part.strip() for part in group.column.split(AND)}
        known = (~found.concept_right.isnan()).any(0).tolist()
        kept = [
            place
            for place, (name, there) in enumerate(zip(found.concept_names, known, strict=True))
            if there and not own & {name, name.partition("::")[0]}
        ]
        if not kept:
            return None
        order, names = [one.name for one in group.groups], [found.concept_names[place] for place in kept]
        return concepts_by_group(found.concept_right[:, kept], self.members[group.column], order, names, group.column)

    def own_figures(self) -> dict[str, float]:
        """Return the metrics without those of groups."""
        apart = {f"{self.split}/{name}" for group in self.groups for name in group.figures()}
        return {name: value for name, value in self.figures.items() if name not in apart}


def concept_counts(found: WhereWrong) -> tuple[Tensor, Tensor, Tensor]:
    """Return of each image how many concepts are known, how many of these are wrong, and how far they are off.

    The last is a mean, in which numbers count in standard deviations, and NaN where nothing is known.
    """
    wrong = (found.concept_right == 0).sum(1)
    known = (~found.concept_right.isnan()).sum(1)
    off = found.concept_errors.nanmean(1) if found.concept_names else torch.full_like(found.confidence, torch.nan)
    return known, wrong, off
