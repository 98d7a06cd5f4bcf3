"""Figures of a layer's channels for an image, of silent channels by depth, and of weights."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ibd.drawing import PlainFigure, shorten
from ibd.errors import DataError
from ibd.explain.channels import ChannelMaps, LayerWeights, Silence
from ibd.explain.pixels import pixels_of
from ibd.explain.render import grid_figure

_COLUMNS = 9


def channel_maps_figure(image: Tensor, found: ChannelMaps) -> Figure:
    """Return an image and the maps of a layer's strongest channels for it, each in a scale of its own.

    Args:
        image: (3, H, W) in [0, 1].
        found: maps from `channel_maps`.
    """
    titles = ["image"] + [
        f"{channel}: {value:.3g}" for channel, value in zip(found.channels, found.strength.tolist(), strict=True)
    ]
    caption = (
        f"{found.layer}: the {len(found.channels)} strongest of {found.total} channels, {found.blank} are blank (0 "
        "everywhere). Number and mean absolute value."
    )
    figure = grid_figure([pixels_of(image), *found.maps], titles, _COLUMNS, caption)
    height, width = found.maps.shape[1:]
    for axis in figure.axes[1 : len(titles)]:  # a map that is 0 nearly everywhere would have no borders
        axis.add_patch(Rectangle((-0.5, -0.5), width, height, fill=False, ec="#adb5bd", lw=0.6, clip_on=False))
    return figure


def weights_figure(found: LayerWeights) -> Figure:
    """Return the weights of a layer: a row for each filter, a picture for each input, one scale for each filter.

    Args:
        found: weights from `layer_weights`.
    """
    count = found.weights.shape[1]
    scale = found.weights.abs().amax((1, 2, 3)).clamp(min=1e-12)
    height, width = found.weights.shape[2:]
    figure = PlainFigure(figsize=(1.5 + 0.72 * count, 0.7 + 0.82 * len(found.filters)), layout="constrained", dpi=150)
    axes = figure.subplots(len(found.filters), count, squeeze=False)
    for row, own in enumerate(axes.tolist()):
        for column, axis in enumerate(own):
            limit = float(scale[row])
            picture = found.weights[row, column].numpy()
            axis.imshow(picture, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
            value = f": {float(found.weights[row, column, 0, 0]):.2g}" if height * width == 1 else ""
            axis.set_title(f"{found.inputs[row][column]}{value}", fontsize=6, pad=2)
        text = f"filter {found.filters[row]}\n{100 * float(found.share[row]):.0f} %"
        own[0].set_ylabel(text, fontsize=7, rotation=0, ha="right", va="center")
    note = (
        f"{shorten(found.layer, 40)}: weights by input (its number above), the largest first; red above 0, blue below, "
        "one scale for each filter. Per cent: of the squared length, in these inputs."
    )
    figure.supxlabel(textwrap.fill(note, int(20 * figure.get_figwidth())), fontsize=7, color="#495057")
    return figure


def silence_figure(sparsity: Mapping[str, float], silence: Mapping[str, Silence]) -> Figure:
    """Return zeros and blank channels by layer, beside each other, in the order in which the layers run.

    Args:
        sparsity: share of zeros by layer, from `sparsity_by_depth`.
        silence: blank channels by layer, from `blank_by_depth`.

    Raises:
        DataError: no layers.
    """
    names = [name for name in sparsity if name in silence]
    if not names:
        raise DataError("no layers to draw the blank channels of")
    figure = PlainFigure(figsize=(8.4, 1.0 + 0.2 * len(names)), layout="constrained", dpi=150)
    left, right = figure.subplots(1, 2, sharey=True)
    left.barh(range(len(names)), [100 * sparsity[name] for name in names], color="#868e96")
    blank, dead = ([100 * getattr(silence[name], what) for name in names] for what in ("blank", "dead"))
    right.barh(range(len(names)), blank, color="#9ec5e8", label="for an image, the mean")
    if blank != dead:  # of several images
        right.barh(range(len(names)), dead, color="#0072b2", height=0.4, label="for every image")
        right.legend(fontsize=7, frameon=False, loc="lower right")
    left.set_yticks(range(len(names)), [shorten(name, 36) for name in names], fontsize=7)
    left.set_xlabel("zeros in what the layer puts out, %", fontsize=8)
    right.set_xlabel("channels that are blank, %", fontsize=8)
    for axis in (left, right):
        axis.set(ylim=(len(names) - 0.5, -0.5), xlim=(0, 100))
        axis.tick_params(axis="x", labelsize=7)
        axis.spines[["top", "right", "left"]].set_visible(False)
    return figure
