"""``ibd test``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ibd.app.verbs.base import Verb


def run(run: str, changes: list[str], which: str, split: str) -> Iterable[str]:
    """Score a run on the test split, which training never looks at, and say where it is wrong.

    Tables, a summary and pictures go to RUN/tested/SPLIT: confusions, classes, concepts, calibration, each image, the
    worst ones as a sheet. by=COLUMN gives accuracy and calibration for each group of images: a column of groups.csv or
    of data.groups, a concept or a group of concepts, or several of these joined by +. A network of anybody's,
    package.module:make_model, takes data=FOLDER and model.key=value.
    """
    from ibd.app.over_data import one_split
    from ibd.app.test import show_test

    return show_test(run, changes, which, one_split("test", split))


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("run", metavar="RUN", help="a run folder or a checkpoint")
    p.add_argument("changes", nargs="*", metavar="key=value", help="by=COLUMN,...; changes to the data: data.root=...")
    p.add_argument("--which", choices=["best", "last"], default="best", help="which checkpoint")
    p.add_argument("--split", choices=["train", "val", "test"], default="test", help="which images")


VERB = Verb(
    "test",
    run,
    _arguments,
    (
        "ibd test runs/toybirds-cbm",
        "ibd test runs/mine data.root=OTHER --which last",
        "ibd test runs/toybirds-cbm by=wing,tail",
        "ibd test runs/mine --split val",
        "ibd test mymodels:make_resnet data=photographs model.preprocess=imagenet",
    ),
)
