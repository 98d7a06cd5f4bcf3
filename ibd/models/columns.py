"""Predictions as columns: what `Prediction.to_dict` returns, and how a line of a file is written from them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ibd.errors import UnsupportedError

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from ibd.models.base import InterpretableNetwork

FILE, CLASS, PROBABILITY, ABSTAINS = "file", "class", "probability", "abstains"
CLASS_SET, PRESENT = "class_set", "present"
FIRST = (FILE, CLASS, PROBABILITY, ABSTAINS, CLASS_SET, PRESENT)
"""The columns before those of the units."""
_DIGITS = ".7g"
"""How a number is written: float32 knows seven digits."""


def table_columns(
    network: InterpretableNetwork, sets: bool, present: bool = False, probabilities: bool = False
) -> list[str]:
    """Return the names of the columns that all predictions of a network have.

    Args:
        network: the network.
        sets: whether it has a calibration with sets of classes.
        present: whether there are thresholds of concepts.
        probabilities: whether with the probability of every class.
    """
    there = {CLASS_SET: sets, PRESENT: present}
    classes = class_columns(network) if probabilities else []
    return [*(name for name in FIRST if there.get(name, True)), *classes, *unit_columns(network)]


def class_columns(network: InterpretableNetwork) -> list[str]:
    """Return what the columns of the probabilities of all classes are called."""
    return [f"{PROBABILITY} of {name}" for name in network.class_names]


def probability_columns(
    network: InterpretableNetwork, probabilities: Tensor, silent: Sequence[bool]
) -> dict[str, list[float | None]]:
    """Return `class_columns` with what is in them: None where the network itself gives no answer.

    Args:
        network: the network.
        probabilities: (B, C).
        silent: which of the B images have no answer.
    """
    rows = probabilities.T.tolist()
    said = [[None if none else share for none, share in zip(silent, row, strict=True)] for row in rows]
    return dict(zip(class_columns(network), said, strict=True))


def unit_columns(network: InterpretableNetwork) -> list[str]:
    """Return what the columns of a network's units are called: by their names, ``unit class`` for one named "class"."""
    taken = {*FIRST, *class_columns(network)}
    return [f"unit {name}" if name in taken else name for name in network.unit_names]


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


def write_csv(columns: Mapping[str, list[Any]], path: str | Path) -> None:
    """Write columns as CSV; see `Prediction.to_csv`."""
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        file.write(csv_line(tuple(columns)))
        file.writelines(map(csv_line, rows_of(columns)))


def as_frame(columns: Mapping[str, list[Any]]) -> pd.DataFrame:
    """Return columns as a pandas frame; see `Prediction.to_pandas`.

    Raises:
        UnsupportedError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError:
        raise UnsupportedError("to_pandas needs pandas: pip install 'ibd[tables]'") from None
    return pd.DataFrame(columns)
