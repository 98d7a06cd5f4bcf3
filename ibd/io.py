"""Reading runs and checkpoints. RUN is a run folder, a folder of runs, or a checkpoint file."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from ibd import config as configuration
from ibd import registry
from ibd.errors import CheckpointError, ConfigError, did_you_mean

MODEL_KEY = "ibd_model"
"""The checkpoint entry that names the Lightning module's class."""


def find_run(run: str | Path) -> Path:
    """Return the run folder that `run` means: itself, or the newest run below it.

    Raises:
        CheckpointError: there is no such folder, or no run in it.
    """
    if not str(run):
        raise CheckpointError("no run is named: the name is empty (is a variable of the shell not set?)")
    path = Path(run)
    if not path.exists():
        raise CheckpointError(f"no run '{run}'.{did_you_mean(str(path), _meant_in(path.parent))}")
    if path.is_file():
        return path.parent.parent if path.parent.name == "checkpoints" else path.parent
    if (path / "config.yaml").exists() or (path / "checkpoints").is_dir():
        return path
    runs = runs_in(path)
    deeper = sorted({str(p.parents[1]) for p in path.glob("*/*/checkpoints")})
    if deeper and not runs:
        raise CheckpointError(f"'{run}' holds runs of several names; which one?{did_you_mean('', deeper)}")
    if not runs:
        raise CheckpointError(f"'{run}' is no run folder: it holds neither config.yaml nor checkpoints/")
    return runs[-1]


def runs_in(folder: str | Path) -> list[Path]:
    """Return the runs that lie in a folder, the newest last; none for a run itself."""
    return sorted(path.parent for path in Path(folder).glob("*/checkpoints"))


def _meant_in(folder: Path) -> list[str]:
    """Return what could be meant as RUN in a folder."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return [str(p) for p in found if p.suffix == ".ckpt" or any(p.glob("checkpoints")) or any(p.glob("*/checkpoints"))]


def find_checkpoint(run: str | Path, which: str = "best") -> Path:
    """Return the checkpoint file that `run` means.

    Args:
        run: a checkpoint file, a run folder, or a folder of runs (its newest is taken).
        which: "best" or "last"; where a run has only the other one, that is returned.

    Raises:
        CheckpointError: there is none.
    """
    path = Path(run)
    if path.is_file():
        return path
    folder = find_run(path) / "checkpoints"
    for name in (which, "best", "last"):
        if (folder / f"{name}.ckpt").is_file():
            return folder / f"{name}.ckpt"
    raise CheckpointError(f"'{run}' has no checkpoint yet: it stopped before its first epoch had ended")


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return the content of a checkpoint, on the CPU, without running any code stored in it.

    Raises:
        CheckpointError: the file is missing, corrupt, or no Lightning checkpoint.
    """
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"no checkpoint '{path}'") from None
    except Exception as error:  # unpickling what is no checkpoint raises anything
        raise CheckpointError(f"'{path}' is not a readable checkpoint: {_why_unreadable(Path(path), error)}") from None
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        raise CheckpointError(f"'{path}' is not a checkpoint of a run: it has no 'state_dict'")
    return content


def _why_unreadable(path: Path, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "it may not be read"
    if path.stat().st_size == 0:
        return "it is empty"
    with path.open("rb") as file:
        if file.read(2) != b"PK":
            return "it is no file of PyTorch's"
    if not zipfile.is_zipfile(path):
        return "it is cut short"
    if "weights_only" in str(error):
        return "it holds Python objects, which could run any code, and not only tensors"
    return " ".join(str(error).split())[:120] or type(error).__name__


def load_model(run: str | Path, which: str = "best") -> Any:
    """Return the trained Lightning module of a run, in evaluation mode, on the CPU.

    Args:
        run: a run folder, a folder of runs (its newest is taken), a checkpoint file, or what ``ibd.fit`` returned.
        which: "best" (by the monitored validation metric) or "last".

    Returns:
        A ``Baseline``, ``ConceptBottleneck``, ...: its ``predict`` is the entrance to using it.

    Raises:
        CheckpointError: it is missing, corrupt, not one of ours, or does not fit the installed version.
    """
    path = find_checkpoint(getattr(run, "folder", run), which)
    content = read_checkpoint(path)
    if MODEL_KEY not in content:
        raise CheckpointError(f"'{path}' was not written by ibd: it does not say which model it holds")
    try:
        module = registry.resolve("models", content[MODEL_KEY])(**content["hyper_parameters"])
        module.load_state_dict(content["state_dict"])
    except Exception as error:  # whatever a constructor makes of values that it did not write
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CheckpointError(f"'{path}' does not fit this version of ibd ({reason})") from error
    return module.eval()


def build_data(block: Any) -> Any:
    """Return the data module of a config's ``data:`` block; mistakes in the data are found here."""
    return configuration.build("datasets", block)


def load_data(file: str | Path, *overrides: str) -> Any:
    """Return the data module of a config file."""
    return build_data(configuration.load_config(file, *overrides).data)


def load_run(run: str | Path, *overrides: str, which: str = "best") -> tuple[Any, Any]:
    """Return the trained model of a run, and the data module that it was trained on.

    Args:
        run: a run folder, or a checkpoint in one.
        overrides: ``key=value`` changes to the data of the run's config, such as ``"data.root=/elsewhere"``.
        which: "best" or "last".

    Raises:
        CheckpointError: the run has no config, or its data now has other classes or concepts.
        ConfigError: a change to anything but the data: the model is what its checkpoint says.
    """
    for text in overrides:
        if "=" in text and not text.startswith(("data.", "data=")):
            raise ConfigError(f"override '{text}': a trained run takes changes to its data alone, as data.root=FOLDER")
    model = load_model(run, which)
    file = find_run(run) / "config.yaml"
    if not file.exists():
        raise CheckpointError(f"'{run}' has no config.yaml beside it, which says what data it was trained on")
    data = load_data(file, *overrides)
    if data.spec.class_names != model.spec.class_names or data.spec.concept_names != model.spec.concept_names:
        raise CheckpointError(f"'{run}' was trained on other classes or concepts than the data now has")
    if data.spec.image_size != model.spec.image_size:
        (height, width), (high, wide) = model.spec.image_size, data.spec.image_size
        raise CheckpointError(
            f"'{run}' was trained on images of {height} x {width} pixels, the data's have {high} x {wide}"
        )
    return model, data
