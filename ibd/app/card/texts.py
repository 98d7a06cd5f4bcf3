"""What a person writes into a card: ``card.yaml`` of the run, which is never written over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ibd.app.terminal import writing
from ibd.config.sources import read_yaml
from ibd.errors import ConfigError, did_you_mean

TEXTS = "card.yaml"
_HEAD = """\
# Texts of the model card that only a person can write; `ibd card` reads them and never changes what stands here.
# Write after the colon, or below it with | for several lines. What stays empty is marked in the card.
"""


def read_texts(run: Path, prompts: Mapping[str, str]) -> dict[str, str]:
    """Return the texts of a run by their key; "" where nobody has written one.

    Args:
        run: the run folder.
        prompts: key -> what is to be written, of all texts that a card can have.

    Raises:
        ConfigError: the file is malformed, or has a key that no card has.
    """
    path = run / TEXTS
    given = read_yaml(path) if path.exists() else {}
    for key, text in given.items():
        if key not in prompts:
            raise ConfigError(f"'{path}': there is no text '{key}' in a card.{did_you_mean(str(key), prompts)}")
        if text is not None and not isinstance(text, str | int | float):
            raise ConfigError(f"'{path}': {key}: a text is needed, not a {type(text).__name__}; | begins several lines")
    return {key: "" if given.get(key) is None else str(given[key]).strip() for key in prompts}


def add_prompts(run: Path, prompts: Mapping[str, str]) -> int:
    """Add the texts that a run's file does not ask for yet at its end, empty; return how many.

    Raises:
        ConfigError: it cannot be written.
    """
    path = run / TEXTS
    known = read_yaml(path) if path.exists() else {}
    missing = {key: prompt for key, prompt in prompts.items() if key not in known}
    if not missing:
        return 0
    before = path.read_text(encoding="utf-8") if path.exists() else _HEAD
    lines = [f"\n# {prompt}\n{key}:\n" for key, prompt in missing.items()]
    temporary = path.with_suffix(".yaml.tmp")
    with writing(path):
        temporary.write_text(before.rstrip("\n") + "\n" + "".join(lines), encoding="utf-8")
        temporary.replace(path)
    return len(missing)
