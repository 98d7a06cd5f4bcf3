"""What the verbs of the command line share: reading ``name=value``, writing files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ibd.errors import ConfigError
from ibd.printing import shown

if TYPE_CHECKING:
    from ibd.models.base import InterpretableNetwork
    from ibd.models.values import Value


def edits(values: Sequence[str]) -> dict[str, str]:
    """Take ``name=value`` strings apart."""
    edits: dict[str, str] = {}
    for text in values:
        name, equals, value = text.rpartition("=")
        if not equals or not name or not value:
            raise ConfigError(f"'{text}': name=value is needed, such as wing_color::red=1")
        if name in edits:
            raise ConfigError(f"'{name}' is given twice")
        edits[name] = value
    return edits


def read_values(edits: dict[str, str], network: InterpretableNetwork) -> dict[str, Value]:
    """Return what words of the command line set units to: a number, ``x0.5`` for a factor, or the member of a group."""
    return {name: text if _is_group(name, network) else _read_value(text) for name, text in edits.items()}


def _is_group(name: str, network: InterpretableNetwork) -> bool:
    return name in network.unit_groups and name not in network.unit_names


def _read_value(text: str) -> Value:
    from ibd.models.values import Scale

    scaled = text.startswith("x")
    try:
        number = float(text[scaled:])
    except ValueError:
        return text
    return Scale(number) if scaled else number


def options(changes: Sequence[str]) -> dict[str, Any]:
    """Turn ``key=value`` strings into the options of a block."""
    from ibd.config.sources import Sources, parse_override

    for text in changes:
        if "=" not in text:
            raise ConfigError(f"'{text}': key=value is needed")
    return Sources(layers=[parse_override(text) for text in changes]).merged


def newest(run: str) -> str:
    """Return the run that RUN of the command line means; of a folder of several say on standard error which.

    Raises:
        CheckpointError: there is none, or no name is given.
    """
    from ibd.io import find_run, runs_in

    folder = find_run(run)
    count = len(runs_in(run))
    if count < 2 or folder == Path(run):
        return run
    print(shown(f"'{run}' holds {count} runs; using the newest: {folder}"), file=sys.stderr)  # noqa: T201
    return str(folder)


def count(text: str) -> int:
    """Read a number that may be 0."""
    if int(text) < 0:
        raise argparse.ArgumentTypeError(f"{text} given, at least 0 is needed")
    return int(text)


def save_figure(figure: Any, path: Path) -> Path:
    """Write a figure, in the format that its name says, or as PNG; return where it is."""
    path = path if path.suffix else path.with_suffix(".png")
    with writing(path):
        figure.savefig(path, dpi=120)
    return path


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make the folder of a file that is written now; what goes wrong with that is the user's to mend."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(f"cannot write '{path}': '{path.parent}' is not a folder") from None
    except OSError as error:
        raise ConfigError(f"cannot write '{path}': {error.strerror or error}") from None
    except ValueError as error:  # a picture of a format that there is not
        raise ConfigError(f"cannot write '{path}': {error}") from None
