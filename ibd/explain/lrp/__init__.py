"""Layer-wise relevance propagation, as gradient times input of a surrogate of the model."""

from ibd.explain.lrp.composites import Choice, Composite, composite
from ibd.explain.lrp.explainer import LRP
from ibd.explain.lrp.nodes import Operation
from ibd.explain.lrp.rules import AlphaBeta, Epsilon, Flat, Gamma, Rule, WSquare, ZBox, ZPlus

__all__ = [
    "LRP",
    "AlphaBeta",
    "Choice",
    "Composite",
    "Epsilon",
    "Flat",
    "Gamma",
    "Operation",
    "Rule",
    "WSquare",
    "ZBox",
    "ZPlus",
    "composite",
]
