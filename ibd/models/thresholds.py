"""From which probability on a concept is called true, and a class answered: kept beside a run, and read by predictions.

They are for reading alone, as a calibration is: what the classes are computed from stays as it was trained.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ibd.errors import CheckpointError, UnsupportedError, disk_trouble, no_file
from ibd.models.calibration.calibration import Calibration, truth_units

if TYPE_CHECKING:
    from ibd.metrics.functional.bootstrap import Interval
    from ibd.models.base import InterpretableNetwork

FILE = "thresholds.json"
"""In a run folder: checkpoint -> its thresholds."""
CONFIDENCE = "(confidence of the class)"
"""What the threshold is called, among those of concepts, from which on a class is answered."""
USUAL = 0.5
"""A concept without a threshold is called true above this."""


@dataclass(frozen=True)
class Threshold:
    """A probability from which on something is called true, and what that came to on the images it was set on.

    Of a class it is the confidence from which on there is an answer: "true" are the images whose class is right then.

    Attributes:
        value: lowest probability that is called true, in [0, 1].
        images: images of which it is known what is true.
        true: number of these where it is true.
        called: number of these that are called true.
        right: number of these that are called true and are.
        wanted: precision that it was chosen by; None where it was set by hand.
    """

    value: float
    images: int
    true: int
    called: int
    right: int
    wanted: float | None = None

    @property
    def precision(self) -> Interval:
        """Share of what is called true that is, with its score interval; NaN where nothing is called true."""
        return _share(self.right, self.called)

    @property
    def recall(self) -> Interval:
        """Share of what is true that is called so, with its score interval; NaN where nothing is true."""
        return _share(self.right, self.true)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values, with the precision that it reached, for whoever reads the file."""
        reached = self.precision if self.called else None
        named = {"precision": "mean", "precision_low": "low", "precision_high": "high"}
        return vars(self) | {key: None if reached is None else getattr(reached, part) for key, part in named.items()}


def _share(hits: int, trials: int) -> Interval:
    from ibd.metrics.functional.shares import (
        share_interval,
    )  # whose room takes longer to import than an image to predict

    return share_interval(hits, trials)


