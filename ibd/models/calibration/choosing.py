"""What to choose a calibration by, and the choice, from the outputs of one pass over a split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ibd.errors import ConfigError, UnsupportedError
from ibd.models.base import InterpretableNetwork
from ibd.models.calibration.abstention import choose_threshold
from ibd.models.calibration.calibration import Abstention, Calibration, checksum, class_scores, known_truth, log_odds
from ibd.models.calibration.conformal import Score, SetRule, choose_sets
from ibd.models.calibration.reading import ReadOutputs
from ibd.models.calibration.scaling import Method, Scaling, fit_classes, fit_concepts
from ibd.types import Units


@dataclass(frozen=True)
class Choices:
    """How a calibration is to be chosen.

    Attributes:
        method: scaling of the class scores: "temperature" (one number, the classes stay as predicted), "vector" (a
            scale and an offset for each class, which may change them), or "none".
        concept_method: scaling of the concepts; by default as `method`.
        coverage: probability with which sets of classes hold the true one, in (0, 1); null chooses no sets.
        score: score of a class in an image: "lac", "aps" or "raps", see `SetRule`.
        randomized: whether sets are randomized, so that coverage is met exactly and not exceeded.
        per_class: whether coverage is to hold for each class.
        accuracy: wanted accuracy of the answers, in (0, 1]: where the model is less sure it abstains; null never does.
        certainty: probability with which new images have that accuracy, in (0, 1); null only asks for it on the images
            that the threshold is chosen on, and promises nothing for others.
        split: images to choose by, "val", or "train" of data that the model was not trained on.
        fit_share: share of these that the scales are fitted on; the others choose sets and threshold. 1 takes all
            images for both, and sets then hold the true class with about the coverage.
        seed: seed of which images are which, and of randomized sets.
    """

    method: Method = "temperature"
    concept_method: Method | None = None
    coverage: float | None = 0.9
    score: Score = "lac"
    randomized: bool = False
    per_class: bool = False
    accuracy: float | None = None
    certainty: float | None = 0.9
    split: Literal["val", "train"] = "val"
    fit_share: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what does not go together.

        Raises:
            ConfigError: a number outside of its range, or an option without what it belongs to.
        """
        for key, share in (("coverage", self.coverage), ("certainty", self.certainty)):
            if share is not None and not 0 < share < 1:
                raise ConfigError(f"{key}: {share:g} given, a number between 0 and 1 is needed, such as 0.9")
        if self.accuracy is not None and not 0 < self.accuracy <= 1:
            raise ConfigError(
                f"accuracy: {self.accuracy:g} given, a number above 0 and up to 1 is needed, such as 0.95"
            )
        if not 0 < self.fit_share <= 1:
            raise ConfigError(f"fit_share: {self.fit_share:g} given, a number above 0 and up to 1 is needed")
        if self.certainty is not None and self.accuracy == 1:
            raise ConfigError("accuracy: 1 given, which is never certain: less is needed, or certainty=null")
        if self.randomized and self.score == "lac":
            raise ConfigError("randomized: sets by score 'lac' have no randomness: score=aps or score=raps is needed")
        if self.split == "test":  # type: ignore[comparison-overlap]  # what the command line has not checked
            raise ConfigError(NEVER_ON_TEST)
        if self.split not in ("val", "train"):
            raise ConfigError(f"split: '{self.split}' given, val or train is needed")

    @property
    def nothing(self) -> bool:
        """Whether nothing is asked for."""
        asked = (self.coverage, self.accuracy) != (None, None)
        return not asked and self.method == "none" and self.concept_method in (None, "none")


NEVER_ON_TEST = (
    "split: 'test' given: what is chosen on test images says nothing about them any more; choose by val, or by train "
    "of other data (data.root=FOLDER)"
)


@torch.no_grad()
def choose(network: InterpretableNetwork, read: ReadOutputs, choices: Choices) -> Calibration:
    """Return the calibration of a network by what it put out for a split.

    Raises:
        DataError: too few images for what is wanted, or no threshold that has the wanted accuracy.
        UnsupportedError: concepts are to be calibrated that the network has not.
    """
    fits, rest = _shared_out(len(read.labels), choices)
    scores = class_scores(network, read.logits)
    classes = fit_classes(scores[fits], read.labels[fits], choices.method)
    concepts = _concepts(network, read, fits, choices)
    apart = choices.fit_share < 1 or choices.method == "none"
    found = Calibration(choices.split, apart, checksum(network), classes, concepts)
    logits, labels = read.logits[rest], read.labels[rest]
    return replace(
        found,
        sets=_sets(network, found.probabilities(network, logits), labels, choices),
        abstention=_abstention(network, found, logits, labels, choices),
    )


def _shared_out(count: int, choices: Choices) -> tuple[Tensor, Tensor]:
    """Return the indices of the images that fit the scales, and of those that choose sets and threshold."""
    everything = torch.arange(count)
    if choices.fit_share == 1 or (choices.coverage, choices.accuracy) == (None, None):
        return everything, everything
    if choices.method == "none":  # the probabilities are the network's own, and no image has been used for them
        return everything, everything
    order = torch.randperm(count, generator=torch.Generator().manual_seed(choices.seed))
    fitting = max(1, round(choices.fit_share * count))
    return order[:fitting].sort().values, order[fitting:].sort().values


def _concepts(network: InterpretableNetwork, read: ReadOutputs, fits: Tensor, choices: Choices) -> Scaling | None:
    method = choices.method if choices.concept_method is None else choices.concept_method
    truth = known_truth(network, read.concepts[fits])
    if truth is None or bool(truth.isnan().all()):
        if choices.concept_method not in (None, "none"):
            neither = "the units of this model are not true or false"
            raise UnsupportedError(
                f"concept_method: '{choices.concept_method}' given, but "
                + (neither if truth is None else "no concept of the images is known")
            )
        return None
    scores = read.scores[fits]
    units = Units(scores, scores.new_zeros(*scores.shape, 1, 1))
    return fit_concepts(log_odds(network, units), truth, method)


def _sets(network: InterpretableNetwork, probabilities: Tensor, labels: Tensor, choices: Choices) -> SetRule | None:
    if choices.coverage is None:
        return None
    draws = torch.rand(len(labels), generator=torch.Generator().manual_seed(choices.seed), dtype=torch.float64)
    return choose_sets(
        probabilities,
        labels,
        choices.coverage,
        choices.score,
        choices.randomized,
        choices.per_class,
        draws,
        tuple(network.class_names),
    )


def _abstention(
    network: InterpretableNetwork, found: Calibration, logits: Tensor, labels: Tensor, choices: Choices
) -> Abstention | None:
    if choices.accuracy is None:
        return None
    confidence = found.confidence(network, logits).masked_fill(network.abstains(logits), -1.0)
    right = found.scaled(network, logits).argmax(1) == labels
    return choose_threshold(confidence, right, choices.accuracy, choices.certainty)
