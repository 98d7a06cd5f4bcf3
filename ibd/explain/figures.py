"""Figures of predictions: the image, the units it rests on, and where these were seen."""

from __future__ import annotations

from typing import Any, Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ibd.explain.render import overlay
from ibd.types import Units

GREEN, ORANGE, GREY = "#2b8a3e", "#d9480f", "#868e96"


class Predicted(Protocol):
    """What these figures need of a prediction (``ibd.models.prediction.Prediction`` has it)."""

    @property
    def units(self) -> Units:
        """Scores and maps."""

    @property
    def network(self) -> Any:
        """Has ``unit_names``, ``class_names`` and ``unit_kind``."""

    @property
    def edited(self) -> Tensor:
        """Which units were set by hand, (B, U)."""

    @property
    def probabilities(self) -> Tensor:
        """Class probabilities, (B, C)."""

    @property
    def labels(self) -> Tensor:
        """Predicted classes, (B,)."""

    @property
    def unit_values(self) -> Tensor:
        """Readable unit values, (B, U)."""

    @property
    def contributions(self) -> Tensor:
        """What each unit adds to each logit, (B, U, C)."""


def prediction_figure(
    prediction: Predicted,
    image: Tensor,
    label: Tensor | None = None,
    concepts: Tensor | None = None,
    top: int = 6,
    maps: int = 3,
) -> Figure:
    """Return a figure with a row for each image: picture, contributions of its units, maps of the strongest.

    Args:
        prediction: of B images.
        image: (B, 3, H, W) in [0, 1].
        label: (B,) true classes, where known.
        concepts: (B, K) true concepts; a bar is green where the unit agrees with it, orange where it does not.
        top: bars for each image, by the size of the contribution to the predicted class.
        maps: how many of these units' maps to show; red speaks for the unit, blue against, on the map's own scale.
    """
    rows = len(image)
    figure = Figure(figsize=(3.0 + 4.2 + 1.9 * maps, 2.3 * rows), layout="constrained")
    ratios = [1.0, 1.7, *[0.85] * maps]
    axes = figure.subplots(rows, 2 + maps, squeeze=False, gridspec_kw={"width_ratios": ratios})
    contributions, values = prediction.contributions.cpu(), prediction.unit_values.detach().cpu()
    for row in range(rows):
        best = int(prediction.labels[row])
        part = contributions[row, :, best]
        order = part.abs().argsort(descending=True)[:top].tolist()
        truth = None if concepts is None or concepts.shape[1] != len(part) else concepts[row]
        _image(axes[row, 0], image[row], _title(prediction, row, label))
        _bars(axes[row, 1], prediction, row, order, part, values[row], truth)
        for column, unit in enumerate(order[:maps]):
            axis = axes[row, 2 + column]
            axis.imshow(overlay(image[row], prediction.units.maps[row, unit]), interpolation="nearest")
            axis.set_title(prediction.network.unit_names[unit], fontsize=8)
            axis.set_axis_off()
    return figure


def _title(prediction: Predicted, row: int, label: Tensor | None) -> str:
    names, best = prediction.network.class_names, int(prediction.labels[row])
    text = f"{names[best]} {100 * float(prediction.probabilities[row, best]):.0f} %"
    if label is not None:
        text += " (right)" if best == int(label[row]) else f"\n(true: {names[int(label[row])]})"
    return text


def _image(axis: Axes, image: Tensor, title: str) -> None:
    axis.imshow(image.detach().float().cpu().permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="nearest")
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()


def _bars(
    axis: Axes, prediction: Predicted, row: int, order: list[int], part: Tensor, values: Tensor, truth: Tensor | None
) -> None:
    colours = []
    for unit in order:
        known = truth is not None and not bool(truth[unit].isnan())
        agrees = known and truth is not None and (float(values[unit]) > 0.5) == (float(truth[unit]) > 0.5)
        colours.append(GREY if not known else GREEN if agrees else ORANGE)
    axis.barh(range(len(order)), part[order].tolist(), color=colours)
    edited = prediction.edited[row]
    labels = [f"{prediction.network.unit_names[u]} = {float(values[u]):.2f}{'*' if edited[u] else ''}" for u in order]
    axis.set_yticks(range(len(order)), labels, fontsize=8)
    axis.invert_yaxis()
    axis.axvline(0, color="black", linewidth=0.6)
    axis.tick_params(axis="x", labelsize=7)
    if row == 0:
        axis.set_title(f"what each {prediction.network.unit_kind} adds to the logit", fontsize=9)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
