"""Where the concepts of a post-hoc bottleneck come from: labelled examples, or a file of directions."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ibd.data.coverage import listed
from ibd.errors import ConfigError, DataError
from ibd.explain.cav import FEWEST, Fit, fit_directions
from ibd.explain.directions import Directions
from ibd.models.posthoc_cbm.reading import Seen

_log = logging.getLogger(__name__)

_SMALL = 1e-3
"""Least slope of a calibration, in log odds by a deviation of the distance: a plane that tells nothing is no 0."""


@dataclass(frozen=True)
class Concepts:
    """Directions of the features that are concepts.

    Attributes:
        names: K names.
        vectors: (K, D).
        offsets: (K,).
        units: what `ibd.models.posthoc_cbm.network.PosthocNetwork` must know of them beside.
    """

    names: list[str]
    vectors: Tensor
    offsets: Tensor
    units: dict[str, Any]

    def chosen(self, keep: Tensor) -> Concepts:
        """Return some of them, by a (K,) bool."""
        names = [name for name, kept in zip(self.names, keep.tolist(), strict=True) if kept]
        units = dict(self.units)
        if units.get("active") is not None:
            units["active"] = min(units["active"], len(names))  # of fewer than may be active, all may
        return Concepts(names, self.vectors[keep], self.offsets[keep], units)


def load(path: str, channels: int) -> Concepts:
    """Return the concepts of a file of directions.

    Args:
        path: file that `ibd.explain.directions.Directions.save` wrote.
        channels: D, of the backbone's features.

    Raises:
        ConfigError: they are of another layer, or of another width.
        DataError: it is no such file.
    """
    found = Directions.load(path)
    if found.layer:
        raise ConfigError(
            f"model.concepts: the directions of '{path}' are of {found.place}, and a bottleneck reads the backbone's "
            "features: find them there, without a layer"
        )
    if found.vectors.shape[1] != channels:
        raise ConfigError(
            f"model.concepts: the directions of '{path}' are of {found.vectors.shape[1]} channels, the backbone has "
            f"{channels}: they were found on another network"
        )
    units = {"reading": found.reading, "active": found.details.get("active")}
    return Concepts(list(found.names), found.vectors, found.offsets, units)


def from_labels(train: Seen, val: Seen, names: list[str], fit: Fit) -> Concepts:
    """Return calibrated planes between labelled examples: their signed distance is the log odds of the concept.

    The slope and the offset of the log odds are fitted to the validation images (Platt 1999), or to the training images
    where a concept is not both present and absent there.

    Args:
        train: training images, of which some are the examples.
        val: validation images.
        names: names of the K concepts of the data.
        fit: how planes are fitted.

    Raises:
        DataError: there are too few examples of every concept.
    """
    counts = torch.minimum((train.concepts > 0.5).sum(0), (train.concepts < 0.5).sum(0))
    keep = (counts >= FEWEST).nonzero().flatten().tolist()
    few = [name for k, name in enumerate(names) if k not in keep]
    if not keep:
        raise DataError(f"model.concepts: no concept has {FEWEST} training images with it and as many without it")
    if few:
        _log.warning("without concepts of which fewer than %d examples are on one side: %s", FEWEST, listed(few))
    planes = fit_directions(train.features, train.concepts[:, keep], [names[k] for k in keep], fit)
    vectors, offsets = planes.vectors.double(), planes.offsets.double()
    slopes, shifts = [], []
    for place, k in enumerate(keep):
        known = next(seen for seen in (val, train) if _both(seen.concepts[:, k]))
        distance = known.features.double() @ vectors[place] + offsets[place]
        slope, shift = calibrated(distance, known.concepts[:, k])
        slopes.append(slope)
        shifts.append(shift)
    steep = torch.tensor(slopes, dtype=torch.float64)
    ends = offsets * steep + torch.tensor(shifts, dtype=torch.float64)
    return Concepts(list(planes.names), vectors * steep[:, None], ends, {"truth": True})


def _both(truth: Tensor) -> bool:
    return bool((truth > 0.5).any() & (truth < 0.5).any())


def calibrated(distance: Tensor, truth: Tensor) -> tuple[float, float]:
    """Return the slope, above 0, and the offset with which distances are log odds of the truth.

    Args:
        distance: (N,) float64.
        truth: (N,) a concept holds above 0.5, not below; others are left out.
    """
    from sklearn.linear_model import LogisticRegression

    known = (truth - 0.5).abs() > 0
    x, holds = distance[known], truth[known] > 0.5
    scale = float(x.std(correction=0)) or 1.0
    found = LogisticRegression(C=100.0).fit((x / scale).unsqueeze(1).numpy(), holds.numpy())
    slope = max(float(found.coef_[0, 0]), _SMALL)
    return slope / scale, float(found.intercept_[0])


def without_constants(concepts: Concepts, scores: Tensor) -> tuple[Concepts, Tensor]:
    """Leave out the concepts that are the same for all training images, and say so.

    Args:
        concepts: K concepts.
        scores: (N, K) their activations.

    Returns:
        The others, and which they are, (K,) bool.

    Raises:
        DataError: all of them are.
    """
    spread = scores.amax(0) - scores.amin(0)
    keep = spread > 1e-6 * scores.abs().amax(0).clamp(min=1e-30)
    names = [name for name, kept in zip(concepts.names, keep.tolist(), strict=True) if not kept]
    if not bool(keep.any()):
        raise DataError(f"model.concepts: every concept is the same for all training images: {listed(names)}")
    if names:
        _log.warning("without concepts that are the same for all training images: %s", listed(names))
    return concepts.chosen(keep), keep


def standardized(concepts: Concepts, scores: Tensor) -> Concepts:
    """Return linear readings in deviations from their mean over the training images; others as they are.

    Args:
        concepts: K concepts.
        scores: (N, K) their activations.
    """
    if concepts.units.get("reading", "linear") != "linear" or concepts.units.get("truth"):
        return concepts
    mean, deviation = scores.double().mean(0), scores.double().std(0, correction=0)
    vectors = concepts.vectors.double() / deviation[:, None]
    return Concepts(concepts.names, vectors, (concepts.offsets.double() - mean) / deviation, concepts.units)
