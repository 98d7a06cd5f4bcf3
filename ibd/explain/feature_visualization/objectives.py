"""What an image is made to excite: a number for each image, of what layers put out and of what the model returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.errors import ConfigError
from ibd.explain.activations import find_layer
from ibd.explain.targets import Scalar, Target

Channels = int | Sequence[int]
Position = tuple[int, int]
UnitScalar = Literal["score", "prob", "log_prob"]

_SQUASHED: dict[str, Callable[[Tensor], Tensor]] = {"prob": torch.sigmoid, "log_prob": F.logsigmoid}


@dataclass(frozen=True)
class Part:
    """A weighted part of an objective: of one layer, or of what the model returns.

    Attributes:
        text: description for a caption.
        weight: factor of the objective.
        layer: layer whose output it is computed from.
        value: output of the layer -> (B,); or of the target, (B,) -> (B,), if any.
        target: target of one score, in place of a layer.
        channels: channels of the layer, where there is one for each image.
    """

    text: str
    weight: float = 1.0
    layer: str = ""
    value: Callable[[Tensor], Tensor] | None = None
    target: Target | None = None
    channels: tuple[int, ...] = ()


@dataclass(frozen=True)
class Objective:
    """One number for each image of a batch. Objectives can be added, subtracted and multiplied by numbers.

    ``Objective.channel("layer4", 17) + 0.1 * Objective.diversity("layer4") - Objective.cls("cat")``. Where a channel,
    class or unit can be given, there can also be one for each image.

    Attributes:
        parts: parts that are added up.
    """

    parts: tuple[Part, ...]

    @classmethod
    def neuron(cls, layer: str, channel: Channels, position: Position | None = None) -> Objective:
        """Return the activation of a channel at one place of a layer, its middle if none is given."""
        where = "middle" if position is None else f"{position[0]}, {position[1]}"

        def value(output: Tensor) -> Tensor:
            return _column(_at(output, position, layer), channel, layer)

        return cls(
            (Part(f"{layer} channel {_text(channel)} at {where}", layer=layer, value=value, channels=_listed(channel)),)
        )

    @classmethod
    def channel(cls, layer: str, channel: Channels) -> Objective:
        """Return the mean activation of a channel."""

        def value(output: Tensor) -> Tensor:
            return _column(output.flatten(2).mean(2) if output.dim() > 2 else output, channel, layer)

        return cls((Part(f"{layer} channel {_text(channel)}", layer=layer, value=value, channels=_listed(channel)),))

    @classmethod
    def layer(cls, layer: str) -> Objective:
        """Return the mean square of all a layer puts out: DeepDream."""
        return cls((Part(f"{layer} squared", layer=layer, value=lambda output: output.square().flatten(1).mean(1)),))

    @classmethod
    def direction(
        cls, layer: str, vector: Tensor, position: Position | None = None, cosine_power: float = 0.0
    ) -> Objective:
        """Return the mean over positions of the activations' dot product with a vector.

        Args:
            layer: layer whose activations are maximized.
            vector: (D,), or (B, D), one for each image.
            position: the one position that counts.
            cosine_power: power of the cosine, at least 0.1, to multiply by: so that the direction counts and not only
                the length.
        """

        def value(output: Tensor) -> Tensor:
            wanted = vector.to(output).expand(len(output), -1)
            if wanted.shape[1] != output.shape[1]:
                raise ConfigError(
                    f"objective: a vector of {wanted.shape[1]} for {output.shape[1]} channels of '{layer}'"
                )
            spots = (output if position is None else _at(output, position, layer)).flatten(2 if position is None else 1)
            if spots.dim() == 2:
                spots = spots.unsqueeze(2)
            product = torch.einsum("bdp,bd->bp", spots, wanted)
            if cosine_power:
                cosine = F.cosine_similarity(spots, wanted.unsqueeze(2), dim=1)
                product = product * cosine.clamp(min=0.1) ** cosine_power
            return product.mean(1)

        return cls((Part(f"{layer} direction", layer=layer, value=value),))

    @classmethod
    def features(cls, layer: str, wanted: Tensor) -> Objective:
        """Return minus the squared distance of all a layer puts out from what is wanted, over the square of that.

        Args:
            layer: layer whose output is compared.
            wanted: (B, D) or (B, D, h, w), of one image or of all that are made.
        """

        def value(output: Tensor) -> Tensor:
            if output.shape[1:] != wanted.shape[1:]:
                raise ConfigError(
                    f"objective: '{layer}' puts out {tuple(output.shape[1:])}, but {tuple(wanted.shape[1:])} is wanted"
                )
            own = wanted.to(output)
            return -(output - own).square().flatten(1).sum(1) / own.square().flatten(1).sum(1)

        return cls((Part(f"{layer} of an image", layer=layer, value=value),))

    @classmethod
    def cls(cls, index: int | str | Sequence[int] | Tensor, scalar: Scalar = "log_prob") -> Objective:
        """Return the log probability of a class, or its "logit", "centered_logit", "prob" or "log_odds".

        A logit can rise with those of all other classes: in images made for the logit, the class is often not probable.
        """
        return cls((Part(f"class {_text(index)}", target=Target.cls(index, scalar)),))

    @classmethod
    def unit(cls, index: int | str | Sequence[int] | Tensor, scalar: UnitScalar = "score") -> Objective:
        """Return the score of a unit of one of our models.

        Args:
            index: number or name; numbers, one for each image.
            scalar: "score"; or, of units whose score is a logit as concepts' are, "prob" or "log_prob". A score has no
                end: images go far beyond anything natural. A probability is soon reached, and penalties decide the
                rest: only what is needed stays, which is easier to read.

        Raises:
            ConfigError: another scalar.
        """
        if scalar not in get_args(UnitScalar):
            raise ConfigError(f"objective: scalar '{scalar}' of a unit is not one of {', '.join(get_args(UnitScalar))}")
        value = _SQUASHED[scalar] if scalar != "score" else None
        return cls((Part(f"unit {_text(index)}", value=value, target=Target.unit(index)),))

    @classmethod
    def of(cls, target: Target) -> Objective:
        """Return any target of one score.

        Raises:
            ConfigError: it is of several scores.
        """
        if target.many:
            raise ConfigError("objective: a target of one score is needed; give one class or unit for each image")
        return cls((Part("target", target=target),))

    @classmethod
    def diversity(cls, layer: str) -> Objective:
        """Return how unlike the textures of the batch's images are: minus their mean cosine, within -1 and 1.

        The textures are the Gram matrices of a layer's channels (Olah et al. 2017).
        """

        def value(output: Tensor) -> Tensor:
            if len(output) < 2:
                return output.new_zeros(len(output))
            flat = output.flatten(2) if output.dim() > 2 else output.unsqueeze(2)
            gram = F.normalize((flat @ flat.transpose(1, 2)).flatten(1), dim=1)
            cosine = gram @ gram.t()
            return -(cosine.sum(1) - cosine.diagonal()) / (len(output) - 1)

        return cls((Part(f"{layer} diversity", layer=layer, value=value),))

    def __add__(self, other: Objective) -> Objective:
        """Return the sum of two objectives."""
        return Objective((*self.parts, *other.parts))

    def __mul__(self, factor: float) -> Objective:
        """Return the objective times a number."""
        return Objective(tuple(dataclasses.replace(part, weight=part.weight * factor) for part in self.parts))

    __rmul__ = __mul__

    def __sub__(self, other: Objective) -> Objective:
        """Return the difference of two objectives."""
        return self + -1.0 * other

    def __neg__(self) -> Objective:
        """Return the objective of exciting it as little as possible."""
        return -1.0 * self

    def __str__(self) -> str:
        """Return a text for captions."""
        texts = [part.text if part.weight == 1 else f"{part.weight:g} x {part.text}" for part in self.parts]
        return " + ".join(texts)

    def resolve(self, model: nn.Module) -> Objective:
        """Return the objective with names replaced by positions.

        Raises:
            ConfigError: the model has no such layer, class or unit.
            UnsupportedError: the model has no names, or no units.
        """
        for part in self.parts:
            if part.layer:
                find_layer(model, part.layer)
        return Objective(
            tuple(
                part if part.target is None else dataclasses.replace(part, target=part.target.resolve(model))
                for part in self.parts
            )
        )

    @property
    def images(self) -> int | None:
        """How many images a channel, class or unit is listed for; None where there is one for all."""
        terms = [term for part in self.parts if part.target for terms in part.target.sums for term in terms]
        counts = [len(term.index) for term in terms if isinstance(term.index, tuple)]
        return max([*counts, *(len(part.channels) for part in self.parts)], default=0) or None

    @property
    def probability(self) -> Objective | None:
        """The objective that is the probability of the class that this one is about; None where there is no such."""
        terms = [term for part in self.parts if part.target for terms in part.target.sums for term in terms]
        if len(terms) != 1 or terms[0].kind not in ("class", "side") or terms[0].through:
            return None
        target = Target(((dataclasses.replace(terms[0], scalar="prob", weight=1.0),),))
        return Objective((Part("probability", target=target),))

    @property
    def layers(self) -> list[str]:
        """Names of the layers that are read."""
        return list(dict.fromkeys(part.layer for part in self.parts if part.layer))

    @property
    def reads(self) -> Literal["layers", "units", "output"]:
        """How much of the model must run: to the layers, to the units, or all of it."""
        kinds = {term.kind for part in self.parts if part.target for terms in part.target.sums for term in terms}
        if not kinds:
            return "layers"
        return "units" if kinds == {"unit"} else "output"

    def values(self, layers: dict[str, Tensor], output: Any) -> Tensor:
        """Return the (B,) objective of what a pass gave."""
        values = []
        for part in self.parts:
            if part.target is not None:
                score = part.target.scores(output)[:, 0]
                value = score if part.value is None else part.value(score)
            else:
                assert part.value is not None
                value = part.value(layers[part.layer])
            values.append(part.weight * value)
        return torch.stack(values).sum(0)


def _listed(channel: Channels) -> tuple[int, ...]:
    return () if isinstance(channel, int) else tuple(channel)


def _text(index: Any) -> str:
    if isinstance(index, int | str):
        return str(index)
    values = [str(number) for number in (index.tolist() if isinstance(index, Tensor) else index)]
    return ", ".join(values[:4]) + (", ..." if len(values) > 4 else "")


def _at(output: Tensor, position: Position | None, layer: str) -> Tensor:
    """Return the (B, D) activations at one place of (B, D, h, w)."""
    if output.dim() == 2:
        return output
    row, column = (output.shape[2] // 2, output.shape[3] // 2) if position is None else position
    if not (0 <= row < output.shape[2] and 0 <= column < output.shape[3]):
        raise ConfigError(
            f"objective: no position {row}, {column} in '{layer}' of {output.shape[2]} x {output.shape[3]}"
        )
    return output[:, :, row, column]


def _column(values: Tensor, channel: Channels, layer: str) -> Tensor:
    """Return one channel of (B, D), or one for each image."""
    given = [channel] * len(values) if isinstance(channel, int) else list(channel)
    if len(given) != len(values):
        raise ConfigError(f"objective: {len(given)} channels for {len(values)} images")
    for item in given:
        if not 0 <= item < values.shape[1]:
            raise ConfigError(f"objective: no channel {item} in '{layer}': there are {values.shape[1]}, counted from 0")
    return values.gather(1, torch.tensor(given, device=values.device).unsqueeze(1)).squeeze(1)
