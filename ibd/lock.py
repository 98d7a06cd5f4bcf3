"""One process at a time in a folder: a second training of a run, or comparison into a folder, is refused."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from ibd.errors import ConfigError, no_file

LOCK = "running.lock"
"""The file in a folder that something writes to: process, when that began, computer."""


@contextlib.contextmanager
def locked(folder: str | Path | None, doing: str, key: str) -> Iterator[None]:
    """Keep others out of a folder for as long as this lasts.

    The lock of a process that is no more, as after a kill, is taken over. Whether a process of another computer is
    still there cannot be known: its lock stays until somebody deletes the file.

    Args:
        folder: folder to lock, made where it is missing; None locks nothing.
        doing: work of a process in that folder, for the line that the second gets.
        key: key of the option that names the folder, for the line where it cannot be written to.

    Raises:
        ConfigError: another process holds it, or it cannot be written to.
    """
    if folder is None:
        yield
        return
    path = Path(folder) / LOCK
    made = [parent for parent in (path.parent, *path.parent.parents) if not parent.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _take(path, doing)
    except OSError as error:
        raise ConfigError(f"{key}: cannot write to '{folder}': {error.strerror or error}") from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()
            for parent in made:  # where nothing has been written
                parent.rmdir()


def _take(path: Path, doing: str) -> None:
    own = f"{os.getpid()} {_began(os.getpid())} {socket.gethostname()}"
    while True:
        with contextlib.suppress(FileExistsError):
            with path.open("x", encoding="utf-8") as file:
                file.write(own)
            return
        holder = _read(path)
        if _holds(holder):
            process, _, computer = holder.split()
            raise ConfigError(
                f"'{path.parent}' is in use: {doing} is running there (process {process} on {computer}); if it is "
                f"no longer, delete '{path}'"
            )
        _clear_away(path, holder)


def _read(path: Path) -> str:
    """Return what a lock says; an empty one is given the moment that its process needs to write it."""
    for _ in range(10):
        with contextlib.suppress(FileNotFoundError):
            if text := _text(path):
                return text
        time.sleep(0.02)
    return ""


def _text(path: Path) -> str:
    """Return what is in a file; nothing where it is a pipe, which a stranger's run may hold, and which would wait."""
    return path.read_text(encoding="utf-8", errors="replace") if no_file(path) is None else ""


def _clear_away(path: Path, holder: str) -> None:
    """Remove a lock that nobody holds, unless another process was quicker and it is that one's now."""
    aside = path.with_suffix(f".{os.getpid()}.old")
    with contextlib.suppress(FileNotFoundError):
        path.rename(aside)
        if _text(aside) != holder:
            aside.rename(path)
        else:
            aside.unlink()


def _holds(holder: str) -> bool:
    """Return whether the process that a lock names is still there, as far as can be known."""
    parts = holder.split()
    if len(parts) != 3 or not parts[0].isdecimal():
        return False  # its process was killed as it wrote it
    process, began, computer = parts
    if computer != socket.gethostname() or os.name != "posix":  # elsewhere, asking by signal 0 would end the process
        return True
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return _began(int(process)) in (began, "-")


def _began(process: int) -> str:
    """Return when a process began, which tells it from a later one of the same number.

    "" where it has ended and only waits for its parent to ask, "-" where that is not told.
    """
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return "" if state in "ZX" else fields[18]
    except (OSError, IndexError, ValueError):
        return "-"
