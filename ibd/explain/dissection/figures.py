"""Figures of a dissection: concepts by layer, channels in images, and how many filters a concept needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ibd.drawing import PlainFigure, shorten
from ibd.explain.dissection.found import Dissection, Unit, group_of
from ibd.explain.dissection.net2vec import ConceptWeights
from ibd.explain.dissection.pictures import Shown
from ibd.explain.pixels import pixels_of
from ibd.metrics.functional.dissection import DETECTS

REGION, ANNOTATED = "#d55e00", "#56b4e9"
_NOTE = "#495057"


def histogram_figure(found: Dissection, concepts: int = 40) -> Figure:
    """Return a row for each layer: how many channels detect each concept, colored by the concepts' groups.

    Args:
        found: the dissection.
        concepts: most concepts that are shown, those of the most channels; they stay in the order of the data.
    """
    counts = {layer.layer: found.histogram(layer.layer) for layer in found.layers}
    total = {name: sum(count[name] for count in counts.values()) for name in found.names}
    order = list(dict.fromkeys(group_of(name) for name in found.names))
    names = sorted((name for name in found.names if total[name]), key=lambda name: -total[name])[:concepts]
    names = sorted(names, key=lambda name: (order.index(group_of(name)), found.names.index(name)))
    groups = list(dict.fromkeys(group_of(name) for name in names))
    height = 1.15 * len(counts) + 1.9
    figure = PlainFigure(figsize=(max(5.0, 0.24 * len(names) + 2.2), height), layout="constrained", dpi=130)
    axes = figure.subplots(len(counts), 1, squeeze=False, sharex=True)[:, 0]
    for axis, (layer, count) in zip(axes, counts.items(), strict=True):
        colors = [colormaps["tab10"](groups.index(group_of(name)) % 10) for name in names]
        axis.bar(range(len(names)), [count[name] for name in names], color=colors)
        axis.set_title(f"{shorten(layer, 50)}: {_said(found, layer)}", fontsize=8, loc="left")
        axis.set_ylim(0, 1.05 * max([1, *count.values()]))
        axis.tick_params(labelsize=7)
        axis.yaxis.get_major_locator().set_params(integer=True)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    axes[-1].set_xticks(range(len(names)), [shorten(name, 24) for name in names], rotation=90, fontsize=7)
    axes[-1].set_xlim(-0.6, max(len(names), 1) - 0.4)
    figure.supylabel("channels", fontsize=8)
    left_out = sum(value > 0 for value in total.values()) - len(names)
    note = f"Channels that detect a concept: IoU above {DETECTS:g} on {found.unseen_images} images not chosen by."
    figure.supxlabel(note + (f" {left_out} rarer concepts are left out." if left_out else ""), fontsize=7, color=_NOTE)
    return figure


def units_figure(units: Sequence[Unit], pictures: Mapping[int, Sequence[Shown]], columns: int = 5) -> Figure:
    """Return a row for each channel of a layer with the images in which it is highest.

    Args:
        units: the channels.
        pictures: images of each, see `ibd.explain.dissection.pictures.unit_pictures`.
        columns: images of each.
    """
    figure = PlainFigure(figsize=(1.15 * columns + 2.1, 1.2 * len(units) + 0.5), layout="constrained", dpi=130)
    axes = figure.subplots(max(1, len(units)), columns + 1, squeeze=False, width_ratios=[1.6, *[1.0] * columns])
    for axis in axes.flat:
        axis.set_axis_off()
    for row, unit in zip(axes, units, strict=False):
        lines = [f"{unit.channel}: {unit.kind}, IoU {unit.said_iou:.2f}", *_wrapped(unit.said)]
        row[0].text(0.0, 0.5, "\n".join(lines), fontsize=7, va="center", transform=row[0].transAxes)
        for axis, shown in zip(row[1:], pictures[unit.channel], strict=False):
            _outlined(axis, shown)
    note = "Orange: where the channel is above its threshold. Blue: where what is said of it is annotated."
    figure.supxlabel(note, fontsize=7, color=_NOTE)
    return figure


def net2vec_figure(found: ConceptWeights, concepts: int = 30) -> Figure:
    """Return the IoU of each concept by one channel as it is, and by few and all channels with learned weights.

    Args:
        found: the weights.
        concepts: most concepts that are shown, those that all channels segment best.
    """
    order = [c for c in found.iou[-1].nan_to_num(-1.0).argsort(descending=True).tolist() if found.iou[-1, c] >= 0]
    order = order[:concepts]
    figure = PlainFigure(figsize=(6.4, 0.2 * len(order) + 1.3), layout="constrained", dpi=130)
    axis: Axes = figure.subplots()
    rows = range(len(order))
    axis.plot(found.single[order].tolist(), rows, "x", color="#868e96", label="one channel as it is", markersize=5)
    for index, count in enumerate(found.filters):
        last = count == found.filters[-1]
        label = f"all {count}" if last else f"weights of {count}"
        color = "#d9480f" if last else colormaps["Blues"](0.35 + 0.6 * index / max(1, len(found.filters) - 1))
        axis.plot(found.iou[index, order].tolist(), rows, "o", color=color, label=label, markersize=4)
    axis.plot(found.chance[-1, order].tolist(), rows, "|", color="black", label="all, masks of another image")
    axis.set_yticks(rows, [shorten(found.names[c], 28) for c in order], fontsize=7)
    axis.invert_yaxis()
    axis.set_xlim(left=0)
    axis.tick_params(axis="x", labelsize=7)
    axis.set_xlabel("IoU on images that nothing was fitted on", fontsize=8)
    axis.set_title(shorten(found.layer, 60), fontsize=8, loc="left")
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7)
    return figure


def _said(found: Dissection, layer: str) -> str:
    """Return how many channels of a layer detect something, and how many different concepts."""
    count = found.histogram(layer)
    by_chance = next(each for each in found.layers if each.layer == layer).detectors_by_chance()
    return (
        f"{sum(count.values())} of {len(found.of_layer(layer))} channels detect {len(count)} concepts "
        f"({by_chance} channels by chance)"
    )


def _wrapped(text: str, width: int = 26) -> list[str]:
    """Return a form on up to three lines."""
    lines = [""]
    for word in text.replace("AND NOT", "AND_NOT").split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {shorten(word, width)}".strip()
    return [line.replace("AND_NOT", "AND NOT") for line in lines[:4]]


def _outlined(axis: Axes, shown: Shown) -> None:
    """Draw an image, the rest of it darker than the region, with both outlines."""
    pixels = pixels_of(shown.image)
    axis.imshow(pixels * (0.45 + 0.55 * shown.region.numpy()[..., None]), interpolation="nearest")
    for mask, color in ((shown.annotated, ANNOTATED), (shown.region, REGION)):
        if bool(mask.any()) and not bool(mask.all()):
            axis.contour(mask.float().numpy(), levels=[0.5], colors=[color], linewidths=1.1)
