"""Reading runs and checkpoints. RUN is a run folder, a folder of runs, or a checkpoint file."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ibd import config as configuration, registry
from ibd.errors import CheckpointError, ConfigError, UntrustedError, did_you_mean, no_file
from ibd.io_checks import (
    check_archive,
    check_finite,
    check_hyper_parameters,
    check_size,
    check_types,
    why_unreadable,
)
from ibd.types import RunLike

if TYPE_CHECKING:  # what is read here is defined to the right, and found by its name alone
    from ibd.data.base import ImageDataModule
    from ibd.models.lightning import InterpretableModule

MODEL_KEY = "ibd_model"
"""The checkpoint entry that names the Lightning module's class."""
CALIBRATION_KEY = "ibd_calibration"
"""The checkpoint entry with what `ibd.calibrate` has chosen, as plain values."""


def path_of(run: RunLike) -> str | Path:
    """Return where a run lies.

    Raises:
        CheckpointError: this is neither a path nor a run.
    """
    place = getattr(run, "folder", run)
    if not isinstance(place, str | os.PathLike):
        raise CheckpointError(
            f"a {type(run).__name__} is not a run: a run folder, a checkpoint or what ibd.fit returned is"
        )
    return place if isinstance(place, str) else Path(place)


def find_run(run: RunLike) -> Path:
    """Return the run folder that `run` means: itself, or the newest run below it.

    Raises:
        CheckpointError: there is no such folder, or no run in it.
    """
    run = path_of(run)
    if not str(run):
        raise CheckpointError("no run is named: the name is empty (is a variable of the shell not set?)")
    path = Path(run)
    if not path.exists():
        raise CheckpointError(f"no run '{run}'.{did_you_mean(str(path), _meant_in(path.parent))}")
    if not path.is_dir() and (kind := no_file(path)) is not None:
        raise CheckpointError(f"'{run}' is {kind}; a run folder or the file of a checkpoint is needed")
    if path.is_file():
        return path.parent.parent if path.parent.name == "checkpoints" else path.parent
    if (path / "config.yaml").exists() or (path / "checkpoints").is_dir():
        return path
    runs = runs_in(path)
    deeper = sorted({str(p.parents[1]) for p in path.glob("*/*/checkpoints")})
    if deeper and not runs:
        raise CheckpointError(f"'{run}' holds runs of several names; which one?{did_you_mean('', deeper)}")
    if not runs and (path / "directions.npz").exists():
        raise CheckpointError(
            f"'{run}' holds concepts that `ibd discover` found, and no model: look at them in '{path / 'index.html'}', "
            f"name them in '{path / 'names.csv'}', and train a posthoc_cbm with "
            f"model.concepts={path / 'directions.npz'}: that is a run"
        )
    if not runs:
        raise CheckpointError(f"'{run}' is not a run folder: it holds neither config.yaml nor checkpoints/")
    return runs[-1]


def is_time(name: str) -> bool:
    """Return whether the name of a folder is a time, as those of runs are below the folder with their name."""
    return re.fullmatch(r"[\d_.:T-]+", name) is not None


def runs_in(folder: str | Path) -> list[Path]:
    """Return the runs that lie in a folder, the newest last; none for a run itself."""
    return sorted(path.parent for path in Path(folder).glob("*/checkpoints"))


def _meant_in(folder: Path) -> list[str]:
    """Return what could be meant as RUN in a folder."""
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    return [
        str(p) for p in entries if p.suffix == ".ckpt" or any(p.glob("checkpoints")) or any(p.glob("*/checkpoints"))
    ]


