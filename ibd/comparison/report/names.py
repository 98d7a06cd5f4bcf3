"""What the report calls things."""

from __future__ import annotations

from ibd.comparison.results import ModelInfo

FAMILIES = {
    "baseline": "plain CNN",
    "cbm": "concept bottleneck",
    "cem": "concept embedding network",
    "scbm": "stochastic concept bottleneck",
    "posthoc_cbm": "post-hoc concept bottleneck",
    "protopnet": "prototype network",
    "pipnet": "prototype network (PIP-Net)",
    "concept_whitening": "concept whitening network",
    "interpretable_cnn": "interpretable CNN",
}

EXPLAINERS = {
    "intrinsic": "Own map",
    "intrinsic_units": "Own units",
    "saliency": "Saliency",
    "gradient_input": "Gradient × input",  # noqa: RUF001
    "sensitivity": "Sensitivity",
    "integrated_gradients": "Integrated gradients",
    "smoothgrad": "SmoothGrad",
    "guided_backprop": "Guided backprop",
    "deconvnet": "Deconvnet",
    "cam": "CAM",
    "gradcam": "Grad-CAM",
    "hirescam": "HiResCAM",
    "gradcam++": "Grad-CAM++",
    "xgradcam": "XGrad-CAM",
    "layercam": "LayerCAM",
    "eigencam": "Eigen-CAM",
    "ablationcam": "Ablation-CAM",
    "scorecam": "Score-CAM",
    "attention_rollout": "Attention rollout",
    "attention_gradient": "Attention × gradient",  # noqa: RUF001
    "lrp": "LRP",
    "occlusion": "Occlusion",
    "rise": "RISE",
    "meaningful_perturbation": "Meaningful perturbation",
    "extremal_perturbation": "Extremal perturbation",
    "lime": "LIME",
    "kernel_shap": "KernelSHAP",
    "noise": "Noise",
    "constant": "Constant",
    "center": "Center",
    "edges": "Edges",
    "oracle": "Oracle",
    "oracle_sum": "Oracle, summed",
}

ORDER = ("Faithfulness", "Parts", "Localization", "Robustness", "Sanity", "Properties", "Units", "Agreement", "Other")
ASKED = {
    "Faithfulness": "Does the prediction change where the map says it should?",
    "Parts": "Does the map rank the parts by how much they drive the prediction?",
    "Localization": "Does the map lie where the truth lies?",
    "Robustness": "Does the map stay the same when the image hardly changes?",
    "Sanity": "Does the map change when the model is made random?",
    "Properties": "What is the map like?",
    "Units": "Do the units mean what they say?",
    "Agreement": "Do two explanations say the same?",
    "Cost": "How much computing does one image take?",
    "Other": "Other measures",
}

PAINTINGS = {
    "pooling": (
        "As pooled",
        "At the cells that gave the unit's score, by the network's own pooling; all other tables use this.",
    ),
    "score_sign": ("Sign of the score", "The part of a unit's map that has the sign of its score."),
    "peak": ("Peak cell", "The highest cell of a unit's map alone."),
    "top": ("Top 5 %", "The highest 5 % of the cells, with equal weight."),
    "minimum": ("Map minus minimum", "A unit's map minus its lowest value."),
    "receptive_field": ("Receptive field", "As pooled, but each cell is spread evenly over all pixels that it sees."),
}
"""Painting of a model's own map -> its title, and what it does with each unit's contribution."""

CHECKS = {
    "cascade_top_down": ("Cascade, top down", "The map must fade while the model is made random, the head first."),
    "cascade_bottom_up": ("Cascade, bottom up", "The map must fade while the model is made random, the input first."),
    "other_target": ("Other target", "The map of another class must differ."),
    "other_input": ("Other input", "The map of another image must differ."),
    "input_shift": ("Input shift", "A shift of the input that the model undoes must not change the map."),
}


def family_title(family: str) -> str:
    """Return what a family of models is called in a sentence, and on which backbone where there are several."""
    model, on, backbone = family.partition("-")
    return FAMILIES.get(model, plain(model)) + (f" on {backbone}" if on else "")


def model_title(model: ModelInfo) -> str:
    """Return what a model is called: its family, and which of its trainings it is."""
    return capital(family_title(model.family)) + model.name.removeprefix(model.family)


def explainer_title(name: str) -> str:
    """Return what an explainer is called in a table."""
    return EXPLAINERS.get(name, capital(plain(name)))


def called(name: str) -> str:
    """Return what an explainer is called within a sentence on a model's own map."""
    return "its own units" if name == "intrinsic_units" else explainer_title(name)


def plain(name: str) -> str:
    """Return a name with blanks for underscores."""
    return name.replace("_", " ")


def capital(text: str) -> str:
    """Return a text that begins with a capital letter, the rest as it is."""
    return text[:1].upper() + text[1:]
