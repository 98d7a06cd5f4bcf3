"""Class activation maps: where a feature map speaks for a score. Any subset comes from one forward pass (`Cams`)."""

from ibd.explain.cam.base import CamExplainer, Cams
from ibd.explain.cam.gradient import CAM, EigenCAM, GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, XGradCAM
from ibd.explain.cam.perturbation import AblationCAM, ScoreCAM

__all__ = [
    "CAM",
    "AblationCAM",
    "CamExplainer",
    "Cams",
    "EigenCAM",
    "GradCAM",
    "GradCAMPlusPlus",
    "HiResCAM",
    "LayerCAM",
    "ScoreCAM",
    "XGradCAM",
]
