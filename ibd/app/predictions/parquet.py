"""Rows of predictions as a Parquet file, by pyarrow, an optional extra."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ibd.errors import UnsupportedError
from ibd.models.columns import ABSTAINS, CLASS, CLASS_SET, FILE, PRESENT

_CHUNK = 8192
"""Rows in memory at a time."""


def require_parquet() -> None:
    """Look whether Parquet can be written, before hours of work.

    Raises:
        UnsupportedError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise UnsupportedError("a .parquet file needs pyarrow: pip install 'ibd[tables]'") from None


def write_parquet(rows: Path, path: Path, columns: list[str]) -> None:
    """Write lines of JSON as Parquet, a few thousand at a time; numbers are float32."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = pa.list_(pa.string())
    texts = {FILE: pa.string(), CLASS: pa.string(), ABSTAINS: pa.bool_(), CLASS_SET: names, PRESENT: names}
    schema = pa.schema([(name, texts.get(name, pa.float32())) for name in columns])
    with rows.open(encoding="utf-8", newline="\n") as file, pq.ParquetWriter(path, schema) as writer:
        for chunk in _chunks(map(json.loads, file)):
            writer.write_table(pa.Table.from_pylist(chunk, schema))


def _chunks(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while chunk := list(islice(rows, _CHUNK)):
        yield chunk
