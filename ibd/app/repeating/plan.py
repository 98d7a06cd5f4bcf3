"""What trainings a repetition is made of: a config for each, kept in its folder, and which are done."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig

from ibd.config import load_config, load_saved_config, save_config
from ibd.data.base import ImageDataModule
from ibd.errors import CheckpointError, ConfigError, DataError, check_once
from ibd.io import build_data
from ibd.training.hints import names_own_classes
from ibd.training.keeping import replace
from ibd.training.runner import build_model

PLAN = "plan.json"
Kind = Literal["seed", "fold"]
_COMPARED = 8
"""Test images by which two trainings are found to be tested on the same ones."""


@dataclass
class Plan:
    """The trainings of a repetition.

    Attributes:
        folder: where they lie; training NAME is the run ``folder/NAME`` of the config ``folder/NAME.yaml``.
        kind: what differs between them.
        values: their seeds, or folds.
        given: config and changes, as a person gave them.
        images: name -> split -> number of images.
        apart: whether each training is tested on images of its own.
        trained: names of those that are trained to their end.
    """

    folder: Path
    kind: Kind
    values: tuple[int, ...]
    given: str
    images: dict[str, dict[str, int]] = field(default_factory=dict)
    apart: bool = False
    trained: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """What the trainings are called."""
        return [f"{self.kind}_{value}" for value in self.values]

    @property
    def overlap(self) -> float:
        """The number of tested over that of trained images, where each training tests its own fold; else 0."""
        if self.kind != "fold" or not self.apart:
            return 0.0
        return sum(of["test"] for of in self.images.values()) / sum(of["train"] for of in self.images.values())

    def run(self, name: str) -> Path:
        """Return the run folder of a training."""
        return self.folder / name

    def config(self, name: str) -> Path:
        """Return the config of a training."""
        return self.folder / f"{name}.yaml"

    def save(self) -> None:
        """Write the plan down, in one move."""
        kept = {key: value for key, value in vars(self).items() if key != "folder"}
        temporary = self.folder / f"{PLAN}.tmp"
        temporary.write_text(json.dumps(kept, indent=1), encoding="utf-8")
        replace(temporary, self.folder / PLAN)

    @property
    def goes_on(self) -> str:
        """The command that goes on with it."""
        own = names_own_classes(self.config(self.names[0]))
        return shlex.join(["ibd", "repeat", f"resume={self.folder}", *(["--trust"] if own else [])])


def read_plan(folder: Path) -> Plan:
    """Return the plan of a folder that a repetition has left.

    Its configs may name classes of somebody's own, see `ibd.config.load_saved_config`.

    Raises:
        CheckpointError: there is none, or it cannot be read.
        ConfigError: one of its configs is wrong, or not to be trusted.
    """
    try:
        kept = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        plan = Plan(folder, kept["kind"], tuple(map(int, kept["values"])), str(kept["given"]))
        plan.images, plan.apart, plan.trained = kept["images"], bool(kept["apart"]), list(map(str, kept["trained"]))
    except FileNotFoundError:
        raise CheckpointError(f"resume: '{folder}' is no folder of ibd repeat: there is no {PLAN} in it") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"resume: '{folder / PLAN}' cannot be read ({type(error).__name__})") from None
    if plan.kind not in ("seed", "fold") or len(plan.values) < 2:
        raise CheckpointError(f"resume: '{folder / PLAN}' is no plan of ibd repeat")
    for name in plan.names:
        load_saved_config(plan.config(name))
    return plan


def new_plan(config: str, changes: Sequence[str], kind: Kind, values: Sequence[int]) -> Plan:
    """Check all configs and their data, make the folder, and return the plan.

    Args:
        config: config file, or the name of one that comes with ibd.
        changes: ``key=value``, for all trainings.
        kind: what differs.
        values: seeds; of folds all of them, in order.

    Raises:
        ConfigError, DataError: a mistake in one of them; nothing is written then.
    """
    _check(changes, kind, values)
    if kind == "fold" and "folds" not in (data := load_config(config, *changes).data):
        raise ConfigError(f"--folds: the data '{data.name}' cannot be cut into folds; folder and toybirds can")
    configs = [load_config(config, *changes, *_own(kind, value, len(values))) for value in values]
    images, apart = _look_at_data(configs, kind, values)
    plan = Plan(_new_folder(configs[0]), kind, tuple(values), shlex.join([config, *changes]), images, apart)
    for name, own in zip(plan.names, configs, strict=True):
        save_config(own, plan.config(name))
    plan.save()
    return plan


def _own(kind: Kind, value: int, count: int) -> list[str]:
    return [f"seed={value}"] if kind == "seed" else [f"data.folds={count}", f"data.fold={value}"]


def _check(changes: Sequence[str], kind: Kind, values: Sequence[int]) -> None:
    if len(values) < 2:
        raise ConfigError(f"--{kind}s: {len(values)} training given, 2 or more are needed to say how sure a figure is")
    check_once(f"--{kind}s", [str(value) for value in values])
    taken = ("seed",) if kind == "seed" else ("data.folds", "data.fold")
    for text in changes:
        if text.split("=", 1)[0] in taken:
            raise ConfigError(f"'{text}': --{kind}s says that")


def _look_at_data(
    configs: Sequence[DictConfig], kind: Kind, values: Sequence[int]
) -> tuple[dict[str, dict[str, int]], bool]:
    """Return how many images each training has, and whether each is tested on its own ones."""
    images, first = dict[str, dict[str, int]](), list[list[str]]()
    for value, config in zip(values, configs, strict=True):
        if kind == "seed" and len(first) == 2:  # the others are like these
            images[f"{kind}_{value}"] = images[f"{kind}_{values[0]}"]
            continue
        data = build_data(config.data)
        if not first:
            build_model(config, data, weights=False)  # finds what is wrong with its options
        sizes, tested = _look(data)
        images[f"{kind}_{value}"] = sizes
        first.append(tested)
    return images, first[0] != first[1]


def _look(data: ImageDataModule) -> tuple[dict[str, int], list[str]]:
    try:
        test = data.dataset("test")
    except DataError as error:
        raise DataError(f"{error}, or let --folds 5 test on folds of the others") from None
    sizes = {"train": len(data.dataset("train")), "val": len(data.dataset("val")), "test": len(test)}
    return sizes, [test.version(index) for index in range(min(_COMPARED, len(test)))]


def _new_folder(config: DictConfig) -> Path:
    parent = Path(config.output) / config.name
    for folder in _candidates(parent):
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            if folder.is_dir():
                continue
            raise ConfigError(f"output: cannot write to '{parent}': it is not a folder") from None
        except OSError as error:
            raise ConfigError(f"output: cannot write to '{folder}': {error.strerror}") from None
        return folder
    raise AssertionError


def _candidates(parent: Path) -> Iterator[Path]:
    stamp, count = f"repeat-{datetime.now():%Y-%m-%d_%H-%M-%S}", 1
    while True:
        yield parent / (stamp if count == 1 else f"{stamp}_{count}")
        count += 1


def values_of(text: str | None, key: str) -> list[int]:
    """Return the seeds that ``--seeds`` names: 5 stands for 0 to 4, and 0,3,7 for these.

    Raises:
        ConfigError: it names none.
    """
    if text is None:
        return []
    try:
        numbers: Any = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0:
        raise ConfigError(f"{key}: '{text}' given, a number of trainings such as 5 or a list such as 0,3,7 is needed")
    return list(range(numbers[0])) if "," not in text else numbers
