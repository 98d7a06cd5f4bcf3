"""``ibd card``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ibd.app.verbs.base import Verb


def run(run: str, compare: str | None, eu: bool, out: str | None) -> Iterable[str]:
    """Write a model card of a run, as Markdown and HTML: what was measured, and nothing else.

    It measures nothing itself: what is missing is named with the command that measures it. What only a person knows is
    written into RUN/card.yaml, which is never overwritten.
    """
    from pathlib import Path

    from ibd.app.card.card import write_card
    from ibd.app.terminal import newest

    return write_card(newest(run), None if compare is None else Path(compare), eu, None if out is None else Path(out))


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("run", metavar="RUN", help="a run folder or a checkpoint")
    p.add_argument("--compare", metavar="REPORT", help="folder of a report that `ibd compare` wrote with this run")
    p.add_argument("--eu", action="store_true", help="also the headings of the EU AI Act: Annex IV and Article 13")
    p.add_argument("-o", "--out", metavar="FOLDER", help="where to write; default RUN")


VERB = Verb(
    "card",
    run,
    _arguments,
    (
        "ibd card runs/toybirds-cbm",
        "ibd card runs/mine --compare report --eu",
        "ibd card runs/mine -o documents/model",
    ),
    changing=False,
    loading=False,
)
