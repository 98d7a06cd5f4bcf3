"""Names for concepts by a text-image model of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ibd.app.discovery.naming import Proposal
from ibd.data.selection import SelectedImages
from ibd.errors import ConfigError
from ibd.explain.discovery.scorers import find_scorer, fitting_texts, text_scores
from ibd.explain.patches import Patches

_SIDE = 224
"""Pixels of the patches that a scorer gets."""
_ABOVE = 0.5
"""Standard deviations above all patches from which on a text is proposed."""


def scored_names(
    place: str, texts: Any, patches: Patches, images: SelectedImages, found: list[list[Proposal]]
) -> list[list[Proposal]]:
    """Return the names that are proposed for concepts, with the text that fits the patches of each best.

    Args:
        place: ``package.module:function``.
        texts: texts, or a file with one in each line.
        patches: patches of the concepts.
        images: the images that these are of.
        found: what is proposed already.

    Raises:
        ConfigError: no such function or texts, or a function that returns no scores.
    """
    scorer, listed = find_scorer(place), read_texts(texts)
    there = (patches.image >= 0).nonzero()
    pictures = patches.pictures(images, _SIDE)[there[:, 0], there[:, 1]]
    best, above = fitting_texts(text_scores(scorer, pictures, listed), there[:, 0], len(found))
    return [
        [*names, Proposal(listed[text], f"{place} scores it {far:.1f} deviations above all patches")]
        if text >= 0 and far >= _ABOVE
        else names
        for names, text, far in zip(found, best.tolist(), above.tolist(), strict=True)
    ]


def read_texts(texts: Any) -> list[str]:
    """Return texts that are given as a list, as a file with one in each line, or by commas.

    Raises:
        ConfigError: there is none.
    """
    if isinstance(texts, str) and Path(texts).is_file():
        texts = Path(texts).read_text(encoding="utf-8").splitlines()
    elif isinstance(texts, str):
        texts = texts.split(",")
    found = [str(text).strip() for text in texts if str(text).strip()]
    if not found:
        raise ConfigError("texts: a file with one text in each line, or a list of them, is needed")
    return found
