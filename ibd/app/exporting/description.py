"""What a reader of an exported file who has no part of this package must know of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ibd import __version__, registry
from ibd.app.exporting.edits import edit_kinds
from ibd.app.exporting.programs import Program, dtype_of
from ibd.errors import UnsupportedError
from ibd.explain.boxes import field_of
from ibd.models.base import InterpretableNetwork
from ibd.models.cbm.network import ConceptBottleneckNetwork
from ibd.models.lightning import InterpretableModule


def describe(model: InterpretableModule, programs: Sequence[Program], opset: int | None = None) -> dict[str, Any]:
    """Return what is known of a model, as plain values.

    Args:
        model: model.
        programs: programs that are written together.
        opset: version of ONNX's operators, of ONNX files.
    """
    network, spec = model.network, model.spec
    return {
        "model": registry.name_of("models", type(model)),
        "ibd": __version__,
        "torch": str(torch.__version__),
        **({} if opset is None else {"opset": opset}),
        "class_names": network.class_names,
        "unit_kind": network.unit_kind,
        "unit_names": network.unit_names,
        "unit_groups": network.unit_groups,
        "exclusive_groups": network.exclusive_groups,
        "quantities": {network.unit_names[number]: quantity.unit for number, quantity in network.quantities.items()},
        **_editing(network),
        "additive": network.additive,
        "bias": network.bias().detach().double().tolist(),
        "image_size": list(spec.image_size),
        "resize": spec.resize,
        "cells": _cells(model),
        "dtype": str(dtype_of(model)).removeprefix("torch."),
        "parts": {each.name: {"inputs": list(each.inputs), "outputs": list(each.outputs)} for each in programs},
        **({} if model.calibration is None else {"calibration": model.calibration.to_dict()}),
    }


def _editing(network: InterpretableNetwork) -> dict[str, Any]:
    """Return what units are set to, and how far these values go."""
    try:
        kinds = edit_kinds(network)
    except UnsupportedError:
        return {}
    ranges = [_range(network, unit, kind) for unit, kind in enumerate(kinds)]
    return {"edits": kinds, "ranges": ranges, "ends": [_ends(network, unit, kind) for unit, kind in enumerate(kinds)]}


def _ends(network: InterpretableNetwork, unit: int, kind: str) -> list[float] | None:
    """Return which scores a truth value lies between, where that is no probability; else None."""
    if kind != "truth" or not (isinstance(network, ConceptBottleneckNetwork) and network.by_percentiles):
        return None
    ends = [float(network.low[unit]), float(network.high[unit])]
    return ends if all(map(_finite, ends)) else None


def _range(network: InterpretableNetwork, unit: int, kind: str) -> list[float] | None:
    """Return the lowest and highest value that a slider needs; None where that hangs on the image."""
    if kind == "truth":
        return [0.0, 1.0]
    if kind == "factor":
        return [0.0, 2.0]
    if kind == "quantity":
        quantity = network.quantities[unit]
        return [quantity.mean - 3 * quantity.deviation, quantity.mean + 3 * quantity.deviation]
    ends = [float(getattr(network, name)[unit]) for name in ("low", "high") if hasattr(network, name)]
    return ends if kind == "value" and len(ends) == 2 and all(map(_finite, ends)) else None


def _finite(value: float) -> bool:
    return abs(value) < float("inf")


@torch.no_grad()
def _cells(model: InterpretableModule) -> dict[str, Any]:
    """Return where the cells of a map look: cell (r, c) at the pixels offset + stride * (r, c), (0, 0) a corner."""
    network, size = model.network, model.spec.image_size
    weight = next(network.parameters())
    was = network.training
    network.eval()
    try:
        maps = network.encode(torch.zeros(1, 3, *size, dtype=weight.dtype, device=weight.device)).maps
    finally:
        network.train(was)
    field = field_of(network, maps, size)
    grid = list(maps.shape[-2:])
    if field is not None:
        return {"grid": grid, "offset": list(field.offset), "stride": list(field.stride)}
    stride = [side / count for side, count in zip(size, grid, strict=True)]
    return {"grid": grid, "offset": [each / 2 for each in stride], "stride": stride}
