"""Predictions as columns: what `Prediction.to_dict` returns, and how a line of a file is written from them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ibd.errors import UnsupportedError

if TYPE_CHECKING:
    import pandas as pd

    from ibd.models.base import InterpretableNetwork
    from ibd.models.prediction import Prediction
    from ibd.models.trained import TrainedModel

FILE, CLASS, PROBABILITY, ABSTAINS, CLASS_SET = "file", "class", "probability", "abstains", "class_set"
_FIRST = (FILE, CLASS, PROBABILITY, ABSTAINS, CLASS_SET)
_DIGITS = ".7g"
"""How a number is written: float32 knows seven digits."""


def columns_of(prediction: Prediction) -> dict[str, list[Any]]:
    """Return what a prediction says of B images, column -> B plain values; see `Prediction.to_dict`."""
    network, labels = prediction.network, prediction.labels
    best = prediction.probabilities.gather(1, labels[:, None]).flatten()
    silent = network.abstains(prediction.logits).tolist()
    columns: dict[str, list[Any]] = {
        FILE: [written(title) for title in prediction.titles],
        CLASS: [None if none else name for none, name in zip(silent, prediction.classes, strict=True)],
        PROBABILITY: [None if none else share for none, share in zip(silent, best.tolist(), strict=True)],
        ABSTAINS: prediction.abstains.tolist(),
    }
    if prediction.calibration is not None and prediction.calibration.sets is not None:
        sets = prediction.class_sets.tolist()
        names = network.class_names
        columns[CLASS_SET] = [[name for name, inside in zip(names, row, strict=True) if inside] for row in sets]
    values = prediction.unit_values.T.tolist()
    return columns | dict(zip(unit_columns(network), values, strict=True))


def table_columns(model: TrainedModel) -> list[str]:
    """Return the names of the columns that all predictions of a model have."""
    sets = model.calibration is not None and model.calibration.sets is not None
    first = [name for name in _FIRST if sets or name != CLASS_SET]
    return [*first, *unit_columns(model.network)]


def unit_columns(network: InterpretableNetwork) -> list[str]:
    """Return what the columns of a network's units are called: by their names, ``unit class`` for one named "class"."""
    return [f"unit {name}" if name in _FIRST else name for name in network.unit_names]


def written(name: str) -> str:
    r"""Return a file's name as any program can read it: bytes that are no text as codes, such as ``\udc80``."""
    return name.encode("utf-8", "backslashreplace").decode()


def rows_of(columns: Mapping[str, list[Any]]) -> Iterator[tuple[Any, ...]]:
    """Return the rows of columns."""
    return zip(*columns.values(), strict=True)


def csv_line(row: tuple[Any, ...]) -> str:
    """Return a row as a line of CSV: numbers of seven digits, nothing for None, a list as JSON."""
    line = io.StringIO()
    csv.writer(line).writerow([_cell(value) for value in row])
    return line.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float):
        return format(value, _DIGITS)
    if isinstance(value, list):
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else value


def json_line(columns: list[str], row: tuple[Any, ...]) -> str:
    """Return a row as a line of JSON, with numbers of seven digits."""
    short = [float(format(value, _DIGITS)) if isinstance(value, float) else value for value in row]
    return json.dumps(dict(zip(columns, short, strict=True)), ensure_ascii=False) + "\n"


def write_csv(prediction: Prediction, path: str | Path) -> None:
    """Write a prediction as CSV; see `Prediction.to_csv`."""
    columns = columns_of(prediction)
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        file.write(csv_line(tuple(columns)))
        file.writelines(map(csv_line, rows_of(columns)))


def as_frame(prediction: Prediction) -> pd.DataFrame:
    """Return a prediction as a pandas frame; see `Prediction.to_pandas`.

    Raises:
        UnsupportedError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise UnsupportedError("to_pandas needs pandas: pip install 'ibd[tables]'") from None
    return pd.DataFrame(columns_of(prediction))
