"""Images that excite a part of a model, made by gradient ascent."""

from ibd.explain.feature_visualization.experts import GaussianExpert, MixtureExpert
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
from ibd.explain.feature_visualization.sheet import visualization_sheet
from ibd.explain.feature_visualization.transforms import Transforms

__all__ = [
    "L2",
    "Blur",
    "Colors",
    "Decoder",
    "Fourier",
    "GaussianExpert",
    "HighFrequency",
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
    "maximize_activation",
    "visualization_sheet",
]
