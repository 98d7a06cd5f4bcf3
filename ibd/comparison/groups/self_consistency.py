"""What a model's own account of itself is worth, beside its maps. It is measured of the model alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ibd.comparison.asked import Case
from ibd.comparison.groups.dissection import DISSECTION
from ibd.comparison.groups.record import SIGNED, UNIT, FigureOf, Group, Metric
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
    """Add what the model's own account of itself is worth."""
    name, chosen, model = case.model.info.name, case.images, case.model
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
    key["split"] = model.asked  # leakage is measured on more images than the explanations
    account = case.cache.get(key, Account, compute)
    comparison.skipped += [replace(entry, model=name) for entry in account.skipped]
    comparison.self_consistency[name] = asked_figures(account.self_consistency, set(comparison.metrics))


def asked_figures(account: SelfConsistency, metrics: set[str]) -> SelfConsistency:
    """Return an account with the figures of the metrics that are asked for."""
    wanted = {
        figure.name
        for group in (SELF_CONSISTENCY, DISSECTION)
        if metrics & set(group.names)
        for figure in group.figures
        if not figure.metric or figure.metric in metrics
    }
    figures = {name: value for name, value in account.figures.items() if name in wanted}
    return replace(account, figures=figures, breakdown={k: v for k, v in account.breakdown.items() if k in wanted})


_METRICS = (
    Metric("locality", "Locality", "How much more a part moves its own concepts than any others.", UNIT, True,
           "Raman et al. 2025", "units scene model", concept_locality, 0.5, per_sample=False),
    Metric("intervention_consistency", "Intervention",
           "Similarity of predictions after the same change in bottleneck and image.",
           UNIT, True, "this project", "units scene model", intervention_consistency),
    Metric("leakage_gap", "Leakage gap", "Accuracy lost by rounding the concepts.", SIGNED, False, "Havasi et al. 2022",
           "units model", leakage_gap),
    Metric("concept_task_leakage", "CTL", "Information about the class that predicted concepts add to the true ones.",
           UNIT, False, "Parisini et al. 2025", "units concepts model", concept_task_leakage, per_sample=False),
    Metric("interconcept_leakage", "ICL", "Information about each other that predicted concepts add to the true ones.",
           UNIT, False, "Parisini et al. 2025", "units concepts model", interconcept_leakage, per_sample=False),
)  # fmt: skip

_FIGURES = (
    FigureOf(
        "locality",
        "Do units answer to their own part? 1: only they change when the part is drawn in another variant; 0.5: "
        "those of another part change as much.",
        "locality",
    ),
    FigureOf(
        "own_change",
        "How far the largest concept of a part changes when that part is replaced (of an axis: in units of its "
        "range over the training images). Near 0 the concepts do not see their part at all.",
        "locality",
    ),
    FigureOf(
        "other_change",
        "How far the concepts of an unchanged part change, for the part that reacts most wrongly. 0 is honest.",
        "locality",
    ),
    FigureOf(
        "surroundings_change",
        "How far the concepts of a part change when only the surroundings of the bird change. 0 is honest.",
        "locality",
    ),
    FigureOf(
        "intervention_consistency",
        "How similar the class probabilities are after setting a concept in the bottleneck and after drawing the "
        "part accordingly (1 - total variation). 1: the bottleneck is a true handle on the picture.",
        "intervention_consistency",
    ),
    FigureOf(
        "intervention_consistency_unchanged",
        "The same for a bottleneck that ignores interventions. Only the part of intervention_consistency above "
        "this value counts.",
        "intervention_consistency",
    ),
    FigureOf(
        "intervention_same_class",
        "Share of changes after which bottleneck and picture give the same class; 1 is best. For one part if the "
        "name ends in a part.",
        "intervention_consistency",
    ),
    FigureOf(
        "intervention_same_class_unchanged",
        "The same for a bottleneck that ignores interventions: how often the changed picture keeps its class.",
        "intervention_consistency",
    ),
    FigureOf(
        "intervention_correlation",
        "Do both changes push the same classes up and down (Spearman over classes)? 1: the same order; 0: unrelated.",
        "intervention_consistency",
    ),
    FigureOf("accuracy_soft", "Accuracy with the concepts as predicted.", "leakage_gap"),
    FigureOf(
        "accuracy_hard",
        "Accuracy with the concepts rounded to true and false: all that their names promise.",
        "leakage_gap",
    ),
    FigureOf(
        "leakage_gap",
        "Accuracy lost when concepts are rounded. Above 0 the classes rest on shades of the concepts that their "
        "names do not express; below 0 rounding helps.",
        "leakage_gap",
    ),
    FigureOf(
        "concept_task_leakage",
        "How much a predicted concept says about the class beyond the annotated one (share of the class entropy, "
        "CTL). 0: nothing leaks. Use it mainly to compare models on the same images.",
        "concept_task_leakage",
    ),
    FigureOf(
        "interconcept_leakage",
        "How much predicted concepts say about each other beyond the annotated ones (ICL). 0: they are as "
        "independent as the truth.",
        "interconcept_leakage",
    ),
    FigureOf(
        "completeness_error",
        "The largest difference between a logit and its bias plus the contributions of all units. 0 up to "
        "rounding: the explanation leaves nothing out.",
    ),
    FigureOf(
        "named_share",
        "Share of a prediction that units with a name carry (concepts, prototypes, axes of concepts; not "
        "channels). 1: all of it.",
    ),
    FigureOf("accuracy_whole", "Accuracy of the whole model, on the images of the two figures below."),
    FigureOf(
        "accuracy_without_named",
        "Accuracy with every unit that has a name set to its mean over training images (of concepts: their "
        "probability). What it is above chance passes the names by.",
    ),
    FigureOf(
        "accuracy_named_alone",
        "Accuracy with all else set to its mean: units without a name, and the vectors of concept embeddings.",
    ),
    FigureOf(
        "units_for_90",
        "How many units make up 90 % of what speaks for and against the prediction. Fewer are easier to read.",
    ),
    FigureOf("units", "Number of all units."),
    FigureOf(
        "prototype_change_inside",
        "How far a prototype's similarity changes, in units of a perfect match, when the part in its frame is "
        "replaced. Near 0 it does not see what it frames.",
    ),
    FigureOf(
        "prototype_change_outside",
        "How far it changes when a part outside of its frame is replaced. 0 is honest.",
    ),
    FigureOf(
        "prototype_change_surroundings",
        "How far it changes when only the surroundings of the bird change. 0 is honest for a prototype that "
        "frames a part.",
    ),
    FigureOf(
        "prototype_alignment",
        "inside / (inside + outside). 1: it answers only to what it frames; 0.5: to the rest as much.",
    ),
    FigureOf(
        "prototype_location_change",
        "How far the frame moves (1 - IoU) when a part outside of it is replaced (PLC). 0 is best.",
    ),
    FigureOf(
        "prototype_rank_change",
        "How far its rank among all prototypes then changes, as a share of all ranks (PRC). 0 is best.",
    ),
    FigureOf("consistency", "Share of prototypes that lie on the same part in 80 % of the images of their class."),
    FigureOf("stability", "Share of images on which slight noise leaves a prototype on the same parts."),
    FigureOf(
        "purity",
        "Of the 10 images with the highest similarity, the share in which a prototype lies on its most frequent part.",
    ),
    FigureOf("pointing", "Share of the peaks of prototypes, in images of their class, that lie on a part."),
    FigureOf("energy_pointing", "Share of the similarity maps, in images of their class, that lies on parts."),
)

SELF_CONSISTENCY = Group(
    "self_consistency",
    "Units",
    _METRICS,
    figures=_FIGURES,
)