def find_checkpoint(run: RunLike, which: str = "best") -> Path:
    """Return the checkpoint file that `run` means.

    Args:
        run: a checkpoint file, a run folder, or a folder of runs (its newest is taken).
        which: "best" or "last"; where a run has only the other one, that is returned.

    Raises:
        CheckpointError: there is none.
    """
    path = Path(place := path_of(run))
    if path.is_file():
        return path
    folder = find_run(place) / "checkpoints"
    for name in (which, "best", "last"):
        if (folder / f"{name}.ckpt").is_file():
            return folder / f"{name}.ckpt"
    raise CheckpointError(f"'{run}' has no checkpoint yet: it stopped before its first epoch had ended")


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits: which weights a figure is of.

    Raises:
        OSError: it cannot be read.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return the content of a checkpoint, on the CPU, without running any code stored in it.

    Raises:
        CheckpointError: the file is missing, corrupt, or no Lightning checkpoint.
    """
    try:
        check_archive(Path(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"no checkpoint '{path}'") from None
    except CheckpointError:
        raise
    except Exception as error:  # unpickling what is no checkpoint raises anything
        raise CheckpointError(f"'{path}' is not a readable checkpoint: {why_unreadable(error)}") from None
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise CheckpointError(f"'{path}' is not a checkpoint of a run: it has no 'state_dict'")
    check_types(path, content)
    return content


def load_model(run: RunLike, which: str = "best", trust: bool = False) -> InterpretableModule:
    """Return the trained Lightning module of a run, in evaluation mode, on the CPU.

    Args:
        run: a run folder, a folder of runs (its newest is taken), a checkpoint file, or what ``ibd.fit`` returned.
        which: "best" (by the monitored validation metric) or "last".
        trust: whether to import and call the classes that a checkpoint names also where they are none of ibd's: for
            those of your own, never for a stranger's, which could run any code.

    Returns:
        A ``Baseline``, ``ConceptBottleneck``, ...: its ``predict`` is the entrance to using it.

    Raises:
        CheckpointError: it is missing, corrupt, not one of ours, not to be trusted, does not fit the installed version,
            or holds weights that are not numbers.
    """
    path = find_checkpoint(run, which)
    return rebuild(path, read_checkpoint(path), trust)


def rebuild(path: Path, content: dict[str, Any], trust: bool = False) -> InterpretableModule:
    """Return the module that a checkpoint, or another file with its values, describes; in evaluation mode.

    Args:
        path: file, for its size and for messages.
        content: what it holds: the entries `MODEL_KEY`, "hyper_parameters" and "state_dict".
        trust: trust in it, as of `load_model`.

    Raises:
        CheckpointError: it is not one of ours, not to be trusted, does not fit the installed version, or holds weights
            that are not numbers.
    """
    if MODEL_KEY not in content:
        raise CheckpointError(f"'{path}' was not written by ibd: it does not say which model it holds")
    try:
        with registry.trusting(trust), registry.loading():
            module = _rebuild(path, content)
    except (UntrustedError, CheckpointError) as error:
        raise CheckpointError(f"'{path}': {error}") from None
    except Exception as error:  # whatever a constructor makes of values that it did not write
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CheckpointError(f"'{path}' does not fit this version of ibd ({reason})") from error
    return module.eval()


def _rebuild(path: Path, content: dict[str, Any]) -> InterpretableModule:
    """Return the module of a checkpoint.

    Raises:
        UntrustedError: it names a class that is none of ours.
        CheckpointError: it is not what a training writes.
        Exception: whatever the constructor finds wrong.
    """
    name, values = content[MODEL_KEY], content.get("hyper_parameters", {})
    cls: Callable[..., InterpretableModule] = registry.resolve("models", name)
    if not registry.trusted():
        check_hyper_parameters(name, values)
        check_size(partial(cls, **values), path.stat().st_size, len(content["state_dict"]))
    module = cls(**values)
    undefined = {key for key, value in module.state_dict().items() if bool(value.isnan().any())}  # until it is finished
    module.load_state_dict(content["state_dict"])
    check_finite(module, undefined)
    module.take_calibration(content)
    module.take_thresholds(path)
    return module


def load_run_data(run: RunLike, *overrides: str) -> ImageDataModule:
    """Return the data module that a run was trained on; see `load_run`.

    Raises:
        CheckpointError: the run has no config.
        ConfigError: its config is wrong, or not to be trusted.
    """
    file = find_run(run) / "config.yaml"
    if not file.exists():
        raise CheckpointError(f"'{run}' has no config.yaml beside it, which says what data it was trained on")
    return build_data(configuration.load_saved_config(file, *overrides).data)


def build_data(block: Any) -> ImageDataModule:
    """Return the data module of a config's ``data:`` block; mistakes in the data are found here."""
    data: ImageDataModule = configuration.build("datasets", block)
    return data


def load_data(file: str | Path, *overrides: str) -> ImageDataModule:
    """Return the data module of a config file."""
    return build_data(configuration.load_config(file, *overrides).data)


def load_run(
    run: RunLike, *overrides: str, which: str = "best", trust: bool = False
) -> tuple[InterpretableModule, ImageDataModule]:
    """Return the trained model of a run, and the data module that it was trained on.

    Args:
        run: a run folder, or a checkpoint in one.
        overrides: ``key=value`` changes to the data of the run's config, such as ``"data.root=/elsewhere"``.
        which: "best" or "last".
        trust: trust in the run, as of `load_model`, for the class of the data too.

    Raises:
        CheckpointError: the run has no config, or its data now has other classes or concepts.
        ConfigError: a change to anything but the data: the model is what its checkpoint says.
    """
    for text in overrides:
        if "=" in text and not text.startswith(("data.", "data=")):
            raise ConfigError(
                f"override '{text}': a trained run takes changes to its data only, such as data.root=FOLDER"
            )
    with registry.trusting(trust):
        model = load_model(run, which)
        data = load_run_data(run, *overrides)
    if data.spec.class_names != model.spec.class_names or data.spec.concept_names != model.spec.concept_names:
        raise CheckpointError(f"'{run}' was trained on other classes or concepts than the data now has")
    if data.spec.image_size != model.spec.image_size:
        (height, width), (high, wide) = model.spec.image_size, data.spec.image_size
        raise CheckpointError(
            f"'{run}' was trained on images of {height} x {width} pixels, the data's have {high} x {wide}"
        )
    return model, data
