"""What a model's own account of itself is worth, beside its maps. It is measured of the model alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ibd.comparison.asked import Case
from ibd.comparison.groups.dissection import DISSECTION
from ibd.comparison.groups.record import SIGNED, UNIT, Group, Metric
from ibd.comparison.results import Comparison, SelfConsistency, Skipped
from ibd.comparison.self_consistency import self_consistency
from ibd.metrics.functional.information import concept_task_leakage, interconcept_leakage
from ibd.metrics.functional.self_consistency import concept_locality, intervention_consistency, leakage_gap


@dataclass(frozen=True)
class Account:
    """What was found, and what was left out."""

    self_consistency: SelfConsistency
    skipped: list[Skipped]


def add_self_consistency(comparison: Comparison, case: Case) -> None:
    """Add what the model's own account of itself is worth, and its linear head."""
    name, chosen, model = case.model.info.name, case.images, case.model
    head = model.module.network.linear_head(case.passed)
    if head is not None:
        comparison.heads[name] = head
    if not {*SELF_CONSISTENCY.names, *DISSECTION.names} & set(comparison.metrics):
        return

    def compute() -> Account:
        return Account(
            *self_consistency(
                model.module,
                model.data,
                chosen.index.tolist(),
                name="model",
                split=chosen.split,
                seed=case.seed,
            )
        )

    key = {"kind": "self_consistency", "model": model.fingerprint, "data": chosen.fingerprint, "seed": case.seed}
    key["split"] = model.asked  # leakage is measured on more images than the questions
    account = case.cache.get(key, Account, compute)
    comparison.skipped += [replace(entry, model=name) for entry in account.skipped]
    comparison.self_consistency[name] = account.self_consistency


_METRICS = (
    Metric("concept_locality", "Locality", "How much more a part moves its own concepts than any others.", UNIT, True,
           "Raman et al. 2025", "units scene model", concept_locality, 0.5, per_sample=False),
    Metric("intervention_consistency", "Intervention",
           "Similarity of predictions after the same change in bottleneck and image.",
           UNIT, True, "this project", "units scene model", intervention_consistency),
    Metric("leakage_gap", "Leakage gap", "Accuracy lost by rounding the concepts.", SIGNED, False, "Havasi et al. 2022",
           "units model", leakage_gap),
    Metric("ctl", "CTL", "Information about the class that predicted concepts add to the true ones.", UNIT, False,
           "Parisini et al. 2025", "units concepts model", concept_task_leakage, per_sample=False),
    Metric("icl", "ICL", "Information about each other that predicted concepts add to the true ones.", UNIT, False,
           "Parisini et al. 2025", "units concepts model", interconcept_leakage, per_sample=False),
)  # fmt: skip

SELF_CONSISTENCY = Group(
    "self_consistency",
    "Units",
    _METRICS,
)
