"""Pictures of selected channels: what they look like, what a network loses without them, and where they respond."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ibd.drawing import PlainFigure, shorten
from ibd.explain.feature_ablation import Ablation
from ibd.explain.feature_pictures import Interpretation, Pictures
from ibd.explain.feature_selection import RelevantFeatures, Unit
from ibd.explain.figures import GRAY, ORANGE
from ibd.explain.pixels import pixels_of
from ibd.explain.render import overlay

_NOTE = "#495057"


def features_figure(
    found: RelevantFeatures, pictures: Pictures, classes: Sequence[int] | None = None, per_class: int = 5
) -> Figure:
    """Return a row for each class with the average patches of the channels of its largest weights.

    Args:
        found: what was selected.
        pictures: average patches, see `average_patches`; a channel without one is left blank.
        classes: numbers of the classes; None takes all.
        per_class: channels of each.
    """
    rows = list(range(len(found.class_names)) if classes is None else classes)
    figure = PlainFigure(figsize=(1.9 + 1.3 * per_class, 1.5 * len(rows) + 0.5), layout="constrained", dpi=130)
    axes = figure.subplots(len(rows), per_class, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, index in enumerate(rows):
        name = shorten(found.class_names[index], 20)
        axes[row][0].text(
            -0.12, 0.5, name, rotation=90, ha="right", va="center", fontsize=8, transform=axes[row][0].transAxes
        )
        for column, unit in enumerate(found.selected(index)[:per_class]):
            if (unit.layer, unit.channel) in pictures:
                axes[row][column].imshow(pixels_of(pictures[unit.layer, unit.channel]), interpolation="nearest")
            axes[row][column].set_title(_unit_title(unit), fontsize=6.5)
    note = "Average of the patches that a channel responds to most; its weight in brackets"
    figure.supxlabel(note, fontsize=8, color=_NOTE)
    return figure


def interpretation_figure(image: Tensor, said: Interpretation, pictures: Pictures) -> Figure:
    """Return an image, and each channel that responds: where it does, and its average patch below.

    Args:
        image: (3, H, W) in [0, 1].
        said: channels that respond, from `interpret`.
        pictures: average patches, see `average_patches`.
    """
    columns = 1 + max(1, len(said.units))
    figure = PlainFigure(figsize=(1.75 * columns + 0.3, 4.3), layout="constrained", dpi=130)
    axes = figure.subplots(2, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    axes[0][0].imshow(pixels_of(image), interpolation="nearest")
    axes[0][0].set_title(f"{shorten(said.class_name, 22)}\n{said.probability:.0%}", fontsize=8)
    for column, (unit, heat, z) in enumerate(zip(said.units, said.maps, said.responses.tolist(), strict=True), 1):
        axes[0][column].imshow(overlay(image, heat), interpolation="nearest")
        axes[0][column].set_title(f"{_unit_title(unit)}\nresponse {z:+.1f} sd", fontsize=7)
        if (unit.layer, unit.channel) in pictures:
            axes[1][column].imshow(pixels_of(pictures[unit.layer, unit.channel]), interpolation="nearest")
            axes[1][column].set_title("average patch", fontsize=7)
    note = (
        f"{said.responding} of the {said.selected} channels that were selected for this class respond above their mean."
    )
    figure.supxlabel(f"{note}\nRed: where a channel is active, each in a scale of its own.", fontsize=8, color=_NOTE)
    return figure


def ablation_figure(found: Ablation) -> Figure:
    """Return the accuracy without selected channels, and without random ones with an interval."""
    figure = PlainFigure(figsize=(6.0, 3.8), layout="constrained", dpi=130)
    axis: Axes = figure.subplots()
    low, high = found.interval()
    axis.plot(found.counts, found.selected.tolist(), "o-", color=ORANGE, label="selected for the class")
    axis.plot(found.counts, found.random.mean(0).tolist(), "s--", color=GRAY, label="others of the same layers")
    axis.fill_between(found.counts, low.tolist(), high.tolist(), color=GRAY, alpha=0.25, linewidth=0)
    axis.set_xlabel("channels of each class that are taken out", fontsize=9)
    axis.set_ylabel("accuracy, mean over classes", fontsize=9)
    axis.set_ylim(-0.02, 1.02)
    axis.legend(fontsize=8)
    axis.grid(alpha=0.3)
    note = f"{found.images} images. Band: 95 % interval of the mean of {len(found.random)} random draws."
    figure.supxlabel(note, fontsize=8, color=_NOTE)
    return figure


def _unit_title(unit: Unit) -> str:
    return f"{shorten(unit.layer, 20)}\nchannel {unit.channel} ({unit.weight:+.2f})"
