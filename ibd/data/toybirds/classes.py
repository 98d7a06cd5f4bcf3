"""What makes a bird one of its class: which variants go with it, and which parts suffice to tell.

Structures:
    random: every class is a combination of five variants; any two differ in `min_distance` parts or more.
    single: one part decides, every class has a variant of it.
    double: two parts decide together, every class has a combination of them.
    xor: two parts decide together and neither says anything alone (class = sum of their variants modulo C).
    linked: two parts decide together, and all parts go together: each tail with two wings, each wing with two tails,
        and beak, eye and foot with the tail, in most images; `linked_birds` says which.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ibd.data.toybirds.parts import PARTS, VARIANTS, check_parts
from ibd.errors import ConfigError

Structure = Literal["random", "single", "double", "xor", "linked"]
Bird = dict[str, str]
"""Part -> variant, all five."""

HABITATS = (
    "marsh", "alpine", "coastal", "desert", "forest", "garden", "harbour", "island", "meadow", "northern",
    "orchard", "prairie", "river", "savanna", "southern", "tundra", "valley", "woodland",
)  # fmt: skip
SPECIES = (
    "wren", "finch", "plover", "thrush", "lark", "heron", "swift", "warbler", "sparrow", "kestrel",
    "robin", "tern", "starling", "pipit", "bunting", "oriole", "petrel", "martin",
)  # fmt: skip
MAX_CLASSES = len(HABITATS) * len(SPECIES)
LINKED_REDRAW = 0.2
"""How often a part of the structure "linked" that goes with the tail is drawn at random instead."""


@dataclass(frozen=True)
class ToyClasses:
    """The definition of the classes.

    Attributes:
        names: the C class names.
        deciding: the parts that define the classes.
        birds: birds that each class is drawn from; one, except for "xor".
        redraw: probability that a part which does not decide is re-drawn for an image, at random.
    """

    names: tuple[str, ...]
    deciding: tuple[str, ...]
    birds: tuple[tuple[Bird, ...], ...]
    redraw: float

    @property
    def informative(self) -> tuple[str, ...]:
        """The parts that are certain to tell something: all of them where none is re-drawn."""
        return PARTS if self.redraw == 0 else self.deciding

    def consistent(self, parts: Mapping[str, str | None]) -> tuple[int, ...]:
        """Return the classes that a bird may be of, by what it has; missing or removed parts exclude nothing.

        The uniform distribution over them is the right answer for an image with parts removed.
        """
        shown = [(part, parts[part]) for part in self.informative if parts.get(part) is not None]
        matches = [any(all(bird[p] == v for p, v in shown) for bird in birds) for birds in self.birds]
        return tuple(c for c, match in enumerate(matches) if match)

    def is_sufficient(self, cls: int, parts: Sequence[str]) -> bool:
        """Return whether these parts alone always tell that a bird is of class `cls`."""
        return all(self.consistent({part: bird[part] for part in parts}) == (cls,) for bird in self.birds[cls])

    def minimal_sets(self, cls: int) -> tuple[tuple[str, ...], ...]:
        """Return the minimal sufficient sets of parts: each tells the class, and no part of it can be spared."""
        minimal: list[tuple[str, ...]] = []
        for size in range(len(self.informative) + 1):
            for parts in itertools.combinations(self.informative, size):
                if not any(set(smaller) <= set(parts) for smaller in minimal) and self.is_sufficient(cls, parts):
                    minimal.append(parts)
        return tuple(minimal)

    def part_weights(self, cls: int) -> dict[str, float]:
        """Return for each part the share of the class's minimal sufficient sets that it is in."""
        minimal = self.minimal_sets(cls)
        return {part: sum(part in parts for parts in minimal) / max(len(minimal), 1) for part in PARTS}

    def relevant(self, cls: int) -> tuple[str, ...]:
        """Return the parts that are in some minimal sufficient set, those that discriminate the class."""
        return tuple(part for part, weight in self.part_weights(cls).items() if weight > 0)

    def irrelevant(self, cls: int) -> tuple[str, ...]:
        """Return the parts that are in none; body, background, distractors and tag are irrelevant for every class."""
        return tuple(part for part, weight in self.part_weights(cls).items() if weight == 0)


def class_names(num_classes: int) -> tuple[str, ...]:
    """Return unique two-word names, which say nothing of how the birds look."""
    n = len(SPECIES)
    return tuple(f"{HABITATS[(i + i // n) % len(HABITATS)]}_{SPECIES[i % n]}" for i in range(num_classes))


