"""What the full comparison trains and compares: `comparison.yaml`, and changes to it from the command line."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ibd import registry
from ibd.comparison.compare import compare
from ibd.comparison.groups import METRICS
from ibd.config.sources import first_line
from ibd.errors import ConfigError, did_you_mean

_ON_BASELINE = ("protopnet", "pipnet", "concept_whitening")
"""They start from the backbone of the baseline of the same seed."""
_OURS = ("runs", "output", "overrides", "explainers")
"""Options of `ibd.compare` that the command fills in."""


def baseline_of(model: str) -> str | None:
    """Return the model whose backbone another one starts from: bcos_baseline for bcos_protopnet; None for none."""
    kind = next((kind for kind in _ON_BASELINE if model.endswith(kind)), None)
    return None if kind is None else model.removesuffix(kind) + "baseline"


@dataclass
class Study:
    """One data set.

    Attributes:
        configs: what stands before ``<model>.yaml``.
        models: which are trained.
        seeds: how often, with the seeds 0, 1, ...
        root: folder of the images, for data that lies in one.
        overrides: ``key=value`` changes to the configs.
        compare: options of `ibd.compare`, and ``data``: changes to the data of all runs.
        explainers: as in `ibd.compare`.
        tables: metrics that get a table of explainers by families.
        differences: metrics that get a table of what own maps score more than other explainers' maps, paired.
    """

    configs: str
    models: list[str]
    seeds: int
    root: str | None = None
    overrides: list[str] = field(default_factory=list)
    compare: dict[str, Any] = field(default_factory=dict)
    explainers: list[Any] | None = None
    tables: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)

    @property
    def options(self) -> dict[str, Any]:
        """The options of `ibd.compare`."""
        rest = {key: value for key, value in self.compare.items() if key != "data"}
        return {"explainers": self.explainers, "overrides": self.data_changes, **rest}

    @property
    def data_changes(self) -> list[str]:
        """Changes to the data of all runs, as ``data.key=value``."""
        changes: dict[str, Any] = self.compare.get("data", {})
        plain = {key: value if isinstance(value, str) else json.dumps(value) for key, value in changes.items()}
        return [f"data.{key}={value}" for key, value in plain.items()]


def read_studies(path: Path, words: Sequence[str]) -> dict[str, Study]:
    """Return the data sets that are asked for.

    Args:
        path: of the YAML file.
        words: names of data sets, all where there is none; and ``dataset.key=value`` changes.

    Raises:
        ConfigError: an unknown name or key, or a value that does not fit; one line.
    """
    given = _merged(path, [word for word in words if "=" in word])
    names = [word for word in words if "=" not in word] or list(given)
    for name in names:
        if name not in given:
            raise ConfigError(f"'{name}': there is no such data set in '{path}'.{did_you_mean(name, given)}")
    return {name: _study(name, given[name], names) for name in dict.fromkeys(names)}


def _merged(path: Path, changes: Sequence[str]) -> dict[str, Any]:
    """Return data set -> its options, as plain values; "???" where one must still be given."""
    try:
        loaded = OmegaConf.load(path)
        known = list(loaded)
        for change in changes:
            name = change.partition("=")[0].partition(".")[0]
            if name not in known:
                raise ConfigError(f"'{change}': there is no data set '{name}' in '{path}'.{did_you_mean(name, known)}")
        merged = OmegaConf.to_container(OmegaConf.merge(loaded, OmegaConf.from_dotlist(list(changes))), resolve=True)
    except OSError as error:
        raise ConfigError(f"cannot read '{path}': {error.strerror or error}") from None
    except (OmegaConfBaseException, YAMLError) as error:
        raise ConfigError(f"'{path}': {first_line(error)}") from None
    assert isinstance(merged, dict)
    for name, block in merged.items():
        if not isinstance(block, dict):
            raise ConfigError(f"'{path}': {name}: the options of a data set are needed, such as `seeds: 5`")
    return {str(name): block for name, block in merged.items()}


def _study(name: str, block: dict[str, Any], names: Sequence[str]) -> Study:
    others = [other for other in names if other != name]
    for key, value in block.items():
        if value == "???":
            hint = f"; or name the data sets to take, such as {others[0]}" if others else ""
            raise ConfigError(f"{name}.{key} is missing: give {name}.{key}=FOLDER{hint}")
    try:
        study: Any = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(Study), block))
    except OmegaConfBaseException as error:
        raise ConfigError(f"{name}: {first_line(error)}") from None
    _check(name, study)
    return Study(**vars(study))


def _check_models(name: str, study: Study) -> None:
    for model in study.models:
        if not Path(f"{study.configs}{model}.yaml").exists():
            raise ConfigError(f"{name}.models: there is no file '{study.configs}{model}.yaml'")
        baseline = baseline_of(model)
        if baseline is not None and not Path(f"{study.configs}{baseline}.yaml").exists():
            raise ConfigError(
                f"{name}.models: {model} starts from '{study.configs}{baseline}.yaml', which is not there"
            )


def _check(name: str, study: Study) -> None:
    """Find now what would be found after hours of training."""
    _check_models(name, study)
    for key, metrics in (("tables", study.tables), ("differences", study.differences)):
        for metric in metrics:
            if metric not in METRICS:
                raise ConfigError(f"{name}.{key}: unknown metric '{metric}'.{did_you_mean(metric, METRICS)}")
    for explainer in study.explainers or []:
        registry.resolve("explainers", explainer if isinstance(explainer, str) else str(explainer.get("name")))
    known = [key for key in (*inspect.signature(compare).parameters, "data") if key not in _OURS]
    for key in study.compare:
        if key not in known:
            raise ConfigError(f"{name}.compare: there is no option '{key}'.{did_you_mean(key, known)}")
    if study.seeds < 1:
        raise ConfigError(f"{name}.seeds: {study.seeds} given, at least 1 is needed")
