"""What `ibd compare` can measure: a line for every metric, which the runner, the report and the documentation read.

Nothing is imported by reading it: `Entry.function` says where the figure is computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ibd.errors import ConfigError, did_you_mean

Need = Literal["map", "units", "unit_maps", "masks", "concepts", "scene", "model", "explainer"]
"""What a metric reads: an explanation's map, its contributions of units, or the units' maps; the images' masks or
concepts; scenes that can be drawn anew; the model, to be asked again; the explainer, to explain again."""

Chance = float | Literal["mask_share", "mask_share_iou", "one_part"] | None
INFINITE = float("inf")


@dataclass(frozen=True)
class Entry:
    """A metric.

    Attributes:
        name: what `metrics=` of a configuration calls it.
        title: of its column.
        definition: in a sentence.
        low: end of its range; minus infinity where there is none.
        high: the other end.
        higher_is_better: None where neither is.
        source: paper.
        needs: what must be there; otherwise it is skipped, and the report says why.
        function: "module:function" in this package.
        chance: what an explanation by chance scores, where theory knows it: a number, the share of the pixels that lie
            in the mask, or what follows from it; see `chance_level`.
        per_sample: whether there is a value for each image; otherwise there is one of all images together.
        scale_free: whether an explanation times a positive number scores the same, so that explainers with other units
            can be compared; otherwise the score is about the very unit.
    """

    name: str
    title: str
    definition: str
    low: float
    high: float
    higher_is_better: bool | None
    source: str
    needs: frozenset[Need]
    function: str
    chance: Chance = None
    per_sample: bool = True
    scale_free: bool = True

    @property
    def arrow(self) -> str:
        """The direction as a sign for a column's head; empty where there is none."""
        return {True: "↑", False: "↓", None: ""}[self.higher_is_better]

    def chance_level(self, share: float | None = None) -> float | None:
        """Return what chance scores; None where it is not known.

        Args:
            share: of the pixels that lie in the mask, or 1 / P for a choice among P parts; needed where chance
                depends on it.
        """
        if self.chance is None or isinstance(self.chance, float):
            return self.chance
        if share is None:
            return None
        return share / (2 - share) if self.chance == "mask_share_iou" else share


def entry(name: str) -> Entry:
    """Return the metric of a name.

    Raises:
        ConfigError: there is none.
    """
    if name not in CATALOGUE:
        raise ConfigError(f"unknown metric '{name}'.{did_you_mean(name, CATALOGUE)}")
    return CATALOGUE[name]


def names(*available: Need) -> list[str]:
    """Return the metrics that need nothing but what is given; all without an argument."""
    there = set(available)
    return [each.name for each in CATALOGUE.values() if not available or each.needs <= there]


def _metric(
    name: str,
    title: str,
    definition: str,
    ends: tuple[float, float],
    better: bool | None,
    source: str,
    needs: str,
    function: str,
    chance: Chance = None,
    per_sample: bool = True,
    scale_free: bool = True,
) -> Entry:
    wanted: frozenset[Need] = frozenset(needs.split())  # type: ignore[arg-type]
    place = f"ibd.metrics.functional.{function}"
    return Entry(name, title, definition, *ends, better, source, wanted, place, chance, per_sample, scale_free)


