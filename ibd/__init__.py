"""Interpretable-by-design image models: train them, intervene on them, measure how far they can be trusted.

Everything is imported when first used, so that ``import ibd`` costs milliseconds.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "fit": "ibd.training.runner",
    "load_model": "ibd.io",
    "load_config": "ibd.config",
    "export": "ibd.app.export",
    "compare": "ibd.comparison.compare",
    "intervention_curve": "ibd.comparison.intervention",
    "Baseline": "ibd.models.baseline.lightning",
    "ConceptBottleneck": "ibd.models.cbm.lightning",
    "ProtoPNet": "ibd.models.protopnet.lightning",
    "PIPNet": "ibd.models.pipnet.lightning",
    "ConceptWhitening": "ibd.models.concept_whitening.lightning",
    "evaluate_prototypes": "ibd.comparison.prototypes",
    "evaluate_axes": "ibd.comparison.axes",
    "IbdError": "ibd.errors",
}
_ROOMS = ("data", "explain", "metrics")
_KINDS = ("models", "backbones", "datasets", "explainers", "metrics")

__all__ = ["__version__", *sorted(_PUBLIC), *(f"list_{kind}" for kind in _KINDS)]


def __getattr__(name: str) -> Any:
    """Import a public name, or a room, when it is first asked for (PEP 562)."""
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    if name in _ROOMS:
        return importlib.import_module(f"ibd.{name}")
    if name.startswith("list_") and name.removeprefix("list_") in _KINDS:
        from ibd import registry

        return lambda: registry.names(name.removeprefix("list_"))
    raise AttributeError(f"module 'ibd' has no attribute '{name}'")


def __dir__() -> list[str]:
    """Name what can be asked for."""
    return sorted([*__all__, *_ROOMS])
