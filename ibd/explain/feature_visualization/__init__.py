"""Images that excite a part of a model, made by gradient ascent."""

from ibd.explain.feature_visualization.decoder import train_decoder
from ibd.explain.feature_visualization.denoiser import DenoisingExpert
from ibd.explain.feature_visualization.dream import deep_dream, maximize_in_octaves
from ibd.explain.feature_visualization.experts import GaussianExpert, MixtureExpert
from ibd.explain.feature_visualization.invert import invert_features
from ibd.explain.feature_visualization.maximize import Visualization, maximize_activation
from ibd.explain.feature_visualization.objectives import Objective
from ibd.explain.feature_visualization.parametrizations import Colors, Decoder, Fourier, Parametrization, Pixels
from ibd.explain.feature_visualization.penalties import (
    L2,
    Blur,
    HighFrequency,
    Nearness,
    Norm,
    Penalty,
    Roughness,
    TotalVariation,
    Weighted,
)
from ibd.explain.feature_visualization.recipes import Material, make_by_recipes
from ibd.explain.feature_visualization.sheet import visualization_sheet
from ibd.explain.feature_visualization.spectrum import FixedSpectrum
from ibd.explain.feature_visualization.transforms import Transforms

__all__ = [
    "L2",
    "Blur",
    "Colors",
    "Decoder",
    "DenoisingExpert",
    "FixedSpectrum",
    "Fourier",
    "GaussianExpert",
    "HighFrequency",
    "Material",
    "MixtureExpert",
    "Nearness",
    "Norm",
    "Objective",
    "Parametrization",
    "Penalty",
    "Pixels",
    "Roughness",
    "TotalVariation",
    "Transforms",
    "Visualization",
    "Weighted",
    "deep_dream",
    "invert_features",
    "make_by_recipes",
    "maximize_activation",
    "maximize_in_octaves",
    "train_decoder",
    "visualization_sheet",
]
