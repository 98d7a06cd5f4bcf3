"""What a dissection found of each channel, each layer, and all layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from torch import Tensor

from ibd.explain.dissection.counts import Counts
from ibd.metrics.functional.dissection import DETECTS
from ibd.metrics.functional.forms import Form

Kind = Literal["detector", "union", "polysemantic", "narrowed", "unclear", "silent"]
"""What a channel is, see `Unit.kind`."""
GAIN = 0.01
"""IoU by which a form must be ahead of a single concept, on images that it was not chosen by, to be said."""


@dataclass(frozen=True)
class Unit:
    """What a channel detects, scored on images by which nothing was chosen.

    Attributes:
        layer: name of its layer.
        channel: its number.
        threshold: value that it is above.
        concept: the concept of the highest IoU; "" of a silent channel.
        iou: IoU with it.
        chance: the same with the masks of another image.
        fitted_iou: IoU on the images that the concept was chosen by, as published.
        form: the nearest form of concepts; the concept alone, where no other is nearer.
        form_iou: IoU with it.
        form_chance: the same with the masks of another image.
        fitted_form_iou: IoU on the images that the form was searched in.
        kind: "detector" of a concept, with an IoU above 0.04, that no form describes better by 0.01; "narrowed", which
            a form without OR does (one concept, and only where there is another or is none); "union" of concepts of one
            group, and "polysemantic" of several groups; "unclear", below 0.04 with all; "silent", above its threshold
            nowhere.
    """

    layer: str
    channel: int
    threshold: float
    concept: str
    iou: float
    chance: float
    fitted_iou: float
    form: str
    form_iou: float
    form_chance: float
    fitted_form_iou: float
    kind: Kind

    @property
    def said(self) -> str:
        """What the channel stands for: the form where it is better, else the concept."""
        return self.form if self.kind in ("union", "polysemantic", "narrowed") else self.concept

    @property
    def said_iou(self) -> float:
        """IoU with that."""
        return self.form_iou if self.kind in ("union", "polysemantic", "narrowed") else self.iou


@dataclass(frozen=True)
class LayerDissection:
    """What the U channels of a layer detect among C concepts.

    Attributes:
        layer: name of the layer.
        thresholds: (U,) values that channels are above.
        fitted: counts on the images by which concepts and forms were chosen.
        unseen: counts on those that they are scored on.
        forms: the form that is nearest to each channel, on the first.
        images: (U, k) places, in the order of the unseen images, of those with a channel's highest values; -1 for none.
        peaks: (U, k) these values.
        exact: whether thresholds are those of all cells, or of some that were drawn.
    """

    layer: str
    thresholds: Tensor
    fitted: Counts
    unseen: Counts
    forms: tuple[Form, ...]
    images: Tensor
    peaks: Tensor
    exact: bool

    def __len__(self) -> int:
        """Return the number of channels."""
        return len(self.thresholds)

    @cached_property
    def iou(self) -> Tensor:
        """(U, C) IoU on unseen images."""
        return self.unseen.iou()

    @cached_property
    def chance(self) -> Tensor:
        """(U, C) the same with the masks of another image."""
        return self.unseen.chance_iou()

    @cached_property
    def concept(self) -> Tensor:
        """(U,) concept of the highest IoU on the images that it is chosen by; -1 of a silent channel."""
        return self.fitted.iou().nan_to_num(-1.0).argmax(1).where(self.fitted.hits.sum(1) > 0, -1)

    def detectors_by_chance(self) -> int:
        """Return how many channels would count as detectors if their regions were those of other images."""
        best = self.fitted.chance_iou().nan_to_num(-1.0).argmax(1, keepdim=True)
        return int((self.chance.gather(1, best).nan_to_num(0.0) > DETECTS).sum())

    def units(self, names: Sequence[str]) -> list[Unit]:
        """Return what each channel detects.

        Args:
            names: the C concepts.
        """
        fitted = self.fitted.iou()
        return [self._unit(channel, concept, fitted, names) for channel, concept in enumerate(self.concept.tolist())]

    def _unit(self, channel: int, concept: int, fitted: Tensor, names: Sequence[str]) -> Unit:
        limit = float(self.thresholds[channel])
        if concept < 0:
            nothing = ("", 0.0, 0.0, 0.0)
            return Unit(self.layer, channel, limit, *nothing, *nothing, "silent")
        form = self.forms[channel]
        iou, chance = float(self.iou[channel, concept]), float(self.chance[channel, concept])
        form_iou, form_chance = self.unseen.form_iou(channel, form)
        return Unit(
            layer=self.layer,
            channel=channel,
            threshold=limit,
            concept=names[concept],
            iou=iou,
            chance=chance,
            fitted_iou=float(fitted[channel, concept]),
            form=form.describe(names),
            form_iou=form_iou,
            form_chance=form_chance,
            fitted_form_iou=form.iou,
            kind=_kind(form, iou, form_iou, names),
        )


@dataclass(frozen=True)
class Dissection:
    """What channels of layers detect among C concepts.

    Attributes:
        names: the C concepts.
        layers: what was found of each layer.
        fitted_images: number of images by which things were chosen.
        unseen_images: number of images that they are scored on.
        share: share of its cells that a channel is above its threshold in.
    """

    names: tuple[str, ...]
    layers: tuple[LayerDissection, ...]
    fitted_images: int
    unseen_images: int
    share: float

    @cached_property
    def units(self) -> list[Unit]:
        """What each channel of each layer detects."""
        return [unit for layer in self.layers for unit in layer.units(self.names)]

    @property
    def too_large(self) -> list[str]:
        """The concepts that cover too much to be detected by a channel above its threshold in `share` of the cells.

        A region of that share of the pixels has at most an IoU of itself over the share of the concept. It is another
        share of pixels than of cells, and of unseen images, so that a channel may yet be just above.
        """
        counts = self.layers[0].fitted
        shares = (counts.area() / counts.pixels.sum()).tolist()
        return [name for name, covered in zip(self.names, shares, strict=True) if self.share <= DETECTS * covered]

    def of_layer(self, layer: str) -> list[Unit]:
        """Return what each channel of a layer detects."""
        return [unit for unit in self.units if unit.layer == layer]

    def histogram(self, layer: str) -> Counter[str]:
        """Return how many channels of a layer detect each concept."""
        return Counter(unit.concept for unit in self.of_layer(layer) if unit.iou > DETECTS)

    def table(self) -> str:
        """Return a line for each layer: how many channels of what kind, and how many concepts are detected."""
        wide = max(len("layer"), *(len(layer.layer) for layer in self.layers))
        lines = [
            f"{'layer':<{wide}}  channels  detectors (by chance)  concepts  unions  polysemantic  narrowed  silent  "
            "mean IoU  of forms"
        ]
        for layer in self.layers:
            units = self.of_layer(layer.layer)
            kinds = Counter(unit.kind for unit in units)
            heard = [unit for unit in units if unit.kind != "silent"]
            single, said = (_mean([getattr(unit, key) for unit in heard]) for key in ("iou", "said_iou"))
            detectors = sum(unit.iou > DETECTS for unit in units)
            lines.append(
                f"{layer.layer:<{wide}}  {len(layer):>8}  {detectors:>9} {f'({layer.detectors_by_chance()})':>11}  "
                f"{len(self.histogram(layer.layer)):>8}  {kinds['union']:>6}  {kinds['polysemantic']:>12}  "
                f"{kinds['narrowed']:>8}  {kinds['silent']:>6}  {single:>8.3f}  {said:>8.3f}"
            )
        return "\n".join(lines)

    def __str__(self) -> str:
        """Return the table."""
        return self.table()


def group_of(concept: str) -> str:
    """Return the group of a concept ``group::value``; a part is its own."""
    return concept.split("::", 1)[0]


def _kind(form: Form, iou: float, form_iou: float, names: Sequence[str]) -> Kind:
    if form.rest and form_iou > DETECTS and form_iou >= iou + GAIN:
        united = [form.first, *(concept for word, concept in form.rest if word == "OR")]
        if len(united) == 1:
            return "narrowed"
        return "union" if len({group_of(names[concept]) for concept in united}) == 1 else "polysemantic"
    return "detector" if iou > DETECTS else "unclear"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")
