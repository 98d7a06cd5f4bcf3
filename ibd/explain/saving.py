"""Explanations as files: arrays, pictures, tables."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.render import grid_figure

Arrays = Mapping[str, NDArray[Any]]
ENDINGS = (".npz", ".png", ".csv")


def as_array(tensor: Tensor) -> NDArray[Any]:
    """Return a tensor of any device and type as an array; of bfloat16, which numpy has not, as float32."""
    values = tensor.detach().cpu()
    array: NDArray[Any] = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    return array


def save_arrays(arrays: Arrays, path: str | Path, titles: Sequence[str], unit_names: Sequence[str]) -> Path:
    """Write an explanation in the format that the ending of its name says; return where it is.

    Args:
        arrays: name -> array, as of `Explanation.to_numpy`.
        path: file that ends in ``.npz`` (all arrays), ``.png`` (the maps) or ``.csv`` (a row for what each unit adds,
            or for each pixel of the map where there are no units).
        titles: titles of the B images, or of their K scores one after the other.
        unit_names: names of the units.

    Raises:
        ConfigError: another ending, or the file cannot be written.
        UnsupportedError: the explanation has no map for a picture, nor units for a table.
    """
    path = Path(path)
    if path.suffix not in ENDINGS:
        raise ConfigError(f"cannot save an explanation as '{path}': its name must end in {', '.join(ENDINGS)}")
    if "map" not in arrays and (path.suffix == ".png" or (path.suffix == ".csv" and "units" not in arrays)):
        raise UnsupportedError(f"'{path}': this explanation has no map; save it as .npz, or as .csv where it has units")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npz":
            np.savez_compressed(path, **arrays)  # type: ignore[arg-type]  # no array is called allow_pickle
        elif path.suffix == ".png":
            maps = arrays["map"].reshape(-1, *arrays["map"].shape[-2:]).astype(np.float32)
            grid_figure(list(maps), titles, path=path)
        else:
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows(_units(arrays, unit_names) if "units" in arrays else _pixels(arrays))
    except OSError as error:
        raise ConfigError(f"cannot write '{path}': {error.strerror or error}") from None
    return path


def _units(arrays: Arrays, names: Sequence[str]) -> Iterator[list[object]]:
    """Yield a table with a row for each image, score and unit."""
    yield ["image", "score", "explained", "unit", "contribution"]
    units = arrays["units"].reshape(len(arrays["value"]), -1, arrays["units"].shape[-1])
    values = arrays["value"].reshape(units.shape[:2])
    for image, score in np.ndindex(*units.shape[:2]):
        for name, value in zip(names, units[image, score].tolist(), strict=True):
            yield [image, score, values[image, score].item(), name, value]


def _pixels(arrays: Arrays) -> Iterator[list[object]]:
    """Yield a table with a row for each image, score and pixel."""
    yield ["image", "score", "explained", "row", "column", "value"]
    maps = arrays["map"].reshape(len(arrays["value"]), -1, *arrays["map"].shape[-2:])
    values = arrays["value"].reshape(maps.shape[:2])
    for image, score, row, column in np.ndindex(*maps.shape):
        value = maps[image, score, row, column].item()
        yield [image, score, values[image, score].item(), row, column, value]
