"""A text-image model of the user's own: a function that says how well texts fit images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ibd import registry
from ibd.errors import ConfigError, DataError, no_file, told

Scorer = Callable[[Tensor, list[str]], Any]
"""(images (B, 3, H, W) in [0, 1], T texts) -> (B, T) scores, higher where a text fits better."""

_TOGETHER = 64


def find_scorer(place: str) -> Scorer:
    """Return the function that ``package.module:function`` names.

    Raises:
        ConfigError: there is none.
        UntrustedError: a run that is not trusted names it.
    """
    found = registry.own_object(place, "scorer")
    if not callable(found):
        raise ConfigError(f"scorer: '{place}' is no function ({type(found).__name__})")
    return found  # type: ignore[no-any-return]


def read_texts(path: str, what: str) -> list[str]:
    """Return the texts of a file, one in each line.

    Args:
        path: the file.
        what: option that names it, with which a message begins.

    Raises:
        DataError: there is no such file, no text in it, or one twice.
    """
    file = Path(path)
    if (kind := no_file(file)) is not None or not file.exists():
        raise DataError(f"{what}: no file of texts '{path}'" + (f": it is {kind}" if kind else ""))
    try:
        texts = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{what}: '{path}' is no text file ({type(error).__name__})") from None
    twice = next((text for place, text in enumerate(texts) if text in texts[:place]), None)
    if not texts or twice is not None:
        raise DataError(f"{what}: '{path}' has " + (f"'{twice}' twice" if texts else "no texts"))
    return texts


def text_scores(scorer: Scorer, images: Tensor, texts: Sequence[str]) -> Tensor:
    """Return the (N, T) scores of texts for (N, 3, H, W) images, a few images at a time, checked.

    Raises:
        ConfigError: no texts, a scorer that fails, or one that returns something else than (B, T) finite numbers.
    """
    if not len(texts):
        raise ConfigError("scorer: texts are needed that it can score")
    found = []
    for part in torch.split(images, _TOGETHER):
        try:
            with torch.no_grad():
                scores = torch.as_tensor(scorer(part, list(texts)))
        except Exception as error:  # whatever the code of a stranger does
            raise ConfigError(f"scorer: it fails: {told(error)}") from error
        if tuple(scores.shape) != (len(part), len(texts)):
            raise ConfigError(
                f"scorer: it returns {tuple(scores.shape)} for {len(part)} images and {len(texts)} texts: "
                f"({len(part)}, {len(texts)}) numbers are needed"
            )
        if scores.is_complex() or not bool(scores.isfinite().all()):
            raise ConfigError("scorer: it returns values that are not finite numbers")
        found.append(scores.detach().float().cpu())
    return torch.cat(found)


def fitting_texts(scores: Tensor, groups: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the text that fits the pictures of each group best, compared with all pictures.

    Args:
        scores: (N, T) of N pictures.
        groups: (N,) number of the group of each, from 0.
        count: number G of groups.

    Returns:
        Which text, (G,), -1 for a group without pictures; and how far its mean in the group lies above that of all
        pictures, in standard deviations of that text's scores, (G,).
    """
    spread = scores.std(0, unbiased=False).clamp_min(1e-12)
    standard = (scores - scores.mean(0)) / spread
    best, above = torch.full((count,), -1), torch.full((count,), torch.nan)
    for group in range(count):
        if bool((groups == group).any()):
            above[group], best[group] = standard[groups == group].mean(0).max(0)
    return best, above
