"""What is known of how sure a trained model may be called, as plain values beside its weights.

It is for reading alone: what a network decides by, and hands from its units to its classes, stays as it was trained.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ibd.errors import CheckpointError
from ibd.models.base import InterpretableNetwork
from ibd.models.calibration.conformal import SetRule
from ibd.models.calibration.scaling import Scaling
from ibd.models.cbm.concepts import ConceptNetwork
from ibd.types import Units

_CERTAIN = 36.0
"""The largest log-odds that float64 tells from certainty."""


@dataclass(frozen=True)
class Abstention:
    """Below which confidence there is no answer.

    Attributes:
        threshold: lowest probability of the predicted class with which it is answered; 0 answers always.
        accuracy: wanted accuracy of the answers.
        certainty: probability with which new images, drawn alike, have that accuracy; None where only the images that
            the threshold was chosen on are known to have it.
        images: images that it was chosen on.
        kept: number of these that are answered.
        right: number of these that are answered right.
    """

    threshold: float
    accuracy: float
    certainty: float | None
    images: int
    kept: int
    right: int


@dataclass(frozen=True)
class Calibration:
    """Scales of probabilities, a rule for sets of classes, and a threshold to abstain below.

    Attributes:
        split: split that it was chosen on.
        apart: whether sets and threshold were chosen on other images of it than the scales.
        weights: checksum of the weights that it is of.
        classes: scaling of the class scores, see `class_scores`.
        concepts: scaling of the concepts' log-odds; None where the units are no truth values, or no truth is known.
        sets: rule for sets of classes, or None.
        abstention: when not to answer, or None.
    """

    split: str
    apart: bool
    weights: int
    classes: Scaling
    concepts: Scaling | None = None
    sets: SetRule | None = None
    abstention: Abstention | None = None

    def scaled(self, network: InterpretableNetwork, logits: Tensor) -> Tensor:
        """Return (B, C) numbers whose softmax are the calibrated probabilities, in float64."""
        return self.classes(class_scores(network, logits))

    def probabilities(self, network: InterpretableNetwork, logits: Tensor) -> Tensor:
        """Return the calibrated class probabilities of (B, C) logits, in float64."""
        return self.scaled(network, logits).softmax(1)

    def values(self, network: InterpretableNetwork, units: Units) -> Tensor:
        """Return what a person reads of the units, (B, U): of truth values the calibrated probabilities."""
        if self.concepts is None or self.concepts.method == "none":
            return network.readable(units)
        probability = self.concepts(log_odds(network, units)).sigmoid().to(units.scores.device, units.scores.dtype)
        return torch.where(truth_units(network).to(probability.device), probability, network.readable(units))

    def abstains(self, network: InterpretableNetwork, logits: Tensor) -> Tensor:
        """Return for which (B, C) logits there is no answer, (B,) bool: those of the network's own, and the unsure."""
        silent = network.abstains(logits)
        if self.abstention is None:
            return silent
        return silent | (self.confidence(network, logits) < self.abstention.threshold).to(silent.device)

    def confidence(self, network: InterpretableNetwork, logits: Tensor) -> Tensor:
        """Return the calibrated probability of the most probable class, (B,), in float64."""
        return self.probabilities(network, logits).amax(1)

    def draw(self, count: int) -> Tensor | None:
        """Return random numbers for the sets of so many images, (count,), of torch's generator; None without need."""
        return torch.rand(count, dtype=torch.float64) if self.sets is not None and self.sets.randomized else None

    def to_dict(self) -> dict[str, Any]:
        """Return it as dicts, lists, strings and numbers only."""
        return {key: _plain(value) for key, value in vars(self).items()}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any], classes: int, units: int) -> Calibration:
        """Return what `to_dict` has returned, of a network with so many classes and units.

        Raises:
            CheckpointError: it has not.
        """
        try:
            parts = {key: _rebuilt(kind, plain[key]) for key, kind in _PARTS.items()}
            found = cls(**{**plain, **parts})
            _check(found, classes, units)
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            reason = " ".join(str(error).split())[:120] or type(error).__name__
            raise CheckpointError(f"its calibration is damaged ({reason})") from None
        return found


_PARTS = {"classes": Scaling, "concepts": Scaling, "sets": SetRule, "abstention": Abstention}


def _plain(value: Any) -> Any:
    if not dataclasses.is_dataclass(value):
        return value
    fields = vars(value).items()
    return {key: list(item) if isinstance(item, tuple) else item for key, item in fields}


def _rebuilt(kind: type[Any], plain: Mapping[str, Any] | None) -> Any:
    if plain is None:
        return None
    return kind(**{key: tuple(item) if isinstance(item, list) else item for key, item in plain.items()})


