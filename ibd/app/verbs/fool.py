"""``ibd fool``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ibd.app.verbs.base import Verb, parted, run_or_place
from ibd.errors import ConfigError


def run(rest: list[str], out: str | None) -> Iterable[str]:
    """Test how steady models are under small changes of images: RUN [RUN ...] [radius=4/255] [norm=linf].

    Says how much accuracy is left, draws fooled images, asks explainers about them, and makes one change of all images
    for each model, which is tried on the others. RUN may be package.module:make_model of any network, with data=FOLDER.
    """
    from ibd.app.fool import show_fooling

    runs, changes = parted(rest)
    if not runs:
        raise ConfigError("fool: at least one run is needed: ibd fool RUN [RUN ...]")
    return show_fooling([run_or_place(run) for run in runs], changes, out)


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "rest", nargs="+", metavar="RUN|key=value", help="runs; radius=4/255 norm=linf images=96 universal=0"
    )
    p.add_argument("--out", metavar="FOLDER", help="where to write; default RUN/figures/fool")


VERB = Verb(
    "fool",
    run,
    _arguments,
    (
        "ibd fool runs/toybirds-baseline",
        "ibd fool runs/cnn runs/transformer runs/bcos universal=10/255 images=300",
        "ibd fool mymodels:make_resnet data=photographs model.preprocess=imagenet norm=l2 radius=0.5 universal=0",
    ),
)
