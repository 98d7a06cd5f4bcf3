"""Figures of predictions: the image, the units it rests on, and where these were seen."""

from __future__ import annotations

import math
import textwrap
from typing import Any, Protocol, TypeGuard

import torch
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from ibd.backbones.receptive_field import ReceptiveField
from ibd.drawing import PlainFigure, shorten
from ibd.explain.boxes import account_of, field_of, placed
from ibd.explain.pixels import pixels_of
from ibd.explain.render import overlay, smoothed
from ibd.metrics.concepts import decided
from ibd.types import Quantity, Units

GREEN, ORANGE, GRAY = "#2b8a3e", "#d9480f", "#868e96"
_FRAME = "#ffd43b"


class Predicted(Protocol):
    """What these figures need of a prediction (``ibd.models.prediction.Prediction`` has it)."""

    @property
    def units(self) -> Units:
        """Scores and maps."""

    @property
    def network(self) -> Any:
        """Has ``unit_names``, ``class_names`` and ``unit_kind``; without ``additive`` it is taken to add up."""

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
    def abstains(self) -> Tensor:
        """For which images there is no prediction, (B,) bool."""

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
        prediction: prediction of B images.
        image: (B, C, H, W) in [0, 1]; gray where C is not 3.
        label: (B,) true classes, where known.
        concepts: (B, K) true concepts; a bar is green where the unit agrees with it, orange where it does not.
        top: bars for each image, by the size of the contribution to the predicted class.
        maps: number of these units' maps to show; red speaks for the unit, blue against, on the map's own scale. What
            the strongest cell of a map sees is framed, where that is less than the image.
    """
    rows, maps = len(image), min(maps, len(prediction.network.unit_names))
    field = field_of(prediction.network, prediction.units.maps, (image.shape[2], image.shape[3]))
    width = 3.0 + 4.6 + 1.9 * maps
    figure = PlainFigure(figsize=(width, 2.3 * rows + 0.3), layout="constrained")
    ratios = [1.0, 1.7, *[0.85] * maps]
    axes = figure.subplots(rows, 2 + maps, squeeze=False, gridspec_kw={"width_ratios": ratios})
    exact = exact_to_pixels(prediction, image)
    contributions, values = prediction.contributions.cpu(), prediction.unit_values.detach().cpu()
    unnamed = 0 if concepts is None else contributions.shape[1] - concepts.shape[1]
    compared = concepts is not None and (unnamed == 0 or (unnamed > 0 and prediction.network.truth_values))
    for row in range(rows):
        best = int(prediction.labels[row])
        part = contributions[row, :, best]
        order = part.abs().argsort(descending=True)[:top].tolist()
        truth = torch.full_like(part, torch.nan)
        if compared and concepts is not None:
            truth[: concepts.shape[1]] = concepts[row].cpu()  # units after the concepts have no truth
        _image(axes[row, 0], image[row], heading(prediction, row, label))
        _bars(axes[row, 1], prediction, row, order, part, values[row], truth)
        seen = unit_maps(prediction, image[row : row + 1], row, order[:maps])
        for column, unit in enumerate(order[:maps]):
            axis = axes[row, 2 + column]
            _map(axis, image[row], seen[column], None if exact else field)
            axis.set_title("::\n".join(_parts(prediction.network.unit_names[unit], 20)), fontsize=8)
        for axis in axes[row, 2:]:
            axis.set_axis_off()
    caption = textwrap.fill(_caption(prediction, compared, None if exact else field, exact), int(15 * width))
    figure.supxlabel(caption, fontsize=8, color="#495057")
    return figure


def frame_field(axis: Axes, field: ReceptiveField, row: int, column: int) -> None:
    """Frame the pixels that a cell sees, to be seen on any image.

    Args:
        axis: axis that shows the image, a pixel a unit.
        field: receptive field of the cells.
        row: row of the cell.
        column: its column.
    """
    top, left, bottom, right = field.box(row, column)
    frame = Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor=_FRAME, lw=1.2)
    frame.set_path_effects([patheffects.withStroke(linewidth=2.2, foreground="black")])
    axis.add_patch(frame)


def _map(axis: Axes, image: Tensor, heat: Tensor, field: ReceptiveField | None) -> None:
    """Draw a unit's map, each cell where it looks, and frame what the strongest one sees."""
    heat, size = heat.detach().float().cpu(), (image.shape[1], image.shape[2])
    if tuple(heat.shape) == size:  # pixel by pixel, of which a few would fade the rest
        axis.imshow(overlay(image, smoothed(heat), normalization="percentile"), interpolation="nearest")
        return
    axis.imshow(overlay(image, placed(heat, size, field)), interpolation="nearest")
    if is_bounded(field):
        frame_field(axis, field, *divmod(int(heat.abs().argmax()), heat.shape[1]))


