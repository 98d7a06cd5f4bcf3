"""``ibd why``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ibd.app.verbs.base import Verb, run_or_place


def run(run: str, image: str, changes: list[str], figure: str | None) -> Iterable[str]:
    """Say what would have to be otherwise for another class, and what is enough: RUN IMAGE [not=CLASS or is=CLASS].

    IMAGE is a file, or test:17 for one of the run's data; of toy birds the change is then drawn, and the model asked.
    RUN may be package.module:make_model of any network, with model.preprocess=imagenet or the like: then pixels change.
    """
    from ibd.app.why import show_why

    return show_why(run_or_place(run), image, changes, figure)


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("run", metavar="RUN")
    p.add_argument("image", metavar="IMAGE", help="a file, or test:17")
    p.add_argument(
        "changes",
        nargs="*",
        metavar="key=value",
        help="not=CLASS or is=CLASS, smallest=count|amount margin=0 pixels=false cell=4; data.root=...",
    )
    p.add_argument("--figure", metavar="PNG", help="where to draw; default RUN/figures/why_IMAGE.png")


VERB = Verb(
    "why",
    run,
    _arguments,
    (
        "ibd why runs/toybirds-cbm test:17",
        "ibd why runs/toybirds-cbm bird.png is=marsh_wren",
        "ibd why runs/mine image.jpg not=robin smallest=amount margin=1 pixels=true",
        "ibd why torchvision.models:resnet18 cat.jpg model.preprocess=imagenet",
    ),
)
