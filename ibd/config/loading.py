"""Reading and checking configurations: the user's own, and those of runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ibd.config.plain import container
from ibd.config.schema import Config, options
from ibd.config.sources import Sources, first_line, read_sources
from ibd.config.validation import fill
from ibd.registry import loading, locate, trusted, trusting

_LONGEST = 200
"""Bytes of a run's name, of the 255 that file systems allow."""


def load_config(
    source: str | Path | Mapping[str, Any] | DictConfig, *overrides: str, trust: bool = False
) -> DictConfig:
    """Return a complete, checked configuration.

    Args:
        source: a YAML file, or its content as a mapping. It is yours: classes that it names are imported. But that of
            a run (``config.yaml`` beside ``checkpoints/``) may have been written by anybody: see `load_saved_config`.
        overrides: ``key=value``, such as "model.backbone=resnet18", applied in order.
        trust: whether to read also the config of a run as if it were yours.

    Returns:
        The configuration with every option of every block; assignments to it are checked, too.

    Raises:
        ConfigError: one line that names the file or override, the key, what was given and what is allowed.
    """
    with trusting(trust):
        if of_a_run(source) and not trusted():
            return load_saved_config(source, *overrides)
        return load(source, read_sources(source, overrides))


def load_saved_config(file: Any, *overrides: str) -> DictConfig:
    """Return the configuration of a run, which somebody else may have written.

    It was saved with all its values: what would read another file or an environment variable is refused, and so is,
    unless `ibd.registry.trusting`, a class that is none of ours.

    Args:
        file: ``config.yaml`` of a run.
        overrides: ``key=value``, applied in order.

    Raises:
        ConfigError: as of `load_config`, or one of these.
    """
    with loading():
        config = load(file, read_sources(file, overrides, saved=True))
        for name in config.logger.get("explainers") or []:
            locate("explainers", name)
    return config


def plain_values(cls: type[object], sources: Sources) -> dict[str, Any]:
    """Return the complete, checked options of a class as plain values, interpolations resolved.

    Args:
        cls: class whose constructor they are for.
        sources: places where the values were written.

    Raises:
        ConfigError: a value that the class does not take.
    """
    return container(_resolved(fill(cls.__name__, options(cls), sources.merged, sources), sources))


def of_a_run(source: object) -> bool:
    """Return whether a configuration is a file that a run has left."""
    if not isinstance(source, str | Path) or Path(source).name != "config.yaml":
        return False
    return any((Path(source).parent / "checkpoints" / f"{name}.ckpt").exists() for name in ("last", "best"))


def load(source: str | Path | Mapping[str, Any] | DictConfig, sources: Sources) -> DictConfig:
    """Return the complete configuration that sources make; see `load_config`."""
    name = Path(source).stem if isinstance(source, str | Path) else "run"
    config = _resolved(fill("Config", options(Config), {"name": name, **sources.merged}, sources), sources)
    if wrong := _no_folder_name(str(config.name)):
        raise sources.error(("name",), f"{str(config.name)[:80]!r} {wrong}; a run is written to OUTPUT/NAME/TIME")
    return config


def _resolved(config: DictConfig, sources: Sources) -> DictConfig:
    """Return a configuration whose interpolations lead somewhere."""
    try:
        OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise sources.error((error.full_key or "").split("."), first_line(error)) from None
    return config


def _no_folder_name(name: str) -> str | None:
    """Return why a text is not the name of one folder, None where it is."""
    if not name.strip() or name.strip(".") == "":
        return "is no name"
    if "/" in name or "\\" in name:
        return "is a path, the name of one folder is needed"
    if not name.isprintable():
        return "has invisible characters"
    return f"is longer than {_LONGEST} bytes" if len(os.fsencode(name)) > _LONGEST else None