def make_classes(
    structure: Structure,
    num_classes: int,
    redraw: float | None = None,
    seed: int = 0,
    deciding: Sequence[str] | None = None,
    min_distance: int = 2,
) -> ToyClasses:
    """Define classes.

    Args:
        structure: structure of the classes, see the module.
        num_classes: number of classes.
        redraw: probability that a part which does not decide is re-drawn for an image; None means 0 for "random",
            `LINKED_REDRAW` for "linked", else 1.
        seed: seed of the choice of combinations.
        deciding: the parts that decide; None takes wing (or tail, for more than 6 classes) for "single", tail and
            wing for "double", "xor" and "linked", and for "random" all five, or the fewest that tell all classes apart
            if `redraw` is above 0.
        min_distance: number of parts in which two classes of "random" differ at least.

    Raises:
        ConfigError: an argument is wrong, or that many classes cannot be made.
    """
    if redraw is None:
        redraw = {"random": 0.0, "linked": LINKED_REDRAW}.get(structure, 1.0)
    _check(structure, num_classes, redraw, deciding, min_distance)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, num_classes])))
    typical = _distant_birds(rng, num_classes, min_distance if structure == "random" else 0)
    if structure == "random":
        parts = tuple(deciding or (PARTS if redraw == 0 else _separating_parts(typical)))
        options: list[list[Bird]] = [[{}]] * num_classes
        if len({tuple(bird[part] for part in parts) for bird in typical}) < num_classes:
            raise ConfigError(f"data.deciding_parts: {', '.join(parts)} do not tell the {num_classes} classes apart")
    else:
        parts = tuple(deciding or _default_deciding(structure, num_classes))
        if structure == "linked":
            options = [[bird] for bird in linked_birds(num_classes, parts)]
        else:
            options = _xor(num_classes, parts) if structure == "xor" else _combinations(rng, num_classes, parts)
    birds = tuple(tuple(bird | own for own in choices) for bird, choices in zip(typical, options, strict=True))
    return ToyClasses(class_names(num_classes), parts, birds, redraw)


def _check(
    structure: Structure, num_classes: int, redraw: float, deciding: Sequence[str] | None, min_distance: int
) -> None:
    if not 0 <= redraw <= 1:
        raise ConfigError(f"data.redraw: {redraw} given, 0 to 1 is needed")
    if not 0 < min_distance <= len(PARTS):
        raise ConfigError(f"data.min_distance: {min_distance} given, 1 to {len(PARTS)} is needed")
    wanted = {"single": 1, "double": 2, "xor": 2, "linked": 2}.get(structure)
    count = None if deciding is None else len(set(check_parts(deciding)))
    if deciding is not None and count != (wanted or len(deciding)):
        needed = f"{wanted} different" if wanted else "only different"
        raise ConfigError(f"data.deciding_parts: {list(deciding)} given, '{structure}' needs {needed} parts")
    if num_classes > capacity(structure, deciding):
        most = capacity(structure, deciding)
        raise ConfigError(f"data.num_classes: {num_classes} given, the structure '{structure}' has {most} at most")


def capacity(structure: Structure, deciding: Sequence[str] | None = None) -> int:
    """Return the largest number of classes that a structure can have; a bound only, for "random"."""
    if structure == "random":
        return MAX_CLASSES
    sizes = [len(VARIANTS[part]) for part in deciding or (("tail",) if structure == "single" else ("tail", "wing"))]
    if structure == "linked":
        return 2 * min(sizes)
    return min(sizes) if structure == "xor" else math.prod(sizes)


def _default_deciding(structure: Structure, num_classes: int) -> tuple[str, ...]:
    if structure == "single":
        return ("wing",) if num_classes <= len(VARIANTS["wing"]) else ("tail",)
    return ("tail", "wing")


def _distant_birds(rng: np.random.Generator, count: int, distance: int) -> list[Bird]:
    """Draw birds, each different from those before in `distance` parts or more."""
    chosen: list[tuple[str, ...]] = []
    every = list(itertools.product(*(VARIANTS[part] for part in PARTS)))
    for i in rng.permutation(len(every)):
        if len(chosen) == count:
            break
        if all(sum(a != b for a, b in zip(every[i], other, strict=True)) >= distance for other in chosen):
            chosen.append(every[i])
    if len(chosen) < count:
        raise ConfigError(
            f"data.num_classes: {count} given, at most {len(chosen)} birds that differ in {distance} parts were found"
        )
    return [dict(zip(PARTS, variants, strict=True)) for variants in chosen]


def _separating_parts(birds: list[Bird]) -> tuple[str, ...]:
    """Return the fewest parts in which all birds differ."""
    subsets = itertools.chain.from_iterable(itertools.combinations(PARTS, n) for n in range(1, len(PARTS) + 1))
    return next(s for s in subsets if len({tuple(bird[part] for part in s) for bird in birds}) == len(birds))


def _combinations(rng: np.random.Generator, count: int, parts: tuple[str, ...]) -> list[list[Bird]]:
    every = list(itertools.product(*(VARIANTS[part] for part in parts)))
    return [[dict(zip(parts, every[i], strict=True))] for i in rng.permutation(len(every))[:count]]


def _xor(count: int, parts: tuple[str, ...]) -> list[list[Bird]]:
    first, second = parts
    return [
        [{first: VARIANTS[first][i], second: VARIANTS[second][(cls - i) % count]} for i in range(count)]
        for cls in range(count)
    ]


def linked_birds(count: int, parts: Sequence[str] = ("tail", "wing")) -> list[Bird]:
    """Return the typical bird of each class of the structure "linked", with all five parts.

    Classes 2 t and 2 t + 1 have the first part's variant t, and the second's t or t + 1 (the last one begins again with
    0). Every other part has variant t, or begins again where it has fewer; the last of these is shifted by one each
    time that it does, so that no two of them say the same.

    Args:
        count: number of classes.
        parts: the two parts that decide.
    """
    first, second = parts
    families = max((count + 1) // 2, 2)
    others = [part for part in PARTS if part not in parts]
    birds = []
    for cls in range(count):
        t = cls // 2
        bird = {first: VARIANTS[first][t], second: VARIANTS[second][(t + cls % 2) % families]}
        for place, part in enumerate(others):
            options = VARIANTS[part]
            bird[part] = options[(t + (t // len(options) if place == len(others) - 1 else 0)) % len(options)]
        birds.append(bird)
    return birds
