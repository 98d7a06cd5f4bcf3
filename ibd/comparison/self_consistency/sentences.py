"""One sentence on each figure: how to read it."""

from __future__ import annotations

READING: dict[str, str] = {
    "locality": (
        "Do units answer to their own part? 1: only they change when the part is drawn in another variant; 0.5: those "
        "of another part change as much."
    ),
    "own_change": (
        "How far the largest concept of a part changes when that part is replaced (of an axis: in units of its range "
        "over the training images). Near 0 the concepts do not see their part at all."
    ),
    "other_change": (
        "How far the concepts of an unchanged part change, for the part that reacts most wrongly. 0 is honest."
    ),
    "surroundings_change": (
        "How far the concepts of a part change when only the surroundings of the bird change. 0 is honest."
    ),
    "intervention_consistency": (
        "How similar the class probabilities are after setting a concept in the bottleneck and after drawing the part "
        "accordingly (1 - total variation). 1: the bottleneck is a true handle on the picture."
    ),
    "intervention_consistency_unchanged": (
        "The same for a bottleneck that ignores interventions. Only the part of intervention_consistency above this "
        "value counts."
    ),
    "intervention_same_class": (
        "Share of changes after which bottleneck and picture give the same class; 1 is best. For one part if the name "
        "ends in a part."
    ),
    "intervention_same_class_unchanged": (
        "The same for a bottleneck that ignores interventions: how often the changed picture keeps its class."
    ),
    "intervention_correlation": (
        "Do both changes push the same classes up and down (Spearman over classes)? 1: the same order; 0: unrelated."
    ),
    "accuracy_soft": "Accuracy with the concepts as predicted.",
    "accuracy_hard": "Accuracy with the concepts rounded to true and false: all that their names promise.",
    "leakage_gap": (
        "Accuracy lost when concepts are rounded. Above 0 the classes rest on shades of the concepts that their names "
        "do not express; below 0 rounding helps."
    ),
    "concept_task_leakage": (
        "How much a predicted concept says about the class beyond the annotated one (share of the class entropy, "
        "CTL). 0: nothing leaks. Use it mainly to compare models on the same images."
    ),
    "interconcept_leakage": (
        "How much predicted concepts say about each other beyond the annotated ones (ICL). 0: they are as independent "
        "as the truth."
    ),
    "completeness_error": (
        "The largest difference between a logit and its bias plus the contributions of all units. 0 up to rounding: "
        "the explanation leaves nothing out."
    ),
    "named_share": (
        "Share of a prediction that units with a name carry (concepts, prototypes, axes of concepts; not channels). "
        "1: all of it."
    ),
    "units_for_90": (
        "How many units make up 90 % of what speaks for and against the prediction. Fewer are easier to read."
    ),
    "units": "Number of all units.",
    "prototype_change_inside": (
        "How far a prototype's similarity changes, in units of a perfect match, when the part in its frame is "
        "replaced. Near 0 it does not see what it frames."
    ),
    "prototype_change_outside": "How far it changes when a part outside of its frame is replaced. 0 is honest.",
    "prototype_change_surroundings": (
        "How far it changes when only the surroundings of the bird change. 0 is honest for a prototype that frames a "
        "part."
    ),
    "prototype_alignment": (
        "inside / (inside + outside). 1: it answers only to what it frames; 0.5: to the rest as much."
    ),
    "prototype_location_change": (
        "How far the frame moves (1 - IoU) when a part outside of it is replaced (PLC). 0 is best."
    ),
    "prototype_rank_change": (
        "How far its rank among all prototypes then changes, as a share of all ranks (PRC). 0 is best."
    ),
    "consistency": "Share of prototypes that lie on the same part in 80 % of the images of their class.",
    "stability": "Share of images on which slight noise leaves a prototype on the same parts.",
    "purity": (
        "Of the 10 images with the highest similarity, the share in which a prototype lies on its most frequent part."
    ),
    "pointing": "Share of the peaks of prototypes, in images of their class, that lie on a part.",
    "energy_pointing": "Share of the similarity maps, in images of their class, that lies on parts.",
    "detectors": "Share of units that detect some part or concept (IoU above 0.04 where the unit is highest).",
    "unique_detectors": "Number of different parts and concepts that some unit detects.",
    "dissection_iou": (
        "Mean over units of the IoU with the concept that they detect best. Maps are coarse, so even good units are "
        "far from 1."
    ),
    "dissection_own_iou": "Mean IoU of units with the concept that they are named for.",
    "dissection_own_best": (
        "Share of named units whose own concept, of all concepts, fits their map best. 1: names say where."
    ),
    "semantic_coverage": ("Mean over parts and concepts, weighted by area, of the IoU with the unit that fits best."),
    "form_iou": "Mean IoU of the units that fit best with a logical form of up to three concepts.",
    "form_single_iou": "The same units with a single concept: if a form fits much better, one name is not enough.",
    "form": "IoU of a unit with the logical form that fits it best.",
    "accuracy_aligned": "Accuracy with the tag of the class.",
    "accuracy_absent": "Accuracy without a tag. The lower it is, the more the model rests on the tag.",
    "accuracy_flipped": "Accuracy with the tag of another class.",
    "flip_rate": "Share of predictions that change when the tag is removed.",
    "follows_tag": "Share of images that the model assigns to the class of the tag that they are given.",
    "tag_area": "Share of the image that the tag covers: a map of noise has this share of its energy on the tag.",
    "energy_on_tag": "Share of the positive part of a method's map that lies on the tag.",
    "reveals_tag": "Does the energy on the tag show which predictions change without it (AUROC)? 0.5: chance.",
    "input_dependence": (
        "Share of images in which a meaningless shape gets less attribution than the same place without it. 0.5 by "
        "chance."
    ),
}
"""Name of a figure -> how to read it. `how_to_read` also takes names with a colon, as ``energy_on_tag: gradcam``."""


def how_to_read(name: str) -> str:
    """Return how to read a figure, "" for an unknown one."""
    return READING.get(name.split(":")[0], "")
