"""The picture of which classes are taken for which, for two classes and for hundreds."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ibd.drawing import PlainFigure, shorten
from ibd.metrics.functional.where_wrong import WhereWrong

_NUMBERED = 30
"""Classes up to which each cell has its number; above, the most frequent confusions are listed beside."""
_LISTED = 40
_BLUE, _ORANGE = np.array([0.10, 0.44, 0.76]), np.array([0.91, 0.35, 0.05])
_NO_IMAGES = 0.93
"""Gray of the rows of classes without images."""


def confusion_figure(found: WhereWrong, title: str) -> Figure:
    """Return the confusion matrix: a row is a true class; what is right is blue, what is wrong is orange.

    Args:
        found: where a model is wrong.
        title: what images it is of.
    """
    matrix, names = _with_silent(found)
    count, wide = len(found.class_names), max(map(len, names))
    numbered = count <= _NUMBERED
    cell = 0.42 if numbered else max(0.115, 0.2 - 0.0005 * count)
    beside = 0.075 * min(wide, 28) + 0.4
    height, width = cell * count + beside + 0.6, cell * len(names) + beside
    listed = [] if numbered else found.confusions()[:_LISTED]
    figure = PlainFigure(figsize=(max(4.2, width) + 4.2 * bool(listed), max(3.4, height)), layout="constrained")
    axes = figure.subplots(1, 2, width_ratios=[max(4.2, width), 4.2], squeeze=False) if listed else None
    axis = figure.subplots() if axes is None else axes[0, 0]
    axis.imshow(_colors(matrix, count), interpolation="nearest", aspect="equal")
    size = 8 if numbered else 6
    shown = [shorten(name, 28) for name in names]
    axis.set_xticks(range(len(names)), shown, rotation=90, fontsize=size)
    axis.set_yticks(range(count), shown[:count], fontsize=size)
    axis.set_xlabel("taken for", fontsize=9)
    axis.set_ylabel("is", fontsize=9)
    if numbered:
        _number(axis, matrix, count)
    if axes is not None:
        _list(
            axes[0, 1], [f"{pair.count}  {shorten(pair.truth, 28)} → {shorten(pair.predicted, 28)}" for pair in listed]
        )
    right = int(found.right.sum())
    figure.suptitle(f"{title}: {right} of {len(found)} right ({100 * found.accuracy.mean:.1f} %)", fontsize=10)
    return figure


def _with_silent(found: WhereWrong) -> tuple[np.ndarray, list[str]]:
    """Return the matrix and the names of its columns, with one for images without a prediction where there are any."""
    silent = np.array([[one.silent] for one in found.classes])
    matrix, names = found.matrix.cpu().numpy(), list(found.class_names)
    if not silent.any():
        return matrix, names
    return np.concatenate([matrix, silent], 1), [*names, "(no prediction)"]


def _colors(matrix: np.ndarray, count: int) -> np.ndarray:
    """Return the color of each cell, (C, columns, 3): the more of a row's images, the fuller; of errors by the root.

    So that the error of one image in a hundred is seen.
    """
    images = matrix.sum(1, keepdims=True)
    share = matrix / np.maximum(images, 1)
    right = np.eye(count, matrix.shape[1], dtype=bool)
    strength = np.where(right, 0.15 * (matrix > 0) + 0.85 * share, 0.2 * (matrix > 0) + 0.8 * np.sqrt(share))
    colors = 1 - strength[..., None] * (1 - np.where(right[..., None], _BLUE, _ORANGE))
    return np.where(images[..., None] > 0, colors, _NO_IMAGES)


def _number(axis: Axes, matrix: np.ndarray, count: int) -> None:
    """Write the numbers into the cells."""
    images = np.maximum(matrix.sum(1), 1)
    for row, column in zip(*matrix.nonzero(), strict=True):
        number = int(matrix[row, column])
        full = number / images[row] > (0.55 if row == column else 0.4)
        size = 8 if number < 1000 else 6.5
        axis.text(column, row, str(number), ha="center", va="center", fontsize=size, color="w" if full else "k")


def _list(axis: Axes, lines: list[str]) -> None:
    axis.set_axis_off()
    axis.set_title("most often", fontsize=9, loc="left")
    axis.text(0, 1, "\n".join(lines), va="top", fontsize=8, linespacing=1.5, transform=axis.transAxes)
