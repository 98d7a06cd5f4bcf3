"""Predicting many images into one file: read by processes, computed in batches, written as they come."""

from __future__ import annotations

import csv
import os
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ibd.app.predictions.decoding import Read, read_in_processes
from ibd.app.predictions.journal import FORMATS, Journal, folder_of
from ibd.app.predictions.listing import listed
from ibd.app.predictions.parquet import require_parquet
from ibd.comparison.devices import chosen_device
from ibd.distributed import progress
from ibd.errors import ConfigError, DataError, check_range
from ibd.lock import locked
from ibd.models.base import evaluating
from ibd.models.calibration.calibration import checksum
from ibd.models.columns import table_columns, written
from ibd.models.loading import load_network
from ibd.models.prediction import Prediction
from ibd.models.trained import TrainedModel

_NAMED = 10
"""Damaged images that are named on the screen; all of them are in a file."""


class Options(NamedTuple):
    """How images are predicted.

    Attributes:
        batch_size: images that are computed at a time.
        workers: processes that read images; None takes what fits the machine.
        device: "auto", "cpu", "cuda", ...
        skip_damaged: whether to pass over images that cannot be read.
        overwrite: whether the file may replace one that is there.
        probabilities: whether to write the probability of every class.
    """

    batch_size: int = 64
    workers: int | None = None
    device: str = "auto"
    skip_damaged: bool = False
    overwrite: bool = False
    probabilities: bool = False


def predict_files(run: str, words: Sequence[str], out: Path, options: Options) -> Iterator[str]:
    """Predict images and write a row for each; yield lines on it for a person.

    Memory holds the names of the files and a few batches of images, however many there are.

    Args:
        run: RUN of the command line.
        words: images, see `ibd.app.predictions.listing.listed`.
        out: file to write, whose name ends with .csv, .jsonl or .parquet.
        options: how.

    Raises:
        ConfigError: a file of another format, or one that is there; rows of another job in its folder.
        DataError: there are no images, or one is damaged and not to be passed over.
        KeyboardInterrupt: interrupted; the message says how to go on.
    """
    _check_out(out, options.overwrite, words)
    check_range("--batch-size", options.batch_size, least=1)
    files = listed(words)
    model = load_network(run).to(chosen_device(options.device, "predict"))
    sets = model.calibration is not None and model.calibration.sets is not None
    present = model.thresholds is not None and bool(model.thresholds.concepts)
    columns = table_columns(model.network, sets, present, options.probabilities)
    with locked(folder_of(out), "ibd predict", "-o"), Journal(out, _job(model, words), columns) as journal:
        rest = [file for file in files if written(file) not in journal.done]
        if len(rest) < len(files):
            yield f"going on: {len(files) - len(rest)} of {len(files)} images are predicted already"
        gone = journal.done.difference(map(written, files))
        if gone:
            yield f"left out: rows of images that are not among these any more: {len(gone)}"
        work = Work(model, journal, options, len(files), len(files) - len(rest))
        began = time.perf_counter()
        work.predict(rest)
        rate = work.counted / (time.perf_counter() - began)
        journal.finish(gone)
    with suppress(FileNotFoundError):
        folder_of(out).rmdir()
    yield f"written: {out} ({work.there} images, {len(model.network.unit_names)} units; {rate:.0f} images per second)"
    yield from _damaged_lines(work.damaged, out)


