"""``ibd.calibrate``: how sure a trained model may be called, chosen on validation images and kept in its checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from ibd.data.base import ImageDataModule, Split
from ibd.errors import CheckpointError, ConfigError, disk_trouble
from ibd.io import CALIBRATION_KEY, find_checkpoint, find_run, load_run, path_of, read_checkpoint
from ibd.lock import locked
from ibd.models.base import evaluating
from ibd.models.calibration.calibration import Calibration, class_scores
from ibd.models.calibration.choosing import Choices, choose
from ibd.models.calibration.conformal import Score
from ibd.models.calibration.figures import reliability_figure
from ibd.models.calibration.measuring import flat, measure, readings
from ibd.models.calibration.reading import ReadOutputs, gathered, read_outputs
from ibd.models.calibration.scaling import Method
from ibd.models.lightning import InterpretableModule
from ibd.training.keeping import replace
from ibd.types import Output, RunLike, Units

_SAME_IMAGES = {"data.augment", "data.batch_size", "data.cache", "data.check_images", "data.num_workers"}
"""Changes to the data that leave the images what they are."""


def calibrate(
    model: RunLike | InterpretableModule,
    *overrides: str,
    data: ImageDataModule | None = None,
    method: Method = "temperature",
    concept_method: Method | None = None,
    coverage: float | None = 0.9,
    score: Score = "lac",
    randomized: bool = False,
    per_class: bool = False,
    accuracy: float | None = None,
    certainty: float | None = 0.9,
    split: Literal["val", "train"] = "val",
    fit_share: float = 0.5,
    seed: int = 0,
    which: str = "best",
    trust: bool = False,
) -> Calibration:
    """Choose how sure a trained model may be called, on images with labels, and let its predictions say so.

    One pass over the images; everything else is computed from what it put out. Predictions of the model then have
    calibrated probabilities, sets of classes (``Prediction.class_sets``), and abstain where that was asked. What the
    network decides by stays as it was trained. docs/uncertainty.md says what is promised, and what is not.

    Args:
        model: a run (folder, checkpoint, or what ``ibd.fit`` returned), in whose checkpoint the calibration is written,
            in the place of an earlier one; or a model, which has it then in memory.
        overrides: ``key=value`` changes to the data of a run's config, such as ``"data.root=FRESH"``.
        data: images of a model; may be left out where `model` is a run.
        method: scaling of the class scores: "temperature", "vector" (which may change the predicted class), or "none".
        concept_method: scaling of the concepts' log-odds; None is as `method`.
        coverage: probability with which sets of classes hold the true one; None chooses no sets.
        score: score that sets are made by: "lac", "aps" or "raps".
        randomized: whether sets are randomized, so that coverage is met exactly and not exceeded.
        per_class: whether coverage is to hold for each class.
        accuracy: wanted accuracy of the answers; where the model is less sure it abstains. None never does.
        certainty: probability with which new images have that accuracy; None only asks for it on the images that the
            threshold is chosen on, and promises nothing for others.
        split: images to choose by: "val", or "train" of data that the model was not trained on.
        fit_share: share of these images that the scales are fitted on; the others choose sets and threshold. 1 takes
            all for both.
        seed: seed of which images are which.
        which: "best" or "last" checkpoint of a run.
        trust: trust in the run, as of ``ibd.load_model``.

    Raises:
        ConfigError: an option out of its range, a run's own training images, or the run cannot be written to.
        DataError: too few images for the coverage, or no threshold with the accuracy.
        UnsupportedError: the model has not what is to be calibrated.
    """
    choices = Choices(
        method, concept_method, coverage, score, randomized, per_class, accuracy, certainty, split, fit_share, seed
    )
    if isinstance(model, InterpretableModule):
        if data is None:
            raise ConfigError("calibrate needs the data beside the model (or a run in place of both)")
        model.calibration = choose(model.network, _read(model, data, split), choices)
        model.thresholds = None  # which are of the probabilities as they were
        return model.calibration
    return calibrate_run(model, overrides, choices, which, trust).calibration


@dataclass(frozen=True)
class Calibrated:
    """What calibrating a run has come to.

    Attributes:
        calibration: what was chosen.
        checkpoint: file that it was written into.
        model: the model, with it.
        read: what the model put out for the images that it was chosen on.
    """

    calibration: Calibration
    checkpoint: Path
    model: InterpretableModule
    read: ReadOutputs

    def save_figure(self, path: Path) -> None:
        """Draw a reliability diagram of the images that it was chosen on."""
        save_reliability(self.model, self.read, f"{self.calibration.split} images, which it was chosen on", path)


def calibrate_run(
    run: RunLike, overrides: tuple[str, ...], choices: Choices, which: str = "best", trust: bool = False
) -> Calibrated:
    """Calibrate the checkpoint of a run, see `calibrate`."""
    _check_new(choices.split, overrides)
    checkpoint = find_checkpoint(run, which)
    with locked(find_run(run), "a training or calibration", "calibrate"):
        model, data = load_run(path_of(run), *overrides, which=which, trust=trust)
        read = _read(model, data, choices.split)
        model.calibration, model.thresholds = choose(model.network, read, choices), None
        _write(checkpoint, model.calibration)
    return Calibrated(model.calibration, checkpoint, model, read)


def _check_new(split: str, overrides: Sequence[str]) -> None:
    """Check that a run is not calibrated by the images that it was trained on.

    Raises:
        ConfigError: it would be: it is surer of them than of new ones, and nothing that is promised would hold.
    """
    if split == "train" and {text.partition("=")[0] for text in overrides} <= _SAME_IMAGES:
        raise ConfigError(
            "split: 'train' given: the model was trained on these images, and is surer of them than of new ones; "
            "choose by val, or by train of other data (data.root=FOLDER)"
        )


def remove_calibration(run: RunLike, which: str = "best") -> Path:
    """Take the calibration out of a checkpoint of a run, and return that."""
    checkpoint = find_checkpoint(run, which)
    with locked(find_run(run), "a training or calibration", "calibrate"):
        _write(checkpoint, None)
    return checkpoint


def _read(model: InterpretableModule, data: ImageDataModule, split: Literal["val", "train"]) -> ReadOutputs:
    """Return what the model puts out for a split."""
    model.use_fast_layout()
    with evaluating(model):
        return read_outputs(model, data, split).to(model.device)


def _write(path: Path, calibration: Calibration | None) -> None:
    """Write a calibration into a checkpoint, in one move: it is whole at any moment.

    Raises:
        CheckpointError: the file cannot be written.
    """
    content = read_checkpoint(path)
    content.pop(CALIBRATION_KEY, None)
    if calibration is not None:
        content[CALIBRATION_KEY] = calibration.to_dict()
    temporary = path.with_suffix(".tmp")
    try:
        torch.save(content, temporary)
        replace(temporary, path)
    except (OSError, RuntimeError) as error:
        raise CheckpointError(f"cannot write '{path}': {disk_trouble(error) or error}") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


class KeepOutputs(Callback):
    """Keep what a model puts out while it is tested, in order, so that no pass of its own is needed."""

    def __init__(self) -> None:
        self.parts: list[Output] = []

    def on_test_batch_end(  # Lightning's signature
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the logits of a batch, and the scores of concepts."""
        scores = outputs.units.scores
        if isinstance(pl_module, InterpretableModule) and not pl_module.network.truth_values:
            scores = scores[:, :0]  # nobody reads the activations of thousands of prototypes or channels
        units = Units(scores.cpu(), scores.new_zeros(0))  # maps would fill the memory
        self.parts.append(Output(outputs.logits.cpu(), units))

    def read(self, data: ImageDataModule, split: Split) -> ReadOutputs:
        """Return the whole split, once its test has ended."""
        return gathered(self.parts, data, split)


def figures_of(model: InterpretableModule, read: ReadOutputs) -> dict[str, float]:
    """Return the figures of a model's calibration on a split; an interval is three: NAME, NAME_low, NAME_high."""
    if model.calibration is None:
        return {}
    return flat(measure(model.network, model.calibration, read.to(model.device)))


def probabilities_of(model: InterpretableModule, read: ReadOutputs) -> Tensor:
    """Return a model's (N, C) class probabilities on a split, calibrated where the model is; on the CPU."""
    if model.calibration is None:
        return class_scores(model.network, read.logits).softmax(1)
    return model.calibration.scaled(model.network, read.to(model.device).logits).softmax(1).cpu()


def save_reliability(model: InterpretableModule, read: ReadOutputs, title: str, path: Path) -> None:
    """Write the reliability diagram of a calibrated model."""
    assert model.calibration is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    reliability_figure(readings(model.network, model.calibration, read.to(model.device)), title).savefig(path, dpi=120)
