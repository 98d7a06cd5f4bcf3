"""``ibd.fit`` and ``ibd test``: from a config to a run folder."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_only

from ibd import config as configuration, registry
from ibd.data.base import ImageDataModule, Split
from ibd.data.grouping import groups_of_images
from ibd.errors import ConfigError, lacks_memory
from ibd.io import build_data, find_checkpoint, find_run, load_run, sha256
from ibd.lock import locked
from ibd.metrics.functional.by_group import ByGroup
from ibd.models.lightning import InterpretableModule
from ibd.training.calibrating import save_reliability
from ibd.training.callbacks import NanLossError
from ibd.training.disk import telling_of_the_disk
from ibd.training.dry_pass import dry_pass
from ibd.training.ending import complete
from ibd.training.features import check_resumed, use_features
from ibd.training.group_figures import save_groups
from ibd.training.loggers import loggers_of
from ibd.training.record import Session
from ibd.training.resuming import check_same_data, check_unchanged, find_resumable
from ibd.training.settings import LoggerSettings
from ibd.training.tested.logged import log_tested
from ibd.training.tested.saving import save_tested, write_json
from ibd.training.tested.scored import Scored
from ibd.training.tested.scoring import one_pass, score
from ibd.training.trainer import build_trainer, quieten, train
from ibd.types import RunLike

_log = logging.getLogger(__name__)

RUN_DIR = "IBD_RUN_DIR"
"""Environment variable through which the processes of one training agree on the run folder."""


@dataclass(frozen=True, repr=False)
class Run:
    """A finished (or interrupted) training.

    Attributes:
        folder: the run folder.
        checkpoint: best checkpoint of the run; the last one where no epoch is the best.
        metrics: the validation figures of that checkpoint's epoch, and those of finishing the model.
        interrupted: whether Ctrl-C ended it early.
        epoch: epoch of the checkpoint, counted from 1; 0 in a process that is not the first.
        monitor: the metric that picked it.
    """

    folder: Path
    checkpoint: Path
    metrics: dict[str, float]
    interrupted: bool = False
    epoch: int = 0
    monitor: str = ""

    def __repr__(self) -> str:
        """Return in a line where it lies, and how good its best epoch is."""
        figure = self.metrics.get(self.monitor)
        said = [f"'{self.folder}'", *([f"epoch {self.epoch}"] if self.epoch else [])]
        said += [] if figure is None else [f"{self.monitor} {figure:.4g}"]
        return f"Run({', '.join([*said, *(['interrupted'] if self.interrupted else [])])})"


def fit(
    config: str | Path | DictConfig | dict[str, Any] | None = None,
    *overrides: str,
    resume: RunLike | None = None,
    trust: bool = False,
) -> Run:
    """Train a model from a config and return its run.

    Args:
        config: a YAML file, or a loaded config; may be left out where a run is resumed.
        overrides: ``key=value`` changes, such as ``"model.regime=sequential"``.
        resume: a run folder to continue exactly where its last finished epoch left it. Only how long and where it
            trains can be changed then, such as ``"trainer.max_epochs=40"``.
        trust: whether the run that is resumed may name classes that are none of ibd's, which could run any code.

    Raises:
        ConfigError, DataError, CheckpointError: the user's mistakes, each in one line.
        NanLossError: the loss is no longer a number.
        KeyboardInterrupt: Ctrl-C, before there was a model, or while it was finished; the message says what is kept.
    """
    quieten()
    try:
        with registry.trusting(trust):
            return _fit(config, overrides, resume)
    finally:
        os.environ.pop(RUN_DIR, None)


def _fit(config: Any, overrides: tuple[str, ...], resume: Any) -> Run:
    with contextlib.ExitStack() as held:
        if resume is not None and _is_first():
            held.enter_context(locked(find_run(getattr(resume, "folder", resume)), _DOING, "resume"))
        folder, checkpoint, content = (None, None, None) if resume is None else find_resumable(resume)
        if config is None:
            if folder is None:
                raise ConfigError("a config file is needed, or resume=RUN")
            settings = configuration.load_saved_config(folder / "config.yaml", *overrides)
        else:
            settings = configuration.load_config(config, *overrides)
        if folder is not None:
            check_unchanged(folder, settings)
        _seed(settings.seed)
        data = build_data(settings.data)
        if checkpoint is not None and content is not None:
            check_same_data(checkpoint, data)
            data.start_epoch = int(content["epoch"]) + 1
        model = build_model(settings, data, weights=folder is None)
        resume_step = None if content is None else int(content["global_step"])
        new = folder is None
        folder, trainer = _open(settings, model, data, folder, content)
        if new and _is_first():
            held.enter_context(locked(folder, _DOING, "output"))
        with telling_of_the_disk(folder):
            loggers = loggers_of(_logging(settings), folder, configuration.to_plain(settings), resume_step)
            trainer.loggers = held.enter_context(loggers)
        return _train(settings, model, data, trainer, folder, checkpoint)


_DOING = "a training"


def _logging(settings: DictConfig) -> LoggerSettings:
    return LoggerSettings(**configuration.to_plain(settings)["logger"])


def _is_first() -> bool:
    return bool(rank_zero_only.rank == 0)  # type: ignore[attr-defined]


def _train(
    settings: DictConfig,
    model: InterpretableModule,
    data: ImageDataModule,
    trainer: pl.Trainer,
    folder: Path,
    checkpoint: Path | None,
) -> Run:
    """Train and complete a run whose folder this process holds, and whose loggers the trainer has."""
    session = Session(data.start_epoch + 1)
    use_features(model, data, trainer, checkpoint)
    try:
        with telling_of_the_disk(folder):
            interrupted = train(trainer, model, data, checkpoint)
    except NanLossError as error:
        some = (folder / "checkpoints" / "last.ckpt").exists()
        kept = "keeps the finished epochs" if some else "keeps no model: no epoch had ended"
        raise NanLossError(f"{error}; '{folder}' {kept}") from None
    if not trainer.is_global_zero:
        return Run(folder, folder / "checkpoints" / "best.ckpt", {}, interrupted)
    # What is in a new run, the user has named.
    with telling_of_the_disk(folder), registry.trusting(checkpoint is None):
        end = complete(trainer, data, folder, _logging(settings), interrupted)
        session.write(folder, trainer, data, interrupted)
    data.features = {}  # which are those of this backbone
    return Run(folder, find_checkpoint(folder), end.metrics, interrupted, end.epoch, end.monitor)


def _open(
    settings: DictConfig,
    model: InterpretableModule,
    data: ImageDataModule,
    folder: Path | None,
    content: dict[str, Any] | None,
) -> tuple[Path, pl.Trainer]:
    """Return the folder of a run, with its config, and the trainer; nothing is left behind where that fails."""
    first, new = _is_first(), folder is None
    if first:
        data.prepare_data()  # damaged images are found before anything is written
        model.check_data(data)
        dry_pass(model, data)
    folder = folder or new_folder(settings, claim=first)
    try:
        trainer = build_trainer(settings, model, folder)
    except ConfigError:
        if new and first:
            _remove_empty(folder)
        raise
    if content is not None:
        check_resumed(model, data, trainer, content)
    if first:
        _write_config(settings, folder)
    return folder, trainer


def _seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise ConfigError(f"seed: {seed} given, 0 to {2**32 - 1} is needed")
    pl.seed_everything(seed, workers=True, verbose=False)


def build_model(config: DictConfig, data: ImageDataModule, weights: bool = True) -> InterpretableModule:
    """Return the model of a config, made for `data`.

    Args:
        config: config as loaded.
        data: the images.
        weights: whether to read the backbone's initial weights; a resumed run has its own.
    """
    plain = configuration.to_plain(config)
    backbone = plain["model"].get("backbone", {})
    if weights and backbone.get("frozen") and {"weights": None, "init_from": None}.items() <= backbone.items():
        _log.warning("model.backbone.frozen: its weights are random and stay so; give it weights, or init_from")
    if not weights:
        backbone |= {key: None for key in ("weights", "init_from") if key in backbone}
    try:
        model: InterpretableModule = configuration.build(
            "models", plain["model"], spec=data.spec, optimizer=plain["optimizer"]
        )
    except (RuntimeError, MemoryError) as error:
        if not lacks_memory(error):
            raise
        key, value = _largest("model", plain["model"])
        raise ConfigError(f"the model does not fit into memory; its largest option is {key}, {value} given") from error
    return model


def _largest(key: str, value: Any) -> tuple[str, float]:
    """Return the largest number in a block, and its place."""
    if isinstance(value, dict):
        sizes = [_largest(f"{key}.{name}", item) for name, item in value.items()]
        return max(sizes, key=lambda item: item[1], default=(key, -math.inf))
    return key, value if isinstance(value, int | float) else -math.inf


def new_folder(config: DictConfig, claim: bool = True) -> Path:
    """Return the folder of a new run, ``OUTPUT/NAME/TIME``: chosen, and with `claim` made, by the first process."""
    if RUN_DIR not in os.environ:
        parent = Path(config.output) / config.name
        stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
        folder, count = parent / stamp, 1
        while claim and not _claim(folder):
            count += 1
            folder = parent / f"{stamp}_{count}"
        os.environ[RUN_DIR] = str(folder)
    return Path(os.environ[RUN_DIR])


def _claim(folder: Path) -> bool:
    """Make a new folder; return False where it exists already, as when two runs start in the same second."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        if not folder.is_dir():
            raise ConfigError(f"output: cannot write to '{folder}': it is not a folder") from None
        return False
    except OSError as error:
        raise ConfigError(f"output: cannot write to '{folder}': {error.strerror}") from None
    return True


