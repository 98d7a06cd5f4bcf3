"""What a model says of some images, and how it changes when units are set by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ibd.models.base import InterpretableNetwork, Values
from ibd.types import Units


@dataclass(frozen=True, repr=False)
class Prediction:
    """Predictions for B images, with the units that they rest on. Prints as a table.

    Attributes:
        network: the network that predicted.
        units: what it read from the images, with the edits made.
        logits: (B, C).
        edited: (B, U) bool: the units that were set by hand, or followed from that.
        names: B names of the images, shown in the table.
    """

    network: InterpretableNetwork
    units: Units
    logits: Tensor
    edited: Tensor
    names: list[str] = field(default_factory=list)

    @property
    def probabilities(self) -> Tensor:
        """Class probabilities, (B, C)."""
        return self.logits.softmax(1)

    @property
    def labels(self) -> Tensor:
        """Index of the most probable class, (B,)."""
        return self.logits.argmax(1)

    @property
    def classes(self) -> list[str]:
        """Name of the most probable class of each image."""
        return [self.network.class_names[i] for i in self.labels.tolist()]

    @property
    def unit_values(self) -> Tensor:
        """The units as a person reads them, (B, U): a concept's probability, a channel's activation."""
        return self.network.readable(self.units)

    @property
    def contributions(self) -> Tensor:
        """What each unit adds to each class logit, (B, U, C)."""
        with torch.no_grad():
            return self.network.contributions(self.units)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.logits)

    def __getitem__(self, index: int) -> Prediction:
        """Return the prediction for one image."""
        keep = slice(index, index + 1) if index >= 0 else slice(len(self) + index, len(self) + index + 1)
        return Prediction(self.network, self.units[keep], self.logits[keep], self.edited[keep], self.names[keep])

    def join(self, other: Prediction) -> Prediction:
        """Return the images of both, one after the other; both must be by the same network."""
        units = Units(*(_cat(getattr(self.units, f), getattr(other.units, f)) for f in ("scores", "maps", "state")))
        edited = torch.cat([self.edited, other.edited])
        logits = torch.cat([self.logits, other.logits])
        return Prediction(self.network, units, logits, edited, self.names + other.names)

    def intervene(self, values: Values) -> Prediction:
        """Return the prediction with some units set by hand; the backbone does not run again.

        Args:
            values: unit name (or index) -> value. A concept takes a truth value from 0 to 1, and a 1 clears the rest
                of an exclusive group; ``{"wing_colour": "red"}`` is short for ``{"wing_colour::red": 1}``. A value
                may be a (B,) tensor. Interventions add up: a later one keeps what an earlier one set.

        Raises:
            ConfigError: an unknown unit (with the nearest names), or a value that it cannot take.
        """
        with torch.no_grad():
            units = self.network.edit(self.units, values)
            named = torch.zeros_like(self.edited)
            named[:, list(self.network.resolve_values(values))] = True
            changed = units.scores != self.units.scores
            return Prediction(
                self.network, units, self.network.decode(units), self.edited | named | changed, self.names
            )

    def table(self, index: int = 0, top: int = 10, classes: int = 3) -> str:
        """Return one image's prediction as text.

        Args:
            index: which image.
            top: how many units to show, by the size of their contribution; 0 shows all.
            classes: how many classes to show.
        """
        network, best = self.network, int(self.labels[index])
        probability, ranked = self.probabilities[index], self.logits[index].argsort(descending=True)[:classes]
        title = self.names[index] if self.names else f"image {index}"
        ranking = ", ".join(f"{network.class_names[c]} {100 * float(probability[c]):.1f} %" for c in ranked.tolist())
        part = self.contributions[index, :, best]
        order = part.abs().argsort(descending=True)
        shown = order[: top or None]
        values, edited = self.unit_values[index], self.edited[index]
        kept = set(shown.tolist())
        shown_list = shown.tolist() + [i for i in edited.nonzero().flatten().tolist() if i not in kept]
        width = max([len(network.unit_names[i]) for i in shown_list] + [len(network.unit_kind)])
        lines = [
            f"{title}: {ranking}",
            f"  {network.unit_kind:<{width}}   value   adds to the logit of {network.class_names[best]}",
        ]
        lines += [
            f"  {network.unit_names[i]:<{width}}  {float(values[i]):6.2f}{'*' if edited[i] else ' '}  "
            f"{float(part[i]):+7.2f}  {_bar(float(part[i]), float(part.abs().max()))}"
            for i in shown_list
        ]
        rest = part.sum() - part[shown_list].sum()
        if len(shown_list) < len(part):
            lines.append(f"  {f'{len(part) - len(shown_list)} others':<{width}}           {float(rest):+7.2f}")
        if network.additive:
            lines.append(f"  {'bias':<{width}}           {float(network.bias()[best]):+7.2f}")
            lines.append(f"  {'= logit':<{width}}           {float(self.logits[index, best]):+7.2f}")
        else:
            lines.append("  (each is the logit lost without that unit alone; they do not add up to it)")
        if bool(edited.any()):
            lines.append("  * set by hand, or following from that")
        return "\n".join(lines)

    def __str__(self) -> str:
        """Return the tables of up to four images, or a line for each where there are more."""
        if len(self) <= 4:
            return "\n\n".join(self.table(index) for index in range(len(self)))
        top = self.probabilities.max(1).values.tolist()
        names = self.names or [f"image {index}" for index in range(len(self))]
        rows = zip(names, self.classes, top, strict=True)
        return "\n".join(f"{name}: {label} {100 * share:.1f} %" for name, label, share in rows)

    __repr__ = __str__


def _cat(first: Tensor | None, second: Tensor | None) -> Any:
    return None if first is None or second is None else torch.cat([first, second])


def _bar(value: float, largest: float, width: int = 20) -> str:
    """Draw a contribution as a bar of up to `width` characters."""
    length = round(width * abs(value) / largest) if largest > 0 else 0
    return ("█" if value >= 0 else "░") * length
