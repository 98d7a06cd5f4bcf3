"""Names for concepts by a text-image model of the user's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ibd.app.discovery.naming import Proposal
from ibd.data.selection import SelectedImages
from ibd.errors import ConfigError
from ibd.explain.discovery.scorers import Scorer, fitting_texts, read_texts, text_scores
from ibd.explain.patches import Patches

_SIDE = 224
"""Pixels of the patches that a scorer gets."""
_ABOVE = 0.5
"""Standard deviations above all patches from which on a text is proposed."""


def scored_names(
    place: str,
    scorer: Scorer,
    texts: list[str],
    patches: Patches,
    images: SelectedImages,
    found: list[list[Proposal]],
) -> list[list[Proposal]]:
    """Return the names that are proposed for concepts, with the text that fits the patches of each best.

    Args:
        place: ``package.module:function``, for words.
        scorer: that function.
        texts: texts.
        patches: patches of the concepts.
        images: the images that these are of.
        found: what is proposed already.

    Raises:
        ConfigError: a function that returns no scores.
    """
    there = (patches.image >= 0).nonzero()
    pictures = patches.pictures(images, _SIDE)[there[:, 0], there[:, 1]]
    best, above = fitting_texts(text_scores(scorer, pictures, texts), there[:, 0], len(found))
    return [
        [*names, Proposal(texts[text], f"{place} scores it {far:.1f} deviations above all patches")]
        if text >= 0 and far >= _ABOVE
        else names
        for names, text, far in zip(found, best.tolist(), above.tolist(), strict=True)
    ]


def given_texts(texts: Any) -> list[str]:
    """Return texts that are given as a list, as a file with one in each line, or by commas.

    Raises:
        ConfigError: there is none.
        DataError: a file that cannot be read, or of which the name is misspelt.
    """
    if isinstance(texts, str) and (Path(texts).is_file() or texts.endswith((".txt", ".csv"))):
        return read_texts(texts, "texts")
    if isinstance(texts, str):
        texts = texts.split(",")
    found = [str(text).strip() for text in texts if str(text).strip()]
    if not found:
        raise ConfigError("texts: a file with one text in each line, or a list of them, is needed")
    return found
