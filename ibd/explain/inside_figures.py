"""Figures of what is inside a model: filters, cells, dictionaries, groups, patches, silence, attribution to a layer."""

from __future__ import annotations

import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ibd.drawing import PlainFigure, shorten
from ibd.errors import DataError
from ibd.explain.attribution import LayerAttribution
from ibd.explain.factorization import NeuronGroups
from ibd.explain.figures import GRAY
from ibd.explain.inside import ActivationGrid, SemanticDictionary
from ibd.explain.patches import Patches
from ibd.explain.pixels import pixels_of
from ibd.explain.render import BLUE, RED, grid_figure, overlay

_NOTE = "#495057"
_MARK = "#d9480f"


def filters_figure(filters: Tensor) -> Figure:
    """Return the filters of a first layer in a grid.

    Args:
        filters: (D, 3, k, k) in [0, 1], from `first_layer_filters`.
    """
    titles = [str(index) for index in range(len(filters))]
    return grid_figure(list(filters), titles, 8, "Filters of the first convolution; a weight of 0 is gray.")


def activation_grid_figure(image: Tensor, grid: ActivationGrid) -> Figure:
    """Return an image beside its activation grid: over the faded image a picture for each cell, larger for more.

    Args:
        image: (3, H, W) in [0, 1].
        grid: grid from `activation_grid`.
    """
    note = "What excites the layer as each place of the image does; the side of a picture grows with the root of how"
    figure, axes = _figure(1, 2, 4.2, 4.2, note + " much is active there.")
    _show(axes[0][0], pixels_of(image), "image")
    rows, columns = grid.magnitude.shape
    axis = axes[0][1]
    _show(axis, pixels_of(0.65 + 0.35 * image.detach().float().cpu()), grid.layer, (0, columns, rows, 0))
    size = grid.images.shape[-1]
    edge = size // 5  # where images are blurred by the movements
    side = (grid.magnitude / grid.magnitude.max().clamp(min=1e-12)).sqrt() * 0.48
    for row in range(rows):
        for column in range(columns):
            half, x, y = float(side[row, column]), column + 0.5, row + 0.5
            if half > 0:
                box = (x - half, x + half, y + half, y - half)
                middle = grid.images[row, column, :, edge : size - edge, edge : size - edge]
                axis.imshow(pixels_of(middle), extent=box, interpolation="bilinear")
    axis.set(xlim=(0, columns), ylim=(rows, 0))
    return figure


def dictionary_figure(image: Tensor, dictionary: SemanticDictionary) -> Figure:
    """Return an image with a place marked, and the channels that are strongest there, each with what it stands for.

    Args:
        image: (3, H, W) in [0, 1].
        dictionary: dictionary from `semantic_dictionary`.
    """
    count = len(dictionary.channels)
    note = f"The strongest channels at the marked place, {100 * dictionary.share:.0f} % of the squared length there."
    figure, axes = _figure(1, 1 + count, 1.6, 1.6, note)
    (rows, columns), (row, column) = dictionary.shape, dictionary.cell
    _show(axes[0][0], pixels_of(image), dictionary.layer, (0, columns, rows, 0))
    axes[0][0].plot(
        [column, column + 1, column + 1, column, column], [row, row, row + 1, row + 1, row], color=_MARK, linewidth=2
    )
    for axis, channel, value, picture in zip(
        axes[0][1:], dictionary.channels, dictionary.activations.tolist(), dictionary.images, strict=True
    ):
        _show(axis, pixels_of(picture), f"channel {channel}\n{value:.2f}")
    return figure


def groups_figure(images: Tensor, groups: NeuronGroups, top: int = 3) -> Figure:
    """Return where each group of channels is active, a row for each image.

    Args:
        images: (B, 3, H, W) in [0, 1].
        groups: groups from `neuron_groups`.
        top: channels that are named, by their weight.
    """
    count = len(groups.weights)
    note = "Groups of channels that are active together; red: where, on one scale for each group. Titles: its strongest"
    note += f" channels. {100 * groups.error:.0f} % of the activations' length is in no group."
    figure, axes = _figure(len(images), 1 + count, 1.6, 1.6, note)
    for row, image in enumerate(images):
        _show(axes[row][0], pixels_of(image), "image" if not row else "")
        for group in range(count):
            order = groups.weights[group].argsort(descending=True, stable=True)[:top].tolist()
            title = f"group {group}\n{', '.join(map(str, order))}" if not row else ""
            scale = float(groups.maps[:, group].max())
            _show(axes[row][1 + group], overlay(image, groups.maps[row, group], scale=scale), title)
    return figure


