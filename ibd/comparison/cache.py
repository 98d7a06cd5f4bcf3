"""Finished pieces of a comparison on disk: what was computed once is not computed again."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ibd.comparison.stored import Arrays, Record, joined, split
from ibd.errors import ConfigError, UnsupportedError


class Cache:
    """Records by key, each piece a file that is written whole or not at all.

    A key holds everything that the piece depends on; a piece of other weights, images, options or code is another.
    What a process that was killed had half written is removed: only one at a time uses a folder (`ibd.lock`).

    Args:
        folder: folder of the files; None keeps nothing.
        alone: whether no other process writes into the folder now; else what is half written is left to it.

    Raises:
        ConfigError: nothing can be written there.
    """

    def __init__(self, folder: str | Path | None, alone: bool = True) -> None:
        self._folder = None if folder is None else Path(folder)
        self.computed = self.found = 0
        if self._folder is not None:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                for left in self._folder.glob("*.tmp") if alone else ():
                    left.unlink(missing_ok=True)
            except OSError as error:
                raise ConfigError(f"compare: cannot write to '{folder}': {error.strerror or error}") from None

    def get(self, key: dict[str, Any], kind: type[Record], compute: Callable[[], Record]) -> Record:
        """Return the record of a key: from disk, or computed and kept.

        Args:
            key: all that the record depends on, as plain values.
            kind: kind of record.
            compute: function that makes the record.

        Raises:
            UnsupportedError: computing it does; that is kept, too.
        """
        if self._folder is None:
            self.computed += 1
            return compute()
        path, text = _place(self._folder, key)
        kept = _read(path, text)
        if kept is None:
            kept = _computed(compute)
            self.computed += 1
            _write(path, text, kept)
        else:
            self.found += 1
        if "refused" in kept.plain:
            raise UnsupportedError(kept.plain["refused"])
        return joined(kind, kept.plain["record"], kept.arrays)


class _Piece(NamedTuple):
    """What a file holds: a record, taken apart, or why there is none."""

    plain: dict[str, Any]
    arrays: Arrays


def _computed(compute: Callable[[], object]) -> _Piece:
    arrays: Arrays = {}
    try:
        return _Piece({"record": split(compute(), arrays)}, arrays)
    except UnsupportedError as error:
        return _Piece({"refused": str(error)}, {})


def _write(path: Path, text: str, piece: _Piece) -> None:
    partial = path.with_suffix(f".{socket.gethostname()}.{os.getpid()}.tmp")
    beside = {"__key__": np.array(text), "__plain__": np.array(json.dumps(piece.plain))}
    with partial.open("wb") as file:
        np.savez_compressed(file, **beside, **piece.arrays)  # type: ignore[arg-type]
    partial.replace(path)


def _place(folder: Path, key: Mapping[str, object]) -> tuple[Path, str]:
    """Return the file of a key, and the key as text."""
    text = json.dumps({**key, "code": code_fingerprint()}, sort_keys=True, default=str)
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.npz", text


@cache
def code_fingerprint() -> str:
    """Return a hash of this package's source: a piece that older code computed is computed again."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        if not {"app", "training", "report"} & set(path.relative_to(root).parts):  # of ours: not where it is installed
            digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _read(path: Path, text: str) -> _Piece | None:
    """Return what a file holds; None where there is none, or none that can be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["__key__"]) != text:
                return None
            arrays = {name: file[name] for name in file.files if not name.startswith("__")}
            return _Piece(json.loads(str(file["__plain__"])), arrays)
    except Exception:  # a damaged archive raises whatever its format finds wrong
        return None
