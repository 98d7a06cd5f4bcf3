"""A result to take along: as a picture, JSON, CSV, and as the line of a shell or of Python that does the same."""

from __future__ import annotations

import dataclasses
import io
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from ibd.app.page.maps import Picture
from ibd.data.dataset import ImageDataset
from ibd.data.files import FileDataset
from ibd.explain.boxes import Box
from ibd.models import columns
from ibd.models.prediction import Prediction

SIDE = 448
"""Pixels of the longer side of a picture at least: that of a small image is enlarged."""
Word = float | str
"""What a unit is set to: a number, or a word of the command line, such as ``x0.5`` or the member of a group."""


def file_of(dataset: ImageDataset, index: int) -> Path | None:
    """Return the file that an image of a data set is read from; None where it is drawn, or of data without files."""
    if not isinstance(dataset, FileDataset):
        return None
    return (Path(dataset.store.folder) / dataset.table.paths[index]).absolute()


def survives_png(image: Tensor) -> bool:
    """Return whether an image in [0, 1] is the same when it is written to a PNG file and read again."""
    return bool(torch.equal((image * 255).round().div(255), image))


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


def lay_over(base: Picture, layer: Picture, opacity: float) -> Picture:
    """Return a (H, W, 3) picture laid over another with an opacity from 0 to 1, as the page shows them."""
    return (1 - opacity) * base + opacity * layer


def map_png(base: Picture, layer: Picture, opacity: float, box: Box | None = None) -> bytes:
    """Return an image with the map that lies over it as a PNG file of at least `SIDE` pixels, framed as on the page.

    Args:
        base: (H, W, 3), the gray image.
        layer: (H, W, 3), the map at full strength.
        opacity: opacity from 0 to 1.
        box: (top, left, bottom, right) of a frame, in pixels of the image.
    """
    height, width = base.shape[:2]
    factor = max(1, -(-SIDE // max(height, width)))
    pixels = (255 * lay_over(base, layer, opacity).clip(0, 1)).round().astype(np.uint8)
    picture = Image.fromarray(pixels).resize((width * factor, height * factor), Image.Resampling.BICUBIC)
    if box is not None:
        top, left, bottom, right = (factor * edge for edge in box)
        pen = ImageDraw.Draw(picture)
        pen.rectangle((left, top, right - 1, bottom - 1), outline="black", width=4)
        pen.rectangle((left + 1, top + 1, right - 2, bottom - 2), outline="#ffd43b", width=2)
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def figure_png(figure: Any) -> bytes:
    """Return a figure of matplotlib as a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()


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