def patches_figure(patches: Patches, dataset: object, size: int = 48) -> Figure:
    """Return the patches that channels respond to most, a row for each channel, the strongest first.

    Args:
        patches: patches from `maximally_activating_patches`.
        dataset: the one that the loader read.
        size: size of a side in pixels.
    """
    pictures = patches.pictures(dataset, size)
    what = "what a cell sees" if patches.exact else "the share of the image that belongs to a cell"
    rows, columns = patches.score.shape
    figure, axes = _figure(rows, columns, 1.0, 0.9, f"Number: activation. A patch is {what}.", 1.2)
    for row, name in enumerate(patches.names):
        for rank, picture in enumerate(pictures[row]):
            here = bool(patches.image[row, rank] >= 0)
            _show(axes[row][rank], pixels_of(picture), f"{float(patches.score[row, rank]):.2f}" if here else "none")
        lines = name.replace("::", "::\n").replace(" channel", "\nchannel").split("\n")
        label = "\n".join(shorten(line, 20) for line in lines)
        axes[row][0].text(-0.15, 0.5, label, transform=axes[row][0].transAxes, fontsize=8, ha="right", va="center")
    return figure


def sparsity_figure(sparsity: dict[str, float]) -> Figure:
    """Return how much of each layer's output is 0, as bars in the order in which the layers run.

    Args:
        sparsity: sparsity from `sparsity_by_depth`.

    Raises:
        DataError: no layers.
    """
    if not sparsity:
        raise DataError("no layers to draw the sparsity of")
    figure = PlainFigure(figsize=(6.0, 0.8 + 0.2 * len(sparsity)), layout="constrained", dpi=150)
    axis = figure.subplots()
    axis.barh(range(len(sparsity)), [100 * share for share in sparsity.values()], color=GRAY)
    axis.set_yticks(range(len(sparsity)), [shorten(name, 40) for name in sparsity], fontsize=7)
    axis.set(ylim=(len(sparsity) - 0.5, -0.5), xlim=(0, 100))
    axis.set_xlabel("zeros in what the layer puts out, %", fontsize=8)
    axis.tick_params(axis="x", labelsize=7)
    axis.spines[["top", "right", "left"]].set_visible(False)
    return figure


def attribution_figure(images: Tensor, attribution: LayerAttribution, top: int = 8) -> Figure:
    """Return which places and which channels of a layer a score rests on, a row for each image.

    Args:
        images: (B, 3, H, W) in [0, 1].
        attribution: attribution of these images and of a single target, from `layer_attribution`.
        top: channels, by the size of their part.

    Raises:
        DataError: it is of several scores, or of other images.
    """
    if attribution.channels.dim() != 2 or len(attribution.channels) != len(images):
        raise DataError("an attribution of one score to each of these images is needed")
    note = f"{attribution.method} at {attribution.layer}. Red and right: for what is explained; blue and left: against."
    figure, axes = _figure(len(images), 3, 2.2, 2.1, note)
    for row, (image, parts) in enumerate(zip(images, attribution.channels.detach().float().cpu(), strict=True)):
        _show(axes[row][0], pixels_of(image), f"score {float(attribution.value[row]):+.2f}")
        if attribution.spatial is not None:
            _show(axes[row][1], overlay(image, attribution.spatial[row]), "places")
        order = parts.abs().argsort(descending=True, stable=True)[:top].tolist()
        axis = axes[row][2]
        axis.set_axis_on()
        axis.barh(range(len(order)), parts[order].tolist(), color=[RED if parts[k] > 0 else BLUE for k in order])
        axis.set_yticks(range(len(order)), [f"channel {k}" for k in order], fontsize=7)
        axis.set_ylim(max(len(order), 4) - 0.5, -0.5)
        axis.axvline(0, color="black", linewidth=0.6)
        axis.tick_params(axis="x", labelsize=7)
        axis.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _figure(
    rows: int, columns: int, width: float, height: float, note: str, margin: float = 0.0
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure with axes of so many inches and a note below."""
    wide = max(columns * width + margin, 3.0)
    caption = textwrap.fill(note, int(15 * wide))
    tall = rows * (height + 0.35) + 0.15 * (2 + caption.count("\n"))
    figure = PlainFigure(figsize=(wide, tall), layout="constrained", dpi=150)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    figure.supxlabel(caption, fontsize=8, color=_NOTE)
    return figure, axes.tolist()


def _show(axis: Axes, picture: Any, title: str, extent: tuple[float, float, float, float] | None = None) -> None:
    axis.imshow(picture, interpolation="nearest", extent=extent)
    axis.set_title(title, fontsize=8)
