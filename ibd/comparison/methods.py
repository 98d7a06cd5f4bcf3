"""What is compared: explainers by name, the reference maps and the oracle, and what their attributions depend on."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ibd import registry
from ibd.comparison.reference_maps import REFERENCE_MAPS
from ibd.comparison.results import ExplainerInfo
from ibd.errors import ConfigError, did_you_mean
from ibd.explain.base import Explainer

DEFAULT = (
    "intrinsic",
    "gradcam",
    "hirescam",
    "lrp",
    "gradient_input",
    "smoothgrad",
    "integrated_gradients",
    "occlusion",
)
"""Explainers that are asked if none are named: from every family one, and together done in minutes on a CPU."""
QUICK = ("intrinsic", "gradcam", "lrp", "smoothgrad")
"""The usual ones of these that take seconds, for a first look."""
UNITS = "intrinsic_units"
"""The row of a model's own units: what those of a part contribute, without a map."""
ORACLE, ORACLE_SUM = "oracle", "oracle_sum"
"""The truth as a map whose means over parts are right, and as one whose sums are: as an account that adds up."""
OTHER = "other_image"
"""The reference map that is the map of another image."""


@dataclass(frozen=True)
class Method:
    """A row of the tables.

    Attributes:
        info: name and kind of the method.
        explainer: explainer, or None for the reference maps, the oracle and the row of units.
        options: options that the explainer was made with.
    """

    info: ExplainerInfo
    explainer: Explainer | None = None
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Its name."""
        return self.info.name

    @property
    def key(self) -> dict[str, Any]:
        """What its attributions depend on."""
        return {"method": self.name, "class": _class_of(self.explainer), "options": self.options}


def choose_methods(named: Sequence[str | Mapping[str, object]] | None, oracle: bool) -> list[Method]:
    """Return the explainers that are compared, then the reference maps, then the oracles.

    Args:
        named: registered names, or ``{"name": "smoothgrad", "n": 50}``, with ``"label"`` as the name of the row where
            one explainer comes twice; None takes `DEFAULT`.
        oracle: whether the truth is known, so that there is one.

    Raises:
        ConfigError: an unknown name or option, none, or two rows of one name.
    """
    wanted = list(DEFAULT if named is None else named)
    if not wanted:
        raise ConfigError(f"explainers: at least one is needed.{did_you_mean('', registry.names('explainers'))}")
    methods = [_made(name) for name in wanted]
    names = [method.name for method in methods]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"explainers: '{name}' is given twice; give one of them another `label`")
        if name in (*REFERENCE_MAPS, OTHER, ORACLE, ORACLE_SUM, UNITS):
            raise ConfigError(f"explainers: '{name}' is the name of a row that is always there")
    if any(method.info.kind == "intrinsic" for method in methods):
        at = 1 + next(i for i, method in enumerate(methods) if method.info.kind == "intrinsic")
        methods.insert(at, Method(ExplainerInfo(UNITS, "intrinsic")))
    methods += [Method(ExplainerInfo(name, "reference")) for name in (*REFERENCE_MAPS, OTHER)]
    return methods + [Method(ExplainerInfo(name, "oracle")) for name in (ORACLE, ORACLE_SUM) if oracle]


def _class_of(explainer: Explainer | None) -> list[str] | None:
    """Return an explainer's class, with a hash of its file where that is not one of ours: it may change any time."""
    if explainer is None:
        return None
    kind = type(explainer)
    name = [kind.__module__, kind.__qualname__]
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if kind.__module__.partition(".")[0] != __name__.partition(".")[0] and file is not None:
        name.append(hashlib.sha256(Path(file).read_bytes()).hexdigest()[:16])
    return name


def _made(given: str | Mapping[str, object]) -> Method:
    options = {"name": given} if isinstance(given, str) else dict(given)
    name, label = options.pop("name", None), options.pop("label", None)
    if not isinstance(name, str):
        raise ConfigError(f"explainers: {dict(options)} has no `name`")
    kind = registry.resolve("explainers", name)
    try:
        explainer = kind(**options)
    except TypeError as error:
        raise ConfigError(f"explainers: {name}: {error}") from None
    return Method(ExplainerInfo(str(label or name), explainer.kind), explainer, options)
