"""A trained network without what trains it, which takes longer to import than an image takes to predict."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ibd import config as configuration, registry
from ibd.backbones import build_backbone
from ibd.errors import CheckpointError, UnsupportedError
from ibd.io import MODEL_KEY, find_checkpoint, read_checkpoint, rebuild
from ibd.io_checks import check_backbone, check_finite, check_size
from ibd.models.base import InterpretableNetwork
from ibd.models.trained import TrainedModel
from ibd.models.training_options import check_training
from ibd.types import DataSpec, RunLike

_PREFIX = "network."
_PRECISION = "network.provenance.precision"
"""Where a network of prototypes says in what they were projected; 0 is without autocast."""


class Family(NamedTuple):
    """How the network of a family is made of the options in its checkpoints.

    Attributes:
        network: "module:Class".
        options: options that are the network's.
        training: options that only a training reads.
        beside: tensors that a training keeps beside the network: one number for each concept.
    """

    network: str
    options: tuple[str, ...]
    training: tuple[str, ...]
    beside: tuple[str, ...] = ()


FAMILIES: dict[str, Family] = {
    "baseline": Family("ibd.models.baseline.network:BaselineNetwork", (), ("loss", "label_smoothing")),
    "cbm": Family(
        "ibd.models.cbm.network:ConceptBottleneckNetwork",
        ("bottleneck", "head", "hidden_units", "softmax_groups", "residual"),
        (
            *("regime", "concept_weight", "normalize_loss", "imbalance", "residual_penalty"),
            *("head_epochs", "head_lr", "head_weight_decay", "share", "effective_concepts"),
        ),
        ("ratio",),
    ),
    "cem": Family(
        "ibd.models.cem.network:ConceptEmbeddingNetwork",
        ("embedding_size",),
        ("intervention_rate", "concept_weight", "imbalance"),
        ("ratio",),
    ),
    "posthoc_cbm": Family(
        "ibd.models.posthoc_cbm.network:PosthocNetwork",
        ("units", "rest"),
        (
            *("concepts", "scorer", "classifier", "examples", "share", "effective_concepts"),
            *("cutoff", "similarity"),
        ),
    ),
    "scbm": Family(
        "ibd.models.scbm.network:StochasticConceptBottleneckNetwork",
        ("bottleneck", "head", "hidden_units", "covariance", "rank", "placement", "level"),
        (
            *("regime", "concept_weight", "normalize_loss", "class_loss", "samples", "precision_weight", "fitted_on"),
            *("head_epochs", "head_lr", "head_weight_decay", "share", "effective_concepts"),
        ),
        ("ratio",),
    ),
    "protopnet": Family(
        "ibd.models.protopnet.network:PrototypeNetwork",
        ("per_class", "dimension", "extent", "add_on", "distance", "activation", "top_k"),
        ("cluster", "separation", "orthogonality", "warm", "joint", "push", "last_layer", "prune"),
    ),
    "pipnet": Family(
        "ibd.models.pipnet.network:PIPNetwork",
        ("prototypes", "threshold", "bias", "finer"),
        ("sparsity", "color", "shift", "pretrain", "train"),
    ),
    "concept_whitening": Family(
        "ibd.models.concept_whitening.network:ConceptWhiteningNetwork",
        ("layers", "concepts", "activation", "whitening"),
        ("alignment", "concept_folder", "label_smoothing"),
    ),
    "interpretable_cnn": Family(
        "ibd.models.interpretable_cnn.network:InterpretableCNNNetwork",
        ("filters", "beta"),
        ("tau", "filter_weight", "gradient"),
    ),
}
"""name of a model -> its network; a model that is not here is read with all that trains it."""


def load_network(run: RunLike, which: str = "best", trust: bool = False) -> TrainedModel:
    """Return the trained network of a run, in evaluation mode, on the CPU, as `ibd.io.load_model` would.

    Args:
        run: a run folder, a folder of runs (its newest is taken), a checkpoint file, or what ``ibd.fit`` returned.
        which: "best" (by the monitored validation metric) or "last".
        trust: trust in the run, as of `ibd.io.load_model`.

    Raises:
        CheckpointError: what `ibd.io.load_model` finds wrong.
    """
    path = find_checkpoint(run, which)
    content = read_checkpoint(path)
    try:
        with registry.trusting(trust), registry.loading():
            return _light(path, content)
    except Exception:  # whatever is wrong, or not known here: the whole model is read, which tells, or knows
        return rebuild(path, content, trust)


def _light(path: Path, content: Mapping[str, Any]) -> TrainedModel:
    """Return the network of a checkpoint.

    Raises:
        Exception: whatever is wrong, or not known.
    """
    family, values = FAMILIES[content[MODEL_KEY]], dict(content["hyper_parameters"])
    spec, backbone = DataSpec.from_dict(values.pop("spec")), values.pop("backbone")
    unknown = set(values) - {*family.options, *family.training, "optimizer"}
    if unknown:
        raise KeyError(unknown)
    check_training({key: values[key] for key in family.training if key in values})
    configuration.check("optimizer", values.get("optimizer") or {})
    make = partial(_made, family, spec, backbone, {key: values[key] for key in family.options if key in values})
    saved = {key: value for key, value in content["state_dict"].items() if key.startswith(_PREFIX)}
    _check_beside(family, spec, content["state_dict"])
    _check_precision(saved)
    check_backbone(backbone)
    check_size(make, path.stat().st_size, len(saved))
    network = make()
    undefined = {key for key, value in network.state_dict().items() if bool(value.isnan().any())}
    network.load_state_dict({key.removeprefix(_PREFIX): value for key, value in saved.items()})
    check_finite(network, undefined)
    model = TrainedModel(spec, network).eval()
    model.take_calibration(content)
    model.take_thresholds(path)
    return model


def _check_beside(family: Family, spec: DataSpec, state: Mapping[str, Any]) -> None:
    """Look at what is not the network's.

    Raises:
        CheckpointError: it is not what a training of this family keeps, or holds values that are not numbers.
    """
    beside = {key: value for key, value in state.items() if not key.startswith(_PREFIX)}
    shape = (len(spec.concept_names),)
    if set(beside) != set(family.beside) or not all(
        isinstance(value, Tensor) and value.shape == shape and bool(value.isfinite().all()) for value in beside.values()
    ):
        raise CheckpointError(f"its weights beside the network are not those of its family: {list(beside)}")


def _check_precision(saved: Mapping[str, Any]) -> None:
    """Look whether the network computes in the precision of its weights, in float32: the whole model knows others.

    Raises:
        UnsupportedError: it does not.
    """
    if int(saved.get(_PRECISION, 0)) or any(value.dtype in (torch.bfloat16, torch.float16) for value in saved.values()):
        raise UnsupportedError("its prototypes were projected in another precision than float32")


def _made(family: Family, spec: DataSpec, backbone: Mapping[str, Any], options: dict[str, Any]) -> InterpretableNetwork:
    """Return a new network.

    Raises:
        ConfigError: an option has a value of another type, or one that is not allowed.
    """
    cls = registry.load_class(family.network)
    takes_spec = "spec" in inspect.signature(cls).parameters
    if "whitening" in options:
        whitening, given = configuration.check("whitening", options["whitening"] or {})
        options = {**options, "whitening": whitening(**given)}
    configuration.check_options(cls, options, ("backbone", "spec", "class_names", "concepts", "whitening"))
    about = {"spec": spec} if takes_spec else {"class_names": spec.class_names}
    network: InterpretableNetwork = cls(build_backbone(backbone), **about, **options)
    return network
