"""A session of teaching: which image is looked at, what a person said of it, and what the model makes of that."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import torch
from torch import Tensor

from ibd.app.teaching.orders import group_order
from ibd.app.teaching.record import Event, Record, Row
from ibd.data.dataset import ImageDataset
from ibd.errors import ConfigError, DataError, UnsupportedError, did_you_mean
from ibd.models.base import InterpretableNetwork
from ibd.models.calibration.calibration import checksum
from ibd.models.cbm.concepts import ConceptNetwork
from ibd.models.columns import written
from ibd.models.prediction import Prediction

_LONGEST = 86400.0
"""Seconds of a step that are believed: a day."""


def require_teachable(network: InterpretableNetwork) -> ConceptNetwork:
    """Return a network whose units a person can say the truth of.

    Raises:
        UnsupportedError: nobody can.
    """
    if not isinstance(network, ConceptNetwork):
        raise UnsupportedError(
            f"its units are {network.unit_plural}, of which nobody can say whether they are true: teaching needs a "
            "model with labelled concepts, such as a concept bottleneck"
        )
    if not network.truth_values:
        raise UnsupportedError(
            "its concepts were found, and not labelled: their values are on scales of their own, and no answer of a "
            "person is right or wrong"
        )
    return network


class TeachingSession:
    """A session that goes on, from where its record ends.

    Args:
        record: what was done so far, which is added to.
        network: network that is taught with; not changed.
        dataset: the split of the record.
        predict: image of the split -> prediction for it, with nothing edited.

    Attributes:
        place: number of images that are finished, which is the position of the current one.
        answers: group -> what was said of the current image's units, {} where the person does not know.

    Raises:
        DataError: the record is of another model or other data.
        UnsupportedError: the model cannot be taught.
    """

    def __init__(
        self,
        record: Record,
        network: InterpretableNetwork,
        dataset: ImageDataset,
        predict: Callable[[int], Prediction],
    ) -> None:
        self.record, self.network, self.dataset, self.predict = record, require_teachable(network), dataset, predict
        self._check()
        self._last = 0  # event on the current image
        self.answers: dict[str, dict[int, float]] = {}
        self.place = 0
        for row in record.rows:
            self._replay(row)

    def _check(self) -> None:
        settings = self.record.settings
        if settings.weights != checksum(self.network):
            raise DataError(
                f"session '{self.record.stamp}' is of other weights than this run has now: begin a new session"
            )
        if settings.count != len(self.dataset):
            raise DataError(
                f"session '{self.record.stamp}' is of other images: the {settings.split} split has "
                f"{len(self.dataset)} now, and it had {settings.count}"
            )

    def _replay(self, row: Row) -> None:
        """Take over a row of the record."""
        settings = self.record.settings
        if self.place >= len(settings.images) or row.image != settings.images[self.place]:
            raise DataError(f"'{self.record.table}': step {row.step} on image {row.image} is out of order")
        self._last = row.step
        if row.event in ("done", "skipped"):
            self._next()
        elif row.event == "undo":
            self.answers.pop(row.group, None)
        else:
            given = self.answers.setdefault(row.group, {})
            if row.event == "answer" and row.after is not None:
                given[self.network.unit_index(row.unit)] = row.after

    def _next(self) -> None:
        self.place, self.answers, self._last = self.place + 1, {}, 0

    @property
    def image(self) -> int | None:
        """Index of the current image in its split; None where all are finished."""
        images = self.record.settings.images
        return images[self.place] if self.place < len(images) else None

    @property
    def step(self) -> int:
        """Number of events on the current image so far, by which a page shows that it has seen all of them."""
        return self._last

    @property
    def base(self) -> Prediction:
        """Prediction for the current image, with nothing edited.

        Raises:
            ConfigError: all images are finished.
        """
        if self.image is None:
            raise ConfigError("every image of this session is finished")
        return self.predict(self.image)

    @property
    def now(self) -> Prediction:
        """Prediction for the current image, with all that was said of it."""
        return self._with(self.answers)

    def _with(self, answers: Mapping[str, Mapping[int, float]]) -> Prediction:
        values = {unit: value for given in answers.values() for unit, value in given.items()}
        return self.base.intervene(values) if values else self.base

    def groups(self) -> list[str]:
        """Return the groups that were answered, in their order, and after them the others as they are asked for."""
        settings, told = self.record.settings, torch.full((1, self.network.concept_count), torch.nan)
        for given in self.answers.values():
            for unit, value in given.items():
                told[0, unit] = value
        seed = settings.seed * 1_000_003 + (self.image or 0)
        left = group_order(settings.groups, self.network, self.base, told, list(self.answers), seed)
        return [*self.answers, *left]

    def answer(self, group: str, values: Mapping[str, float] | None, seconds: float) -> None:
        """Take what a person says of a group; what was said of it before is undone.

        Args:
            group: name of the group.
            values: unit -> truth value, or number of a quantity; None where the person does not know.
            seconds: time that it took.

        Raises:
            ConfigError: an unknown group, units of others, a value that a unit cannot take, or nothing left to teach.
        """
        if group not in self.network.unit_groups:
            raise ConfigError(f"there is no group '{group}'.{did_you_mean(group, self.network.unit_groups)}")
        given = {self.network.unit_index(name): float(value) for name, value in (values or {}).items()}
        if values is not None and not given:
            raise ConfigError(f"'{group}': nothing is said of its units")
        if strange := [unit for unit in given if unit not in self.network.unit_groups[group]]:
            raise ConfigError(f"'{self.network.unit_names[strange[0]]}' is no unit of the group '{group}'")
        others = {name: told for name, told in self.answers.items() if name != group}
        self._with({**others, group: given})  # what a unit cannot take is refused before anything is written
        if group in self.answers:
            self.undo(group)
        before, after = self.now, self._with({**self.answers, group: given})
        event: Event = "unknown" if values is None else "answer"
        said: list[tuple[int, float] | None] = [*given.items()] or [None]
        rows = [self._row(event, before, after, seconds, group, one) for one in said]
        self._write(rows)
        self.answers[group] = given

    def undo(self, group: str, seconds: float = 0.0) -> None:
        """Take back what was said of a group.

        Raises:
            ConfigError: nothing was.
        """
        if group not in self.answers:
            raise ConfigError(f"nothing was said of '{group}' yet")
        left = {name: given for name, given in self.answers.items() if name != group}
        self._write([self._row("undo", self.now, self._with(left), seconds, group, None)])
        self.answers = left

    def finish(self, seconds: float, skip: bool = False) -> None:
        """Go on to the next image.

        Args:
            seconds: time since the last answer.
            skip: whether to leave this image out of the curve.

        Raises:
            ConfigError: every image is finished already.
        """
        now = self.now
        self._write([self._row("skipped" if skip else "done", now, now, seconds, "", None)])
        self._next()

    def _write(self, rows: list[Row]) -> None:
        self.record.add(rows)
        self._last += 1

    def _row(
        self,
        event: Event,
        before: Prediction,
        after: Prediction,
        seconds: float,
        group: str,
        said: tuple[int, float] | None,
    ) -> Row:
        """Return what is written down of an event: of one unit and the value that it is set to, where it sets some."""
        unit, value = said or (None, None)
        index = self.record.settings.images[self.place]
        truth = int(self.dataset.labels[index])
        known: Tensor = self.network.labelled(self.dataset.concepts[index : index + 1])[0]
        return Row(
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            image=index,
            file=" ".join(written(self.dataset.sample_id(index)).split("\n")),
            place=self.place + 1,
            event=event,
            step=self._last + 1,
            group=group,
            unit="" if unit is None else self.network.unit_names[unit],
            before=None if unit is None else float(before.unit_values[0, unit]),
            after=value,
            annotated=None if unit is None or bool(known[unit].isnan()) else float(known[unit]),
            seconds=min(max(seconds, 0.0), _LONGEST),
            class_before=before.classes[0],
            probability_before=float(before.probabilities[0].max()),
            class_after=after.classes[0],
            probability_after=float(after.probabilities[0].max()),
            truth=self.network.class_names[truth],
            right_before=int(before.labels[0]) == truth,
            right_after=int(after.labels[0]) == truth,
        )
