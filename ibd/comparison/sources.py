"""The images that models of anybody's are asked about, however they are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ibd.config import build
from ibd.config.files import find_config
from ibd.config.sources import parse_override
from ibd.data.base import ImageDataModule
from ibd.data.given import GivenImages
from ibd.errors import ConfigError
from ibd.io import build_data, load_data

Data = Any
"""An `ImageDataModule`; a config file of ours; a folder of images; a data block of a config; or any data set of
(image, label) or (image, label, masks), or one for each split."""


def find_data(data: Data, overrides: Sequence[str] = (), label: int | str | None = None) -> ImageDataModule:
    """Return what is meant as a source of images.

    Args:
        data: source of the images. A folder holds one for each class, or "train", "val" and "test" with such folders in
            them, as that of ``ConceptFolder`` does.
        overrides: ``data.key=value`` changes, of a file, a folder or a block.
        label: which of several labels of an image is asked about, see ``GivenImages``.

    Raises:
        ConfigError: changes to what takes none, or a wrong option.
        DataError: there are no such images.
    """
    if isinstance(data, str | Path) and not _is_folder(data):
        return load_data(data, *overrides)
    if isinstance(data, str | Path):
        options = {"root": str(data)} | _options(overrides)
        return build_data({"name": "folder", **options}) if (Path(data) / "train").is_dir() else _classes(options)
    if isinstance(data, Mapping) and "name" in data:
        return build_data(dict(data) | _options(overrides))
    if overrides:
        raise ConfigError(f"compare: '{overrides[0]}': data that is given in Python takes no changes")
    if isinstance(data, ImageDataModule):
        return data
    return GivenImages(data, label=label)


def _is_folder(path: str | Path) -> bool:
    """Return whether a folder is meant, and not a config file of this name."""
    return Path(path).expanduser().is_dir() or not (
        str(path).endswith((".yaml", ".yml")) or find_config(Path(path)).exists()
    )


def _classes(options: Mapping[str, Any]) -> ImageDataModule:
    folder: ImageDataModule = build("class_folder", options)
    return folder


def _options(overrides: Sequence[str]) -> dict[str, Any]:
    """Return ``data.key=value`` as key -> value."""
    values: dict[str, Any] = {}
    for text in overrides:
        values |= parse_override(text).values.get("data", {})
    return values
