"""The options of a run that belong to neither the model nor the data. Their fields are the config's schema."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ibd import registry
from ibd.errors import ConfigError, check_once, check_range


@dataclass(frozen=True)
class LoggerSettings:
    """Where a run is logged. ``metrics.csv`` in the run folder is always written.

    Args:
        name: "wandb", or "csv" for the run folder alone.
        mode: mode of W&B: "auto" is online where an account is configured and offline otherwise; it never asks. "off"
            is short for "disabled".
        project: W&B project.
        entity: W&B user or team; null takes the account's default.
        tags: W&B tags.
        log_model: whether to upload checkpoints as W&B artifacts.
        figures_every: epochs between figures of a few validation images; 0 draws none.
        figure_images: number of images in these figures.
        explainers: explainers that are asked about these images too, see `ibd list explainers`; a picture for each
            figure.
    """

    name: Literal["wandb", "csv"] = "wandb"
    mode: Literal["auto", "online", "offline", "disabled", "off"] = "auto"
    project: str = "ibd"
    entity: str | None = None
    tags: list[str] | None = None
    log_model: bool = False
    figures_every: int = 5
    figure_images: int = 4
    explainers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        check_range("logger.figures_every", self.figures_every, least=0)
        check_range("logger.figure_images", self.figure_images, least=0)
        check_once("logger.explainers", self.explainers)
        for name in self.explainers:
            registry.locate("explainers", name)


@dataclass(frozen=True)
class CheckpointSettings:
    """Which checkpoints are kept: always the last epoch's, and the best one.

    Args:
        monitor: logged metric that picks the best checkpoint; null takes the model's own (accuracy, or the AUROC of
            the concepts where these are trained alone). Of epochs that are equal in it the one with the smallest loss
            is the best, then the latest.
        mode: "max" or "min" of that metric; null takes the model's own.
        every_n_epochs: epochs between checkpoints.
    """

    monitor: str | None = None
    mode: Literal["min", "max"] | None = None
    every_n_epochs: int = 1

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        check_range("checkpoint.every_n_epochs", self.every_n_epochs, least=1)
        if self.monitor is not None and self.mode is None:
            raise ConfigError(f"checkpoint.mode: 'min' or 'max' is needed beside checkpoint.monitor '{self.monitor}'")


@dataclass(frozen=True)
class EarlyStoppingSettings:
    """When to stop before the last epoch.

    Args:
        patience: epochs without improvement, of those in which the classes are learned.
        min_delta: change that counts as improvement; 0 takes any, and a smaller loss where the metric stays the same.
        monitor: logged metric to watch; null takes that of the best checkpoint.
        mode: "max" or "min" of that metric.
    """

    patience: int = 10
    min_delta: float = 0.0
    monitor: str | None = None
    mode: Literal["min", "max"] | None = None

    def __post_init__(self) -> None:
        """Check what the types cannot say."""
        check_range("early_stopping.patience", self.patience, least=0)
        if self.monitor is not None and self.mode is None:
            raise ConfigError(
                f"early_stopping.mode: 'min' or 'max' is needed beside early_stopping.monitor '{self.monitor}'"
            )
