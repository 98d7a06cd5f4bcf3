"""Slopes of classes along concepts' directions: what they come to, whether they could be by chance, table and file."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ibd.metrics.functional.multiple import holm
from ibd.metrics.functional.student import t_probability

LEVEL = 0.05
"""p-value below which a concept counts."""


@dataclass(frozen=True)
class Slopes:
    """What the slopes of images come to: float64, one number for each vector, or stacks of such.

    Attributes:
        score: share of the images with a slope above 0, the TCAV score (Kim et al. 2018); a slope of exactly 0 counts
            half, since it speaks for neither side.
        magnitude: share of the positive slopes in the sum of all absolute ones; 0.5 where all are 0.
        slope: mean slope: what the logit gains when the features move by 1 along the vector.
    """

    score: Tensor
    magnitude: Tensor
    slope: Tensor

    @classmethod
    def of(cls, slopes: Tensor) -> Slopes:
        """Return what (N, R) slopes of N images along R vectors come to."""
        size = slopes.abs().sum(0)
        positive = slopes.clamp(min=0).sum(0)
        score = (slopes > 0).double().mean(0) + (slopes == 0).double().mean(0) / 2
        return cls(score, torch.where(size > 0, positive / size.where(size > 0, 1.0), 0.5), slopes.mean(0))

    @classmethod
    def stack(cls, parts: Sequence[Slopes]) -> Slopes:
        """Return those of several classes, or concepts, along a new first dimension."""
        return cls(*(torch.stack([getattr(part, name) for part in parts]) for name in ("score", "magnitude", "slope")))


@dataclass(frozen=True)
class Tcav:
    """Which classes rest on which concepts, by a layer: K concepts, C classes, R vectors of each.

    Attributes:
        layer: name of the layer.
        concepts: names of the concepts.
        classes: names of the classes.
        images: images of each class.
        own: (K, C, R) along the concepts' vectors.
        center: (K, C) mean slope along random vectors.
        spread: (K, C) standard deviation of it over random sets.
        p_values: (K, C) how likely a random set has a slope as far from the others', corrected by Holm's method for all
            concepts and classes together.
        raw_p_values: the same without a correction.
        published_p_values: of the published test: Welch's of the scores along the concept's vectors against those along
            one of each random set, corrected in the same way. It takes vectors that share their images for independent.
        auroc: (K,) how well the vectors tell images that they were not fitted on, 0.5 by chance: where that is not far
            above, nothing is known of the concept.
        examples: (K,) images on either side that vectors were fitted on.
        left_out: why concepts that were asked about are not here: there are too few images with or without them.
    """

    layer: str
    concepts: tuple[str, ...]
    classes: tuple[str, ...]
    images: tuple[int, ...]
    own: Slopes
    center: Tensor
    spread: Tensor
    p_values: Tensor
    raw_p_values: Tensor
    published_p_values: Tensor
    auroc: Tensor
    examples: tuple[int, ...]
    left_out: tuple[str, ...] = ()

    @property
    def scores(self) -> Tensor:
        """(K, C) TCAV scores, the mean over vectors."""
        return self.own.score.mean(2)

    @property
    def significant(self) -> Tensor:
        """(K, C) whether a class rests on a concept, by a p-value below 0.05."""
        return self.p_values < LEVEL

    def table(self, most: int = 20) -> str:
        """Return the concepts and classes with the smallest p-values as lines of text."""
        order = self.p_values.flatten().argsort(stable=True)[:most].tolist()
        pairs = [divmod(place, len(self.classes)) for place in order]
        wide = max(len("concept"), *(len(self.concepts[k]) for k, _ in pairs))
        named = max(len("class"), *(len(self.classes[c]) for _, c in pairs))
        heads = f"{'score':>6} {'sd':>5} {'magnitude':>9} {'slope':>10} {'p':>8} {'AUROC':>6}"
        lines = [f"{'concept':<{wide}}  {'class':<{named}} {heads}"]
        for k, c in pairs:
            at = (k, c)
            numbers = f"{float(self.scores[at]):>6.2f} {float(self.own.score[at].std()):>5.2f} "
            numbers += f"{float(self.own.magnitude[at].mean()):>9.2f} {float(self.own.slope[at].mean()):>+10.3g} "
            numbers += f"{float(self.p_values[at]):>8.2g} {float(self.auroc[k]):>6.2f}"
            lines.append(f"{self.concepts[k]:<{wide}}  {self.classes[c]:<{named}} {numbers}")
        return "\n".join(lines)

    def __str__(self) -> str:
        """Return the table."""
        return self.table()

    def save_csv(self, path: str | Path) -> None:
        """Write a row for each concept and class."""
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            for k, concept in enumerate(self.concepts):
                for c, name in enumerate(self.classes):
                    writer.writerow([self.layer, concept, name, self.images[c], self.examples[k], *self._numbers(k, c)])

    def _numbers(self, k: int, c: int) -> list[str]:
        own = self.own
        values = [own.score[k, c].mean(), own.score[k, c].std(), own.magnitude[k, c].mean(), own.slope[k, c].mean()]
        values += [part[k, c] for part in (self.center, self.spread, self.p_values, self.raw_p_values)]
        return [f"{float(value):.6g}" for value in (*values, self.published_p_values[k, c], self.auroc[k])]


_COLUMNS = (
    *("layer", "concept", "class", "class_images", "examples", "score", "score_sd", "magnitude", "slope"),
    *("random_slope", "random_sd", "p_value", "raw_p_value", "published_p_value", "held_out_auroc"),
)


def against_random(
    layer: str,
    concepts: Sequence[str],
    classes: Sequence[str],
    images: Sequence[int],
    own: Slopes,
    random: Sequence[Slopes],
    auroc: Sequence[float],
    examples: Sequence[int],
    left_out: Sequence[str] = (),
) -> Tcav:
    """Return the slopes along concepts' vectors with the tests against random ones.

    A concept is one draw, whatever the number of its vectors, which share their images. Its mean slope is held against
    those of the M random sets, each a mean over as many vectors that share theirs: were the concept one more random
    set, ``t = (slope - mean) / (sd sqrt(1 + 1 / M))`` would be Student's with M - 1 degrees of freedom, as far as mean
    slopes are normal.

    Args:
        layer: name of the layer.
        concepts: names of the concepts.
        classes: names of the classes.
        images: images of each class.
        own: (K, C, R) of the concepts' vectors.
        random: for each concept the (M, C, R) of random sets as large as its own.
        auroc: of each concept's vectors.
        examples: on how many images each was fitted.
        left_out: why other concepts are left out.
    """
    means = torch.stack([sets.slope.mean(2) for sets in random], 1)  # (M, K, C)
    center, spread = means.mean(0), means.std(0)
    difference, width = own.slope.mean(2) - center, spread * (1 + 1 / len(means)) ** 0.5
    raw = _probability(difference, width, torch.full_like(width, len(means) - 1))
    scores = torch.stack([sets.score[:, :, 0] for sets in random], 1)
    published = _welch(own.score, scores.permute(1, 2, 0))
    return Tcav(
        layer, tuple(concepts), tuple(classes), tuple(images), own, center, spread,
        p_values=_corrected(raw), raw_p_values=raw, published_p_values=_corrected(published),
        auroc=torch.tensor(auroc, dtype=torch.float64), examples=tuple(examples), left_out=tuple(left_out),
    )  # fmt: skip


def _probability(difference: Tensor, width: Tensor, freedom: Tensor) -> Tensor:
    """Return two-sided p-values; of what does not vary 0 where there is a difference and 1 where there is none."""
    certain = (difference == 0).double()
    t = difference / width.where(width > 0, 1.0)
    return torch.where(width > 0, t_probability(t, freedom), certain)


def _welch(ones: Tensor, others: Tensor) -> Tensor:
    """Return the p-values of Welch's t-test along the last dimension."""
    parts = [values.var(-1) / values.shape[-1] for values in (ones, others)]
    squares = [part.square() / (values.shape[-1] - 1) for part, values in zip(parts, (ones, others), strict=True)]
    total, below = parts[0] + parts[1], squares[0] + squares[1]
    freedom = torch.where(below > 0, total.square() / below.where(below > 0, 1.0), 1.0)
    return _probability(ones.mean(-1) - others.mean(-1), total.sqrt(), freedom)


def _corrected(p_values: Tensor) -> Tensor:
    return torch.tensor(holm(p_values.flatten().tolist()), dtype=torch.float64).view_as(p_values)
