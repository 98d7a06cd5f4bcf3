"""What the command line prints: on any screen, into any pipe, onto a full disk."""

from __future__ import annotations

import codecs
import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ibd.printing import shown

_PLAIN = {"█": "#", "░": "-", "−": "-", "×": "x", "±": "+-", "…": "..", "→": "->", "↑": "^", "↓": "v"}  # noqa: RUF001
_HANDLERS = {"strict": "ibd-plain", "backslashreplace": "ibd-plain", "surrogateescape": "ibd-bytes"}
"""What a stream does about characters that it has not -> what it does here. That of the C locale keeps the bytes of the
names of files."""


@contextmanager
def speaking() -> Iterator[None]:
    """Let nothing that is printed fail on the encoding of a stream.

    Raises:
        OSError: the screen or the file that standard output goes to does not take it.
    """
    codecs.register_error("ibd-plain", _in_other_words)
    codecs.register_error("ibd-bytes", _with_bytes)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in _HANDLERS:
            stream.reconfigure(errors=_HANDLERS[stream.errors])
    if logging.lastResort is not None:
        logging.lastResort.addFilter(_harmless)
    try:
        yield
        sys.stdout.flush()
    except OSError:
        _flush_or_drop()
        raise


def _harmless(record: logging.LogRecord) -> bool:
    """Show the control characters of names in a message as codes."""
    record.msg, record.args = shown(record.getMessage(), keep="\n\t"), ()
    return True


def _in_other_words(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return what stands for characters that an encoding has not: like ones of ours, the codes of a name's."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(map(_plain, text)), error.end


def _with_bytes(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return the same, but the byte itself for what stands for a byte that was no text (PEP 383)."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    parts = [bytes([ord(c) - 0xDC00]) if 0xDC80 <= ord(c) <= 0xDCFF else _plain(c).encode() for c in text]
    return b"".join(parts), error.end


def _plain(character: str) -> str:
    return _PLAIN.get(character, character.encode("ascii", "backslashreplace").decode())


def _flush_or_drop() -> None:
    """Write what is left for standard output, or drop it, so that the end of the process does not try again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def silenced(room: str) -> Iterator[None]:
    """Let the loggers of a part of ibd say nothing for a while, as where the same is done again later."""
    logger = logging.getLogger(room)
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
