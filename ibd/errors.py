"""The errors a user can cause. Each message is one line: what was wrong, where, what would be right."""

from __future__ import annotations

import difflib
import errno
import heapq
import math
import os
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path


class IbdError(Exception):
    """Base of every error that is the user's to mend; the command line prints it and exits with 2."""

    def __init__(self, message: str = "") -> None:
        if "Original Traceback" in message:  # a loader process hands its error over with a traceback before it
            message = message.strip().splitlines()[-1].partition(": ")[2]
        super().__init__(message)


class ConfigError(IbdError):
    """A configuration file, an override or an argument is wrong."""


class UntrustedError(ConfigError):
    """A run or checkpoint names a class that is none of ours, and nobody has said that it is to be trusted."""


class DataError(IbdError):
    """The images or their annotations are wrong; the message names the file and, where it has one, the line."""


class CheckpointError(IbdError):
    """A run folder or checkpoint is missing, corrupt or does not fit."""


class UnsupportedError(IbdError):
    """The request is well formed, but this model or machine cannot do it."""


def check_range(key: str, value: float, least: float | None = None, above: float | None = None) -> None:
    """Check a number of a configuration.

    Args:
        key: the place of the number, as the user writes it.
        value: the number.
        least: the smallest one that is right.
        above: bound that it must be larger than.

    Raises:
        ConfigError: it is smaller, infinite, or not a number at all (NaN).
    """
    if least is not None and not least <= value < math.inf:
        raise ConfigError(f"{key}: {value} given, at least {least} is needed")
    if above is not None and not above < value < math.inf:
        raise ConfigError(f"{key}: {value} given, more than {above} is needed")


MOST_WEIGHTS = 10**9
"""More than this in a layer is a slip of the hand, and would be drawn at random for hours, if the memory held it."""


def check_weights(key: str, value: int, weights: int) -> None:
    """Check a size of a network, before anything is made of it.

    Args:
        key: the place of the size, as the user writes it.
        value: the size.
        weights: least number of weights that it makes.

    Raises:
        ConfigError: more than memory is likely to hold.
    """
    if weights > MOST_WEIGHTS:
        raise ConfigError(
            f"{key}: {value} given, which makes 10^{math.log10(weights):.0f} weights or more, too many for memory; "
            "at most 10^9 are allowed"
        )


def check_once(key: str, names: Sequence[str]) -> None:
    """Check that no name is in a list twice.

    Raises:
        ConfigError: one is.
    """
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{key}: '{name}' is given twice")


def no_file(path: str | Path) -> str | None:
    """Return in words what stands where a file is to be read; None for a file, and where there is nothing.

    To be asked before a file is opened that somebody names: opening a pipe waits for whoever writes to it, and a device
    such as /dev/zero has no end.
    """
    place = Path(path)
    if place.is_dir():
        return "a folder"
    return "a pipe or a device" if place.exists() and not place.is_file() else None


_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.ENAMETOOLONG}
_WRITER = ("PytorchStreamWriter failed", "inline_container.cc")
"""What PyTorch says where it cannot write a file, whatever the reason was."""


def disk_trouble(error: BaseException | None) -> str | None:
    """Return in words why a file could not be read or written: a full disk, a folder that is read-only, ...

    Args:
        error: error that was caught; what it was raised from, or amid, is looked at too.

    Returns:
        A reason, with the file where that is known; None where the error has another one.
    """
    reason = None
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK:
            name = f"'{os.fsdecode(error.filename)}': " if isinstance(error.filename, str | bytes) else ""
            return f"{name}{os.strerror(error.errno)}"
        if isinstance(error, RuntimeError) and any(text in str(error) for text in _WRITER):
            reason = "PyTorch could not write it: is the disk full?"
        error = error.__cause__ or error.__context__
    return reason


_NO_MEMORY = ("can't allocate memory", "out of memory", "Storage size calculation overflowed")
"""What PyTorch says where it gets no memory, on a processor or an accelerator."""


def lacks_memory(error: BaseException) -> bool:
    """Return whether an error says that there is not enough memory."""
    return isinstance(error, MemoryError) or any(text in str(error) for text in _NO_MEMORY)


_MANY = 2000
"""Names that are compared in no time; half a million, such as the paths of all images, would take half a minute."""


def told(error: Exception) -> str:
    """Return what an error of the user's own code says, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _alike(given: str, names: Collection[str]) -> Collection[str]:
    """Return the names to compare with: of very many those with the most at both ends in common with what is given."""
    if len(names) <= _MANY:
        return names

    def common(name: str) -> int:
        return sum(len(os.path.commonprefix(pair)) for pair in ((given, name), (given[::-1], name[::-1])))  # noqa: RUF071

    return heapq.nlargest(_MANY, names, key=common)


_SUGGESTED = 3


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the names nearest to `given`, or, failing that, the allowed names.

    Args:
        given: name that the user wrote.
        allowed: the names that would have been right.

    Returns:
        A sentence that begins with a space, so that it can be appended to a message; empty if nothing is allowed.
    """
    names = list(allowed)
    lowered, written = {name.lower(): name for name in names}, given.lower()
    near = [lowered[key] for key in difflib.get_close_matches(written, _alike(written, lowered), _SUGGESTED)]
    if not near:  # a value without its group, or half a name: `red` for `wing_color::red`
        near = [name for name in names if given and written in name.lower()][:_SUGGESTED]
    if len(near) == 1:
        return f" Did you mean '{near[0]}'?"
    if near:
        return " Did you mean one of: " + ", ".join(f"'{name}'" for name in near) + "?"
    if not names:
        return ""
    shown = ", ".join(names[:12]) + (f", ... ({len(names)} in all)" if len(names) > 12 else "")
    return f" Known: {shown}."
