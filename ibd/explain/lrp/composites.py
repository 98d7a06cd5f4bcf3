"""Which rule for which operation."""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

from ibd.errors import ConfigError, did_you_mean
from ibd.explain.lrp.nodes import Operation
from ibd.explain.lrp.rules import AlphaBeta, Epsilon, Flat, Gamma, Rule, ZBox, ZPlus


@dataclass(frozen=True)
class Choice:
    """A rule, and the linear operations that it is for: those of which all that is given holds.

    Attributes:
        rule: rule of the operations.
        kind: "conv" or "linear".
        first: whether the operation reads the image.
        place: pattern of the module's name, such as ``backbone.layer4.*``; of our training modules as for a layer, see
            `ibd.explain.activations.find_layer`.
        since: index of the first operation, counted in the order in which they run.
        before: index of the first that it is not for any more.
    """

    rule: Rule
    kind: str | None = None
    first: bool | None = None
    place: str | None = None
    since: int = 0
    before: int | None = None

    def fits(self, operation: Operation) -> bool:
        """Return whether the rule is for this operation."""
        return (
            self.kind in (None, operation.kind)
            and self.first in (None, operation.first)
            and self.since <= operation.index
            and (self.before is None or operation.index < self.before)
            and (self.place is None or _matches(operation.place, self.place))
        )


def _matches(place: str, pattern: str) -> bool:
    """Return whether a module's name matches, with or without ``network.`` before it, as that of a layer does."""
    return any(fnmatch.fnmatchcase(place, each) for each in (pattern, pattern.removeprefix("network.")))


@dataclass(frozen=True)
class Composite:
    """Rules for a whole network: the first choice that fits counts, LRP-0 where none does."""

    choices: tuple[Choice, ...]

    def rule(self, operation: Operation) -> Rule:
        """Return the rule of an operation."""
        return next((choice.rule for choice in self.choices if choice.fits(operation)), Epsilon())

    @property
    def needs_place(self) -> bool:
        """Whether the names of modules matter."""
        return any(choice.place is not None for choice in self.choices)

    @property
    def needs_box(self) -> bool:
        """Whether the range of the image matters."""
        return any(choice.rule.needs_box for choice in self.choices)


NAMES = (
    *("epsilon", "epsilon_plus", "epsilon_plus_flat", "epsilon_gamma_box", "epsilon_alpha2_beta1"),
    *("epsilon_alpha2_beta1_flat", "deep_taylor", "excitation_backprop"),
)


def composite(
    name: str,
    epsilon: float = 0.0,
    gamma: float = 0.25,
    low: float | tuple[float, ...] | None = None,
    high: float | tuple[float, ...] | None = None,
) -> Composite:
    """Return a composite by name.

    "epsilon": everywhere. "epsilon_plus": z+ for convolutions, epsilon for other linear operations; "..._flat": flat
    for the first. "epsilon_gamma_box": zB for the first, gamma for other convolutions, epsilon for the others.
    "epsilon_alpha2_beta1": alpha-beta for convolutions, epsilon (Montavon et al. 2019, Anders et al. 2021).
    "deep_taylor": zB for the first, z+ for all others (Montavon et al. 2017). "excitation_backprop": z+ everywhere
    (Zhang et al. 2018; theirs with ``bias="ignore"``).

    Args:
        name: name of a composite.
        epsilon: epsilon of the epsilon rule.
        gamma: gamma of the gamma rule.
        low: least value of the box of the zB rule.
        high: largest value of the box of the zB rule.

    Raises:
        ConfigError: no such composite, or a number out of range.
    """
    basic, box, flat = Epsilon(epsilon), Choice(ZBox(low, high), first=True), Choice(Flat(), first=True)
    plus, both = Choice(ZPlus(), "conv"), Choice(AlphaBeta(2.0, 1.0), "conv")
    choices = {
        "epsilon": (),
        "epsilon_plus": (plus,),
        "epsilon_plus_flat": (flat, plus),
        "epsilon_gamma_box": (box, Choice(Gamma(gamma), "conv")),
        "epsilon_alpha2_beta1": (both,),
        "epsilon_alpha2_beta1_flat": (flat, both),
        "deep_taylor": (box, Choice(ZPlus())),
        "excitation_backprop": (Choice(ZPlus()),),
    }
    if name not in choices:
        raise ConfigError(f"lrp: no composite '{name}'.{did_you_mean(name, NAMES)}")
    return Composite((*choices[name], Choice(basic)))
