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
    from ibd.explain.atlas import (
        Atlas as Atlas,
        activation_atlas as activation_atlas,
        atlas_examples as atlas_examples,
        sample_places as sample_places,
    )
    from ibd.explain.atlas_figures import atlas_figure as atlas_figure
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
    from ibd.explain.channel_figures import (
        channel_maps_figure as channel_maps_figure,
        silence_figure as silence_figure,
        weights_figure as weights_figure,
    )
    from ibd.explain.channels import (
        blank_by_depth as blank_by_depth,
        channel_maps as channel_maps,
        layer_weights as layer_weights,
    )
    from ibd.explain.code_map import (
        CodeMap as CodeMap,
        lay_out as lay_out,
        read_codes as read_codes,
    )
    from ibd.explain.code_map_figures import code_map_figure as code_map_figure
    from ibd.explain.concept_figures import concept_figure as concept_figure
    from ibd.explain.concept_slopes import tcav as tcav
    from ibd.explain.concepts import (
        ConceptRelevance as ConceptRelevance,
        ConceptSheet as ConceptSheet,
        concept_relevance as concept_relevance,
        concept_sheet as concept_sheet,
    )
    from ibd.explain.continuity import Continuity as Continuity, continuity_example as continuity_example
    from ibd.explain.continuity_figures import continuity_figure as continuity_figure
    from ibd.explain.directions import Directions as Directions
    from ibd.explain.dissection.dissect import dissect as dissect
    from ibd.explain.dissection.figures import (
        histogram_figure as histogram_figure,
        net2vec_figure as net2vec_figure,
        units_figure as units_figure,
    )
    from ibd.explain.dissection.found import Dissection as Dissection, LayerDissection as LayerDissection
    from ibd.explain.dissection.net2vec import ConceptWeights as ConceptWeights, net2vec as net2vec
    from ibd.explain.dissection.pictures import most_telling as most_telling, unit_pictures as unit_pictures
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
        DenoisingExpert as DenoisingExpert,
        FixedSpectrum as FixedSpectrum,
        Fourier as Fourier,
        GaussianExpert as GaussianExpert,
        HighFrequency as HighFrequency,
        Material as Material,
        MixtureExpert as MixtureExpert,
        Nearness as Nearness,
        Norm as Norm,
        Objective as Objective,
        Parametrization as Parametrization,
        Penalty as Penalty,
        Pixels as Pixels,
        Roughness as Roughness,
        TotalVariation as TotalVariation,
        Transforms as Transforms,
        Visualization as Visualization,
        Weighted as Weighted,
        deep_dream as deep_dream,
        invert_features as invert_features,
        make_by_recipes as make_by_recipes,
        maximize_activation as maximize_activation,
        maximize_in_octaves as maximize_in_octaves,
        train_decoder as train_decoder,
        visualization_sheet as visualization_sheet,
    )
    from ibd.explain.figures import prediction_figure as prediction_figure
    from ibd.explain.fooling.attacks import Fooled as Fooled, fgsm as fgsm, pgd as pgd
    from ibd.explain.fooling.effect import Seen as Seen, explanations_fooled as explanations_fooled
    from ibd.explain.fooling.figures import (
        explanations_fooled_figure as explanations_fooled_figure,
        fooled_figure as fooled_figure,
        transfer_figure as transfer_figure,
    )
    from ibd.explain.fooling.minimal import deepfool as deepfool
    from ibd.explain.fooling.robustness import Robustness as Robustness, robustness as robustness
    from ibd.explain.fooling.universal import (
        Transfer as Transfer,
        Universal as Universal,
        transfer_table as transfer_table,
        universal_perturbation as universal_perturbation,
    )
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
    from ibd.explain.layer_ablation import (
        UnitAblation as UnitAblation,
        channel_relevance as channel_relevance,
        unit_ablation as unit_ablation,
    )
    from ibd.explain.layer_coverage import UnitCoverage as UnitCoverage, unit_coverage as unit_coverage
    from ibd.explain.layer_curves import (
        unit_ablation_figure as unit_ablation_figure,
        unit_coverage_figure as unit_coverage_figure,
    )
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
    from ibd.explain.perception import Sight as Sight, sight_of as sight_of
    from ibd.explain.pertinent import (
        Pertinent as Pertinent,
        pertinent_negative as pertinent_negative,
        pertinent_positive as pertinent_positive,
    )
    from ibd.explain.perturbation import Occlusion as Occlusion, Rise as Rise
    from ibd.explain.quantus import quantus_explain as quantus_explain
    from ibd.explain.relevance_clusters import Clustering as Clustering, cluster_maps as cluster_maps
    from ibd.explain.relevance_patches import most_relevant_patches as most_relevant_patches
    from ibd.explain.relevant_figures import (
        ablation_figure as ablation_figure,
        features_figure as features_figure,
        interpretation_figure as interpretation_figure,
    )
    from ibd.explain.relu_modes import Deconvnet as Deconvnet, GuidedBackprop as GuidedBackprop
    from ibd.explain.render import color_map as color_map, grid_figure as grid_figure, overlay as overlay
    from ibd.explain.smoothgrad import SmoothGrad as SmoothGrad
    from ibd.explain.spray_figures import spray_figure as spray_figure
    from ibd.explain.strategies import (
        Spray as Spray,
        class_maps as class_maps,
        pixel_spread as pixel_spread,
        spray as spray,
    )
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
        *("L2", "Blur", "Colors", "Decoder", "DenoisingExpert", "FixedSpectrum", "Fourier", "GaussianExpert"),
        *("HighFrequency", "Material", "MixtureExpert", "Nearness", "Norm", "Objective", "Parametrization", "Penalty"),
        *("Pixels", "Roughness", "TotalVariation", "Transforms", "Visualization", "Weighted", "deep_dream"),
        *("invert_features", "make_by_recipes", "maximize_activation", "maximize_in_octaves", "train_decoder"),
        "visualization_sheet",
    ),
    "inside": (
        *("ActivationGrid", "SemanticDictionary", "activation_grid", "first_layer_filters", "semantic_dictionary"),
        "sparsity_by_depth",
    ),
    "channels": ("blank_by_depth", "channel_maps", "layer_weights"),
    "channel_figures": ("channel_maps_figure", "silence_figure", "weights_figure"),
    "code_map": ("CodeMap", "lay_out", "read_codes"),
    "code_map_figures": ("code_map_figure",),
    "atlas": ("Atlas", "activation_atlas", "atlas_examples", "sample_places"),
    "atlas_figures": ("atlas_figure",),
    "factorization": ("NeuronGroups", "neuron_groups"),
    "quantus": ("quantus_explain",),
    "patches": ("Patches", "maximally_activating_patches"),
    "fooling.attacks": ("Fooled", "fgsm", "pgd"),
    "fooling.minimal": ("deepfool",),
    "fooling.universal": ("Transfer", "Universal", "transfer_table", "universal_perturbation"),
    "fooling.robustness": ("Robustness", "robustness"),
    "fooling.effect": ("Seen", "explanations_fooled"),
    "fooling.figures": ("explanations_fooled_figure", "fooled_figure", "transfer_figure"),
    "relevance_clusters": ("Clustering", "cluster_maps"),
    "strategies": ("Spray", "class_maps", "pixel_spread", "spray"),
    "spray_figures": ("spray_figure",),
    "relevance_patches": ("most_relevant_patches",),
    "concepts": ("ConceptRelevance", "ConceptSheet", "concept_relevance", "concept_sheet"),
    "directions": ("Directions",),
    "dissection.dissect": ("dissect",),
    "dissection.found": ("Dissection", "LayerDissection"),
    "dissection.figures": ("histogram_figure", "net2vec_figure", "units_figure"),
    "dissection.net2vec": ("ConceptWeights", "net2vec"),
    "dissection.pictures": ("most_telling", "unit_pictures"),
    "cav": ("Fit", "concept_vectors", "fit_directions"),
    "feature_selection": ("RelevantFeatures", "Unit", "relevant_features"),
    "feature_ablation": ("Ablation", "ablation_curve"),
    "feature_coverage": ("Coverage", "semantic_coverage"),
    "layer_ablation": ("UnitAblation", "channel_relevance", "unit_ablation"),
    "layer_coverage": ("UnitCoverage", "unit_coverage"),
    "layer_curves": ("unit_ablation_figure", "unit_coverage_figure"),
    "continuity": ("Continuity", "continuity_example"),
    "continuity_figures": ("continuity_figure",),
    "perception": ("Sight", "sight_of"),
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