def _check(found: Calibration, classes: int, units: int) -> None:
    """Look at values that anybody may have written.

    Raises:
        ValueError: one is of another type or length than was written, or no finite number.
    """
    for what, scaling, count in (("classes", found.classes, classes), ("concepts", found.concepts, units)):
        if scaling is not None:
            _check_numbers(what, scaling.scale, (1, count))
            _check_numbers(what, scaling.offset, (0, count))
    if found.classes is None or (found.concepts is not None and min(found.concepts.scale) <= 0):
        raise ValueError("a scale is missing, or not above 0")
    if min(found.classes.scale) <= 0:
        raise ValueError("a scale is not above 0")
    if found.sets is not None:
        _check_numbers("sets", found.sets.thresholds, (1, classes))
        _check_numbers("sets", (found.sets.coverage, found.sets.penalty, found.sets.free), (3,))
        if found.sets.score not in ("lac", "aps", "raps"):
            raise ValueError(f"sets: {found.sets.score!r:.20} is no score")
    if found.abstention is not None:
        certainty = () if found.abstention.certainty is None else (found.abstention.certainty,)
        _check_numbers("abstention", (found.abstention.threshold, found.abstention.accuracy, *certainty), (2, 3))


def _check_numbers(what: str, values: Any, lengths: tuple[int, ...]) -> None:
    numbers = isinstance(values, tuple) and all(
        isinstance(value, int | float) and abs(value) < float("inf") for value in values
    )
    if not numbers or len(values) not in lengths:
        raise ValueError(f"{what}: {values!r:.60} is not {' or '.join(map(str, lengths))} finite numbers")


def class_scores(network: InterpretableNetwork, logits: Tensor) -> Tensor:
    """Return (B, C) numbers whose softmax are the network's own class probabilities, in float64.

    They are the logits, unless the network makes probabilities by a rule of its own.
    """
    logits = _exact(logits)
    if type(network).class_probabilities is InterpretableNetwork.class_probabilities:
        return logits
    return network.class_probabilities(logits).clamp(min=1e-300).log()


def _exact(value: Tensor) -> Tensor:
    """Return it in float64, on the CPU where the device has none (mps).

    Not by `ibd.metrics`, whose import takes longer than an image takes to predict.
    """
    return value.cpu().double() if value.device.type == "mps" else value.double()


def log_odds(network: InterpretableNetwork, units: Units) -> Tensor:
    """Return ``log(p / (1 - p))`` of the network's own probabilities of its truth values, (B, U) in float64.

    0 for other units, see `truth_units`, which have none.
    """
    exact = dataclasses.replace(units, scores=_exact(units.scores))  # truth values are read by the scores alone
    values = network.readable(exact)
    values = values.masked_fill(~truth_units(network).to(values.device), 0.5)
    return values.logit().clamp(-_CERTAIN, _CERTAIN)


def known_truth(network: InterpretableNetwork, concepts: Tensor) -> Tensor | None:
    """Return which units are known to be true or false, (N, U), by the (N, K) concepts of the data.

    NaN where that is not known, and for units that are neither. None where units are not the concepts of the data.
    """
    known = known_values(network, concepts)
    return None if known is None else known.masked_fill(~truth_units(network).to(known.device), torch.nan)


def known_values(network: InterpretableNetwork, concepts: Tensor) -> Tensor | None:
    """Return what is known of the units, (N, U), by the (N, K) concepts of the data; quantities are in their units.

    NaN where that is not known, and for units without a name. None where units are not the concepts of the data.
    """
    if not network.truth_values:
        return None
    if isinstance(network, ConceptNetwork):
        concepts = network.labelled(concepts)  # those of a post-hoc bottleneck may be some of them, in another order
        unnamed = len(network.unit_names) - network.concept_count
        concepts = torch.cat([concepts, concepts.new_full((len(concepts), unnamed), torch.nan)], 1)
    return concepts if concepts.shape[1:] == (len(network.unit_names),) else None


def truth_units(network: InterpretableNetwork) -> Tensor:
    """Return which units of a network with truth values have one, (U,) bool: not quantities, nor what has no name."""
    numbers = torch.tensor([unit in network.quantities for unit in range(len(network.unit_names))])
    return network.named_units().cpu() & ~numbers


def checksum(network: nn.Module) -> int:
    """Return a number that changes with any weight or statistic of a network."""
    total = 0
    for name, value in sorted(network.state_dict().items()):
        plain = value.detach().cpu().contiguous().view(-1).view(torch.uint8)
        total = zlib.crc32(plain.numpy().tobytes(), zlib.crc32(name.encode(), total))
    return total
