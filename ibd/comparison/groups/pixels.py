"""Faithfulness by pixels: what happens to the prediction while they are taken away, or put in, by a map."""

from __future__ import annotations

from ibd.comparison.asked import Asked
from ibd.comparison.groups.record import ANY, UNIT, CurveOf, Finding, Group, Measured, Metric
from ibd.comparison.groups.values import points, scores
from ibd.metrics.functional.curves import abpc, aopc, deletion_auc, insertion_auc, selectivity


def measure(asked: Asked) -> Measured:
    """Return deletion and insertion of the probability, by pixels; the others of the centered logit, by regions."""
    probe = asked.case.pixels
    single, region = probe.pixels(asked.maps), probe.regions(asked.maps)
    deletion, insertion = single.morf.probability, single.insertion.probability
    morf, lerf = region.morf.centered, region.lerf.centered
    return Measured(
        scores(
            {
                "deletion": deletion_auc(deletion, single.fractions),
                "insertion": insertion_auc(insertion, single.inserted),
                "aopc_morf": aopc(morf),
                "aopc_lerf": aopc(lerf),
                "abpc": abpc(morf, lerf),
                "selectivity": selectivity(morf, region.fractions),
            }
        ),
        {
            "deletion": points(single.fractions, deletion),
            "insertion": points(single.inserted, insertion),
            "aopc_morf": points(region.fractions, morf),
            "aopc_lerf": points(region.fractions, lerf),
        },
    )


_METRICS = (
    Metric("deletion", "Deletion", "Area under the probability while the highest pixels are removed.", UNIT, False,
           "Petsiuk et al. 2018", "map model", deletion_auc, by_painting=True,
           finding=Finding("finds the pixels that the prediction needs", "the deletion area")),
    Metric("insertion", "Insertion", "Area under the probability while the highest pixels are inserted.", UNIT, True,
           "Petsiuk et al. 2018", "map model", insertion_auc, by_painting=True,
           finding=Finding("finds the pixels that suffice for the prediction", "the insertion area")),
    Metric("aopc_morf", "AOPC, MoRF",
           "Mean drop of the explained value, removing the most relevant regions first.", ANY,
           True, "Samek et al. 2017", "map model", aopc),
    Metric("aopc_lerf", "AOPC, LeRF", "Mean drop of the explained value, removing the least relevant regions first.",
           ANY, False, "Samek et al. 2017", "map model", aopc),
    Metric("abpc", "ABPC", "AOPC of the most relevant first minus that of the least relevant first.", ANY, True,
           "Schulz et al. 2020", "map model", abpc, 0.0,
           finding=Finding("separates important regions from unimportant ones", "the area between the AOPC curves")),
    Metric("selectivity", "Selectivity", "Area under the explained value while all regions are removed.", ANY, False,
           "Montavon et al. 2018", "map model", selectivity),
)  # fmt: skip

PIXELS = Group(
    "pixels",
    "Faithfulness",
    _METRICS,
    measure,
    curves=(
        CurveOf("deletion", "Deletion: the highest pixels are removed first", "share of pixels removed", "probability"),
        CurveOf(
            "insertion", "Insertion: the highest pixels are inserted first", "share of pixels inserted", "probability"
        ),
        CurveOf(
            "aopc_morf",
            "AOPC: the most relevant regions are removed first",
            "share of regions removed, most relevant first",
            "centered logit",
        ),
        CurveOf(
            "aopc_lerf",
            "AOPC: the least relevant regions are removed first",
            "share of regions removed, least relevant first",
            "centered logit",
        ),
    ),
    main=(("deletion", "insertion"), ("abpc",)),
)
