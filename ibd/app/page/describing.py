"""What a run is, and what can be done with each of its units."""

from __future__ import annotations

from typing import Any

from ibd.app.page.site import Served
from ibd.models.base import InterpretableNetwork
from ibd.models.cbm.concepts import ConceptNetwork
from ibd.models.concept_whitening.network import ConceptWhiteningNetwork
from ibd.models.posthoc_cbm.network import PosthocNetwork
from ibd.models.prototypes import LinearPrototypes


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
        "data": run.data_key,
    }


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
