"""What is done once, in one process, after a model was trained."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ibd.data.base import ImageDataModule
from ibd.errors import CheckpointError
from ibd.io import load_model, read_checkpoint
from ibd.models.lightning import UNFINISHED_KEY
from ibd.training.keeping import replace

FINISHED = "finished.json"


def finish(folder: Path, data: ImageDataModule, device: torch.device) -> dict[str, float]:
    """Complete the last and the best checkpoint of a run (``InterpretableModule.finish``), in place.

    What ``InterpretableModule.sidecar`` says is written beside each.

    Args:
        folder: the run folder.
        data: data that it was trained on.
        device: device to compute on.

    Returns:
        The figures of the best one.

    Raises:
        CheckpointError: there is no checkpoint.
    """
    data.trainer = None  # from here on this process is alone
    figures: dict[str, dict[str, float]] = {}
    steps: dict[str, int] = {}
    sidecar: dict[str, str] = {}
    last, best = (folder / "checkpoints" / f"{which}.ckpt" for which in ("last", "best"))
    for which, path in (("last", last), ("best", best)):
        if not path.exists():
            continue
        steps[which] = read_checkpoint(path)["global_step"]
        if which == "best" and steps["best"] == steps.get("last"):  # the last epoch was the best one
            replace(last, best, keep=True)
            figures["best"] = figures["last"]
        else:
            figures[which], sidecar = _finish_checkpoint(path, data, device)
        for ending, text in sidecar.items():
            temporary = path.with_suffix(f".{ending}.tmp")
            temporary.write_text(text, encoding="utf-8")
            replace(temporary, path.with_suffix(f".{ending}"))
    if not figures:
        raise CheckpointError(f"'{folder}' stopped before its first epoch had ended: there is no model to keep")
    temporary = folder / f"{FINISHED}.tmp"
    temporary.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    replace(temporary, folder / FINISHED)
    return figures.get("best", figures.get("last", {}))


def _finish_checkpoint(
    path: Path, data: ImageDataModule, device: torch.device
) -> tuple[dict[str, float], dict[str, str]]:
    """Complete one checkpoint; return its figures, and what is to lie beside it.

    From the weights as they were trained, also where it was completed before: what depends on what it replaces, such as
    statistics that are summed up around those of the training, would be another after each time.
    """
    content = read_checkpoint(path)
    before = content["state_dict"] | content.get(UNFINISHED_KEY, {})
    model = load_model(path)
    model.load_state_dict(before)
    model.to(device)
    figures: dict[str, float] = model.finish(data)
    finished = {name: value.cpu() for name, value in model.state_dict().items()}
    changed = {name: value for name, value in before.items() if not torch.equal(value, finished[name])}
    temporary = path.with_suffix(".tmp")
    torch.save(content | {"state_dict": finished, UNFINISHED_KEY: changed}, temporary)
    replace(temporary, path)
    return figures, model.sidecar()
