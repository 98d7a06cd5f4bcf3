"""The options of a checkpoint that only a training reads, looked at without importing what trains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import make_dataclass
from typing import Annotated, Any, Literal

from ibd import config as configuration
from ibd.config import Block


def _block(kind: str) -> Any:
    return Annotated[dict[str, Any] | None, Block(kind, filled=True)]


HINTS: dict[str, Any] = {
    "loss": Literal["cross_entropy", "binary"],
    "label_smoothing": float,
    "regime": Literal["independent", "sequential", "joint"],
    "concept_weight": float,
    "normalize_loss": bool,
    "imbalance": Literal["none", "concept", "pos_weight"],
    "intervention_rate": float,
    "residual_penalty": float,
    "class_loss": Literal["samples", "expected"],
    "samples": int,
    "precision_weight": float,
    "fitted_on": str | None,
    "head_epochs": int,
    "head_lr": float,
    "head_weight_decay": float,
    "cluster": float,
    "separation": float,
    "orthogonality": float,
    **{kind: _block(kind) for kind in ("warm", "joint", "push", "last_layer", "pretrain", "train", "alignment")},
    "prune": Annotated[dict[str, Any] | None, Block("prune")],
    "sparsity": float,
    "color": float,
    "shift": int,
    "concept_folder": str | None,
    "concepts": str,
    "scorer": str | None,
    "classifier": Literal["svm", "ridge", "logistic"],
    "examples": int,
    "share": float,
    "effective_concepts": float | None,
    "cutoff": float | None,
    "similarity": float,
    "tau": float,
    "filter_weight": float,
    "gradient": Literal["balanced", "target", "exact"],
}
"""option -> its annotation where the model is trained, whichever has it; a test holds them equal."""


def check_training(values: Mapping[str, Any]) -> None:
    """Check options that only a training reads.

    Args:
        values: option -> value, of `HINTS`.

    Raises:
        ConfigError: a value of another type, or one that is not allowed.
        KeyError: an option that is not known here.
    """
    made = make_dataclass("Training", [(name, HINTS[name]) for name in values])
    configuration.check_options(made, values)
