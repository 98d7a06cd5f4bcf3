"""Names that a person gives to units that nobody labelled: ``RUN/names.csv``, and a run of its own that has them."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ibd.app.discovery.found import NAMES
from ibd.app.discovery.naming import Proposal, read_names, write_names
from ibd.app.edited_run import save_edited_run
from ibd.errors import ConfigError, UnsupportedError, did_you_mean
from ibd.metrics.axes import auc_matrix
from ibd.models.base import InterpretableNetwork
from ibd.models.cbm.concepts import ConceptNetwork
from ibd.models.concept_whitening.network import ConceptWhiteningNetwork
from ibd.models.lightning import InterpretableModule
from ibd.models.posthoc_cbm.lightning import PosthocBottleneck

_LONGEST = 80
_LEAST = 0.7
"""AUROC from which a labelled concept is proposed as the name of a unit."""
_writing = threading.Lock()


def nameless(network: InterpretableNetwork) -> list[str]:
    """Return the units that a person may name: all but those that are concepts somebody labelled."""
    if isinstance(network, ConceptNetwork):
        labelled = network.truth_values
        return [] if labelled else network.unit_names[: network.concept_count]
    if isinstance(network, ConceptWhiteningNetwork):
        return network.unit_names[len(network.concept_names) :]
    return list(network.unit_names)


def given_names(folder: Path, network: InterpretableNetwork) -> dict[str, str]:
    """Return unit -> the name that a person gave it.

    Raises:
        DataError: the file with the names is damaged.
    """
    path = folder / NAMES
    return read_names(path, nameless(network)) if path.is_file() else {}


def give_name(
    folder: Path, network: InterpretableNetwork, unit: str, name: str, proposals: Mapping[str, Proposal] | None = None
) -> dict[str, str]:
    """Name a unit, or take its name away, and return all names.

    Args:
        folder: folder of the run; nothing but its ``names.csv`` changes.
        network: network of the run.
        unit: name of the unit in the model.
        name: name by the person; "" for none.
        proposals: unit -> a name that something speaks for, to be written beside.

    Raises:
        ConfigError: an unknown unit, one with a label, a name that is too long or that another one has.
        DataError: the file with the names is damaged.
    """
    allowed, name = nameless(network), " ".join(name.split())
    if unit not in allowed:
        raise ConfigError(f"there is no {network.unit_kind} '{unit}' to be named.{did_you_mean(unit, allowed)}")
    if len(name) > _LONGEST:
        raise ConfigError(f"a name of {len(name)} characters: at most {_LONGEST} are allowed")
    with _writing:
        names = {other: known for other, known in given_names(folder, network).items() if other != unit}
        if name in names.values() or (name in network.unit_names and name != unit):
            raise ConfigError(f"'{name}' is what another {network.unit_kind} is called")
        if name and name != unit:
            names[unit] = name
        found = proposals or {}
        write_names(folder / NAMES, allowed, names, [[found[one]] if one in found else [] for one in allowed])
        return names


def proposed_names(
    network: InterpretableNetwork, scores: Tensor, concepts: Tensor, concept_names: list[str]
) -> dict[str, Proposal]:
    """Return unit -> the labelled concept that its score tells best, where it tells one well.

    Args:
        network: the network.
        scores: (N, U) scores of the units.
        concepts: (N, K) true concepts, NaN where unknown.
        concept_names: the K names.
    """
    if not concept_names:
        return {}
    auc = auc_matrix(scores.float(), concepts).nan_to_num(0.0)  # (K, U)
    found = {}
    for unit in nameless(network):
        best = auc[:, network.unit_names.index(unit)]
        if float(best.max()) >= _LEAST:
            found[unit] = Proposal(concept_names[int(best.argmax())], f"AUROC {float(best.max()):.2f}")
    return found


def save_named_run(run: Path, model: InterpretableModule, names: Mapping[str, str]) -> Path:
    """Save a model whose found concepts have the names that a person gave them, as a new run; return its folder.

    Args:
        run: the run that it is made of, or a checkpoint in it.
        model: its module; its concepts are renamed.
        names: unit -> name.

    Raises:
        ConfigError: there are no names, or the run cannot be written.
        UnsupportedError: the names of its units are not its own to give.
    """
    if not isinstance(model, PosthocBottleneck) or model.network.truth_values:
        raise UnsupportedError(f"the {model.network.unit_plural} of a {type(model).__name__} are numbered, not named")
    if not names:
        raise ConfigError("no concept has a name yet")
    network, units = model.network, dict(model.hparams["units"])
    units["names"] = [names.get(name, name) for name in units["names"]]
    model.hparams["units"] = units
    network.unit_names[: network.concept_count] = units["names"]
    model.calibration = None
    return save_edited_run(run, model, {"names": dict(names)})
