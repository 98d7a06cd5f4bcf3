"""Classes with constructors of many kinds, in the place of models, data and settings."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import pytest

from ibd.config import Block
from ibd.errors import ConfigError

if TYPE_CHECKING:
    from nowhere import Unknown

CBM = "configs/cbm.yaml"


def write(name, text):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")
    return name


def message(function, *args, **kwargs):
    with pytest.raises(ConfigError) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


class SmallCNN:
    """A few convolutions. And more words.

    Args:
        width: Channels of the first layer. Doubled by each
            further one.
    """

    config_excludes = ("channels_in",)

    def __init__(self, channels_in: int = 3, width: int = 16, dropout: float | None = None):
        self.channels_in, self.width, self.dropout = channels_in, width, dropout


class ResNet:
    """Residual.

    Args:
        weights: Where training starts.
    """

    def __init__(self, name: str, weights: str | None = None):
        self.name, self.weights = name, weights


class ConceptBottleneck:
    """Concepts first.

    Args:
        spec: The data.
        backbone: What looks at the image.
        regime: One of three.
        concept_weight: Weight of the concept loss, beside that of the class loss, e.g. 1 for equal shares of the two
            (see the paper). Second sentence.
    """

    config_excludes = ("spec",)

    def __init__(
        self,
        spec: Any,
        backbone: Annotated[dict[str, Any], Block("backbones")] = {"name": "small_cnn", "width": 8},  # noqa: B006
        regime: Literal["independent", "sequential", "joint"] = "joint",
        concept_weight: float = 1.0,
        teacher: Annotated[dict[str, Any] | None, Block("backbones")] = None,
    ):
        if concept_weight < 0:
            raise ConfigError(f"model.concept_weight: {concept_weight} given, at least 0 is needed")
        self.spec, self.backbone, self.regime = spec, backbone, regime
        self.concept_weight, self.teacher = concept_weight, teacher


class Source:
    """What reads images.

    Args:
        seed: Of the shuffle.
    """

    def __init__(self, batch_size: int = 64, seed: int = 0):
        self.batch_size, self.seed = batch_size, seed


class Folder(Source):
    """Images.

    Attributes:
        root: Their folder.
    """

    def __init__(self, root: Path, **loader: Any):
        super().__init__(**loader)
        self.root = root


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Many:
    """Every kind of annotation."""

    def __init__(
        self,
        numbers: list[float] = [0.5],  # noqa: B006
        size: tuple[int, int] = (64, 64),
        names: tuple[str, ...] = (),
        words: Sequence[str] = (),
        table: dict[str, int] = {"a": 1},  # noqa: B006
        either: int | list[int] | str = "auto",
        flag: bool = False,
        flag_or_word: bool | Literal["warn"] = False,
        text: str = "",
        maybe: str | None = "x",
        path: Path | str = "here",
        color: Color = Color.RED,
        anything=None,
        odd: set[int] | None = None,
        unknown: Unknown = None,
        function: Any = len,
        rate: float = 1e-5,
        implicit: int = None,  # noqa: RUF013
    ):
        self.__dict__.update({key: value for key, value in locals().items() if key != "self"})


@dataclass(frozen=True)
class Settings:
    """Settings.

    Attributes:
        lr: Step size.
    """

    lr: float = 1e-3
    name: str = "adam"
    betas: list[float] = field(default_factory=lambda: [0.9, 0.999])