@dataclass(frozen=True)
class Thresholds:
    """All thresholds of a checkpoint.

    Attributes:
        split: split that they were set on.
        weights: checksum of the weights that they are of.
        calibration: number of the calibration that they are of, see `calibration_number`.
        confidence: lowest probability of the predicted class with which it is answered; None answers always.
        concepts: concept -> its threshold; others are called true above 0.5.
    """

    split: str
    weights: int
    calibration: int
    confidence: Threshold | None = None
    concepts: Mapping[str, Threshold] = field(default_factory=dict)

    @property
    def least(self) -> float | None:
        """Lowest confidence with which there is an answer; None where there always is one."""
        return None if self.confidence is None else self.confidence.value

    def unsure(self, confidence: Tensor) -> Tensor:
        """Return which of (B,) probabilities of the predicted class are too low for an answer, (B,) bool."""
        return confidence < (self.least or 0.0)

    def to_dict(self) -> dict[str, Any]:
        """Return them as plain values."""
        return vars(self) | {
            "confidence": None if self.confidence is None else self.confidence.to_dict(),
            "concepts": {name: threshold.to_dict() for name, threshold in self.concepts.items()},
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Thresholds:
        """Return what `to_dict` has returned.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it has not.
        """
        confidence, concepts = plain["confidence"], plain["concepts"]
        return cls(
            str(plain["split"]),
            int(plain["weights"]),
            int(plain["calibration"]),
            None if confidence is None else _threshold(confidence),
            {str(name): _threshold(given) for name, given in concepts.items()},
        )


def _threshold(plain: Mapping[str, Any]) -> Threshold:
    found = Threshold(**{part.name: plain[part.name] for part in fields(Threshold)})
    counts = (found.images, found.true, found.called, found.right)
    numbers = all(isinstance(count, int) and count >= 0 for count in counts)
    if not numbers or not 0 <= found.value <= 1 or found.right > min(found.true, found.called):
        raise ValueError(f"{dict(plain)!r:.80} is no threshold")
    return found


def called_true(network: InterpretableNetwork, values: Tensor, thresholds: Thresholds | None) -> Tensor:
    """Return which units are called true, (B, U) bool; never a quantity, nor what has no name.

    Args:
        network: network of the units.
        values: (B, U) probabilities as a person reads them.
        thresholds: thresholds of some; the others are true above 0.5.

    Raises:
        UnsupportedError: the units are not true or false.
    """
    if not network.truth_values:
        raise UnsupportedError(f"{network.unit_plural} of this model are not true or false: nothing is called present")
    present = values > USUAL
    if thresholds is not None:
        for name, threshold in thresholds.concepts.items():
            unit = network.unit_index(name)
            present[:, unit] = values[:, unit] >= threshold.value
    return present & truth_units(network).to(values.device)


def calibration_number(calibration: Calibration | None) -> int:
    """Return a number that changes with any value of a calibration; 0 for none."""
    return number_of(None if calibration is None else calibration.to_dict())


def number_of(plain: Mapping[str, Any] | None) -> int:
    """Return the `calibration_number` of the plain values of a calibration, as a checkpoint has them."""
    return 0 if plain is None else zlib.crc32(json.dumps(plain, sort_keys=True).encode())


def detail_of(network: InterpretableNetwork, unit: int, label: int, value: float, thresholds: Thresholds | None) -> str:
    """Return what else a reader should know of a unit, in words: the network's own detail, and whether it is present.

    Args:
        network: the network.
        unit: number of the unit.
        label: class that the unit adds to.
        value: value of the unit as a person reads it.
        thresholds: a unit without one among them is not said to be present or absent.
    """
    detail, name = network.detail(unit, label), network.unit_names[unit]
    if thresholds is None or name not in thresholds.concepts:
        return detail
    lowest = thresholds.concepts[name].value
    # As float32, in which values are and are compared: a value printed as it is may lie beside it in float64.
    present = torch.tensor(value) >= lowest
    said = f"present (from {lowest:.3g})" if present else f"absent (below {lowest:.3g})"
    return f"{detail}, {said}" if detail else said


def confidence_note(thresholds: Thresholds) -> list[str]:
    """Return the line below a prediction that says when there is no answer; none where there always is one."""
    if (chosen := thresholds.confidence) is None or chosen.value == 0:
        return []
    how = "set by hand" if chosen.wanted is None else f"chosen for {100 * chosen.wanted:g} %"
    return [
        f"abstains below {100 * chosen.value:.1f} %, {how}: {chosen.right} of {chosen.called} answers for "
        f"{chosen.images} {thresholds.split} images were right"
    ]


def read_all(folder: Path) -> dict[str, Any]:
    """Return what a run folder says of thresholds, checkpoint -> plain values; nothing where it does not.

    Raises:
        CheckpointError: the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return {}
    try:
        if (kind := no_file(path)) is not None:
            raise ValueError(f"it is {kind}")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise TypeError("it holds no thresholds by checkpoint")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"'{path}' is damaged ({_short(error)}): delete it, and set thresholds anew") from None
    return content


def read_thresholds(folder: Path, checkpoint: str) -> Thresholds | None:
    """Return the thresholds of a checkpoint, by its file's name; None where it has none.

    Raises:
        CheckpointError: they are damaged.
    """
    if (plain := read_all(folder).get(checkpoint)) is None:
        return None
    try:
        return Thresholds.from_dict(plain)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"'{folder / FILE}' is damaged ({_short(error)}): delete it, and set it anew") from None


def write_thresholds(folder: Path, checkpoint: str, thresholds: Thresholds | None) -> Path:
    """Write the thresholds of a checkpoint in one move, or take them away; return the file.

    Raises:
        CheckpointError: it cannot be written.
    """
    content = {key: value for key, value in read_all(folder).items() if key != checkpoint}
    if thresholds is not None:
        content[checkpoint] = thresholds.to_dict()
    path = folder / FILE
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        raise CheckpointError(f"cannot write '{path}': {disk_trouble(error) or error}") from None
    return path


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
