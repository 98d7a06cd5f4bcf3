"""Tensors under other names: wrapped in somebody's module, flattened by timm, or written by another author."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from ibd.backbones.weights import STATISTICS, State, common_prefix


def by_name(own: Mapping[str, Tensor], state: Mapping[str, Tensor], base: str) -> State:
    """Return a state under the names of a backbone, as far as it has them.

    timm joins the names of modules that it takes out of another (``stages.0`` becomes ``stages_0``), so that names are
    compared without telling dots from underscores.

    Args:
        own: state dict of the backbone.
        state: state to rename; its names may have a prefix.
        base: beginning of the backbone's own names, which the state need not have.

    Returns:
        What has a counterpart, by the name of that; what lies in a module of the backbone without having one, below
        `base`, so that it is found to be too much; the statistics of ``normalize``.
    """
    names = {_flat(key.removeprefix(base)): key for key in own if key.startswith(base)}
    flat = {_flat(key): key for key in state}
    prefix = common_prefix(flat, names)
    matched = {flat[prefix + name]: key for name, key in names.items() if prefix + name in flat}
    places = {_place(key, name.removeprefix(base)) for key, name in matched.items()}
    renamed = {name: state[key] for key, name in matched.items()}
    for key, value in state.items():
        if key not in matched and key.startswith(tuple(place for place in places if place)):
            renamed[base + key[len(prefix) :]] = value
    for name in STATISTICS:
        if (found := next((key for key in state if key == name or key.endswith(f".{name}")), None)) is not None:
            renamed[name] = state[found]
    return renamed


def by_order(names: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> State | None:
    """Return a state under other names by its order; None unless every tensor fits the one in its place.

    It fits if its shape is the same, and its last word: ``weight``, ``bias``, ``running_mean``, ...

    Args:
        names: names and shapes in the order of the network.
        state: state of the same network, named by somebody else, whose order is known to be the same: tensors of one
            shape may be exchanged without being found.
    """
    if len(names) != len(state):
        return None
    pairs = list(zip(names.items(), state.items(), strict=True))
    if not all(a.shape == b.shape and _last(x) == _last(y) for (x, a), (y, b) in pairs):
        return None
    return {name: value for (name, _), (_, value) in pairs}


def _place(key: str, name: str) -> str:
    """Return where a state has the module that holds a tensor: what stands before the rest of the tensor's name."""
    _, _, rest = name.partition(".")
    return key.removesuffix(rest) if rest else ""


def _flat(name: str) -> str:
    return name.replace(".", "_")


def _last(name: str) -> str:
    return name.rpartition(".")[2]
