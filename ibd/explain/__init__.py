"""Explanations and the pictures of them. Works on any network through its outputs; imports no model."""

from ibd.explain.figures import prediction_figure
from ibd.explain.render import overlay

__all__ = ["overlay", "prediction_figure"]
