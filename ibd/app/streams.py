"""What the command line prints: on any screen, into any pipe, onto a full disk."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_PLAIN = {"█": "#", "░": "-", "−": "-", "×": "x", "±": "+-", "…": "..", "→": "->", "↑": "^", "↓": "v"}  # noqa: RUF001
_HANDLER = "ibd-plain"


@contextmanager
def speaking() -> Iterator[None]:
    """Let nothing that is printed fail on the encoding of a stream.

    Raises:
        OSError: the screen or the file that standard output goes to does not take it.
    """
    codecs.register_error(_HANDLER, _in_other_words)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "backslashreplace", "surrogateescape"):
            stream.reconfigure(errors=_HANDLER)
    try:
        yield
        sys.stdout.flush()
    except OSError:
        _flush_or_drop()
        raise


def _in_other_words(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return what stands for characters that an encoding has not: like ones of ours, the codes of a name's."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(each, each.encode("ascii", "backslashreplace").decode()) for each in text), error.end


def _flush_or_drop() -> None:
    """Write what is left for standard output, or drop it, so that the end of the process does not try again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