def _check_out(out: Path, overwrite: bool, words: Sequence[str]) -> None:
    """Look whether a file can be written, before the work.

    Raises:
        ConfigError: it cannot, or it is there, or it is one of the files that name the images.
        UnsupportedError: what its format needs is not installed.
    """
    if out.suffix not in FORMATS:
        raise ConfigError(f"-o: '{out}': the name must end with {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    if out.is_dir():
        raise ConfigError(f"-o: '{out}' is a folder, a file is needed")
    if out.exists() and any(os.path.exists(word) and out.samefile(word) for word in words):  # noqa: PTH110  # long ones
        raise ConfigError(f"-o: '{out}' is what names the images, which it would replace: name another file")
    if out.exists() and not overwrite:
        raise ConfigError(f"-o: '{out}' is there already: name another file, or add --overwrite")
    if out.suffix == ".parquet":
        require_parquet()


def _job(model: TrainedModel, words: Sequence[str]) -> dict[str, Any]:
    """Return what rows are of: the weights, what is calibrated, thresholds, and what images were asked for."""
    calibration = None if model.calibration is None else model.calibration.to_dict()
    thresholds = None if model.thresholds is None else model.thresholds.to_dict()
    asked = zlib.crc32("\0".join(words).encode("utf-8", "surrogateescape"))
    weights = checksum(model.network)
    return {"weights": weights, "calibration": calibration, "thresholds": thresholds, "images": asked}


class Work:
    """Predicting files into a journal.

    Args:
        model: the model.
        journal: where rows go.
        options: how.
        total: number of all files.
        there: number of them that have rows already.

    Attributes:
        there: number of files that have rows.
        counted: number of files that this has predicted.
        damaged: (file, reason) of what was passed over.
    """

    def __init__(self, model: TrainedModel, journal: Journal, options: Options, total: int, there: int) -> None:
        self.model, self.journal, self.options, self.total, self.there = model, journal, options, total, there
        self.counted = 0
        self.damaged: list[tuple[str, str]] = []

    def predict(self, files: Sequence[str]) -> None:
        """Predict files, with a bar.

        Raises:
            DataError: one is damaged and not to be passed over.
            KeyboardInterrupt: interrupted.
        """
        device = next(self.model.network.parameters()).device
        batches = read_in_processes(
            files, self.model.spec, self.options.batch_size, self.options.workers, device.type != "cpu"
        )
        try:
            with progress((), "predicting", total=self.total) as bar, evaluating(self.model), torch.inference_mode():
                bar.unit, bar.initial, bar.n = " images", self.there, self.there
                for prediction in predictions(self.model, map(self._sound, batches)):
                    self.journal.add(prediction.to_dict(self.options.probabilities))
                    self.there += len(prediction)
                    self.counted += len(prediction)
                    bar.update(len(prediction))
        except KeyboardInterrupt:
            said = f"{self.there} of {self.total} images are predicted; the same command goes on with the others"
            raise KeyboardInterrupt(said) from None

    def _sound(self, batch: Read) -> Read:
        """Return a batch, and keep what is damaged.

        Raises:
            DataError: it is not to be passed over.
        """
        if batch.damaged and not self.options.skip_damaged:
            file, reason = batch.damaged[0]
            kept = f"; {self.there} are predicted, and kept" if self.there else ""
            raise DataError(f"{file}: {reason} (--skip-damaged lists such images and passes over them{kept})")
        self.damaged += batch.damaged
        return batch


def predictions(model: TrainedModel, batches: Iterable[Read]) -> Iterator[Prediction]:
    """Return the predictions of batches; an accelerator computes the next one while a row is written.

    Args:
        model: the model, in evaluation mode.
        batches: images that were read.
    """
    weight, waiting = next(model.network.parameters()), None
    for files, images, _ in batches:
        if not files:
            continue
        image = images.to(weight.device, non_blocking=True).to(weight.dtype).div_(255)
        logits, units = model(image)
        if waiting is not None:
            yield waiting
        waiting = model.prediction(logits, units, files)
    if waiting is not None:
        yield waiting


def _damaged_lines(damaged: Sequence[tuple[str, str]], out: Path) -> Iterator[str]:
    """Write down what was passed over, and yield lines on it."""
    path = out.with_name(f"{out.name}.damaged.csv")
    path.unlink(missing_ok=True)
    if not damaged:
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("file", "reason"), *((written(name), written(why)) for name, why in damaged)])
    yield f"passed over: {len(damaged)} damaged {'image' if len(damaged) == 1 else 'images'}, listed in {path}"
    yield from (f"  {name}: {why}" for name, why in damaged[:_NAMED])
    if len(damaged) > _NAMED:
        yield f"  ... and {len(damaged) - _NAMED} more"
