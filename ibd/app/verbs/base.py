"""What a verb of the command line is that has a file of its own."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """A verb: ``ibd NAME ...``.

    Attributes:
        name: what is typed.
        run: yields the lines to print, as they come about; called with what `arguments` reads, by name. The first line
            of its docstring is the verb's help. Heavy imports happen inside of it.
        arguments: adds what the verb takes to its parser.
        examples: commands as they are typed.
        changing: whether ``--key=value`` stands for the change ``key=value``.
        loading: whether it reads a run, which may name classes of the user's own: it then has ``--trust``.
    """

    name: str
    run: Callable[..., Iterable[str]]
    arguments: Callable[[argparse.ArgumentParser], None]
    examples: tuple[str, ...]
    changing: bool = True
    loading: bool = True


def parted(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what is no change, and the changes ``key=value``; a file that exists is none, whatever its name."""
    changes = [text for text in words if "=" in text and not os.path.exists(text)]  # noqa: PTH110  # long ones, too
    return [text for text in words if text not in changes], changes


def run_or_place(run: str) -> str:
    """Return the newest run of a folder, or ``package.module:make_model`` as it is."""
    from ibd.app.foreign import is_place
    from ibd.app.terminal import newest

    return run if is_place(run) else newest(run)
