"""A correction of one image, written to a file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ibd.app.records import Word, as_csv, as_record
from ibd.app.terminal import writing
from ibd.errors import ConfigError
from ibd.models.columns import written
from ibd.models.prediction import Prediction

_FORMATS = (".json", ".csv")


def check_out(out: str | None, overwrite: bool) -> None:
    """Look whether a file can be written, before the work.

    Args:
        out: the file; None for none.
        overwrite: whether it may replace one that is there.

    Raises:
        ConfigError: it cannot, or it is there.
    """
    if out is None:
        if overwrite:
            raise ConfigError("--overwrite is for a correction that is written down: add -o FILE")
        return
    if Path(out).suffix not in _FORMATS:
        raise ConfigError(f"-o: '{out}': the name must end with {' or '.join(_FORMATS)}")
    if Path(out).is_dir():
        raise ConfigError(f"-o: '{out}' is a folder, a file is needed")
    if Path(out).exists() and not overwrite:
        raise ConfigError(f"-o: '{out}' is there already: name another file, or add --overwrite")


def write_correction(
    before: Prediction, after: Prediction, edits: Mapping[str, Word], run: str, image: str, out: Path
) -> str:
    """Write what was predicted before and after a correction; return a line on it.

    Args:
        before: prediction for one image.
        after: the same with the correction.
        edits: the correction.
        run: the run.
        image: file of the image.
        out: file to write, whose name ends with .json or .csv.

    Raises:
        ConfigError: the file cannot be written.
    """
    name = written(image)
    if out.suffix == ".csv":
        text = as_csv(before, after, name)
    else:
        text = json.dumps(as_record(before, after, name, edits, run, image), ensure_ascii=False, indent=1) + "\n"
    with writing(out):
        out.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")  # a name may be no text
    return f"written: {out}"
