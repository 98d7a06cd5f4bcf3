"""The words for what can be seen: concepts by variant, ``wing::red_oval``, or by factor, ``wing_color::red``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from ibd.data.toybirds.parts import FACTORS, PARTS, VARIANTS, factors_of
from ibd.errors import ConfigError, did_you_mean

Concepts = Literal["variants", "factored"]
Absent = Literal["zero", "ignore"]


def concept_names(kind: Concepts, parts: Sequence[str] = PARTS) -> tuple[str, ...]:
    """Return the concepts of these parts: 26 variants, or 22 values of factors, for all five."""
    if kind == "variants":
        return tuple(f"{part}::{variant}" for part in parts for variant in VARIANTS[part])
    return tuple(
        f"{part}_{factor}::{value}" for part in parts for factor, values in FACTORS[part].items() for value in values
    )


def part_of(concept: str) -> str:
    """Return the part that a concept is about.

    Raises:
        ConfigError: there is no such concept.
    """
    known = concept_names("variants") + concept_names("factored")
    if concept not in known:
        raise ConfigError(f"'{concept}' is not a concept of a toy bird.{did_you_mean(concept, known)}")
    return concept.split("::")[0].split("_")[0]


def holding(kind: Concepts, part: str, variant: str) -> tuple[str, ...]:
    """Return the concepts that hold of a part in `variant`."""
    if kind == "variants":
        return (f"{part}::{variant}",)
    return tuple(f"{part}_{factor}::{value}" for factor, value in factors_of(part, variant).items())


def annotate(
    names: Sequence[str], kind: Concepts, parts: Mapping[str, str | None], absent: Absent, unseen: Sequence[str] = ()
) -> list[float]:
    """Return the concept labels of one bird, in the order of `names`.

    Args:
        names: the concepts asked for, of one vocabulary.
        kind: kind of the vocabulary.
        parts: part -> variant, None where removed.
        absent: value of a concept of a part that is removed or unseen: 0 ("zero") or NaN ("ignore").
        unseen: the parts that are there but hidden.
    """
    seen = {part: variant for part, variant in parts.items() if variant is not None and part not in unseen}
    true = {name for part, variant in seen.items() for name in holding(kind, part, variant)}
    missing = float("nan") if absent == "ignore" else 0.0
    return [1.0 if n in true else 0.0 if n.split("::")[0].split("_")[0] in seen else missing for n in names]
