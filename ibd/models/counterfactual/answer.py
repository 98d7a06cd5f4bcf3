"""Why an image is taken for one class and not another, in units: what is said of it, and the command that shows it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from ibd.models.counterfactual.program import Smallest
from ibd.models.prediction import Prediction, read_out
from ibd.printing import shown

_MOST_SHOWN = 12
"""Units that are listed one by one."""
_MOST_SET = 30
"""Units that a command sets, where one is shown: more are a wall of text."""


@dataclass(frozen=True, repr=False)
class Why:
    """Prints as text. Names of units are those that `Prediction.intervene` takes.

    Attributes:
        before: prediction of the one image.
        asked: what is asked: "not jay", or "jay".
        smallest: what is small of the change: the "count" of units that are set, or the "amount" they move by.
        values: name of a unit -> what `intervene` is given: the smallest change that makes the class another, or the
            one asked for; empty where none was found.
        after: prediction with that change; None where none was found.
        size: how many units that are, or how far they move.
        exact: whether no smaller change does it.
        kept: units, or groups of units, that are enough for the class as it is.
        of: number of units or groups that these are among.
        others: name -> what `intervene` is given so that all others say nothing.
        alone: prediction with that.
        kept_exact: whether no fewer are enough.
    """

    before: Prediction
    asked: str
    smallest: Smallest
    values: Mapping[str, float]
    after: Prediction | None
    size: float
    exact: bool
    kept: tuple[str, ...]
    of: int
    others: Mapping[str, float]
    alone: Prediction
    kept_exact: bool

    def command(self, run: str, image: str, values: Mapping[str, float] | None = None) -> str:
        """Return the command that makes the change.

        Args:
            run: RUN.
            image: IMAGE.
            values: what is set; by default the change.
        """
        chosen = self.values if values is None else values
        return shlex.join(["ibd", "intervene", run, image, *(f"{name}={value:.9g}" for name, value in chosen.items())])

    def lines(self, run: str = "RUN", image: str = "IMAGE") -> list[str]:
        """Return what there is to say, as lines."""
        network, plural = self.before.network, self.before.network.unit_plural
        lines = [f"{self.before.titles[0]}: {_classes(self.before)}"]
        if self.after is None:
            lines.append(f"no change of its {plural} was found after which it is {self.asked}")
        else:
            lines += [self._headline(), *self._rows(self.after), f"  then: {_classes(self.after)}"]
            lines += self._command(run, image, self.values)
        label = network.class_names[int(self.before.labels[0])]
        fewest = "the fewest" if self.kept_exact else "few, perhaps not the fewest"
        enough = ", ".join(self.kept[:_MOST_SHOWN]) + (", ..." if len(self.kept) > _MOST_SHOWN else "")
        lines.append(f"enough for {label} ({len(self.kept)} of {self.of}, {fewest}): {enough or 'nothing'}")
        lines.append(f"  with all others set to nothing: {_classes(self.alone)}")
        if self.others:
            lines += self._command(run, image, self.others)
        return [shown(line) for line in lines]

    def _command(self, run: str, image: str, values: Mapping[str, float]) -> list[str]:
        """Return the line with a command, where it is of a length that is read."""
        return [f"  {self.command(run, image, values)}"] if len(values) <= _MOST_SET else []

    def _headline(self) -> str:
        network = self.before.network
        count = len(self.values)
        what = f"{count} {network.unit_kind if count == 1 else network.unit_plural}"
        if self.smallest == "amount":
            what += f", by {self.size:.3g} in all"
        proven = "no smaller one does" if self.exact else "found by trying; a smaller one may do"
        return f"{self.asked}, by the smallest change ({what}; {proven}):"

    def _rows(self, after: Prediction) -> list[str]:
        """Return a line for each unit that is set: what was read of it, and what is now."""
        network = self.before.network
        width = max(map(len, self.values))
        rows = []
        for name in list(self.values)[:_MOST_SHOWN]:
            unit = network.unit_index(name)
            quantity = network.quantities.get(unit)
            old, new = (read_out(float(each.unit_values[0, unit]), quantity) for each in (self.before, after))
            rows.append(f"  {name:<{width}}  {old} -> {new}")
        return rows + (["  ..."] if len(self.values) > _MOST_SHOWN else [])

    def __str__(self) -> str:
        """Return what there is to say."""
        return "\n".join(self.lines())

    def __repr__(self) -> str:
        """Return in a line what is asked and what was found."""
        found = ", ".join(f"{name}={value:.4g}" for name, value in self.values.items()) or "nothing"
        return f"Why({self.asked}: {found}; enough: {', '.join(self.kept) or 'nothing'})"


def _classes(prediction: Prediction, count: int = 2) -> str:
    """Return the most probable classes with their probabilities; the first is the one that is predicted."""
    shares = prediction.probabilities[0]
    order = prediction.ranking[0].argsort(descending=True)[:count].tolist()
    said = ", ".join(f"{prediction.network.class_names[c]} {100 * float(shares[c]):.1f} %" for c in order)
    return f"abstains ({said})" if bool(prediction.abstains[0]) else said
