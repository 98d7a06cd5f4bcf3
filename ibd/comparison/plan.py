"""What is measured, and what is not and why, before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ibd.comparison.questions import Questions
from ibd.comparison.results import Skipped
from ibd.errors import ConfigError, check_once, did_you_mean
from ibd.metrics.catalogue import CATALOGUE, Need, entry

GROUPS: dict[str, tuple[str, ...]] = {
    "parts": (
        "part_spearman",
        "part_spearman_mean",
        "part_spearman_sum",
        "part_sign",
        "part_error",
        "part_top",
        "part_removal",
        "csdc",
        "pc",
        "dc",
    ),
    "objects": ("object_spearman", "cell_spearman"),
    "pixels": ("deletion", "insertion", "aopc_morf", "aopc_lerf", "abpc", "selectivity"),
    "road": ("road",),
    "localization": (
        "mass_accuracy",
        "rank_accuracy",
        "pointing_game",
        "roc_auc",
        "iou_at_size",
        "iou_best",
        "box_accuracy",
        "energy_share",
    ),
    "robustness": ("local_lipschitz", "continuity", "max_sensitivity", "translation_equivariance"),
    "sanity": ("randomisation",),
    "properties": ("conservation", "negative_share", "sparseness", "complexity"),
    "agreement": ("agreement_spearman", "agreement_top", "agreement_ssim"),
    "units": ("unit_ablation", "unit_completeness"),
    "honesty": ("concept_locality", "intervention_consistency", "leakage_gap", "ctl", "icl"),
    "dissection": ("dissection", "composition", "semantic_coverage"),
}
"""Metrics that are computed together -> their names. A group's name stands for all of its metrics."""
VALIDATED = ("iou_best", "box_accuracy")
"""Metrics with a threshold, which other images than the measured ones choose."""
_OWN_SPLIT = "its threshold is chosen on the validation split, which is the one that is measured"
LEFT_OUT = ("road",)
"""Groups that are not in the default set: imputing takes longer than the passes of the model."""


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        metrics: their names, in the order of the catalogue.
        skipped: what was left out, and why.
    """

    metrics: list[str]
    skipped: list[Skipped]

    @property
    def validated(self) -> bool:
        """Whether a threshold is to be chosen on validation images."""
        return bool(set(VALIDATED) & set(self.metrics))

    def groups(self) -> list[str]:
        """Return the groups that have something to measure."""
        return [name for name, members in GROUPS.items() if set(members) & set(self.metrics)]


def make_plan(named: Sequence[str] | None, questions: Questions, concepts: bool) -> Plan:
    """Return what is measured.

    Args:
        named: metrics, or groups of them; None takes all that the data allows, "all" also the slow ones.
        questions: the images, which have masks and scenes or do not.
        concepts: whether the images have concepts.

    Raises:
        ConfigError: an unknown name, none, or a metric that was asked for by name and needs what the data has not.
    """
    missing = _missing(questions, concepts)
    asked = expanded(named)
    kept, skipped = [], []
    for name in CATALOGUE:
        if name not in asked:
            continue
        why = next((missing[need] for need in sorted(entry(name).needs) if need in missing), None)
        if why is None:
            kept.append(name)
        elif asked[name]:
            raise ConfigError(f"metrics: '{name}' cannot be measured: {why}")
        else:
            skipped.append(Skipped(None, None, name, why))
    if questions.split == "val":
        skipped += [Skipped(None, None, name, _OWN_SPLIT) for name in kept if name in VALIDATED]
        kept = [name for name in kept if name not in VALIDATED]
    if not kept:
        raise ConfigError(f"metrics: none of those asked for can be measured: {skipped[0].why}")
    return Plan(kept, skipped)


def _missing(questions: Questions, concepts: bool) -> dict[Need, str]:
    """Return what the data has not, and what to say of it."""
    missing: dict[Need, str] = {}
    if questions.masks is None:
        missing["masks"] = "the data has no masks of parts"
    if not questions.scenes:
        missing["scene"] = "the images cannot be drawn anew without some of their parts (only ToyBirds can)"
    if not concepts:
        missing["concepts"] = "the data has no concepts"
    return missing


def expanded(named: Sequence[str] | None) -> dict[str, bool]:
    """Return metric -> whether it, or its group, was asked for by name.

    Raises:
        ConfigError: an unknown name, one that comes twice, or none.
    """
    if named is None or list(named) == ["all"]:
        left_out = LEFT_OUT if named is None else ()
        return {name: False for group, members in GROUPS.items() if group not in left_out for name in members}
    check_once("metrics", named)
    if not named:
        raise ConfigError(f"metrics: at least one is needed.{did_you_mean('', [*GROUPS, *CATALOGUE])}")
    found: dict[str, bool] = {}
    for name in named:
        if name in GROUPS:
            found |= dict.fromkeys(GROUPS[name], True)
        elif name in CATALOGUE:
            found[name] = True
        else:
            raise ConfigError(f"unknown metric '{name}'.{did_you_mean(name, [*GROUPS, *CATALOGUE])}")
    return found
