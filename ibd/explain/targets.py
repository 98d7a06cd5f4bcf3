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

Scalar = Literal["logit", "log_prob", "log_odds", "prob"]
Index = int | str | tuple[int, ...]
"""One for all images, by position or name; or one position for each image."""


@dataclass(frozen=True)
class Term:
    """A weighted part of a target.

    Attributes:
        kind: "class", "unit", "predicted" (the class of the highest logit) or "function".
        index: which class or unit.
        scalar: of a class: its "logit", "prob", "log_prob" or "log_odds".
        weight: factor.
        function: output -> (B,), of the kind "function".
    """

    kind: Literal["class", "unit", "predicted", "function"]
    index: Index = 0
    scalar: Scalar = "logit"
    weight: float = 1.0
    function: Callable[[Any], Tensor] | None = None


@dataclass(frozen=True)
class Target:
    """One score for each image, or several: what an explainer is asked about.

    Made by `cls`, `predicted`, `unit`, `units`, `classes` and `of`. Targets of one score can be added, subtracted and
    multiplied by numbers: ``Target.cls(3) - Target.cls(7)`` asks why this class and not that.

    Attributes:
        sums: for each score its terms.
        many: whether maps and values have a dimension for the scores.
        pattern: of unit names, which a model has yet to resolve.
    """

    sums: tuple[tuple[Term, ...], ...]
    many: bool = False
    pattern: str | None = None

    @classmethod
    def cls(cls, index: int | str | Sequence[int] | Tensor, scalar: Scalar = "logit") -> Target:
        """Return the logit of a class (by number or name), or of one class for each image."""
        return cls(((Term("class", _index(index), _checked(scalar)),),))

    @classmethod
    def predicted(cls, scalar: Scalar = "logit") -> Target:
        """Return the logit of each image's most probable class."""
        return cls(((Term("predicted", scalar=_checked(scalar)),),))

    @classmethod
    def unit(cls, index: int | str | Sequence[int] | Tensor) -> Target:
        """Return the score of a unit (by number or name), or of one unit for each image."""
        return cls(((Term("unit", _index(index)),),))

    @classmethod
    def classes(cls, indices: Sequence[int | str]) -> Target:
        """Return the logits of several classes at once."""
        return cls(_several("class", indices), many=True)

    @classmethod
    def units(cls, which: str | Sequence[int | str]) -> Target:
        """Return the scores of several units at once: by number or name, or all whose name fits ``wing::*``."""
        if isinstance(which, str):
            return cls((), many=True, pattern=which)
        return cls(_several("unit", which), many=True)

    @classmethod
    def of(cls, function: Callable[[Any], Tensor]) -> Target:
        """Return any (B,) score of what the model returns."""
        return cls(((Term("function", function=function),),))

    def __add__(self, other: Target) -> Target:
        """Return the sum of two targets of one score each."""
        if self.many or other.many:
            raise ConfigError("targets of several scores cannot be added")
        return Target(((*self.sums[0], *other.sums[0]),))

    def __mul__(self, factor: float) -> Target:
        """Return every score times a number."""
        scaled = ((dataclasses.replace(term, weight=term.weight * factor) for term in terms) for terms in self.sums)
        return dataclasses.replace(self, sums=tuple(tuple(terms) for terms in scaled))

    __rmul__ = __mul__

    def __sub__(self, other: Target) -> Target:
        """Return the difference of two targets of one score each."""
        return self + -1.0 * other

    def __neg__(self) -> Target:
        """Return the negative scores."""
        return -1.0 * self

    def resolve(self, model: nn.Module) -> Target:
        """Return the same target with names and patterns replaced by positions.

        Args:
            model: our module or network, whose ``class_names`` and ``unit_names`` are read; names need one that has
                them, positions do not.

        Raises:
            ConfigError: a name that it does not have, a pattern that fits none.
            UnsupportedError: a name, or a unit, of a model without such.
        """
        network = getattr(model, "network", model)
        sums = self.sums
        if self.pattern is not None:
            names = _names(network, "unit")
            found = [index for index, name in enumerate(names) if fnmatch.fnmatchcase(name, self.pattern)]
            if not found:
                raise ConfigError(f"target: no unit's name fits '{self.pattern}'.{did_you_mean(self.pattern, names)}")
            sums = tuple((Term("unit", index),) for index in found)
        resolved = tuple(tuple(_resolve(term, network) for term in terms) for terms in sums)
        return Target(resolved, self.many)

    def scores(self, output: Any) -> Tensor:
        """Return the (B, K) scores of what a model returned; K is 1 for a single target.

        Args:
            output: our ``Output``; logits (B, C); a tuple or dict that holds them first, or as "logits".

        Raises:
            ConfigError: a class or unit that there is not, or another number of indices than images.
            UnsupportedError: the output has no such thing.
        """
        together = self._together(output)
        if together is not None:
            return together
        columns = [torch.stack([term.weight * _score(term, output) for term in terms]).sum(0) for terms in self.sums]
        return torch.stack(columns, 1)

    def _together(self, output: Any) -> Tensor | None:
        """Return the scores of several logits, or of several units, by one look-up; None where there is more to it."""
        terms = [terms[0] for terms in self.sums if len(terms) == 1]
        kinds = {(term.kind, term.scalar) for term in terms}
        plain = kinds in ({("class", "logit")}, {("unit", "logit")})
        if len(terms) != len(self.sums) or len(terms) < 2 or not plain:
            return None
        index = [term.index for term in terms if isinstance(term.index, int)]
        values = (
            logits_of(output) if terms[0].kind == "class" else getattr(getattr(output, "units", None), "scores", None)
        )
        if values is None or len(index) != len(terms) or not all(0 <= each < values.shape[1] for each in index):
            return None
        weights = torch.tensor([term.weight for term in terms], dtype=values.dtype, device=values.device)
        found: Tensor = values[:, torch.tensor(index, device=values.device)] * weights
        return found

    def pin(self, output: Any) -> Target:
        """Return the same target with "predicted" replaced by the classes that were predicted in an output.

        So that perturbed images are asked about what the clean ones are.
        """
        if not any(term.kind == "predicted" for terms in self.sums for term in terms):
            return self
        best = _index(logits_of(output).detach().argmax(1))
        return self._map(lambda term: dataclasses.replace(term, kind="class", index=best), kind="predicted")

    def repeat(self, count: int) -> Target:
        """Return the target for batches in which every image comes `count` times in a row."""
        return self._map_indices(lambda index: tuple(each for each in index for _ in range(count)))

    def select(self, keep: slice) -> Target:
        """Return the target for some of the images, where it has an index for each."""
        return self._map_indices(lambda index: index[keep])

    def _map_indices(self, change: Callable[[tuple[int, ...]], tuple[int, ...]]) -> Target:
        """Return the target with the indices changed of terms that have one for each image."""

        def changed(term: Term) -> Term:
            return dataclasses.replace(term, index=change(term.index)) if isinstance(term.index, tuple) else term

        return self._map(changed)

    def _map(self, change: Callable[[Term], Term], kind: str | None = None) -> Target:
        """Return the target with every term changed, or those of a kind."""
        sums = (tuple(change(t) if kind in (None, t.kind) else t for t in terms) for terms in self.sums)
        return dataclasses.replace(self, sums=tuple(sums))


