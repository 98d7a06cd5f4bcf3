"""The concept labels of scenes: what can be seen, with the imperfections of a human annotator on request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import torch
from torch import Tensor

from ibd.data.base import Split
from ibd.data.toybirds.parts import PARTS
from ibd.data.toybirds.presets import one_of, within
from ibd.data.toybirds.render import visible_fraction
from ibd.data.toybirds.sampling import Draws
from ibd.data.toybirds.scene import Scene
from ibd.data.toybirds.vocabulary import Absent, Concepts, annotate, concept_names, part_of
from ibd.types import groups_of


@dataclass(frozen=True)
class Annotator:
    """How scenes are turned into concept labels.

    Attributes:
        kind: vocabulary of the concepts.
        parts: the parts that have concepts.
        absent: value of the concepts of a removed or hidden part: "zero", or "ignore" for NaN.
        min_visible: a part of which a smaller share can be seen counts as hidden.
        noise: probability, in training, that a group says another of its values.
        missing: probability, in training, that a concept is NaN.

    Raises:
        ConfigError: a value is out of its range.
    """

    kind: Concepts
    parts: tuple[str, ...]
    absent: Absent = "zero"
    min_visible: float = 0.2
    noise: float = 0.0
    missing: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        one_of("concepts", self.kind, get_args(Concepts))
        one_of("absent", self.absent, get_args(Absent))
        within("min_visible", self.min_visible, 0, 1)
        within("concept_noise", self.noise, 0, 1)
        within("concept_missing", self.missing, 0, 1)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the K concepts."""
        return concept_names(self.kind, self.parts)

    @property
    def concept_parts(self) -> Tensor:
        """(K,) int64, for each concept the position of its part in `PARTS`."""
        return torch.tensor([PARTS.index(part_of(name)) for name in self.names], dtype=torch.int64)

    @property
    def absent_value(self) -> float:
        """What a concept of a part that cannot be seen is labeled."""
        return float("nan") if self.absent == "ignore" else 0.0

    def __call__(self, scenes: list[Scene], split: Split, seed: int) -> Tensor:
        """Return the (N, K) labels of the scenes of a split; noise and gaps are in the training split alone."""
        names, groups = self.names, list(groups_of(self.names).values())
        rows = []
        for i, scene in enumerate(scenes):
            row = annotate(names, self.kind, scene.parts, self.absent, self._hidden(scene))
            if split == "train" and (self.noise or self.missing):
                row = self._spoilt(row, groups, Draws(seed, split, i, "concepts"))
            rows.append(row)
        return torch.tensor(rows, dtype=torch.float32).reshape(len(scenes), len(names))

    def _hidden(self, scene: Scene) -> list[str]:
        if not scene.occluders:  # the pose keeps the bird within the image
            return []
        return [part for part, share in visible_fraction(scene).items() if share < self.min_visible]

    def _spoilt(self, row: list[float], groups: list[tuple[int, ...]], draws: Draws) -> list[float]:
        for group in groups:
            true = [k for k in group if row[k] == 1.0]
            wrong = draws.choice([k for k in group if k not in true])
            if draws.chance(self.noise) and true:
                row[true[0]], row[wrong] = 0.0, 1.0
        return [float("nan") if draws.chance(self.missing) else value for value in row]
