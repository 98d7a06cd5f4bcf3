"""The terms of a target: a class, a unit, a function of what a model returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ibd.errors import ConfigError, UnsupportedError, did_you_mean
from ibd.explain.activations import find_layer
from ibd.explain.hidden import Place, Seen, layer_of, value_at
from ibd.explain.names import require_names
from ibd.explain.scalars import Scalar, logits_of, of_class, of_one_logit
from ibd.explain.through import Chosen, passing, positions

Index = int | str | tuple[int, ...]
"""One for all images, by position or name; or one position for each image."""


@dataclass(frozen=True)
class Term:
    """A weighted part of a target.

    Attributes:
        kind: "class", "unit", "predicted" (the class of the highest logit), "side" (of the one logit that a model has:
            0 for its class, 1 against it), "channel" (of a hidden layer) or "function".
        index: index of the class, unit or channel.
        scalar: scalar of a class: its "logit", "centered_logit", "prob", "log_prob" or "log_odds".
        weight: factor of the score.
        function: output -> (B,), of the kind "function".
        names: number of names where the index was given by name.
        through: units of which the contribution to a class is asked for; empty for the whole of it.
        model: the model that these units are of, once it is known.
        layer: name of the layer, of the kind "channel".
        place: where in the layer's map, of the kind "channel".
    """

    kind: Literal["class", "unit", "predicted", "side", "channel", "function"]
    index: Index = 0
    scalar: Scalar = "logit"
    weight: float = 1.0
    function: Callable[[Any], Tensor] | None = None
    names: int | None = field(default=None, compare=False)
    through: Chosen = ()
    model: nn.Module | None = field(default=None, compare=False, repr=False)
    layer: str = ""
    place: Place = "mean"

    @property
    def places(self) -> tuple[tuple[int, int], ...]:
        """Where in its layer's map each image is asked about; none where that is the same for all."""
        return self.place if isinstance(self.place[0], tuple) else ()  # type: ignore[return-value]

    def __str__(self) -> str:
        """Return what it asks for, in words: ``log_odds of class 3``."""
        places = self.index if isinstance(self.index, tuple) else (self.index,)
        listed = ", ".join(map(str, places[:4])) + (", ..." if len(places) > 4 else "")
        fixed = {"predicted": "the predicted class", "function": "a function of the output"}
        fixed["side"] = "the absence of the class" if places[0] else "the class"
        what = fixed.get(self.kind, f"{self.kind} {listed}") + (f" of '{self.layer}'" if self.layer else "")
        what += "" if self.place == "mean" else _said(self.place)
        what = what if self.scalar == "logit" else f"{self.scalar} of {what}"
        if self.through:
            more = ", ..." if len(self.through) > 3 else ""
            what += f" through {', '.join(map(str, self.through[:3]))}{more}"
        return what if abs(self.weight) == 1 else f"{abs(self.weight):g} * {what}"


def _said(place: Place) -> str:
    """Return in words where in a layer's map a channel is looked at."""
    cells = {place} if isinstance(place[0], int) else set(place if place != "peak" else ())
    return f" at {', '.join(map(str, *cells))}" if len(cells) == 1 else " where it is highest"


def resolved(term: Term, model: nn.Module) -> Term:
    """Return a term with names replaced by positions in a model."""
    if term.layer:
        find_layer(model, term.layer)
    if term.through:
        term = dataclasses.replace(term, through=positions(model, term.through), model=model)
    if not isinstance(term.index, str):
        return term
    names = require_names(model, "unit" if term.kind == "unit" else "class")
    if term.index not in names:
        raise ConfigError(f"target: unknown {term.kind} '{term.index}'.{did_you_mean(term.index, list(names))}")
    return dataclasses.replace(term, index=names[term.index], names=len(names))


def score_of(term: Term, output: Any) -> Tensor:
    """Return the (B,) scores of a term in what a model returned, or a pass showed, without its weight."""
    if term.kind == "channel":
        values = layer_of(output, term.layer)
        return value_at(values, positions_in(values, term), term.place, term.layer)
    output = output.output if isinstance(output, Seen) else output
    if term.function is not None:
        scores = term.function(output)
        if not isinstance(scores, Tensor) or scores.dim() != 1:
            shape = f" of shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else ""
            raise ConfigError(
                f"target: the function returned a {type(scores).__name__}{shape}: "
                "a score for each image is needed, (B,)"
            )
        return scores
    if term.kind == "unit":
        units = getattr(output, "units", None)
        if units is None:
            raise UnsupportedError("target: this model has no units: ask for a class")
        return _pick(units.scores, term)
    logits = logits_of(output)
    if term.through:
        return _passing(term, output, logits)
    if logits.shape[1] == 1:
        return of_one_logit(logits[:, 0], _absent(logits, term), term.scalar)
    if term.kind == "side":
        raise ConfigError(f"target: Target.absent needs a model of one logit, but this one has {logits.shape[1]}")
    index = logits.detach().argmax(1) if term.kind == "predicted" else positions_in(logits, term)
    return of_class(logits, index, term.scalar)


def _passing(term: Term, output: Any, logits: Tensor) -> Tensor:
    """Return what passes units on the way to a class, (B,)."""
    if term.model is None or getattr(output, "units", None) is None:
        raise UnsupportedError("target: this model has no units that a logit passes: ask through channels of a layer")
    if term.scalar not in ("logit", "centered_logit"):
        raise UnsupportedError(f"target: logits pass units, '{term.scalar}' does not")
    part = passing(term.model, output, [unit for unit in term.through if isinstance(unit, int)])
    if logits.shape[1] == 1:
        return part[:, 0] * sign_of_one_logit(logits, term)
    index = logits.detach().argmax(1) if term.kind == "predicted" else positions_in(logits, term)
    return of_class(part, index, term.scalar)


def _absent(logits: Tensor, term: Term) -> Tensor:
    """Return for which images a term asks about the absence of the class of the one logit there is, (B,) bool."""
    if term.kind == "predicted":
        return logits.detach()[:, 0] <= 0
    if term.kind == "side":
        return positions_in(logits.expand(-1, 2), term) == 1
    if term.names == 2:  # of two names the second is that of the logit, as in labels of 0 and 1
        return positions_in(logits.expand(-1, 2), term) == 0
    if isinstance(term.index, int) and term.index == 1:
        raise ConfigError(
            "target: no class 1: the model has one logit, which is class 0; Target.absent() asks what speaks against it"
        )
    return positions_in(logits, term) == 1


def sign_of_one_logit(logits: Tensor, term: Term) -> Tensor:
    """Return (B,): -1 where a term asks about the absence of the class of the one logit there is, (B, 1), else 1."""
    return torch.where(_absent(logits, term), -1.0, 1.0).to(logits.dtype)


def positions_in(values: Tensor, term: Term) -> Tensor:
    """Return the (B,) positions that a term asks for."""
    index = term.index
    if isinstance(index, str):
        raise ConfigError(f"target: '{index}' is a name, which Target.resolve(model) turns into a position")
    given = index if isinstance(index, tuple) else (index,) * len(values)
    if len(given) != len(values):
        raise ConfigError(f"target: {len(given)} {term.kind} numbers for {len(values)} images")
    for item in given:
        if not 0 <= item < values.shape[1]:
            raise ConfigError(f"target: no {term.kind} {item}: there are {values.shape[1]}, counted from 0")
    return torch.tensor(given, dtype=torch.int64, device=values.device)


def _pick(values: Tensor, term: Term) -> Tensor:
    return values.gather(1, positions_in(values, term).unsqueeze(1)).squeeze(1)
