"""Explanations and the pictures of them. Works on any network through its outputs; imports no model.

Everything is imported when first used, as by ``import ibd``.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ibd.errors import did_you_mean

if TYPE_CHECKING:  # what an editor and a type checker read; at run time these come from the table below
    from ibd.explain.activations import layer_names as layer_names
    from ibd.explain.attention_maps import (
        AttentionGradient as AttentionGradient,
        AttentionRollout as AttentionRollout,
    )
    from ibd.explain.attribution import LayerAttribution as LayerAttribution, layer_attribution as layer_attribution
    from ibd.explain.base import Cost as Cost, Explainer as Explainer, Explanation as Explanation
    from ibd.explain.boxes import percentile_box as percentile_box, relative_box as relative_box
    from ibd.explain.cam import (
        CAM as CAM,
        AblationCAM as AblationCAM,
        CamExplainer as CamExplainer,
        Cams as Cams,
        EigenCAM as EigenCAM,
        GradCAM as GradCAM,
        GradCAMPlusPlus as GradCAMPlusPlus,
        HiResCAM as HiResCAM,
        LayerCAM as LayerCAM,
        ScoreCAM as ScoreCAM,
        XGradCAM as XGradCAM,
    )
    from ibd.explain.cav import Fit as Fit, concept_vectors as concept_vectors, fit_directions as fit_directions
    from ibd.explain.concept_figures import concept_figure as concept_figure
    from ibd.explain.concept_slopes import tcav as tcav
    from ibd.explain.concepts import (
        ConceptRelevance as ConceptRelevance,
        ConceptSheet as ConceptSheet,
        concept_relevance as concept_relevance,
        concept_sheet as concept_sheet,
    )
    from ibd.explain.directions import Directions as Directions
    from ibd.explain.explanation_figures import explanations_figure as explanations_figure
    from ibd.explain.factorization import NeuronGroups as NeuronGroups, neuron_groups as neuron_groups
    from ibd.explain.feature_ablation import Ablation as Ablation, ablation_curve as ablation_curve
    from ibd.explain.feature_coverage import Coverage as Coverage, semantic_coverage as semantic_coverage
    from ibd.explain.feature_pictures import (
        Interpretation as Interpretation,
        average_patches as average_patches,
        interpret as interpret,
    )
    from ibd.explain.feature_selection import (
        RelevantFeatures as RelevantFeatures,
        Unit as Unit,
        relevant_features as relevant_features,
    )
    from ibd.explain.feature_visualization import (
        L2 as L2,
        Blur as Blur,
        Colors as Colors,
        Decoder as Decoder,
        Fourier as Fourier,
        GaussianExpert as GaussianExpert,
        HighFrequency as HighFrequency,
        Nearness as Nearness,
        Objective as Objective,
        Parametrization as Parametrization,
        Penalty as Penalty,
        Pixels as Pixels,
        TotalVariation as TotalVariation,
        Transforms as Transforms,
        Visualization as Visualization,
        maximize_activation as maximize_activation,
        visualization_sheet as visualization_sheet,
    )
    from ibd.explain.figures import prediction_figure as prediction_figure
    from ibd.explain.gradients import (
        GradientExplainer as GradientExplainer,
        GradientTimesInput as GradientTimesInput,
        IntegratedGradients as IntegratedGradients,
        Saliency as Saliency,
        Sensitivity as Sensitivity,
    )
    from ibd.explain.inside import (
        ActivationGrid as ActivationGrid,
        SemanticDictionary as SemanticDictionary,
        activation_grid as activation_grid,
        first_layer_filters as first_layer_filters,
        semantic_dictionary as semantic_dictionary,
        sparsity_by_depth as sparsity_by_depth,
    )
    from ibd.explain.inside_figures import (
        activation_grid_figure as activation_grid_figure,
        attribution_figure as attribution_figure,
        dictionary_figure as dictionary_figure,
        filters_figure as filters_figure,
        groups_figure as groups_figure,
        patches_figure as patches_figure,
        sparsity_figure as sparsity_figure,
    )
    from ibd.explain.intrinsic import Intrinsic as Intrinsic
    from ibd.explain.learned_masks import (
        ExtremalPerturbation as ExtremalPerturbation,
        MeaningfulPerturbation as MeaningfulPerturbation,
    )
    from ibd.explain.lrp import (
        LRP as LRP,
        AlphaBeta as AlphaBeta,
        Choice as Choice,
        Composite as Composite,
        Epsilon as Epsilon,
        Flat as Flat,
        Gamma as Gamma,
        Operation as Operation,
        Rule as Rule,
        WSquare as WSquare,
        ZBox as ZBox,
        ZPlus as ZPlus,
        composite as composite,
    )
    from ibd.explain.patches import Patches as Patches, maximally_activating_patches as maximally_activating_patches
    from ibd.explain.pertinent import (
        Pertinent as Pertinent,
        pertinent_negative as pertinent_negative,
        pertinent_positive as pertinent_positive,
    )
    from ibd.explain.perturbation import Occlusion as Occlusion, Rise as Rise
    from ibd.explain.quantus import quantus_explain as quantus_explain
    from ibd.explain.relevance_patches import most_relevant_patches as most_relevant_patches
    from ibd.explain.relevant_figures import (
        ablation_figure as ablation_figure,
        features_figure as features_figure,
        interpretation_figure as interpretation_figure,
    )
    from ibd.explain.relu_modes import Deconvnet as Deconvnet, GuidedBackprop as GuidedBackprop
    from ibd.explain.render import color_map as color_map, grid_figure as grid_figure, overlay as overlay
    from ibd.explain.smoothgrad import SmoothGrad as SmoothGrad
    from ibd.explain.surrogates import KernelShap as KernelShap, Lime as Lime
    from ibd.explain.targets import Target as Target
    from ibd.explain.tcav_figures import tcav_figure as tcav_figure
    from ibd.explain.tcav_results import Tcav as Tcav
    from ibd.explain.unit_relevance import UnitRelevance as UnitRelevance

_PUBLIC = {
    "base": ("Cost", "Explainer", "Explanation"),
    "activations": ("layer_names",),
    "targets": ("Target",),
    "intrinsic": ("Intrinsic",),
    "unit_relevance": ("UnitRelevance",),
    "gradients": ("GradientExplainer", "GradientTimesInput", "IntegratedGradients", "Saliency", "Sensitivity"),
    "smoothgrad": ("SmoothGrad",),
    "relu_modes": ("Deconvnet", "GuidedBackprop"),
    "attention_maps": ("AttentionGradient", "AttentionRollout"),
    "cam": (
        *("CAM", "AblationCAM", "CamExplainer", "Cams", "EigenCAM", "GradCAM", "GradCAMPlusPlus", "HiResCAM"),
        *("LayerCAM", "ScoreCAM", "XGradCAM"),
    ),
    "lrp": (
        *("LRP", "AlphaBeta", "Choice", "Composite", "Epsilon", "Flat", "Gamma", "Operation", "Rule", "WSquare"),
        *("ZBox", "ZPlus", "composite"),
    ),
    "perturbation": ("Occlusion", "Rise"),
    "learned_masks": ("ExtremalPerturbation", "MeaningfulPerturbation"),
    "pertinent": ("Pertinent", "pertinent_negative", "pertinent_positive"),
    "surrogates": ("KernelShap", "Lime"),
    "attribution": ("LayerAttribution", "layer_attribution"),
    "feature_visualization": (
        *("L2", "Blur", "Colors", "Decoder", "Fourier", "GaussianExpert", "HighFrequency", "Nearness", "Objective"),
        *("Parametrization", "Penalty", "Pixels", "TotalVariation", "Transforms", "Visualization"),
        *("maximize_activation", "visualization_sheet"),
    ),
    "inside": (
        *("ActivationGrid", "SemanticDictionary", "activation_grid", "first_layer_filters", "semantic_dictionary"),
        "sparsity_by_depth",
    ),
    "factorization": ("NeuronGroups", "neuron_groups"),
    "quantus": ("quantus_explain",),
    "patches": ("Patches", "maximally_activating_patches"),
    "relevance_patches": ("most_relevant_patches",),
    "concepts": ("ConceptRelevance", "ConceptSheet", "concept_relevance", "concept_sheet"),
    "directions": ("Directions",),
    "cav": ("Fit", "concept_vectors", "fit_directions"),
    "feature_selection": ("RelevantFeatures", "Unit", "relevant_features"),
    "feature_ablation": ("Ablation", "ablation_curve"),
    "feature_coverage": ("Coverage", "semantic_coverage"),
    "feature_pictures": ("Interpretation", "average_patches", "interpret"),
    "relevant_figures": ("ablation_figure", "features_figure", "interpretation_figure"),
    "concept_slopes": ("tcav",),
    "tcav_results": ("Tcav",),
    "tcav_figures": ("tcav_figure",),
    "concept_figures": ("concept_figure",),
    "inside_figures": (
        *("activation_grid_figure", "attribution_figure", "dictionary_figure", "filters_figure", "groups_figure"),
        *("patches_figure", "sparsity_figure"),
    ),
    "boxes": ("percentile_box", "relative_box"),
    "explanation_figures": ("explanations_figure",),
    "figures": ("prediction_figure",),
    "render": ("color_map", "grid_figure", "overlay"),
}
"""Module -> its public names."""
_PLACES = {name: module for module, names in _PUBLIC.items() for name in names}

__all__ = sorted(_PLACES)


if not TYPE_CHECKING:  # which would take any name for right

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first asked for (PEP 562)."""
        if name not in _PLACES:
            raise AttributeError(f"module 'ibd.explain' has no attribute '{name}'.{did_you_mean(name, __all__)}")
        public = globals()[name] = getattr(importlib.import_module(f"ibd.explain.{_PLACES[name]}"), name)
        return public

    class _Package(ModuleType):
        """A package that says what is meant where it is called."""

        def __call__(self, *args: object, **kwargs: object) -> object:
            raise TypeError("ibd.explain holds the explainers: `ibd.explain.GradCAM()(model, images)` asks one of them")

    sys.modules[__name__].__class__ = _Package


def __dir__() -> list[str]:
    """Name what can be asked for."""
    return __all__
