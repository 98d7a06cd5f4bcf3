"""The options of a comparison: of `ibd.compare`, of ``ibd compare`` on the command line, and of its files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from ibd.comparison.foreign import names_of
from ibd.data.base import SPLITS, Split
from ibd.errors import ConfigError, check_range


@dataclass(frozen=True)
class CompareOptions:
    """What is compared, on which images; see `ibd.compare`.

    Attributes:
        runs: run folders, checkpoints, or what ``ibd.fit`` returned.
        models: name -> network of anybody's.
        data: images that these networks are asked about.
        preprocess: what is done to images before them.
        label: which of several labels of an image is asked about.
        contrast: of pasted pictures a run, or a network, that was trained on the other labels.
        explainers: registered names, or blocks of a name and options, with a `label` where one comes twice.
        metrics: names of metrics, or of groups of them.
        images: number of images, as many of each class as can be.
        split: the split that they are taken from.
        seed: seed of the choice of images and of all random numbers.
        probe_images: number of images that are explained again and again, for robustness and sanity.
        shown: number of images of a model that the report may draw, up to a third of which it gets wrong.
        output: folder of the report and of finished pieces.
        overrides: changes to the data of the runs, ``data.key=value``.
        progress: whether to show bars.
        device: device for the models: auto, cpu, cuda, ...
    """

    runs: Sequence[Any] = field(default_factory=list)
    explainers: Sequence[Any] | None = None
    metrics: Sequence[str] | None = None
    images: int = 64
    split: Split = "test"
    seed: int = 0
    probe_images: int = 8
    shown: int = 24
    output: str | Path | None = None
    overrides: Sequence[str] = ()
    progress: bool = True
    device: str = "auto"
    models: Mapping[str, Any] | None = None
    data: Any = None
    preprocess: Any = None
    label: int | str | None = None
    contrast: Any = None

    def check(self) -> None:
        """Find what cannot be, before anything is read.

        Raises:
            ConfigError: a number that is too small, an unknown split, or no list of runs.
        """
        if isinstance(self.runs, str | Path):
            raise ConfigError(f"compare: runs: '{self.runs}' given, a list of runs is needed")
        self._check_models()
        check_range("compare: images", self.images, least=1)
        check_range("compare: probe_images", self.probe_images, least=1)
        check_range("compare: shown", self.shown, least=0)
        check_range("compare: seed", self.seed, least=0)
        if self.split not in SPLITS:
            raise ConfigError(f"compare: split: '{self.split}' is not one of {', '.join(SPLITS)}")

    def _check_models(self) -> None:
        """Find networks that are not given as networks are, and data that nobody asks about."""
        for run in self.runs:
            if isinstance(run, nn.Module):
                raise ConfigError(
                    f"compare: runs: a {type(run).__name__} given; a network is given by name, with its data: "
                    "compare(models={'mine': network}, data=..., preprocess='imagenet')"
                )
        count = len(names_of(self.models))
        if not self.runs and not count:
            raise ConfigError("compare: at least one run is needed")
        if count and not self.runs and self.data is None:
            raise ConfigError("compare: data: images that the models are asked about are needed, such as a folder")
        if self.data is not None and self.runs:
            raise ConfigError(
                "compare: data: the runs say which images; changes to it are overrides, such as data.root=FOLDER"
            )