def logits_of(output: Any) -> Tensor:
    """Return the (B, C) logits in what a model returned.

    Raises:
        UnsupportedError: there are none.
    """
    if isinstance(output, dict):
        found = output.get("logits", output.get("out", next(iter(output.values()), None)))
    elif isinstance(output, Tensor):
        found = output
    else:
        found = getattr(output, "logits", None)
        if found is None and isinstance(output, list | tuple) and output:
            found = output[0]
    if not isinstance(found, Tensor) or found.dim() != 2:
        shape = f" of shape {tuple(found.shape)}" if isinstance(found, Tensor) else ""
        raise UnsupportedError(
            f"the model returns a {type(output).__name__}{shape}: logits (B, C), a tuple or dict with them, or a "
            "target of its own (Target.of) is needed"
        )
    return found


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


def _several(kind: Literal["class", "unit"], given: Sequence[int | str]) -> tuple[tuple[Term], ...]:
    """Return the terms of several scores; ConfigError if there is none."""
    if not len(given):
        raise ConfigError(f"target: at least one {kind} is needed")
    return tuple((Term(kind, _index(each)),) for each in given)


def _checked(scalar: Scalar) -> Scalar:
    if scalar not in get_args(Scalar):
        raise ConfigError(f"target: scalar '{scalar}' is not one of {', '.join(get_args(Scalar))}")
    return scalar


