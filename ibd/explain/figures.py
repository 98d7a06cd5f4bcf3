"""Figures of predictions: the image, the units it rests on, and where these were seen."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from ibd.drawing import PlainFigure, shorten
from ibd.explain.pixels import pixels_of
from ibd.explain.render import overlay
from ibd.metrics.concepts import decided
from ibd.types import Units

GREEN, ORANGE, GRAY = "#2b8a3e", "#d9480f", "#868e96"


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
        maps: number of these units' maps to show; red speaks for the unit, blue against, on the map's own scale.
    """
    rows, maps = len(image), min(maps, len(prediction.network.unit_names))
    figure = PlainFigure(figsize=(3.0 + 4.6 + 1.9 * maps, 2.3 * rows + 0.3), layout="constrained")
    ratios = [1.0, 1.7, *[0.85] * maps]
    axes = figure.subplots(rows, 2 + maps, squeeze=False, gridspec_kw={"width_ratios": ratios})
    contributions, values = prediction.contributions.cpu(), prediction.unit_values.detach().cpu()
    compared = concepts is not None and concepts.shape[1] == contributions.shape[1]
    for row in range(rows):
        best = int(prediction.labels[row])
        part = contributions[row, :, best]
        order = part.abs().argsort(descending=True)[:top].tolist()
        truth = concepts[row].cpu() if compared and concepts is not None else torch.full_like(part, torch.nan)
        _image(axes[row, 0], image[row], heading(prediction, row, label))
        _bars(axes[row, 1], prediction, row, order, part, values[row], truth)
        for column, unit in enumerate(order[:maps]):
            axis = axes[row, 2 + column]
            axis.imshow(overlay(image[row], prediction.units.maps[row, unit]), interpolation="nearest")
            axis.set_title("::\n".join(_parts(prediction.network.unit_names[unit], 20)), fontsize=8)
        for axis in axes[row, 2:]:
            axis.set_axis_off()
    figure.supxlabel(_caption(prediction, compared), fontsize=8, color="#495057")
    return figure


def _parts(name: str, width: int) -> list[str]:
    """Return the group and the value of a ``group::value`` name, each of at most `width` characters."""
    return [shorten(part, width) for part in name.split("::", 1)]


def _caption(prediction: Predicted, compared: bool) -> str:
    """Return what the colors and signs mean."""
    kind = prediction.network.unit_kind
    texts = [f"bars: green where the {kind} is as annotated, orange where it is not"] if compared else []
    texts.append(f"maps: red speaks for the {kind}, blue against it")
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


def _bars(
    axis: Axes, prediction: Predicted, row: int, order: list[int], part: Tensor, values: Tensor, truth: Tensor
) -> None:
    """Draw the contributions of the units in `order`; `truth` is NaN where unknown, 0.5 where undecided."""
    network, edited = prediction.network, prediction.edited[row]
    agrees, told = (values > 0.5) == (truth > 0.5), decided(truth)
    colors = [GRAY if not bool(told[u]) else GREEN if bool(agrees[u]) else ORANGE for u in order]
    axis.barh(range(len(order)), part[order].tolist(), color=colors)
    names = ["::".join(_parts(network.unit_names[u], 23)) for u in order]
    labels = [f"{n} = {float(values[u]):.2f}{'*' if edited[u] else ''}" for n, u in zip(names, order, strict=True)]
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
