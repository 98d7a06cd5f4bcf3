"""What a run is, and what can be done with each of its units."""

from __future__ import annotations

import hashlib
from typing import Any

from ibd.app.page.site import Served
from ibd.config.loading import load_saved_config
from ibd.errors import IbdError
from ibd.models.base import InterpretableNetwork
from ibd.models.cbm.concepts import ConceptNetwork
from ibd.models.concept_whitening.network import ConceptWhiteningNetwork
from ibd.models.posthoc_cbm.network import PosthocNetwork
from ibd.models.prototypes import LinearPrototypes

_OF_LOADING = ("batch_size", "num_workers", "cache", "check_images", "augment")
"""Options of a data module that do not change which images it has."""


def described_run(run: Served) -> dict[str, Any]:
    """Return what a run is, for the list of all."""
    network = run.network
    return {
        "key": run.key,
        "folder": str(run.folder),
        "kind": network.unit_kind,
        "kinds": network.unit_plural,
        "units": len(network.unit_names),
        "classes": network.class_names,
        "image_size": list(run.model.spec.image_size),
        "calibrated": run.model.calibration is not None,
        "data": _data_key(run),
    }


def _data_key(run: Served) -> str | None:
    """Return what two runs on the same images have in common; None where a run does not say what it was trained on."""
    file = run.folder / "config.yaml"
    try:
        block = load_saved_config(file).data if file.is_file() else None
    except IbdError:
        return None
    images = {key: value for key, value in (block or {}).items() if key not in _OF_LOADING}
    return None if block is None else hashlib.sha256(repr(sorted(images.items(), key=str)).encode()).hexdigest()[:16]


def described_units(run: Served) -> dict[str, Any]:
    """Return the units of a run in their groups, and how each can be set by hand.

    A unit's ``set`` is "truth" (from 0 to 1), "quantity" (in its unit), "factor" (its score is multiplied), "value" (in
    the model's own scale) or "fixed" (it cannot be set); ``least`` and ``most`` are the ends of its slider, null where
    they depend on the image.
    """
    network = run.network
    groups = [
        {"name": name, "units": list(units), "exclusive": list(units) in network.exclusive_groups}
        for name, units in network.unit_groups.items()
    ]
    return {
        "names": network.unit_names,
        "groups": groups,
        "controls": [_control(network, unit) for unit in range(len(network.unit_names))],
        "named": network.named_units(),
        "additive": network.additive,
        "value_title": network.value_title,
        "detail_title": network.detail_title,
        "edit_note": network.edit_note.strip("; "),
        "coupled": bool(getattr(network, "dependent", False)),
    }


def _control(network: InterpretableNetwork, unit: int) -> dict[str, Any]:
    if isinstance(network, LinearPrototypes):
        return {"set": "factor", "least": 0.0, "most": 2.0}
    if unit in network.quantities:
        quantity = network.quantities[unit]
        ends = {"least": quantity.mean - 3 * quantity.deviation, "most": quantity.mean + 3 * quantity.deviation}
        return {"set": "quantity", **ends, "unit": quantity.unit, "deviation": quantity.deviation}
    concepts = isinstance(network, ConceptNetwork)
    if network.truth_values and (not concepts or bool(network.named_units()[unit])):
        return {"set": "truth", "least": 0.0, "most": 1.0}
    if concepts and not isinstance(network, PosthocNetwork):
        return {"set": "fixed"}
    if isinstance(network, ConceptWhiteningNetwork) and bool(network.low[unit].isfinite()):
        return {
            "set": "value",
            "least": min(float(network.low[unit]), 0.0),
            "most": max(float(network.high[unit]), 0.0),
        }
    return {"set": "value", "least": None, "most": None}
