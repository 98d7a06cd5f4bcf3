"""A model that a person has edited, as a run of its own beside the one that it was made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from ibd import config as configuration
from ibd.app.terminal import writing
from ibd.data.base import ImageDataModule
from ibd.errors import ConfigError
from ibd.io import find_checkpoint, find_run, is_time, load_run
from ibd.models.lightning import InterpretableModule
from ibd.models.protopnet.editing import EditReport, PrototypeEdits, edit_prototypes

EDITED = "edited.json"
"""What was edited, in the folder of the new run."""
_ENDING = "-edited"


@dataclass(frozen=True)
class EditedRun:
    """A run that an edit made.

    Attributes:
        folder: folder of the new run.
        report: what the edit did.
    """

    folder: Path
    report: EditReport


def edit_prototypes_of(run: str | Path, edits: PrototypeEdits, which: str = "best") -> EditedRun:
    """Edit the prototypes of a run, solve its last layer again, and save the result as a new run beside it.

    Args:
        run: a run folder, or a checkpoint in one; it stays as it is.
        edits: what is wanted.
        which: checkpoint, "best" or "last".

    Raises:
        ConfigError: what `ibd.models.protopnet.editing.edit_prototypes` finds wrong, or the run cannot be written.
        UnsupportedError: the model has no prototypes, or some that cannot become a patch.
    """
    model, data = load_run(run, which=which)
    return save_prototypes_run(run, model, data, edits, which)


def save_prototypes_run(
    run: str | Path, model: InterpretableModule, data: ImageDataModule, edits: PrototypeEdits, which: str = "best"
) -> EditedRun:
    """Do the same with a model and data that are loaded already; the model is changed."""
    report = edit_prototypes(model, data, edits)
    wanted: dict[str, Any] = {
        "forget": sorted(edits.forget),
        "keep": sorted(edits.keep),
        "replace": {str(unit): asdict(patch) for unit, patch in sorted(edits.replace.items())},
        "last_layer": report.solved,
        "validation_images": len(report.before),
        "right_before": int(report.before.sum()),
        "right_after": int(report.after.sum()),
    }
    return EditedRun(save_edited_run(run, model, wanted, which), report)


def save_edited_run(run: str | Path, model: InterpretableModule, edits: Mapping[str, Any], which: str = "best") -> Path:
    """Save a model that was edited as a new run, ``NAME-edited/TIME`` beside the folder NAME of the one it was made of.

    NAME is that of the folder of runs; of the run itself, where its own name is no time, as after it was moved.

    The folder with the checkpoint gets its name last, so that what was interrupted is no run.

    Args:
        run: the run that it was made of.
        model: the edited model.
        edits: what was edited, as plain values.
        which: checkpoint that was edited.

    Raises:
        ConfigError: the run has no config, or the new one cannot be written.
    """
    source = find_run(run).resolve()
    if not (source / "config.yaml").exists():
        raise ConfigError(f"'{run}' is in no run: a run's config.yaml tells which data it is of")
    plain = configuration.to_plain(configuration.load_saved_config(source / "config.yaml"))
    plain["name"] = plain["name"].removesuffix(_ENDING) + _ENDING
    folder = _new_folder(source)
    unfinished = folder / "unfinished"
    with writing(unfinished / "best.ckpt"):
        configuration.save_config(OmegaConf.create(plain), folder / "config.yaml")
        told = {"made_of": str(find_checkpoint(run, which)), **edits}
        (folder / EDITED).write_text(json.dumps(told, indent=1, allow_nan=False), encoding="utf-8")
        for ending, text in model.sidecar().items():
            (unfinished / f"best.{ending}").write_text(text, encoding="utf-8")
    model.save(unfinished / "best.ckpt")
    with writing(folder / "checkpoints"):
        unfinished.replace(folder / "checkpoints")
    return folder


def _new_folder(source: Path) -> Path:
    """Return a folder that nothing is in, beside a run: made now, so that two edits at once have one each."""
    named = source.parent if is_time(source.name) and source.parent.name else source
    parent = named.with_name(named.name.removesuffix(_ENDING) + _ENDING)
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    for count in range(1, 1000):
        folder = parent / (stamp if count == 1 else f"{stamp}_{count}")
        with writing(folder):
            try:
                folder.mkdir(parents=True)
            except FileExistsError:
                continue
            return folder
    raise ConfigError(f"cannot write to '{parent}': too many runs were made in this second")
