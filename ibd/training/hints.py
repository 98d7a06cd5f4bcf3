"""Commands that a person is told to type next; they work as they are printed."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from ibd.config.sources import read_yaml
from ibd.errors import ConfigError


def command(verb: str, run: str | Path) -> str:
    """Return ``ibd VERB RUN``, or for "fit" that which goes on with a run.

    A run that names classes of its user's own gets ``--trust``, without which nothing reads it.

    Args:
        verb: verb of the command line.
        run: a run folder.
    """
    words = ["ibd", verb, f"resume={run}" if verb == "fit" else str(run)]
    return shlex.join([*words, "--trust"] if names_own_classes(Path(run) / "config.yaml") else words)


def names_own_classes(file: Path) -> bool:
    """Return whether a config names classes that are none of ours; not where it cannot be read."""
    try:
        config = read_yaml(file)
    except ConfigError:
        return False
    return any(":" in name for block in config.values() for name in _names(block))  # the name of the run is no class


def _names(block: object) -> Iterator[str]:
    """Return what a config calls its classes: each ``name`` of a block, and its explainers."""
    if not isinstance(block, dict):
        return
    for key, value in block.items():
        if key == "explainers":
            yield from map(str, value or ())
        elif key == "name":
            yield str(value)
        else:
            yield from _names(value)
