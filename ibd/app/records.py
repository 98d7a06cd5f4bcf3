"""What a prediction says before and after a correction, as plain values, CSV, and the lines that do the same."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from ibd.models import columns
from ibd.models.prediction import Prediction

Word = float | str
"""What a unit is set to: a number, or a word of the command line, such as ``x0.5`` or the member of a group."""


def shell_line(run: str, image: str, edits: Mapping[str, Word]) -> str:
    """Return the command that predicts an image, with units set by hand where there are any.

    Args:
        run: RUN.
        image: IMAGE.
        edits: unit -> what it is set to.
    """
    words = [f"{name}={_written(value)}" for name, value in edits.items()]
    given = [run, image, *words]
    ends = ["--"] if any(word.startswith("-") for word in given) else []
    return shlex.join(["ibd", "intervene" if edits else "predict", *ends, *given])


def python_lines(run: str, image: str, edits: Mapping[str, Word]) -> str:
    """Return the lines of Python that do the same, and print the prediction.

    Args:
        run: run folder.
        image: file.
        edits: unit -> what it is set to.
    """
    values = {name: _in_python(value) for name, value in edits.items()}
    scaled = ["from ibd.models.values import Scale"] if any(v.startswith("Scale(") for v in values.values()) else []
    lines = ["import ibd", *scaled, "", f"model = ibd.load_model({run!r})", f"before = model.predict({image!r})"]
    if not edits:
        return "\n".join([*lines, "print(before)"])
    pairs = ", ".join(f"{name!r}: {value}" for name, value in values.items())
    return "\n".join([*lines, f"after = before.intervene({{{pairs}}})", "print(after)"])


def named_rows(before: Prediction, after: Prediction | None, name: str) -> Prediction:
    """Return the prediction of an image, and, where units were set by hand, with them below, for a table or picture."""
    first = dataclasses.replace(before, names=[name])
    return first if after is None else first.join(dataclasses.replace(after, names=[f"{name} (corrected)"]))


def as_csv(before: Prediction, after: Prediction | None, name: str) -> str:
    """Return `named_rows` as the text of a CSV file, with the columns of ``ibd predict -o``."""
    table = named_rows(before, after, name).to_dict()
    return "".join(map(columns.csv_line, [tuple(table), *columns.rows_of(table)]))


def as_record(
    before: Prediction, after: Prediction | None, name: str, edits: Mapping[str, Word], run: str, image: str
) -> dict[str, Any]:
    """Return all of a result as plain values, for JSON.

    Args:
        before: prediction with nothing edited.
        after: prediction with the corrections; None where there are none.
        name: what the image is called.
        edits: the corrections.
        run: run folder.
        image: file of the image, in the lines that do the same.
    """
    network = before.network
    said = {"before": before} if after is None else {"before": before, "after": after}
    return {
        "run": run,
        "image": name,
        "edits": dict(edits),
        "classes": network.class_names,
        **{key: _row(each, name) for key, each in said.items()},
        "shell": shell_line(run, image, edits),
        "python": python_lines(run, image, edits),
    }


def _row(prediction: Prediction, name: str) -> dict[str, Any]:
    """Return what a prediction says of its one image: the columns of `Prediction.to_dict`, and all classes."""
    plain = {key: values[0] for key, values in dataclasses.replace(prediction, names=[name]).to_dict().items()}
    first = {key: plain.pop(key) for key in columns.FIRST if key in plain}
    numbers = {"logits": prediction.logits[0].tolist(), "probabilities": prediction.probabilities[0].tolist()}
    return {**first, **numbers, "units": plain}


def _written(value: Word) -> str:
    """Return a value as the command line takes it: float32 knows nine digits at most."""
    return value if isinstance(value, str) else f"{value:.9g}"


def _in_python(value: Word) -> str:
    if not isinstance(value, str):
        return f"{value:.9g}"
    if value.startswith("x"):
        try:
            return f"Scale({float(value[1:]):.9g})"
        except ValueError:
            pass
    return repr(value)
