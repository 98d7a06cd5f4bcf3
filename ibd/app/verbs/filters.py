"""``ibd filters``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ibd.app.terminal import count
from ibd.app.verbs.base import Verb


def run(run: str, changes: list[str], split: str, top: int, out: str | None) -> Iterable[str]:
    """Say how far the filters (or other units) of a run keep to one part of one class: figures, a table, a picture."""
    from pathlib import Path

    from ibd.app.filters import show_filters
    from ibd.app.terminal import newest
    from ibd.data.base import SPLITS

    chosen = next(name for name in SPLITS if name == split)
    return show_filters(newest(run), changes, chosen, top, Path(out) if out else None)


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("run", metavar="RUN")
    p.add_argument("changes", nargs="*", metavar="key=value", help="changes to the data, such as data.root=FOLDER")
    p.add_argument("--split", choices=["train", "val", "test"], default="test", help="the images to measure")
    p.add_argument("--top", type=count, default=8, help="filters to draw; 0 for none")
    p.add_argument("--out", metavar="FOLDER", help="where to write; default RUN/figures/filters")


VERB = Verb(
    "filters",
    run,
    _arguments,
    ("ibd filters runs/toybirds-interpretable_cnn", "ibd filters runs/toybirds-baseline --split val"),
)
