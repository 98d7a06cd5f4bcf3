"""What is explained: a number for each image, made of what a model returns."""

from __future__ import annotations

import dataclasses
import fnmatch
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ibd.errors import ConfigError, UnsupportedError, did_you_mean
from ibd.explain.hidden import Seen, checked_place, layer_of, peaks
from ibd.explain.names import require_names
from ibd.explain.scalars import Scalar, logits_of
from ibd.explain.terms import Index, Term, positions_in, resolved, score_of
from ibd.explain.through import Gate, chosen_channels, chosen_units

__all__ = ["Index", "Scalar", "Target", "Term", "logits_of"]


@dataclass(frozen=True)
class Target:
    """One score for each image, or several: what an explainer is asked about.

    Made by `cls`, `predicted`, `absent`, `unit`, `units`, `classes`, `channel`, `channels`, `neuron` and `of`. Targets
    of one score can be added, subtracted and multiplied by numbers: ``Target.cls(3) - Target.cls(7)`` asks why this
    class and not that.

    A model of one logit z, (B, 1), has one class, number 0, of probability ``sigmoid(z)``. ``Target.cls(0)`` asks what
    speaks for it and `absent` what speaks against it; it is predicted where z > 0, and its absence elsewhere. Where
    such a model has two names, the second is that of the class, and number 0 is still the one logit.

    Attributes:
        sums: terms of each score.
        many: whether maps and values have a dimension for the scores.
        pattern: pattern of unit names, which a model has yet to resolve.
        gate: channels of a layer that its relevance passes, in place of all.
    """

    sums: tuple[tuple[Term, ...], ...]
    many: bool = False
    pattern: str | None = None
    gate: Gate | None = None

    @classmethod
    def cls(cls, index: int | str | Sequence[int] | Tensor, scalar: Scalar = "logit") -> Target:
        """Return the logit of a class (by number or name), or of one class for each image.

        Args:
            index: number, counted from 0; a name; or a number for each image.
            scalar: "logit"; "centered_logit", the logit less the mean of all classes' (of one logit itself), which is
                what of it can change a decision; or the "prob", "log_prob" or "log_odds" of the class.
        """
        return cls(((Term("class", _index(index), _checked(scalar)),),))

    @classmethod
    def predicted(cls, scalar: Scalar = "logit") -> Target:
        """Return the logit of each image's most probable class."""
        return cls(((Term("predicted", scalar=_checked(scalar)),),))

    @classmethod
    def absent(cls, scalar: Scalar = "logit") -> Target:
        """Return what a model of one logit z has against its class: -z, or the scalar of ``sigmoid(-z)``."""
        return cls(((Term("side", 1, _checked(scalar)),),))

    @classmethod
    def unit(cls, index: int | str | Sequence[int] | Tensor) -> Target:
        """Return the score of a unit (by number or name), or of one unit for each image."""
        return cls(((Term("unit", _index(index)),),))

    @classmethod
    def classes(cls, indices: Sequence[int | str], scalar: Scalar = "logit") -> Target:
        """Return the logits, or other scalars, of several classes at once."""
        terms = _several("class", indices)
        return cls(tuple((dataclasses.replace(term, scalar=_checked(scalar)),) for (term,) in terms), many=True)

    @classmethod
    def units(cls, which: str | Sequence[int | str]) -> Target:
        """Return the scores of several units at once: by number or name, or all whose name fits ``wing::*``."""
        if isinstance(which, str):
            return cls((), many=True, pattern=which)
        return cls(_several("unit", which), many=True)

    @classmethod
    def channel(cls, layer: str, channel: int | Sequence[int] | Tensor) -> Target:
        """Return the mean over the places of a channel of a hidden layer, or of one channel for each image.

        Explainers see the model as if it ended at the layer. Of tokens the places are the patches; the one number of a
        layer without places is its own mean. Where the layer runs several times, its last run is meant.

        Args:
            layer: name of any layer, such as ``backbone.layer3``.
            channel: number, counted from 0, or a number for each image.
        """
        return cls(((Term("channel", _number(channel), layer=layer),),))

    @classmethod
    def channels(cls, layer: str, channels: Sequence[int]) -> Target:
        """Return the means of several channels of a hidden layer at once, see `channel`."""
        if not len(channels):
            raise ConfigError("target: at least one channel is needed")
        return cls(tuple((Term("channel", _number(item), layer=layer),) for item in channels), many=True)

    @classmethod
    def neuron(
        cls,
        layer: str,
        channel: int | Sequence[int] | Tensor,
        row: int | None = None,
        column: int | None = None,
    ) -> Target:
        """Return a channel of a hidden layer at one place: a single neuron, see `channel`.

        Args:
            layer: name of any layer.
            channel: number, counted from 0, or a number for each image.
            row: row in the layer's map; without row and column it is the place where the channel is highest in each
                image, and stays that where an explainer changes the image.
            column: column in the layer's map.
        """
        return cls(((Term("channel", _number(channel), layer=layer, place=checked_place(row, column)),),))

    @classmethod
    def of(cls, function: Callable[[Any], Tensor]) -> Target:
        """Return any (B,) score of what the model returns."""
        return cls(((Term("function", function=function),),))

    def through(
        self,
        units: int | str | Sequence[int | str] | None = None,
        layer: str | None = None,
        channels: Sequence[int] | None = None,
    ) -> Target:
        """Return the part of a class's logit that passes units, or channels of a layer.

        ``Target.cls(3).through("wing::*")`` is what these units contribute to the logit, of a network whose logits are
        a sum over its units: the parts of all units add up to the logit less its bias. ``through(layer="layer4",
        channels=[5])`` is the relevance that passes there, of any network; only `LRP` can be asked for it.

        Args:
            units: one or several, by number, name or pattern.
            layer: name of a layer.
            channels: channels of the layer by number; None are all.

        Raises:
            ConfigError: neither units nor a layer, or both; units for what is no class.
        """
        if (units is None) == (layer is None):
            raise ConfigError("target: through: units, or a layer and its channels, are needed")
        if layer is not None:
            return dataclasses.replace(self, gate=Gate(layer, chosen_channels(channels)))
        if self.pattern is not None or any(t.kind not in ("class", "predicted") for terms in self.sums for t in terms):
            raise ConfigError("target: through: what passes units is asked for of a class")
        chosen = chosen_units(units if units is not None else ())
        return self._map(lambda term: dataclasses.replace(term, through=chosen))

    def __add__(self, other: Target) -> Target:
        """Return the sum of two targets of one score each."""
        if self.many or other.many:
            raise ConfigError("targets of several scores cannot be added")
        if self.gate != other.gate:
            raise ConfigError("targets through other channels cannot be added: ask for each, and add the maps")
        return Target(((*self.sums[0], *other.sums[0]),), gate=self.gate)

    def __str__(self) -> str:
        """Return what is asked, in words: ``class 3 - class 7``; several scores are told apart by semicolons."""
        if self.pattern is not None:
            return f"units {self.pattern}"
        if self.gate is not None:
            return f"{dataclasses.replace(self, gate=None)} through {self.gate}"
        said = ["".join(f" {'-' if term.weight < 0 else '+'} {term}" for term in terms) for terms in self.sums]
        return "; ".join(text.removeprefix(" + ").strip() for text in said)

    def __mul__(self, factor: float) -> Target:
        """Return every score times a number."""
        if self.pattern is not None:
            raise ConfigError("a target of units by a pattern cannot be multiplied: name the units, or scale the maps")
        scaled = ((dataclasses.replace(term, weight=term.weight * factor) for term in terms) for terms in self.sums)
        return dataclasses.replace(self, sums=tuple(tuple(terms) for terms in scaled))

    __rmul__ = __mul__

    def __sub__(self, other: Target) -> Target:
        """Return the difference of two targets of one score each."""
        return self + -1.0 * other

    def __neg__(self) -> Target:
        """Return the negative scores."""
        return -1.0 * self

    @property
    def layers(self) -> list[str]:
        """Names of the hidden layers that it is about, each once."""
        return list(dict.fromkeys(term.layer for terms in self.sums for term in terms if term.layer))

    @property
    def reads_output(self) -> bool:
        """Whether any of it is about what the model returns, and not about hidden layers."""
        return any(not term.layer for terms in self.sums for term in terms)

    def resolve(self, model: nn.Module) -> Target:
        """Return the same target with names and patterns replaced by positions.

        Args:
            model: model whose ``class_names`` and ``unit_names`` are read, see `ibd.explain.names.names_of`; positions
                need none.

        Raises:
            ConfigError: a name that it does not have, a pattern that fits none.
            UnsupportedError: a name, or a unit, of a model without such.
        """
        sums = self.sums
        if self.pattern is not None:
            names = require_names(model, "unit")
            indices = [index for name, index in names.items() if fnmatch.fnmatchcase(name, self.pattern)]
            if not indices:
                near = did_you_mean(self.pattern, list(names))
                raise ConfigError(f"target: no unit's name fits '{self.pattern}'.{near}")
            sums = tuple((Term("unit", index),) for index in indices)
        found = tuple(tuple(resolved(term, model) for term in terms) for terms in sums)
        return Target(found, self.many, gate=self.gate)

    def scores(self, output: Any) -> Tensor:
        """Return the (B, K) scores of what a model returned; K is 1 for a single target.

        Args:
            output: our ``Output``; logits (B, C); a tuple or dict that holds them first, or as "logits"; or what a pass
                showed of hidden layers.

        Raises:
            ConfigError: a class or unit that there is not, or another number of indices than images.
            UnsupportedError: the output has no such thing, or what passes channels of a layer is asked for.
        """
        if self.gate is not None:
            raise UnsupportedError(f"target: what passes {self.gate} is a relevance, which lrp alone can tell")
        together = self._together(output)
        if together is not None:
            return together
        columns = [torch.stack([term.weight * score_of(term, output) for term in terms]).sum(0) for terms in self.sums]
        return torch.stack(columns, 1)

    def _together(self, output: object) -> Tensor | None:
        """Return the scores of several logits, or of several units, by one look-up; None where there is more to it."""
        terms = [terms[0] for terms in self.sums if len(terms) == 1]
        kinds = {(term.kind, term.scalar) for term in terms}
        plain = not any(term.through for term in terms) and kinds in (
            {("class", "logit")},
            {("class", "centered_logit")},
            {("unit", "logit")},
        )
        if len(terms) != len(self.sums) or len(terms) < 2 or not plain:
            return None
        index = [term.index for term in terms if isinstance(term.index, int)]
        classes = terms[0].kind == "class"
        values = logits_of(output) if classes else getattr(getattr(output, "units", None), "scores", None)
        if values is None or len(index) != len(terms) or not all(0 <= number < values.shape[1] for number in index):
            return None
        if classes and values.shape[1] == 1:
            return None
        if terms[0].scalar == "centered_logit":
            values = values - values.mean(1, keepdim=True)
        weights = torch.tensor([term.weight for term in terms], dtype=values.dtype, device=values.device)
        summed: Tensor = values[:, torch.tensor(index, device=values.device)] * weights
        return summed

    def pin(self, output: Any) -> Target:
        """Return the same target with "predicted" replaced by the classes that were predicted in an output.

        And "where it is highest" by where it was. So that perturbed images are asked about what the clean ones are.
        """
        if any(term.place == "peak" for terms in self.sums for term in terms):
            return self._map(lambda term: _placed(term, output)).pin(output)
        if not any(term.kind == "predicted" for terms in self.sums for term in terms):
            return self
        logits = logits_of(output.output if isinstance(output, Seen) else output).detach()
        one = logits.shape[1] == 1
        best = _index((logits[:, 0] <= 0).long() if one else logits.argmax(1))
        kind: Literal["side", "class"] = "side" if one else "class"
        return self._map(lambda term: dataclasses.replace(term, kind=kind, index=best), kind="predicted")

    def without_model(self) -> Target:
        """Return the target without the model that it was resolved for: what is kept holds no network."""
        return self._map(lambda term: dataclasses.replace(term, model=None))

    def repeat(self, count: int) -> Target:
        """Return the target for batches in which every image comes `count` times in a row."""
        return self._map_indices(lambda index: tuple(number for number in index for _ in range(count)))

    def select(self, keep: slice) -> Target:
        """Return the target for some of the images, where it has an index for each."""
        return self._map_indices(lambda index: index[keep])

    def _map_indices(self, change: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Target:
        """Return the target with the indices changed of terms that have one for each image."""

        def changed(term: Term) -> Term:
            if places := term.places:
                numbers = change(tuple(range(len(places))))
                term = dataclasses.replace(term, place=tuple(places[number] for number in numbers))
            return dataclasses.replace(term, index=change(term.index)) if isinstance(term.index, tuple) else term

        return self._map(changed)

    def _map(self, change: Callable[[Term], Term], kind: str | None = None) -> Target:
        """Return the target with every term changed, or those of a kind."""
        sums = (tuple(change(t) if kind in (None, t.kind) else t for t in terms) for terms in self.sums)
        return dataclasses.replace(self, sums=tuple(sums))


def _index(given: Any) -> Index:
    """Return a position or name as such, also where numpy or torch made it; several positions as a tuple.

    Raises:
        ConfigError: anything else.
    """
    if isinstance(given, str):
        return given
    values = given.tolist() if hasattr(given, "tolist") else given
    try:
        return tuple(map(operator.index, values)) if isinstance(values, Sequence) else operator.index(values)
    except TypeError:
        raise ConfigError(
            f"target: a number counted from 0, a name, or a number for each image is needed, not {given!r:.60}"
        ) from None


def _number(given: Any) -> Index:
    """Return a channel's number, or several; ConfigError for a name, which channels have not."""
    if isinstance(given, str):
        raise ConfigError(f"target: channels by number, counted from 0, are needed, not {given!r:.60}")
    return _index(given)


def _placed(term: Term, output: object) -> Term:
    """Return a term about where a channel is highest as one about where it was in an output."""
    if term.place != "peak":
        return term
    values = layer_of(output, term.layer)
    return dataclasses.replace(term, place=peaks(values, positions_in(values, term)))


def _several(kind: Literal["class", "unit"], given: Sequence[int | str]) -> tuple[tuple[Term], ...]:
    """Return the terms of several scores; ConfigError if there is none."""
    if not len(given):
        raise ConfigError(f"target: at least one {kind} is needed")
    return tuple((Term(kind, _index(item)),) for item in given)


def _checked(scalar: Scalar) -> Scalar:
    if scalar not in get_args(Scalar):
        raise ConfigError(f"target: scalar '{scalar}' is not one of {', '.join(get_args(Scalar))}")
    return scalar
