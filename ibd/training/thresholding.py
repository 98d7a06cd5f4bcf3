"""Setting thresholds of a run: by its validation images, kept beside its checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ibd.data.base import ImageDataModule
from ibd.errors import ConfigError, DataError, UnsupportedError, did_you_mean
from ibd.io import find_checkpoint, find_run, load_run, path_of
from ibd.lock import locked
from ibd.models.base import evaluating
from ibd.models.calibration.calibration import truth_units
from ibd.models.calibration.measuring import Reading
from ibd.models.calibration.reading import read_outputs
from ibd.models.lightning import InterpretableModule
from ibd.models.thresholding import Statements, at, by_precision, changed, statements
from ibd.models.thresholds import Threshold, Thresholds, write_thresholds
from ibd.models.trained import TrainedModel
from ibd.types import RunLike

SPLIT: Literal["val"] = "val"
"""What thresholds are set on: never test images, which would say nothing of them any more."""
Wish = float | Literal["keep"] | None


@dataclass(frozen=True)
class Wishes:
    """What thresholds are to be.

    Attributes:
        precision: wanted precision of the concepts, in (0, 1]; None takes their thresholds away.
        value: a threshold of the concepts set by hand, in [0, 1].
        concepts: concepts that is for; by default all that are true or false.
        accuracy: wanted accuracy of the answers, in (0, 1]; None takes the threshold of confidence away.
        confidence: a threshold of confidence set by hand, in [0, 1].
    """

    precision: Wish = "keep"
    value: Wish = "keep"
    concepts: tuple[str, ...] | None = None
    accuracy: Wish = "keep"
    confidence: Wish = "keep"

    def __post_init__(self) -> None:
        """Check what does not go together.

        Raises:
            ConfigError: two ways for one threshold, or a number out of its range.
        """
        for chosen, by_hand in (("precision", "value"), ("accuracy", "confidence")):
            wish, hand = getattr(self, chosen), getattr(self, by_hand)
            if "keep" not in (wish, hand):
                raise ConfigError(f"threshold: {chosen} and {by_hand} are two ways for one threshold: give one of both")
            if isinstance(wish, float | int) and not 0 < wish <= 1:
                raise ConfigError(f"{chosen}: {wish:g} given, a number above 0 and up to 1 is needed, such as 0.95")
            if isinstance(hand, float | int) and not 0 <= hand <= 1:
                raise ConfigError(f"{by_hand}: {hand:g} given, a number from 0 to 1 is needed")
            if hand is None:
                raise ConfigError(f"{by_hand}: null given, a number from 0 to 1 is needed; {chosen}=null takes it away")
        if self.concepts is not None and (self.precision, self.value) == ("keep", "keep"):
            raise ConfigError("threshold: concept: of which precision=0.95, or value=0.7? precision=null takes it away")


@dataclass(frozen=True)
class Found:
    """What became of wishes.

    Attributes:
        thresholds: all that are set now; None for none.
        missed: what has no threshold of the wanted precision, and why, in a line each; it stays as it was.
    """

    thresholds: Thresholds | None
    missed: tuple[str, ...]


def find_thresholds(model: TrainedModel, said: Statements, wishes: Wishes) -> Found:
    """Return the thresholds of a model with wishes fulfilled.

    Args:
        model: the model, with the thresholds that it has.
        said: what it said of validation images.
        wishes: what is wanted.

    Raises:
        ConfigError: an unknown concept.
        UnsupportedError: units are not true or false.
        DataError: a single threshold is wanted, and none reaches it.
    """
    confidence = None if model.thresholds is None else model.thresholds.confidence
    missed = list[str]()
    if wishes.accuracy != "keep" or wishes.confidence != "keep":
        confidence = _one(said.confidence, wishes.accuracy, wishes.confidence, "accuracy")
    names = _names(model, said, wishes)
    concepts = dict[str, Threshold | None]()
    for name in names:
        try:
            key = f"precision of '{name}'"
            concepts[name] = _one(said.concepts[name], wishes.precision, wishes.value, key)
        except DataError as error:
            if len(names) == 1:
                raise
            missed.append(str(error))
    if wishes.concepts is None and any(isinstance(wish, float | int) for wish in (wishes.precision, wishes.value)):
        missed += [f"'{name}' is known of none of the {SPLIT} images" for name in _unknown(model, said)]
    return Found(changed(model, SPLIT, confidence, concepts), tuple(missed))


def _unknown(model: TrainedModel, said: Statements) -> list[str]:
    """Return the concepts that are true or false, and of no image known to be so."""
    units = truth_units(model.network).nonzero().flatten().tolist()
    return [name for name in (model.network.unit_names[unit] for unit in units) if name not in said.concepts]


def _one(reading: Reading, wanted: Wish, value: Wish, key: str) -> Threshold | None:
    """Return one threshold; None takes it away."""
    if isinstance(value, float | int):
        return at(reading, float(value))
    return by_precision(reading, float(wanted), key) if isinstance(wanted, float | int) else None


def _names(model: TrainedModel, said: Statements, wishes: Wishes) -> Sequence[str]:
    """Return the concepts that are meant."""
    if (wishes.precision, wishes.value) == ("keep", "keep"):
        return ()
    if not model.network.truth_values:
        raise UnsupportedError(
            f"{model.network.unit_plural} are not true or false: only the confidence of classes has a threshold here "
            "(accuracy=0.95)"
        )
    names = wishes.concepts if wishes.concepts is not None else tuple(said.concepts)
    for name in names:
        if name in said.concepts:
            continue
        if name in model.network.unit_names:
            raise UnsupportedError(f"concept: '{name}' is no truth value, or no validation image is known to have it")
        raise ConfigError(f"concept: there is no '{name}'.{did_you_mean(name, said.concepts)}")
    return names


def set_thresholds(
    run: RunLike,
    *overrides: str,
    precision: Wish = "keep",
    value: Wish = "keep",
    concepts: Sequence[str] | None = None,
    accuracy: Wish = "keep",
    confidence: Wish = "keep",
    which: str = "best",
    trust: bool = False,
) -> Found:
    """Set from which probability on concepts are called present and classes answered, by a run's validation images.

    They are kept in the run's ``thresholds.json``, and predictions of the model go by them: ``Prediction.present`` and
    ``Prediction.abstains``. What is not named stays as it is. docs/uncertainty.md says what a threshold is worth.

    Args:
        run: a run (folder, checkpoint, or what ``ibd.fit`` returned).
        overrides: ``key=value`` changes to the data of its config.
        precision: wanted precision of concepts, in (0, 1]: each has the smallest threshold that reaches it, or none
            where none does. None takes thresholds away.
        value: a threshold of concepts set by hand, in [0, 1].
        concepts: concepts that this is for; by default all that are true or false.
        accuracy: wanted accuracy of the answers, in (0, 1]; None takes the threshold of confidence away.
        confidence: a threshold of confidence set by hand, in [0, 1].
        which: "best" or "last" checkpoint.
        trust: trust in the run, as of ``ibd.load_model``.

    Raises:
        ConfigError: an unknown concept, a number out of its range, or the run cannot be written to.
        DataError: a single threshold is wanted, and none reaches it.
        UnsupportedError: units are not true or false.
    """
    wishes = Wishes(precision, value, None if concepts is None else tuple(concepts), accuracy, confidence)
    model, data = load_run(path_of(run), *overrides, which=which, trust=trust)
    return change_thresholds(model, find_checkpoint(run, which), read_statements(model, data), wishes)


def read_statements(model: InterpretableModule, data: ImageDataModule) -> Statements:
    """Return what a model says of the validation images, in one pass."""
    model.use_fast_layout()
    with evaluating(model):
        return statements(model, read_outputs(model, data, SPLIT).to(model.device))


def change_thresholds(model: TrainedModel, checkpoint: Path, said: Statements, wishes: Wishes) -> Found:
    """Write the thresholds of a checkpoint with wishes fulfilled into its run, and return what became of these.

    What the page or another command has set since the model was loaded stays, unless a wish names it.

    Raises:
        IbdError: as for `find_thresholds`, or they cannot be read or written.
    """
    folder = find_run(checkpoint)
    with locked(folder, "a training or calibration", "threshold"):
        model.thresholds = model.thresholds_beside(checkpoint)
        found = find_thresholds(model, said, wishes)
        write_thresholds(folder, checkpoint.name, found.thresholds)
    return found
