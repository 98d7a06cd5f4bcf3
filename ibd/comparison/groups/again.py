"""Explaining again: changed images and changed models."""

from __future__ import annotations

from ibd.comparison.asked import Asked
from ibd.comparison.methods import OTHER
from ibd.comparison.reference_maps import REFERENCE_MAPS, ReferenceExplainer
from ibd.explain.base import Explainer


def why_not_again(asked: Asked) -> str | None:
    """Return why a row cannot be asked again, without words; None where it can."""
    again = asked.attributions.maps is not None and asked.method.info.kind != "oracle" and asked.method.name != OTHER
    return None if again else ""


def explainer_of(asked: Asked) -> Explainer:
    """Return what explains again: the explainer, or for a reference map one that makes its maps of any image."""
    if asked.method.explainer is not None:
        return asked.method.explainer
    assert asked.method.name in REFERENCE_MAPS
    return ReferenceExplainer(asked.method.name, asked.case.seed)
