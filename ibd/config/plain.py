"""Configurations as plain values, and written to a file."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf


def save_config(config: DictConfig, path: str | Path) -> None:
    """Write a configuration, interpolations resolved, so that loading the file gives it again (less `resume`)."""
    plain = to_plain(config)
    plain.pop("resume", None)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(plain)), encoding="utf-8")


def to_plain(config: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration or block as dicts, lists, strings and numbers, interpolations resolved."""
    plain = _plain(container(config))
    assert isinstance(plain, dict)
    return plain


def container(config: DictConfig | Mapping[str, object]) -> dict[str, object]:
    """Return a configuration or block as a dict, interpolations resolved."""
    if not isinstance(config, DictConfig):
        return dict(config)
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.name
    return str(value) if isinstance(value, Path) else value