def exact_to_pixels(prediction: Predicted, image: Tensor) -> bool:
    """Return whether units can be shown pixel by pixel: (B, 3, H, W) images are those that the network takes, too.

    Where units were set by hand that is what the network saw, which is shown of truth values alone: the maps of other
    units change with them.
    """
    as_seen = prediction.network.truth_values or not bool(prediction.edited.any())
    return account_of(prediction.network) == "pixels" and image.shape[1] == 3 and as_seen


def unit_maps(prediction: Predicted, image: Tensor, row: int, units: list[int]) -> Tensor:
    """Return the maps of some units of one image, (n, h, w), at the resolution down to which they are exact.

    Args:
        prediction: prediction for B images.
        image: (1, 3, H, W) in [0, 1].
        row: which of the B it is.
        units: n units.
    """
    network = prediction.network
    if not exact_to_pixels(prediction, image):
        return prediction.units.maps[row, units]
    weight = next(network.parameters())
    heat: Tensor = network.pixel_maps(image.to(weight.device, weight.dtype), units=units, weights=False).heat[0]
    return heat


def is_bounded(field: ReceptiveField | None) -> TypeGuard[ReceptiveField]:
    """Return whether it is known that a cell sees less than the image."""
    if field is None or field.whole_image:
        return False
    return any(seen < side for seen, side in zip(field.size, field.image_size, strict=True))


def _parts(name: str, width: int) -> list[str]:
    """Return the group and the value of a ``group::value`` name, each of at most `width` characters."""
    return [shorten(part, width) for part in name.split("::", 1)]


def _caption(prediction: Predicted, compared: bool, field: ReceptiveField | None, exact: bool) -> str:
    """Return what the colors, frames and signs mean."""
    kind = prediction.network.unit_kind
    texts = [f"bars: green where the {kind} is as annotated, orange where it is not"] if compared else []
    if compared and getattr(prediction.network, "quantities", {}):
        texts[-1] += "; [of numbers, the annotation]"
    texts.append(f"maps: red speaks for the {kind}, blue against it")
    texts[-1] += ", pixel by pixel (exact, smoothed to be seen)" if exact else ""
    if is_bounded(field):
        texts[-1] += f"; framed: the {field.size[0]} x {field.size[1]} pixels that the strongest cell sees"
    if bool(prediction.edited.any()):
        texts.append("* set by hand, or following from that")
    return "     ".join(texts)


def heading(prediction: Predicted, row: int, label: Tensor | None) -> str:
    """Return the predicted class of an image with its probability, and whether it is right."""
    names, best = prediction.network.class_names, int(prediction.labels[row])
    text = f"{shorten(names[best], 20)} {100 * float(prediction.probabilities[row, best]):.0f} %"
    if bool(prediction.abstains[row]):
        text, best = "abstains", -1
    if label is None:
        return text
    true = int(label[row])
    return text + ("\n(right)" if best == true else f"\n(true: {shorten(names[true], 18)})")


def _image(axis: Axes, image: Tensor, title: str) -> None:
    axis.imshow(pixels_of(image), interpolation="nearest")
    axis.set_title(title, fontsize=9)
    axis.set_axis_off()


def _said(value: float, truth: float, quantity: Quantity | None) -> str:
    """Write a unit's value; a quantity with its unit, and with the annotated value in brackets where that is known."""
    if quantity is None:
        return f"{value:.2f}"
    return quantity.shown(value) + ("" if math.isnan(truth) else f" [{quantity.shown(truth)}]")


def _bars(
    axis: Axes, prediction: Predicted, row: int, order: list[int], part: Tensor, values: Tensor, truth: Tensor
) -> None:
    """Draw the contributions of the units in `order`; `truth` is NaN where unknown, 0.5 where undecided."""
    network, edited = prediction.network, prediction.edited[row]
    quantities = getattr(network, "quantities", {})  # which are neither right nor wrong
    agrees, told = (values > 0.5) == (truth > 0.5), decided(truth)
    told[list(quantities)] = False
    colors = [GRAY if not bool(told[u]) else GREEN if bool(agrees[u]) else ORANGE for u in order]
    axis.barh(range(len(order)), part[order].tolist(), color=colors)
    names = ["::".join(_parts(network.unit_names[u], 23)) for u in order]
    said = [_said(float(values[u]), float(truth[u]), quantities.get(u)) for u in order]
    labels = [f"{n} = {text}{'*' if edited[u] else ''}" for n, u, text in zip(names, order, said, strict=True)]
    axis.set_yticks(range(len(order)), labels, fontsize=8)
    axis.set_ylim(max(len(order), 4) - 0.5, -0.5)
    axis.axvline(0, color="black", linewidth=0.6)
    axis.tick_params(axis="x", labelsize=7)
    if row == 0:
        kind, additive = network.unit_kind, getattr(network, "additive", True)
        axis.set_title(
            f"what each {kind} adds to the logit" if additive else f"logit lost without each {kind}", fontsize=9
        )
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
