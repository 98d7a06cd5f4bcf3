"""``ibd repeat``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ibd.app.terminal import count
from ibd.app.verbs.base import Verb


def run(arguments: list[str], seeds: str | None, folds: int | None) -> Iterable[str]:
    """Train and test a config several times, by seeds or by folds: mean, deviation and interval of every figure.

    Each training is a run of its own in runs/NAME/repeat-TIME. After Ctrl-C or a kill, resume=FOLDER goes on: what is
    trained is not trained again.
    """
    from ibd.app.repeating.repeat import repeat

    return repeat(arguments, seeds, folds)


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "arguments", nargs="+", metavar="CONFIG key=value", help="a YAML file and changes to it; or resume=FOLDER"
    )
    p.add_argument("--seeds", metavar="N", help="a number of trainings, 5, or their seeds, 0,3,7")
    p.add_argument(
        "--folds", type=count, metavar="K", help="folds of the training and validation images, left out in turn"
    )


VERB = Verb(
    "repeat",
    run,
    _arguments,
    (
        "ibd repeat toybirds/tiny --seeds 5",
        "ibd repeat mine.yaml data.root=DATA --seeds 0,3,7",
        "ibd repeat mine.yaml data.together=patient --folds 5",
        "ibd repeat resume=runs/mine/repeat-2026-11-30_05-00-00",
    ),
)
