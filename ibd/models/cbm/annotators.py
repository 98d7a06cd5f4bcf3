"""Whoever corrects concepts errs, and does not always know: what they answer in the place of the truth."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ibd.errors import ConfigError, did_you_mean

Rates = float | Mapping[str, float]
"""A rate for all groups, or by the name of the group, where 0 is that of the others."""


@dataclass(frozen=True)
class Annotator:
    """How often a person errs, or does not know, when asked about a group of concepts of an image.

    Who errs names another concept of an exclusive group, each as likely, be it that one holds or none; of any other
    group, each concept is answered wrongly by itself at that rate. Who does not know says nothing on the whole group.

    Attributes:
        groups: group name -> indices of its concepts.
        noise: rate of errors of each group.
        unknown: rate of each group at which nothing is known.
    """

    groups: Mapping[str, Sequence[int]]
    noise: Mapping[str, float]
    unknown: Mapping[str, float]

    @classmethod
    def of(
        cls,
        groups: Mapping[str, Sequence[int]],
        noise: Rates = 0.0,
        unknown: Rates = 0.0,
        quantities: Collection[int] = (),
    ) -> Annotator:
        """Return an annotator with these rates.

        Args:
            groups: group name -> indices of its concepts.
            noise: rate of errors.
            unknown: rate at which nothing is known.
            quantities: indices of the concepts that are numbers: nobody can say how far off somebody is who errs.

        Raises:
            ConfigError: an unknown group, a rate outside of 0 to 1, or a rate of errors about a quantity.
        """
        errors = _by_group("noise", groups, noise)
        for name, rate in errors.items():
            if rate and not set(groups[name]).isdisjoint(quantities):
                raise ConfigError(
                    f"noise: '{name}' is a quantity, and how far off people are is not known: give rates for other "
                    "groups by their names, as in noise.GROUP=0.1"
                )
        return cls(groups, errors, _by_group("unknown", groups, unknown))

    @property
    def sure(self) -> bool:
        """Whether the answer is always the truth."""
        return not any(self.noise.values()) and not any(self.unknown.values())

    def words(self, seed: int) -> str:
        """Return in words how often they err, or do not know; "" where never."""
        if self.sure:
            return ""
        said = [
            f"{what} {_shown(rates)}"
            for what, rates in (("errs", self.noise), ("does not know", self.unknown))
            if any(rates.values())
        ]
        return f"{' and '.join(said)} of the time (seed {seed})"

    def answers(self, concepts: Tensor, exclusive: Sequence[Sequence[int]], seed: int) -> Tensor:
        """Return the (N, K) concepts as they are told, NaN where nobody knows.

        What is told of an image's group hangs on the seed, the image and the group alone, and not on when it is asked.

        Args:
            concepts: (N, K) true concepts, NaN where unknown.
            exclusive: groups of which at most one concept holds.
            seed: seed of the answers.
        """
        generator = torch.Generator().manual_seed(seed)
        told = concepts.clone()
        for name, indices in self.groups.items():
            group = list(indices)
            silent, wrong = torch.rand(len(concepts), 2, generator=generator).to(concepts.device).unbind(1)
            draws = torch.rand(len(concepts), len(group), generator=generator).to(concepts.device)
            truth = concepts[:, group]
            if group in [list(each) for each in exclusive] and len(group) > 1:
                other = _another(truth, draws)
                answer = torch.where((wrong < self.noise[name]).unsqueeze(1), other, truth)
            else:
                answer = torch.where(draws < self.noise[name], 1 - truth, truth)
            told[:, group] = answer.masked_fill((silent < self.unknown[name]).unsqueeze(1), torch.nan)
        return told


def _another(truth: Tensor, draws: Tensor) -> Tensor:
    """Return (N, G) an exclusive group with another of its concepts true, drawn by (N, G) numbers; unknown ones stay.

    A group of which nothing is known to be true, but not all known to be false, is unknown.
    """
    chosen = draws.masked_fill(truth > 0.5, -1.0).argmax(1, keepdim=True)
    other = torch.zeros_like(truth).scatter_(1, chosen, 1.0)
    known = (truth > 0.5).any(1, keepdim=True) | ~truth.isnan().any(1, keepdim=True)
    return torch.where(known, other, truth)


def _by_group(key: str, groups: Mapping[str, Sequence[int]], rates: Rates) -> dict[str, float]:
    given = dict(rates) if isinstance(rates, Mapping) else dict.fromkeys(groups, rates)
    for name, rate in given.items():
        if name not in groups:
            raise ConfigError(f"{key}: there is no group '{name}'.{did_you_mean(str(name), groups)}")
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
            raise ConfigError(f"{key}: {rate!r} given for '{name}', a rate from 0 to 1 is needed")
    return {name: float(given.get(name, 0.0)) for name in groups}


def _shown(rates: Mapping[str, float]) -> str:
    if len(set(rates.values())) == 1:
        return f"{100 * next(iter(rates.values())):g} %"
    return ", ".join(f"{100 * rate:g} % ({name})" for name, rate in rates.items() if rate)