_UNIT, _SIGNED, _ANY, _POSITIVE = (0.0, 1.0), (-1.0, 1.0), (-INFINITE, INFINITE), (0.0, INFINITE)
_METRICS = (
    # Faithfulness, from tables of predictions.
    _metric("deletion", "Deletion", "Area under the probability while the highest pixels are removed.", _UNIT, False,
            "Petsiuk et al. 2018", "map model", "curves:deletion_auc"),
    _metric("insertion", "Insertion", "Area under the probability while the highest pixels are put in.", _UNIT, True,
            "Petsiuk et al. 2018", "map model", "curves:insertion_auc"),
    _metric("aopc_morf", "AOPC, MoRF", "Mean fall of the explained value, the most relevant regions removed first.",
            _ANY, True, "Samek et al. 2017", "map model", "curves:aopc"),
    _metric("aopc_lerf", "AOPC, LeRF", "Mean fall of the explained value, the least relevant regions removed first.",
            _ANY, False, "Samek et al. 2017", "map model", "curves:aopc"),
    _metric("abpc", "ABPC", "AOPC of the most relevant first minus that of the least relevant first.", _ANY, True,
            "Schulz et al. 2020", "map model", "curves:abpc", 0.0),
    _metric("selectivity", "Selectivity", "Area under the explained value while all regions are removed.",
            _ANY, False, "Montavon et al. 2018", "map model", "curves:selectivity"),
    _metric("road", "ROAD", "Half of the accuracy kept by imputing the lowest pixels minus that by the highest.",
            (-0.5, 0.5), True, "Rong et al. 2022", "map model", "curves:road", 0.0),
    _metric("unit_ablation", "Unit ablation", "How much sooner predictions fall by ablating relevant units than any.",
            _ANY, True, "ablation of units", "units model", "curves:ablation_gain", 0.0),
    # Parts, against what drawing the image anew shows; importance comes from the map, or from units of a part.
    _metric("part_spearman", "Part Spearman", "Spearman's correlation of importance with Shapley values.",
            _SIGNED, True, "Hesse et al. 2023, means for sums", "scene model", "part_scores:part_spearman", 0.0),
    _metric("part_spearman_mean", "Part Spearman, mean",
            "Spearman's of means over parts, without a ring, with Shapley values.", _SIGNED, True,
            "Hesse et al. 2023, means for sums", "scene model", "part_scores:part_spearman", 0.0),
    _metric("part_spearman_sum", "Part Spearman, sum",
            "Spearman's of sums over parts with Shapley values: large parts win.", _SIGNED, True,
            "Hesse et al. 2023", "scene model", "part_scores:part_spearman"),
    _metric("part_sign", "Part sign", "Share of parts whose importance has the sign of their Shapley value.", _UNIT,
            True, "this project", "scene model", "part_scores:sign_agreement", 0.5),
    _metric("part_error", "Part error", "Squared error of the parts' importance at its best scale, over that of none.",
            _UNIT, False, "this project", "scene model", "part_scores:normalised_mse"),
    _metric("part_top", "Top part", "Whether the most important part has the highest Shapley value.", _UNIT, True,
            "this project", "scene model", "part_scores:top_part_hit", "one_part"),
    _metric("part_removal", "Part removal", "Area under the explained value while parts are removed and drawn anew.",
            _ANY, False, "this project", "scene model", "subsets:removal_auc"),
    _metric("csdc", "CSDC", "Largest share of a minimal sufficient set among as many top parts as the smallest has.",
            _UNIT, True, "Hesse et al. 2023, size fixed", "scene model", "subsets:set_scores"),
    _metric("pc", "PC", "Whether these top parts alone keep the prediction.", _UNIT, True,
            "Hesse et al. 2023, size fixed", "scene model", "subsets:set_scores"),
    _metric("dc", "DC", "Whether the prediction changes without these top parts.", _UNIT, True,
            "Hesse et al. 2023, size fixed", "scene model", "subsets:set_scores"),
    # Finer than parts.
    _metric("object_spearman", "Object Spearman", "Spearman over parts and distractors, with what each alone adds.",
            _SIGNED, True, "this project", "scene model map", "part_scores:part_spearman", 0.0),
    _metric("cell_spearman", "Cell Spearman", "Spearman over cells of a grid, with what the things in each cell add.",
            _SIGNED, True, "this project", "scene model map", "part_scores:cell_spearman", 0.0),
    # Localisation.
    _metric("mass_accuracy", "Mass", "Share of the positive mass that lies in the mask.", _UNIT, True,
            "Arras et al. 2022", "map masks", "localization:mass_accuracy", "mask_share"),
    _metric("rank_accuracy", "Rank", "Share of the mask's number of highest pixels that lie in the mask.", _UNIT, True,
            "Arras et al. 2022", "map masks", "localization:rank_accuracy", "mask_share"),
    _metric("pointing_game", "Pointing", "Whether the highest pixel lies in the mask.", _UNIT, True,
            "Zhang et al. 2018", "map masks", "localization:pointing_game", "mask_share"),
    _metric("roc_auc", "AUC", "Chance that a pixel of the mask is higher than one beside it.", _UNIT, True,
            "Hanley and McNeil 1982", "map masks", "localization:roc_auc", 0.5),
    _metric("iou_at_size", "IoU, |S|", "IoU of the mask with its number of highest pixels.", _UNIT, True,
            "this project", "map masks", "localization:iou_at_size", "mask_share_iou"),
    _metric("iou_best", "IoU, best", "IoU of the map, cut where it is best on the validation split.", _UNIT,
            True, "Oramas et al. 2019", "map masks", "localization:iou_curve"),
    _metric("box_accuracy", "Box", "Share of the mask's pieces whose box is hit, cut where it is best in validation.",
            _UNIT, True, "Choi et al. 2020, several pieces", "map masks", "localization:box_hits"),
    _metric("energy_share", "Energy", "Share of the positive mass that lies in a region.", _UNIT, None,
            "Wang et al. 2020", "map masks", "localization:energy_shares", "mask_share"),
    # Agreement with another explanation.
    _metric("agreement_spearman", "Agreement, Spearman", "Spearman's correlation over pixels of two explanations.",
            _SIGNED, None, "Spearman 1904", "map", "agreement:map_spearman", 0.0),
    _metric("agreement_top", "Agreement, top k", "IoU of the highest pixels of two explanations.", _UNIT, None,
            "this project", "map", "agreement:top_k_iou", "mask_share_iou"),
    _metric("agreement_ssim", "Agreement, SSIM", "Structural similarity of two explanations scaled to [0, 1].", _SIGNED,
            None, "Wang et al. 2004", "map", "agreement:ssim"),
    # Properties.
    _metric("conservation", "Conservation", "How far the map is from adding up to what it explains, relative to that.",
            _POSITIVE, False, "Sundararajan et al. 2017", "map model", "properties:conservation", scale_free=False),
    _metric("negative_share", "Negative", "Share of the mass that is negative.", _UNIT, False, "Montavon et al. 2018",
            "map", "properties:negative_share"),
    _metric("sparseness", "Sparseness", "Gini index of the absolute values.", _UNIT, True, "Chalasani et al. 2020",
            "map", "properties:sparseness"),
    _metric("complexity", "Complexity", "Entropy of the shares of the absolute values, in nats.", _POSITIVE, False,
            "Bhatt et al. 2020", "map", "properties:complexity"),
    # Robustness.
    _metric("local_lipschitz", "Lipschitz", "Steepest change of the map, relative to it, the prediction being kept.",
            _POSITIVE, False, "Alvarez-Melis and Jaakkola 2018, relative", "map model explainer",
            "robustness:local_lipschitz"),
    _metric("continuity", "Continuity", "Mean change of the map, relative to it, by that of the image.", _POSITIVE,
            False, "Montavon et al. 2018, relative", "map model explainer", "robustness:continuity"),
    _metric("max_sensitivity", "Sensitivity", "Largest change of the map, relative to it, the prediction being kept.",
            _POSITIVE, False, "Yeh et al. 2019", "map model explainer", "robustness:max_sensitivity"),
    _metric("translation_equivariance", "Equivariance", "Correlation of the moved map with the moved image's map.",
            _SIGNED, True, "this project", "map model explainer", "robustness:translation_equivariance", 0.0),
    # Units.
    _metric("dissection", "Detectors", "Number of different concepts that units detect by IoU over the data set.",
            _POSITIVE, True, "Bau et al. 2017", "unit_maps masks", "dissection:detectors", per_sample=False),
    _metric("composition", "Form IoU", "IoU of a unit with the best logical form of concepts.", _UNIT, True,
            "Mu and Andreas 2020", "unit_maps masks", "dissection:compositional_form", per_sample=False),
    _metric("semantic_coverage", "WAIoU", "Weighted mean of the IoU of responses with concepts.", _UNIT, True,
            "Behzadi-Khormouji and Oramas 2023", "unit_maps masks", "dissection:weighted_iou", per_sample=False),
    # Honesty of a model that explains itself.
    _metric("concept_locality", "Locality", "How much more a part moves its own concepts than any others.", _UNIT, True,
            "Raman et al. 2025", "units scene model", "honesty:concept_locality", 0.5, per_sample=False),
    _metric("intervention_consistency", "Intervention", "Likeness of predictions by a change in bottleneck or image.",
            _UNIT, True, "this project", "units scene model", "honesty:intervention_consistency"),
    _metric("leakage_gap", "Leakage gap", "Accuracy lost by rounding the concepts.", _SIGNED, False,
            "Havasi et al. 2022", "units model", "honesty:leakage_gap"),
    _metric("ctl", "CTL", "Information on the class that predicted concepts add to the true ones.", _UNIT, False,
            "Parisini et al. 2025", "units concepts model", "information:concept_task_leakage", per_sample=False),
    _metric("icl", "ICL", "Information on each other that predicted concepts add to the true ones.", _UNIT, False,
            "Parisini et al. 2025", "units concepts model", "information:interconcept_leakage", per_sample=False),
    _metric("unit_completeness", "Completeness", "How far bias and contributions are from the explained value.",
            _POSITIVE, False, "Sundararajan et al. 2017", "units model", "honesty:unit_completeness",
            scale_free=False),
    _metric("randomisation", "Randomisation", "Likeness to the map of the randomised model: pass or fail.", _SIGNED,
            False, "Adebayo et al. 2018", "map model explainer", "honesty:randomisation_verdict", per_sample=False),
)  # fmt: skip

CATALOGUE: dict[str, Entry] = {each.name: each for each in _METRICS}
"""name -> metric, in the order of a report."""
