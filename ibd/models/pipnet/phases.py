"""The phases of PIP-Net's training, as options of a config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from ibd.errors import ConfigError, check_range
from ibd.models.phase import check_phase

GROUPS = ("backbone", "add_on", "head")


@dataclass(frozen=True)
class Pretrain:
    """The first epochs, in which prototypes form without any label.

    Args:
        epochs: number of epochs; 0 leaves the phase out.
        align: weight of the alignment at the end of the phase, to which it rises in equal steps.
        tanh: weight of the use of all prototypes.
        rates: group ("backbone", "add_on") -> factor of ``optimizer.lr``; a group that is not named is fixed.
    """

    key: ClassVar[str] = "model.pretrain.epochs"
    epochs: int = 10
    align: float = 1.0
    tanh: float = 5.0
    rates: dict[str, float] = field(default_factory=lambda: {"backbone": 0.1, "add_on": 1.0})

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        check_phase("model.pretrain", self.epochs, self.rates, GROUPS[:2])
        check_range("model.pretrain.align", self.align, least=0)
        check_range("model.pretrain.tanh", self.tanh, least=0)

    def weights(self, epoch: int) -> dict[str, float]:
        """Return the weight of each loss in an epoch, counted from 0."""
        return {"class_loss": 0.0, "align": self.align * (epoch + 1) / max(1, self.epochs), "tanh": self.tanh}


@dataclass(frozen=True)
class Train:
    """The epochs with labels.

    Args:
        epochs: number of epochs, those of `classifier_only` included; 0 leaves the phase out.
        classifier_only: the first of these epochs, in which the classifier alone learns from the class alone.
        align: weight of the alignment.
        tanh: weight of the use of all prototypes.
        classification: weight of the class.
        rates: group ("backbone", "add_on", "head") -> factor of ``optimizer.lr``; a group that is not named is fixed.
    """

    epochs: int = 60
    classifier_only: int = 3
    align: float = 5.0
    tanh: float = 2.0
    classification: float = 2.0
    rates: dict[str, float] = field(default_factory=lambda: {"backbone": 0.1, "add_on": 1.0, "head": 10.0})

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        check_phase("model.train", self.epochs, self.rates, GROUPS)
        for name in ("classifier_only", "align", "tanh", "classification"):
            check_range(f"model.train.{name}", getattr(self, name), least=0)
        if self.classifier_only > self.epochs:
            raise ConfigError(
                f"model.train.classifier_only: {self.classifier_only} given, but the phase has {self.epochs} epochs"
            )
        if self.epochs and not self.rates.get("head"):
            raise ConfigError("model.train.rates: a rate for the 'head' is needed, which nothing else trains")


@dataclass(frozen=True)
class Classifier:
    """The epochs of `Train` in which the classifier learns alone."""

    key: ClassVar[str] = "model.train.epochs"
    train: Train

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return self.train.classifier_only

    @property
    def rates(self) -> Mapping[str, float]:
        """Rate of the head."""
        return {"head": self.train.rates.get("head", 0.0)}

    def weights(self, epoch: int) -> dict[str, float]:
        """Return the weight of each loss."""
        return {"class_loss": self.train.classification, "align": 0.0, "tanh": 0.0}


@dataclass(frozen=True)
class Joint:
    """The epochs of `Train` in which everything learns."""

    key: ClassVar[str] = "model.train.epochs"
    train: Train

    @property
    def epochs(self) -> int:
        """Number of epochs."""
        return self.train.epochs - self.train.classifier_only

    @property
    def rates(self) -> Mapping[str, float]:
        """Rates as given."""
        return self.train.rates

    def weights(self, epoch: int) -> dict[str, float]:
        """Return the weight of each loss."""
        return {"class_loss": self.train.classification, "align": self.train.align, "tanh": self.train.tanh}