def _remove_empty(folder: Path) -> None:
    """Take back what `new_folder` has made: TIME, and NAME and OUTPUT where nothing else is in them."""
    for parent in (folder, *folder.parents[:2]):
        with contextlib.suppress(OSError):
            parent.rmdir()


def _write_config(settings: DictConfig, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        configuration.save_config(settings, folder / "config.yaml")
    except OSError as error:
        raise ConfigError(f"output: cannot write to '{folder}': {error.strerror}") from None


@dataclass(frozen=True)
class Tested:
    """What scoring a run has come to.

    Attributes:
        figures: name -> metric of the split, such as "test/accuracy".
        groups: accuracy and calibration by each column that was asked for.
        pictures: where these are drawn.
        scored: where the model is wrong.
        folder: where that is written; None where it could not be.
    """

    figures: dict[str, float]
    groups: list[ByGroup]
    pictures: list[Path]
    scored: Scored
    folder: Path | None


def evaluate(
    run: str | Path | Run,
    *overrides: str,
    which: str = "best",
    trust: bool = False,
    by: Sequence[str] = (),
    split: Split = "test",
) -> dict[str, float]:
    """Score a trained model on the test split, see `evaluate_run`; return the test metrics, by name."""
    return evaluate_run(run, *overrides, which=which, trust=trust, by=by, split=split).figures


def evaluate_run(
    run: str | Path | Run,
    *overrides: str,
    which: str = "best",
    trust: bool = False,
    by: Sequence[str] = (),
    split: Split = "test",
) -> Tested:
    """Score a trained model on the test split, in one process; write ``test.json`` and ``tested/test`` into the run.

    Where units have names, the accuracy is given without these, and with these alone: see `ibd.models.bypass`. Of a
    calibrated model also what the calibration is worth there, and ``figures/reliability_test.png``. Where it is wrong
    is in ``tested/SPLIT``: see `ibd.training.tested.saving`. All of that is of one pass over the images. A run that
    logs to W&B gets the tables and pictures there, too.

    Args:
        run: a run folder, a checkpoint in one, or what `fit` returned.
        overrides: changes to the run's config, such as ``"data.tag_test=absent"``.
        which: "best" or "last".
        trust: trust in the run, as of ``ibd.load_model``.
        by: columns, or concepts, by whose values accuracy and calibration are given apart, see
            `ibd.data.grouping.groups_of_images`; each is drawn in ``figures/by_NAME.png``.
        split: another split than "test" leaves ``test.json`` and ``figures`` as they are.

    Raises:
        ConfigError: there is no such column or concept.
        DataError: a column has fewer than two groups among the images, or the model answers no numbers.
    """
    quieten()
    place: str | Path = run.folder if isinstance(run, Run) else run
    model, data = load_run(place, *overrides, which=which, trust=trust)
    asked = {name: groups_of_images(data, split, name) for name in by}  # a mistake is said before the work
    metrics, read = one_pass(model, data, split)
    file = find_checkpoint(place, which)
    least = None if model.thresholds is None else model.thresholds.least
    about = {"checkpoint": file.name, "sha256": sha256(file), "changes": list(overrides), "confidence": least}
    scored = score(model, data.dataset(split), split, read, metrics, asked, about)
    if not _is_first():
        return Tested(dict(scored.figures), list(scored.groups), [], scored, None)
    folder, pictures = find_run(place), list[Path]()
    try:
        if split == "test":
            write_json(scored.figures, folder / "test.json")
            if model.calibration is not None:
                save_reliability(model, read, "test images", folder / "figures" / "reliability_test.png")
            pictures += save_groups(scored.groups, "test images", folder / "figures")
        written = save_tested(scored, folder)
        log_tested(scored, folder, written)
    except OSError as error:  # a run of somebody else's, a full disk: the figures are there all the same
        place = error.filename2 or error.filename or folder
        warnings.warn(f"'{place}' cannot be written ({error.strerror})", stacklevel=2)
        written = None
    return Tested(dict(scored.figures), list(scored.groups), pictures, scored, written)
