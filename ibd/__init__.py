"""Interpretable-by-design image models: train them, intervene on them, measure how far they can be trusted.

Everything is imported when first used, so that ``import ibd`` costs milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what an editor and a type checker read; at run time these come from the table below
    from ibd import data as data, explain as explain, metrics as metrics
    from ibd.app.discovery.discover import discover as discover
    from ibd.app.export import export as export
    from ibd.comparison.compare import compare as compare
    from ibd.comparison.quantus import quantus_metric as quantus_metric
    from ibd.config import load_config as load_config
    from ibd.errors import IbdError as IbdError
    from ibd.io import load_model as load_model
    from ibd.models.baseline.lightning import Baseline as Baseline
    from ibd.models.cbm.intervention import intervention_curve as intervention_curve
    from ibd.models.cbm.lightning import ConceptBottleneck as ConceptBottleneck
    from ibd.models.cem.lightning import ConceptEmbedding as ConceptEmbedding
    from ibd.models.concept_whitening.evaluation import evaluate_axes as evaluate_axes
    from ibd.models.concept_whitening.lightning import ConceptWhitening as ConceptWhitening
    from ibd.models.counterfactual.asking import why as why
    from ibd.models.foreign import ForeignModel as ForeignModel
    from ibd.models.interpretable_cnn.lightning import InterpretableCNN as InterpretableCNN
    from ibd.models.pipnet.lightning import PIPNet as PIPNet
    from ibd.models.posthoc_cbm.lightning import PosthocBottleneck as PosthocBottleneck
    from ibd.models.protopnet.evaluation import evaluate_prototypes as evaluate_prototypes
    from ibd.models.protopnet.lightning import ProtoPNet as ProtoPNet
    from ibd.models.scbm.fitting import fit_covariance as fit_covariance
    from ibd.models.scbm.lightning import StochasticConceptBottleneck as StochasticConceptBottleneck
    from ibd.registry import (
        list_backbones as list_backbones,
        list_datasets as list_datasets,
        list_explainers as list_explainers,
        list_metrics as list_metrics,
        list_models as list_models,
    )
    from ibd.training.calibrating import calibrate as calibrate
    from ibd.training.runner import fit as fit
    from ibd.training.thresholding import set_thresholds as set_thresholds

__version__ = "0.1.0"

_PUBLIC = {
    "fit": "ibd.training.runner",
    "load_model": "ibd.io",
    "load_config": "ibd.config",
    "discover": "ibd.app.discovery.discover",
    "calibrate": "ibd.training.calibrating",
    "set_thresholds": "ibd.training.thresholding",
    "export": "ibd.app.export",
    "compare": "ibd.comparison.compare",
    "quantus_metric": "ibd.comparison.quantus",
    "intervention_curve": "ibd.models.cbm.intervention",
    "why": "ibd.models.counterfactual.asking",
    "fit_covariance": "ibd.models.scbm.fitting",
    "Baseline": "ibd.models.baseline.lightning",
    "ConceptBottleneck": "ibd.models.cbm.lightning",
    "ConceptEmbedding": "ibd.models.cem.lightning",
    "StochasticConceptBottleneck": "ibd.models.scbm.lightning",
    "ProtoPNet": "ibd.models.protopnet.lightning",
    "PIPNet": "ibd.models.pipnet.lightning",
    "PosthocBottleneck": "ibd.models.posthoc_cbm.lightning",
    "ForeignModel": "ibd.models.foreign",
    "ConceptWhitening": "ibd.models.concept_whitening.lightning",
    "InterpretableCNN": "ibd.models.interpretable_cnn.lightning",
    "evaluate_prototypes": "ibd.models.protopnet.evaluation",
    "evaluate_axes": "ibd.models.concept_whitening.evaluation",
    "IbdError": "ibd.errors",
    "list_models": "ibd.registry",
    "list_backbones": "ibd.registry",
    "list_datasets": "ibd.registry",
    "list_explainers": "ibd.registry",
    "list_metrics": "ibd.registry",
}
_ROOMS = ("data", "explain", "metrics")

__all__ = ["__version__", *sorted(_PUBLIC)]

if not TYPE_CHECKING:  # which would take any name for right

    def __getattr__(name: str) -> Any:
        """Import a public name, or a room, when it is first asked for (PEP 562)."""
        if name in _PUBLIC:
            return getattr(importlib.import_module(_PUBLIC[name]), name)
        if name in _ROOMS:
            return importlib.import_module(f"ibd.{name}")
        from ibd.errors import did_you_mean

        raise AttributeError(f"module 'ibd' has no attribute '{name}'.{did_you_mean(name, [*__all__, *_ROOMS])}")


def __dir__() -> list[str]:
    """Name what can be asked for."""
    return sorted([*__all__, *_ROOMS])
