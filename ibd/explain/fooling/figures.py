"""Pictures of fooled images: the image, what was added, and the result; maps of both; and who fools whom."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ibd.drawing import PlainFigure, shorten
from ibd.explain.fooling.attacks import Fooled, Norm
from ibd.explain.fooling.effect import Seen
from ibd.explain.fooling.universal import Transfer, Universal
from ibd.explain.pixels import pixels_of
from ibd.explain.render import overlay

_NOTE = "#495057"
STRONGER = 10
"""By how much a difference is multiplied to be seen; 0 is gray."""


def fooled_figure(fooled: Fooled, names: Sequence[str], rows: int = 6) -> Figure:
    """Return image, difference times 10, and result of fooled images, a row for each; those first that were fooled.

    Args:
        fooled: changed images.
        names: names of the classes.
        rows: most images.
    """
    order = fooled.fooled.int().argsort(descending=True, stable=True)[:rows].tolist()
    figure, axes = _grid(len(order), 3, f"Middle: what was added, times {STRONGER}; gray is nothing. {_budget(fooled)}")
    for row, index in enumerate(order):
        before, after = (names[int(classes[index])] for classes in (fooled.before, fooled.after))
        _show(axes[row][0], fooled.clean[index], shorten(before, 24))
        size = f"{float(fooled.size[index]):.3f}" if fooled.norm == "l2" else _levels(float(fooled.size[index]))
        _show(axes[row][1], stronger(fooled.difference[index]), f"times {STRONGER} ({_norm(fooled.norm)} {size})")
        _show(axes[row][2], fooled.image[index], shorten(after, 24) if after != before else "not fooled")
    return figure


def explanations_fooled_figure(fooled: Fooled, seen: Seen, names: Sequence[str], rows: int = 3) -> Figure:
    """Return the maps of the predicted class on clean and fooled images: two rows for each image.

    Args:
        fooled: the changed images.
        seen: what `explanations_fooled` returned of them.
        names: names of the classes.
        rows: most images.
    """
    chosen = fooled.fooled.nonzero().flatten().tolist()[:rows]
    note = "Maps of the class that is predicted. Numbers: rank correlation of the two maps below each other."
    figure, axes = _grid(2 * len(chosen), 1 + len(seen.names), note)
    for place, index in enumerate(chosen):
        pairs = (
            (fooled.clean, fooled.before, seen.clean, "clean"),
            (fooled.image, fooled.after, seen.changed, "fooled"),
        )
        for line, (images, classes, maps, said) in enumerate(pairs):
            cells = axes[2 * place + line]
            _show(cells[0], images[index], f"{said}: {shorten(names[int(classes[index])], 18)}")
            for number, axis in enumerate(cells[1:]):
                axis.imshow(
                    overlay(images[index], maps[number, place], normalization="percentile"), interpolation="nearest"
                )
                same = float(seen.correlation[number, 2, place])
                axis.set_title(shorten(seen.names[number], 22) if not line else f"{same:+.2f}", fontsize=8)
    return figure


def transfer_figure(transfer: Transfer, changes: Sequence[Universal]) -> Figure:
    """Return the universal perturbations, and how often each fools each model.

    Args:
        transfer: what `transfer_table` returned.
        changes: the perturbations, in its order.
    """
    count = len(changes)
    figure = PlainFigure(figsize=(max(4.6, 1.5 * count + 1.6), 2.2 + 0.6 * (count + 1) + 1.4), layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=[2.0, 0.6 * (count + 1) + 1.2])  # two of them
    top, below = parts
    for axis, name, change in zip(top.subplots(1, count, squeeze=False)[0], transfer.names, changes, strict=True):
        axis.set_axis_off()
        _show(axis, stronger(change.change), f"{shorten(name, 20)}\ntimes {STRONGER}")
    axis = below.subplots()
    values = transfer.rates.numpy()
    axis.imshow(values, vmin=0, vmax=1, cmap="Oranges", aspect="auto")
    for row in range(values.shape[0]):
        for column in range(values.shape[1]):
            color = "white" if values[row, column] > 0.6 else "black"
            axis.text(
                column, row, f"{100 * values[row, column]:.0f} %", ha="center", va="center", fontsize=9, color=color
            )
    axis.set_xticks(range(count), [shorten(name, 20) for name in transfer.names], fontsize=8)
    axis.set_yticks(range(count + 1), [*(shorten(name, 20) for name in transfer.names), "noise"], fontsize=8)
    axis.set_xlabel("fooled", fontsize=8)
    axis.set_ylabel("made for", fontsize=8)
    first = changes[0]
    size = _levels(first.radius) if first.norm == "linf" else f"{first.radius:g}"
    note = f"Share of {transfer.images} unseen images whose prediction changes; {_norm(first.norm)} up to {size}."
    figure.supxlabel(note, fontsize=8, color=_NOTE)
    return figure


def stronger(difference: Tensor) -> Tensor:
    """Return a difference of pictures as one, `STRONGER` times as large; gray is nothing."""
    return (0.5 + STRONGER * difference.detach().float().cpu()).clamp(0, 1)


def _budget(fooled: Fooled) -> str:
    if fooled.radius is None:
        return "The smallest change that was found."
    size = _levels(fooled.radius) if fooled.norm == "linf" else f"{fooled.radius:g}"
    return f"Budget: {_norm(fooled.norm)} up to {size}; {fooled.rate:.0%} of {len(fooled.clean)} images fooled."


def _levels(size: float) -> str:
    """Return a size in levels of 256."""
    return f"{255 * size:.1f}/255"


def _norm(norm: Norm) -> str:
    return "L2" if norm == "l2" else "L-infinity"


def _grid(rows: int, columns: int, note: str) -> tuple[Figure, list[list[Axes]]]:
    figure = PlainFigure(figsize=(1.6 * columns + 0.2, 1.85 * rows + 0.5), layout="constrained", dpi=110)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.supxlabel(textwrap.fill(note, 24 * columns), fontsize=8, color=_NOTE)
    return figure, axes.tolist()


def _show(axis: Axes, picture: Tensor, title: str) -> None:
    axis.imshow(pixels_of(picture), interpolation="nearest")
    axis.set_title(title, fontsize=8)
