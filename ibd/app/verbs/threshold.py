"""``ibd threshold``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ibd.app.verbs.base import Verb


def run(run: str, changes: list[str], which: str) -> Iterable[str]:
    """Set from which probability on concepts are called present, and classes answered: RUN [precision=0.95] [...].

    precision=0.95 takes for each concept the smallest threshold that has it on the validation images, accuracy=0.95 one
    of the class's confidence, below which there is no answer. value=0.7 and confidence=0.7 set them by hand,
    concept=NAME,NAME is for some concepts; precision=null and accuracy=null take them away. Without any, it says what
    is set. A name with a comma: 'concept=["a, b"]'.
    """
    from ibd.app.terminal import newest
    from ibd.app.threshold import show_thresholds

    return show_thresholds(newest(run), changes, which)


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("run", metavar="RUN")
    p.add_argument("changes", nargs="*", metavar="key=value", help="precision, value, concept, accuracy, confidence")
    p.add_argument("--which", choices=["best", "last"], default="best", help="checkpoint")


VERB = Verb(
    "threshold",
    run,
    _arguments,
    (
        "ibd threshold runs/toybirds-cbm precision=0.95",
        "ibd threshold runs/toybirds-cbm value=0.8 concept=wing::red_oval",
        "ibd threshold runs/toybirds-cbm accuracy=0.98",
    ),
)
