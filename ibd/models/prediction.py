"""What a model says of some images, and how it changes when units are set by hand."""

from __future__ import annotations

import html
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ibd.errors import ConfigError, UnsupportedError
from ibd.models import columns as table
from ibd.models.base import InterpretableNetwork
from ibd.models.calibration.calibration import Calibration
from ibd.models.calibration.wording import of_prediction, set_line
from ibd.models.thresholds import Thresholds, called_true, confidence_note, detail_of
from ibd.models.values import Values
from ibd.printing import shown
from ibd.types import Quantity, Units

if TYPE_CHECKING:
    import pandas as pd

MOVED = 0.005
"""By how much a unit's value must have moved with others to be said so: less does not show in two digits."""


@dataclass(frozen=True, repr=False)
class Prediction:
    """Predictions for B images, with the units that they rest on. Prints as a table.

    Attributes:
        network: the network that predicted.
        units: units that it read from the images, with the edits made.
        logits: (B, C).
        edited: (B, U) bool: the units that were set by hand, or followed from that.
        names: B names of the images, shown in the table.
        calibration: how sure it may be called, where `ibd.calibrate` has been asked; it changes what is read of classes
            and concepts, never what the classes are computed from.
        draws: (B,) random numbers of the images, where sets of classes are randomized; interventions keep them.
        thresholds: from which probability on concepts are called true and classes answered, where `ibd threshold` (or
            the page) has set that.
    """

    network: InterpretableNetwork
    units: Units
    logits: Tensor
    edited: Tensor
    names: list[str] = field(default_factory=list)
    calibration: Calibration | None = None
    draws: Tensor | None = None
    thresholds: Thresholds | None = None

    @property
    def probabilities(self) -> Tensor:
        """Class probabilities, (B, C): calibrated ones where there is a calibration."""
        if self.calibration is None:
            return self.network.class_probabilities(self.logits)
        return self.calibration.probabilities(self.network, self.logits).to(self.logits.device, self.logits.dtype)

    @property
    def labels(self) -> Tensor:
        """Index of the most probable class, (B,)."""
        return self.ranking.argmax(1)

    @property
    def ranking(self) -> Tensor:
        """Numbers in the order of the probabilities, (B, C): see `ranked`."""
        return ranked(self, self.logits)

    @property
    def abstains(self) -> Tensor:
        """For which images the network gives no prediction, (B,) bool; their label and class say nothing.

        With a calibration for a wanted accuracy, or a threshold of confidence, also those of which it is not sure
        enough.
        """
        if self.calibration is None:
            silent = self.network.abstains(self.logits)
        else:
            silent = self.calibration.abstains(self.network, self.logits)
        return silent if self.thresholds is None else silent | self.thresholds.unsure(self.probabilities.amax(1))

    @property
    def class_sets(self) -> Tensor:
        """Which classes each image may have by the calibration's stated coverage, (B, C) bool.

        Raises:
            UnsupportedError: there is no calibration with sets.
        """
        if self.calibration is None or self.calibration.sets is None:
            raise UnsupportedError(
                "sets of classes are chosen by `ibd calibrate RUN coverage=0.9`; this model has none"
            )
        probabilities = self.calibration.probabilities(self.network, self.logits)
        return self.calibration.sets.sets(probabilities, self.draws).to(self.logits.device)

    @property
    def classes(self) -> list[str]:
        """Name of the most probable class of each image."""
        return [self.network.class_names[i] for i in self.labels.tolist()]

    @property
    def unit_values(self) -> Tensor:
        """The units as a person reads them, (B, U): a concept's probability, a channel's activation.

        Calibrated where there is a calibration, but for the edited ones, which are what they were set to.
        """
        return self._read(self.units)

    @property
    def present(self) -> Tensor:
        """Which concepts are called true, (B, U) bool: from their threshold on, and above 0.5 without one.

        Raises:
            UnsupportedError: the units are not true or false.
        """
        return called_true(self.network, self.unit_values, self.thresholds)

    def _read(self, units: Units) -> Tensor:
        """Return units of these images as a person reads them."""
        values = self.network.readable(units)
        if self.calibration is None:
            return values
        return torch.where(self.edited, values, self.calibration.values(self.network, units))

    @property
    def moved(self) -> Tensor:
        """How far the units that nobody set have moved with those that were set, as a person reads them: (B, U)."""
        still = self.network.unmoved(self.units)
        if still is None:
            return torch.zeros_like(self.units.scores)
        return (self.unit_values - self._read(still)).masked_fill(self.edited, 0.0)

    @property
    def contributions(self) -> Tensor:
        """What each unit adds to each class logit, (B, U, C)."""
        with torch.no_grad():
            return self.network.contributions(self.units)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.logits)

    def __getitem__(self, index: int | slice) -> Prediction:
        """Return the prediction for one image, or for a slice of the images.

        Raises:
            IndexError: there is no such image.
        """
        if isinstance(index, slice):
            keep = index
        else:
            place = range(len(self))[index]
            keep = slice(place, place + 1)
        draws = None if self.draws is None else self.draws[keep]
        return replace(
            self,
            units=self.units[keep],
            logits=self.logits[keep],
            edited=self.edited[keep],
            names=self.names[keep],
            draws=draws,
        )

    def to(self, *args: Any, **kwargs: Any) -> Prediction:
        """Return the prediction with every tensor moved, as ``Tensor.to`` does (Lightning calls this).

        The network is left where it is: to intervene, bring it to the same device.
        """
        parts = (self.units.scores, self.units.maps, *self.units.state)
        scores, maps, *state = (part.to(*args, **kwargs) for part in parts)
        logits, edited = self.logits.to(*args, **kwargs), self.edited.to(*args, **kwargs).bool()
        return replace(self, units=Units(scores, maps, tuple(state)), logits=logits, edited=edited)

    def join(self, other: Prediction) -> Prediction:
        """Return the images of both, one after the other.

        Raises:
            ConfigError: they are predictions of two networks, or of one before and after a calibration.
        """
        if other.network is not self.network:
            raise ConfigError("predictions of two networks cannot be joined: their units and classes differ")
        if other.calibration != self.calibration:
            raise ConfigError("predictions before and after a calibration cannot be joined: their probabilities differ")
        if other.thresholds != self.thresholds:
            raise ConfigError("predictions of other thresholds cannot be joined: what they call present differs")
        units = Units.cat([self.units, other.units])
        edited = torch.cat([self.edited, other.edited])
        logits = torch.cat([self.logits, other.logits])
        named = self.names or other.names
        draws = None if self.draws is None or other.draws is None else torch.cat([self.draws, other.draws])
        titles = self.titles + other.titles if named else []
        return replace(self, units=units, logits=logits, edited=edited, names=titles, draws=draws)

    @property
    def titles(self) -> list[str]:
        """What each image is called: its name, or ``image 0``."""
        return self.names or [f"image {index}" for index in range(len(self))]

    def intervene(self, values: Values) -> Prediction:
        """Return the prediction with some units set by hand; the backbone does not run again.

        Args:
            values: unit name (or index) -> value. A concept takes a truth value from 0 to 1, or a number in its unit
                where it is a quantity, and a 1 clears the rest of an exclusive group; ``{"wing_color": "red"}`` is
                short for ``{"wing_color::red": 1}``. A value may be a (B,) tensor. Interventions add up: a later one
                keeps what an earlier one set.

        Raises:
            ConfigError: an unknown unit (with the nearest names), or a value that it cannot take.
        """
        with torch.no_grad():
            units = self.network.edit(self.units, values)
            named = torch.zeros_like(self.edited)
            named[:, list(self.network.resolve_values(values))] = True
            now, before = (self.network.unmoved(each) or each for each in (units, self.units))
            changed = now.scores != before.scores
            logits = self.network.decode(units)
            return replace(self, units=units, logits=logits, edited=self.edited | named | changed)

    def table(self, index: int = 0, top: int = 10, classes: int = 3) -> str:
        """Return one image's prediction as text.

        Args:
            index: index of the image.
            top: number of units to show, by the size of their contribution; 0 shows all. Edited ones are always shown,
                but for the siblings that a 1 has cleared.
            classes: number of classes to show.
        """
        title, one = self.titles[index], self[index]
        best, probability = int(one.labels[0]), one.probabilities[0]
        ranked = one.ranking[0].argsort(descending=True)[:classes].tolist()
        ranking = ", ".join(f"{self.network.class_names[c]} {100 * float(probability[c]):.1f} %" for c in ranked)
        if bool(one.abstains[0]):
            ranking = "abstains" if bool(self.network.abstains(one.logits)[0]) else f"abstains ({ranking})"
        part = one.contributions[0, :, best]
        chosen = part.abs().argsort(descending=True)[: top or None].tolist()
        silent = one._cleared_siblings() & (part.abs() < 0.005)
        edited = one.edited[0].clone()
        edited[chosen] = False
        chosen += (edited & ~silent).nonzero().flatten().tolist()
        cleared = int((edited & silent).sum())
        notes = [] if self.network.additive else ["each is the logit lost without that unit alone; they do not add up"]
        if bool(one.edited.any()):
            also = f" (and {cleared} more, set to 0)" if cleared else ""
            notes.append(f"* set by hand, or following from that{also}{self.network.edit_note}")
            notes += one._movement()
        sets = []
        if self.thresholds is not None:
            notes += confidence_note(self.thresholds)
        if self.calibration is not None:
            notes += of_prediction(self.calibration, bool(one.edited.any()))
        if self.calibration is not None and self.calibration.sets is not None:
            sets = [set_line(self.calibration.sets, one.class_sets[0], self.network.class_names)]
        lines = [f"{title}: {ranking}", *sets, *one._rows(part, chosen, best), *(f"  {note}" for note in notes)]
        return "\n".join(map(shown, lines))

    def _movement(self) -> list[str]:
        """Return a line on which units of the only image have moved with those that were set; none where none has."""
        moved = self.moved[0]
        count = int((moved.abs() >= MOVED).sum())
        if not count:
            return []
        first = moved.abs().argsort(descending=True)[: min(count, 3)].tolist()
        values, names = self.unit_values[0], self.network.unit_names
        few = [f"{names[i]} {float(values[i] - moved[i]):.2f} -> {float(values[i]):.2f}" for i in first]
        return [f"~ moved with what was set, {count} in all: {', '.join(few)}{', ...' if count > len(few) else ''}"]

    def _cleared_siblings(self) -> Tensor:
        """Return which units of the only image are 0 because another one of their group was set to 1, (U,) bool."""
        values, edited = self.unit_values[0], self.edited[0]
        cleared = torch.zeros_like(edited)
        for group in self.network.exclusive_groups:
            if bool((edited[group] & (values[group] > 0.5)).any()):
                cleared[group] = edited[group] & (values[group].abs() < 0.005)
        return cleared

    def _rows(self, part: Tensor, chosen: list[int], best: int) -> list[str]:
        """Return the lines on the units of the only image, from their (U,) contributions to class `best`."""
        network, values, edited = self.network, self.unit_values[0], self.edited[0]
        marks = [
            "*" if by_hand else "~" if far else " "
            for by_hand, far in zip(edited, self.moved[0].abs() >= MOVED, strict=True)
        ]
        others = f"{len(part) - len(chosen)} others"
        width = max(len(name) for name in (network.unit_kind, others, *(network.unit_names[i] for i in chosen)))
        said = {i: read_out(float(values[i]), network.quantities.get(i)) for i in chosen}
        wide = max(6, len(network.value_title), *map(len, said.values()))
        title = f"{'adds to' if network.additive else 'holds up'} the logit of {network.class_names[best]}"
        lines = [f"  {network.unit_kind:<{width}}  {network.value_title:>{wide}}   {title:<29}  {network.detail_title}"]
        largest = float(part.abs().max())
        for i in chosen:
            value = f"{said[i]:>{wide}}{marks[i]}"
            detail = detail_of(network, i, best, float(values[i]), self.thresholds)
            bar = f"{_bar(part[i], largest):<20}  {detail}"
            lines.append(f"  {network.unit_names[i]:<{width}}  {value}  {_signed(part[i])}  {bar}")
        sums = []
        if len(chosen) < len(part) and network.additive:
            sums.append((others, part.sum() - part[chosen].sum()))
        if network.additive:
            sums += [("bias", network.bias().detach()[best])] if network.has_bias else []
            sums += [("= logit", self.logits[0, best])]
        return [line.rstrip() for line in lines + [f"  {name:<{width + wide}}     {_signed(x)}" for name, x in sums]]

    def to_dict(self, probabilities: bool = False) -> dict[str, list[Any]]:
        """Return the columns of a table with a row for each image, column -> B plain values.

        They are ``file`` (the name of the image), ``class`` and ``probability`` (of the most probable class, calibrated
        where there is a calibration; None where the network itself gives no answer), ``abstains``, ``class_set`` (a
        list of names, of a calibration with sets of classes alone), ``present`` (the names of the concepts called true,
        where thresholds are set for some), and each unit by its name, as in `unit_values`
        (``unit file`` if one is called as one of the others). With `probabilities`, also each ``probability of CLASS``.
        """
        silent = self.network.abstains(self.logits).tolist()
        best = self.probabilities.gather(1, self.labels[:, None]).flatten().tolist()
        columns: dict[str, list[Any]] = {
            table.FILE: [table.written(title) for title in self.titles],
            table.CLASS: [None if none else name for none, name in zip(silent, self.classes, strict=True)],
            table.PROBABILITY: [None if none else share for none, share in zip(silent, best, strict=True)],
            table.ABSTAINS: self.abstains.tolist(),
        }
        if self.calibration is not None and self.calibration.sets is not None:
            names = self.network.class_names
            columns[table.CLASS_SET] = [
                [name for name, inside in zip(names, row, strict=True) if inside] for row in self.class_sets.tolist()
            ]
        if self.thresholds is not None and self.thresholds.concepts:
            names = self.network.unit_names
            columns[table.PRESENT] = [
                [name for name, true in zip(names, row, strict=True) if true] for row in self.present.tolist()
            ]
        if probabilities:
            columns |= table.probability_columns(self.network, self.probabilities, silent)
        return columns | dict(zip(table.unit_columns(self.network), self.unit_values.T.tolist(), strict=True))

    def to_csv(self, path: str | Path) -> None:
        """Write the columns of `to_dict` as CSV, with a row for each image and numbers of seven digits.

        Raises:
            OSError: the file cannot be written.
        """
        table.write_csv(self.to_dict(), path)

    def to_pandas(self) -> pd.DataFrame:
        """Return the columns of `to_dict` as a pandas frame with a row for each image.

        Raises:
            UnsupportedError: pandas is not installed (``pip install "ibd[tables]"``).
        """
        return table.as_frame(self.to_dict())

    def __str__(self) -> str:
        """Return the tables of up to four images, or a line for each where there are more."""
        if len(self) <= 4:
            return "\n\n".join(self.table(index) for index in range(len(self)))
        top = self.probabilities.max(1).values.tolist()
        said = [f"{label} {100 * share:.1f} %" for label, share in zip(self.classes, top, strict=True)]
        said = ["abstains" if none else text for text, none in zip(said, self.abstains.tolist(), strict=True)]
        return "\n".join(shown(f"{name}: {text}") for name, text in zip(self.titles, said, strict=True))

    def __repr__(self) -> str:
        """Return in a line how many images there are, and what the first of them are taken for."""
        few = self[:3]
        top = few.probabilities.max(1).values.tolist()
        said = [f"{label} {100 * share:.1f} %" for label, share in zip(few.classes, top, strict=True)]
        said = ["abstains" if none else text for text, none in zip(said, few.abstains.tolist(), strict=True)]
        more = ["..."] if len(self) > len(few) else []
        count = f"{len(self)} image{'' if len(self) == 1 else 's'}"
        return " ".join(f"Prediction({count}: {', '.join([*said, *more])})".split())

    def _repr_html_(self) -> str:
        """Return what `print` writes, for a notebook."""
        return f'<pre style="line-height: 1.25">{html.escape(str(self))}</pre>'


def ranked(prediction: Prediction, logits: Tensor) -> Tensor:
    """Return what (B, C) logits of a prediction's network are ranked by: themselves, unless a calibration reorders."""
    calibration = prediction.calibration
    if calibration is None or calibration.classes.method != "vector":
        return logits
    return calibration.scaled(prediction.network, logits).to(logits.device)


def read_out(value: float, quantity: Quantity | None) -> str:
    """Write what a person reads of a unit."""
    return f"{value:.2f}" if quantity is None else quantity.shown(value)


def _signed(value: Tensor) -> str:
    """Write a contribution in seven characters; nothing is +0.00, whatever its sign."""
    return f"{round(float(value), 2) + 0.0:+7.2f}"


def _bar(value: Tensor, largest: float, width: int = 20) -> str:
    """Draw a contribution as a bar of up to `width` characters."""
    length = round(width * abs(float(value)) / largest) if largest > 0 else 0
    return ("█" if value >= 0 else "░") * length
