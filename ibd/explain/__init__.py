"""Explanations and the pictures of them. Works on any network through its outputs; imports no model.

Everything is imported when first used, as by ``import ibd``.
"""

from __future__ import annotations

import importlib
from typing import Any

_PUBLIC = {
    "base": ("Cost", "Explainer", "Explanation"),
    "activations": ("layer_names",),
    "targets": ("Target",),
    "intrinsic": ("Intrinsic",),
    "gradients": ("GradientExplainer", "GradientTimesInput", "IntegratedGradients", "Saliency", "Sensitivity"),
    "smoothgrad": ("SmoothGrad",),
    "relu_modes": ("Deconvnet", "GuidedBackprop"),
    "cam": (
        *("CAM", "AblationCAM", "CamExplainer", "Cams", "EigenCAM", "GradCAM", "GradCAMPlusPlus", "HiResCAM"),
        *("LayerCAM", "ScoreCAM", "XGradCAM"),
    ),
    "lrp": (
        *("LRP", "AlphaBeta", "Choice", "Composite", "Epsilon", "Flat", "Gamma", "Operation", "Rule", "WSquare"),
        *("ZBox", "ZPlus", "composite"),
    ),
    "perturbation": ("Occlusion", "Rise"),
    "surrogates": ("KernelShap", "Lime"),
    "attribution": ("LayerAttribution", "layer_attribution"),
    "feature_visualization": (
        *("L2", "Blur", "Colours", "Decoder", "Fourier", "GaussianExpert", "HighFrequency", "Nearness", "Objective"),
        *("Parametrisation", "Penalty", "Pixels", "TotalVariation", "Transforms", "Visualization"),
        *("maximize_activation", "visualization_sheet"),
    ),
    "inside": (
        *("ActivationGrid", "SemanticDictionary", "activation_grid", "first_layer_filters", "semantic_dictionary"),
        "sparsity_by_depth",
    ),
    "factorisation": ("NeuronGroups", "neuron_groups"),
    "patches": ("Patches", "maximally_activating_patches"),
    "inside_figures": (
        *("activation_grid_figure", "attribution_figure", "dictionary_figure", "filters_figure", "groups_figure"),
        *("patches_figure", "sparsity_figure"),
    ),
    "prototypes": ("local_explanation", "local_explanations", "to_csv"),
    "boxes": ("percentile_box", "relative_box"),
    "explanation_figures": ("explanations_figure",),
    "figures": ("prediction_figure",),
    "prototype_figures": ("global_figure", "local_figure"),
    "axis_figures": ("axis_maps_figure", "top_images_figure"),
    "axis_charts": ("auc_figure", "correlation_figure", "importance_figure", "purity_figure", "trajectory_figure"),
    "render": ("colour_map", "grid_figure", "overlay"),
}
"""Module -> its public names."""
_PLACES = {name: module for module, found in _PUBLIC.items() for name in found}

__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module 'ibd.explain' has no attribute '{name}'")
    found = globals()[name] = getattr(importlib.import_module(f"ibd.explain.{_PLACES[name]}"), name)
    return found


def __dir__() -> list[str]:
    """Name what can be asked for."""
    return __all__
