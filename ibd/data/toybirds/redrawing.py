"""A scene redrawn so that concepts that are said of it hold, or do not: what an account in concepts looks like."""

from __future__ import annotations

from collections.abc import Mapping

from ibd.data.toybirds.parts import PARTS, VARIANTS, factors_of
from ibd.data.toybirds.scene import Scene
from ibd.data.toybirds.vocabulary import concept_names, part_of
from ibd.errors import UnsupportedError


def redraw(scene: Scene, concepts: Mapping[str, bool]) -> Scene:
    """Return a scene of which some concepts hold, or do not; all else stays as it is.

    A part of which a concept holds is drawn in that variant, or color, or shape. One of which a concept that it has no
    longer holds, and no other instead, is taken away.

    Args:
        scene: scene of the image.
        concepts: concept, of variants (``wing::red_oval``) or of factors (``wing_color::red``) -> whether it holds.

    Raises:
        ConfigError: a name that is no concept of a toy bird.
        UnsupportedError: two of them cannot hold of one part.
    """
    parts = {part_of(name) for name in concepts}
    for part in (part for part in PARTS if part in parts):
        about = {name: holds for name, holds in concepts.items() if part_of(name) == part}
        variant = _variant(part, scene.parts[part], about)
        scene = scene.remove(part) if variant is None else scene.replace(part, variant)
    return scene


def _variant(part: str, now: str | None, concepts: Mapping[str, bool]) -> str | None:
    """Return the variant of a part of which concepts hold, or not; None where it has to go."""
    options = [*VARIANTS[part]]
    for name, holds in concepts.items():
        if holds:
            options = [variant for variant in options if _holds(name, part, variant)]
    if not options:
        wanted = " and ".join(name for name, holds in concepts.items() if holds)
        raise UnsupportedError(f"no {part} can be drawn of which {wanted} hold at once")
    fits = [variant for variant in options if not any(_holds(n, part, variant) for n, h in concepts.items() if not h)]
    if not any(concepts.values()):
        return now if now in fits else None
    alike = factors_of(part, now).values() if now is not None else ()
    return max(fits or options, key=lambda variant: sum(value in alike for value in factors_of(part, variant).values()))


def _holds(name: str, part: str, variant: str) -> bool:
    """Return whether a concept holds of a part in a variant."""
    group, _, value = name.partition("::")
    return value == variant if group == part else factors_of(part, variant)[group.removeprefix(f"{part}_")] == value


def changed_parts(before: Scene, after: Scene) -> list[str]:
    """Return in words what is otherwise: ``wing: red_oval -> blue_oval``, ``tail: red_fan -> none``."""
    return [
        f"{part}: {before.parts[part] or 'none'} -> {after.parts[part] or 'none'}"
        for part in PARTS
        if before.parts[part] != after.parts[part]
    ]


def is_concept(name: str) -> bool:
    """Return whether a name is one of a toy bird's concepts."""
    return name in concept_names("variants") or name in concept_names("factored")
