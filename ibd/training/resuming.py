"""Going on with a run: what must stay the same, so that its numbers become those of an uninterrupted one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from ibd import config as configuration
from ibd.data.base import ImageDataModule
from ibd.errors import CheckpointError, ConfigError, UnsupportedError
from ibd.io import MODEL_KEY, find_checkpoint, find_run, load_model, read_checkpoint

_MUST_STAY = ("seed", "model", "data", "optimizer")
_MAY_CHANGE = ("data.root", "data.num_workers", "data.cache", "data.check_images", "model.backbone.cache")
_TRAINER_MUST_STAY = ("devices", "num_nodes", "accumulate_grad_batches", "limit_train_batches", "overfit_batches")

_SHARES = ("data.batch_size", "trainer.devices", "trainer.num_nodes")
"""What may change together: how the images of a step are shared out to processes."""


def find_resumable(run: Any) -> tuple[Path, Path, dict[str, Any]]:
    """Return folder, last checkpoint and its content of a run that is to be continued.

    Args:
        run: a run folder, a folder of runs, a checkpoint in one, or what ``ibd.fit`` returned.

    Raises:
        CheckpointError: it cannot be.
    """
    folder = find_run(getattr(run, "folder", run))
    if not (folder / "config.yaml").exists():
        raise CheckpointError(f"'{run}' cannot be resumed: there is no config.yaml in '{folder}'")
    path = find_checkpoint(folder, "last")
    content = read_checkpoint(path)
    best = path.with_name("best.ckpt")
    for file, held in ((path, content), *([(best, read_checkpoint(best))] if best.exists() else [])):
        for key in (MODEL_KEY, "epoch", "global_step", "loops", "optimizer_states"):
            if key not in held:
                raise CheckpointError(
                    f"'{file}' cannot be resumed: it was not written by a training of ibd (no '{key}')"
                )
    return folder, path, content


def check_unchanged(folder: Path, settings: DictConfig) -> None:
    """Compare the settings that a run is to be continued with to its own.

    Raises:
        ConfigError: one differs that may not.
        UnsupportedError: the training does not end with an epoch.
    """
    if settings.trainer.max_steps not in (None, -1):
        raise UnsupportedError("resume: a training continues by epochs: use trainer.max_epochs in place of max_steps")
    before, now = (
        configuration.to_plain(configuration.load_saved_config(folder / "config.yaml")),
        configuration.to_plain(settings),
    )
    own, given, images = dict(_fixed(before)), dict(_fixed(now)), _images_of_a_step(before)
    shared = _SHARES if images is not None and images == _images_of_a_step(now) else ()
    for key in [*given, *own]:
        if own.get(key) != given.get(key) and key not in shared:
            shares = f" Processes may become more or fewer: {' x '.join(_SHARES)} must stay {images}." if images else ""
            raise ConfigError(
                f"resume: {key} is {own.get(key)!r} in '{folder}', but {given.get(key)!r} is given. A run continues "
                "with its own settings; for others start a new one, which takes over the backbone with "
                f"model.backbone.init_from={folder}{shares if key in _SHARES else ''}"
            )


def check_same_data(path: Path, data: ImageDataModule) -> None:
    """Check that a checkpoint fits, and that the data still has the classes and concepts that it knows.

    Raises:
        CheckpointError: it does not, or they are others.
    """
    if (best := path.with_name("best.ckpt")).exists():
        load_model(best)  # which is read when the training has ended: what is wrong with it is said before
    known, now = load_model(path).spec, data.spec
    if any(getattr(known, key) != getattr(now, key) for key in ("class_names", "concept_names", "image_size")):
        raise CheckpointError(f"'{path}' was trained on other classes, concepts or image sizes than the data now has")


def _fixed(config: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in _flat({name: config[name] for name in _MUST_STAY}):
        if key not in _MAY_CHANGE:
            yield key, value
    for key in _TRAINER_MUST_STAY:
        yield f"trainer.{key}", config["trainer"].get(key)


def _images_of_a_step(config: Mapping[str, Any]) -> int | None:
    """Return how many images all processes together take in a step; None where that depends on the machine."""
    devices, nodes = config["trainer"].get("devices"), config["trainer"].get("num_nodes", 1)
    counts = (config["data"].get("batch_size"), devices, nodes)
    known = all(isinstance(count, int) and not isinstance(count, bool) and count > 0 for count in counts)
    return math.prod(counts) if known else None


def _flat(values: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
