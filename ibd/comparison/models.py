"""The models that are compared: their runs, names, and that they were trained on the same images."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ibd import registry
from ibd.comparison.devices import chosen_device
from ibd.comparison.results import ModelInfo
from ibd.comparison.same_data import check_same_data
from ibd.config import load_saved_config
from ibd.data.base import ImageDataModule, Split
from ibd.errors import ConfigError
from ibd.explain.activations import network_of
from ibd.explain.targets import logits_of
from ibd.io import find_checkpoint, find_run, load_run
from ibd.models.base import evaluating
from ibd.models.foreign import ForeignModel
from ibd.models.lightning import InterpretableModule


@dataclass(frozen=True)
class ComparedModel:
    """A model that is compared.

    Attributes:
        info: name, family, accuracy, ... of the model.
        module: the trained Lightning module, or a network of anybody's as a `ForeignModel`, in evaluation mode.
        data: data that the model is asked about.
        trained_on: training data of the model, whatever it is asked about.
        fingerprint: fingerprint of its checkpoint: changes where any weight does.
        asked: fingerprint of the split that it is asked about, as far as it is looked at.
    """

    info: ModelInfo
    module: Any
    data: ImageDataModule
    trained_on: ImageDataModule
    fingerprint: str
    asked: str = ""

    @property
    def foreign(self) -> bool:
        """Whether it accounts for itself in no way that is known here."""
        return isinstance(self.module, ForeignModel)


def load_models(
    runs: Sequence[Any], split: Split, overrides: Sequence[str] = (), device: str = "auto"
) -> list[ComparedModel]:
    """Return the models of runs, all trained on the same images.

    Args:
        runs: run folders, checkpoints, or what ``ibd.fit`` returned.
        split: split that is to have the same images.
        overrides: ``data.key=value`` changes to the data of every run.
        device: device for the models: "auto" is the first CUDA device where there is one, else the CPU.

    Raises:
        CheckpointError: a run has no checkpoint, or none that can be read.
        ConfigError: a run given twice, or runs on different data.
    """
    place = chosen_device(device)
    asked = ", ".join(check_same_data([getattr(run, "folder", run) for run in runs], split, overrides).values())
    models = [_load(getattr(run, "folder", run), overrides, place) for run in runs]
    twice = [name for name, count in Counter(model.fingerprint for model in models).items() if count > 1]
    if twice:
        run = next(model.info.run for model in models if model.fingerprint == twice[0])
        raise ConfigError(f"compare: '{run}' is given twice")
    infos = _by_backbone([model.info for model in models])
    return [replace(model, info=info, asked=asked) for model, info in zip(models, infos, strict=True)]


def named(models: Sequence[ComparedModel]) -> list[ComparedModel]:
    """Return models, each with a name of its own.

    Raises:
        ConfigError: models of runs and of Python go by one name.
    """
    kinds = {(model.info.family, model.foreign) for model in models}
    for family, count in Counter(family for family, _ in kinds).items():
        if count > 1:
            raise ConfigError(f"compare: models: '{family}' is the name of a run's model, too: give another name")
    infos = _named([model.info for model in models])
    return [replace(model, info=info) for model, info in zip(models, infos, strict=True)]


@dataclass(frozen=True)
class Accuracy:
    """How many images of a split are classified rightly.

    Attributes:
        share: share of them, 0 to 1.
        images: images of the split.
        majority: share of the most frequent class.
    """

    share: float
    images: int
    majority: float


def accuracy(module: nn.Module, data: ImageDataModule, split: Split) -> Accuracy:
    """Return how many of a split's images are classified rightly."""
    right, counts = 0, torch.zeros(len(data.spec.class_names), dtype=torch.int64)
    network = network_of(module)
    device = next((parameter.device for parameter in module.parameters()), torch.device("cpu"))
    with evaluating(module), torch.inference_mode():
        for batch in data.loader(split):
            kept = batch.index >= 0
            logits = logits_of(network(batch.image[kept].to(device)))
            right += int((logits.argmax(1).cpu() == batch.label[kept]).sum())
            counts += batch.label[kept].bincount(minlength=len(counts))
    total = int(counts.sum())
    return Accuracy(right / total if total else float("nan"), total, float(counts.max()) / max(1, total))


def _load(run: str | Path, overrides: Sequence[str], device: torch.device) -> ComparedModel:
    module, data = load_run(run, *overrides)
    path = find_checkpoint(run)
    family = registry.name_of("models", type(module))
    network: nn.Module = module.network
    fingerprint = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    info = ModelInfo(
        name=family,
        family=family,
        run=str(find_run(run)),
        seed=_seed(find_run(run)),
        accuracy=float("nan"),
        unit_kind=str(network.unit_kind),
        backbone=_backbone(module),
        checkpoint=fingerprint,
    )
    trained_on = load_run(run)[1] if overrides else data
    return ComparedModel(info, module.eval().to(device), data, trained_on, fingerprint)


def _seed(folder: Path) -> int:
    """Return the seed that a run was trained with."""
    return int(load_saved_config(folder / "config.yaml").seed)


def _backbone(module: InterpretableModule) -> str:
    block = dict(module.hparams.get("backbone") or {})
    name = block.pop("name", "")
    plain = {key: value for key, value in block.items() if isinstance(value, int | float) and key != "pretrained"}
    return " ".join([str(name), *(f"{key} {value}" for key, value in plain.items())])


def _by_backbone(infos: Sequence[ModelInfo]) -> list[ModelInfo]:
    """Make models of one kind on different backbones families of their own: they are no seeds of each other.

    They are called by the name of the backbone, and where several have one of that name by its options, too.
    """
    bodies: dict[str, set[str]] = {}
    for info in infos:
        bodies.setdefault(info.family, set()).add(info.backbone)
    named = []
    for info in infos:
        others = bodies[info.family]
        short = info.backbone.partition(" ")[0]
        alone = sum(other.partition(" ")[0] == short for other in others) == 1
        body = short if alone else info.backbone.replace(" ", "_")
        named.append(replace(info, family=f"{info.family}-{body}") if len(others) > 1 else info)
    return named


def _named(infos: Sequence[ModelInfo]) -> list[ModelInfo]:
    """Give each a name of its own: the family, and the seed, or a number, where there are several of it."""
    families = Counter(info.family for info in infos)
    seeds = Counter((info.family, info.seed) for info in infos)
    met: Counter[str] = Counter()
    named = []
    for info in infos:
        met[info.family] += 1
        several, same_seed = families[info.family] > 1, seeds[info.family, info.seed] > 1
        suffix = f" {met[info.family]}" if same_seed else f" seed {info.seed}"
        named.append(replace(info, name=info.family + (suffix if several else "")))
    return named