def _names(network: Any, kind: str) -> Sequence[str]:
    names = getattr(network, f"{kind}_names", None)
    if names is None:
        what = "classes" if kind == "class" else "units"
        raise UnsupportedError(f"target: {type(network).__name__} has no names for its {what}: give a number")
    return names  # type: ignore[no-any-return]


def _resolve(term: Term, network: Any) -> Term:
    if not isinstance(term.index, str):
        return term
    names = _names(network, term.kind)
    if term.index not in names:
        raise ConfigError(f"target: unknown {term.kind} '{term.index}'.{did_you_mean(term.index, names)}")
    return dataclasses.replace(term, index=list(names).index(term.index))


def _score(term: Term, output: Any) -> Tensor:
    if term.function is not None:
        found = term.function(output)
        if not isinstance(found, Tensor) or found.dim() != 1:
            shape = f" of shape {tuple(found.shape)}" if isinstance(found, Tensor) else ""
            raise ConfigError(
                f"target: the function returned a {type(found).__name__}{shape}: a score for each image is needed, (B,)"
            )
        return found
    if term.kind == "unit":
        units = getattr(output, "units", None)
        if units is None:
            raise UnsupportedError("target: this model has no units: ask for a class")
        return _pick(units.scores, term)
    logits = logits_of(output)
    if term.kind == "predicted":
        index = logits.detach().argmax(1)
        return _scalar(logits, index, term.scalar)
    picked = _positions(logits, term)
    return _scalar(logits, picked, term.scalar)


def _positions(values: Tensor, term: Term) -> Tensor:
    """Return the (B,) positions that a term asks for."""
    index = term.index
    if isinstance(index, str):
        raise ConfigError(f"target: '{index}' is a name, which Target.resolve(model) turns into a position")
    given = index if isinstance(index, tuple) else (index,) * len(values)
    if len(given) != len(values):
        raise ConfigError(f"target: {len(given)} {term.kind} numbers for {len(values)} images")
    for each in given:
        if not 0 <= each < values.shape[1]:
            raise ConfigError(f"target: no {term.kind} {each}: there are {values.shape[1]}, counted from 0")
    return torch.tensor(given, dtype=torch.int64, device=values.device)


def _pick(values: Tensor, term: Term) -> Tensor:
    return values.gather(1, _positions(values, term).unsqueeze(1)).squeeze(1)


def _scalar(logits: Tensor, index: Tensor, scalar: Scalar) -> Tensor:
    """Return the asked-for number of one class for each image, (B,)."""
    if scalar == "logit":
        return logits.gather(1, index.unsqueeze(1)).squeeze(1)
    log_prob = logits.log_softmax(1).gather(1, index.unsqueeze(1)).squeeze(1)
    if scalar == "log_prob":
        return log_prob
    if scalar == "prob":
        return log_prob.exp()
    others = logits.scatter(1, index.unsqueeze(1), -torch.inf)
    return logits.gather(1, index.unsqueeze(1)).squeeze(1) - others.logsumexp(1)
