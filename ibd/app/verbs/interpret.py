"""``ibd interpret``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ibd.app.verbs.base import Verb, parted, run_or_place


def run(run: str, rest: list[str], out: str | None) -> Iterable[str]:
    """Say which channels of all layers tell the classes, and show them: RUN [IMAGE ...] [layers=a,b] [budget=1].

    Draws what they look like and what the accuracy is without them; explains the predictions of images by those that
    respond. RUN may be package.module:make_model of any network, with data=FOLDER and model.preprocess=imagenet.
    """
    from ibd.app.interpret import show_relevant

    images, changes = parted(rest)
    return show_relevant(run_or_place(run), images, changes, out)


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("run", metavar="RUN")
    p.add_argument("rest", nargs="*", metavar="IMAGE key=value", help="layers=a,b budget=1 images=256 classes=c,d")
    p.add_argument("--out", metavar="FOLDER", help="where to write; default RUN/figures")


VERB = Verb(
    "interpret",
    run,
    _arguments,
    (
        "ibd interpret runs/toybirds-baseline",
        "ibd interpret runs/mine image.jpg layers=backbone.layer3,backbone.layer4 classes=jay,robin",
        "ibd interpret torchvision.models:resnet18 data=photographs model.preprocess=imagenet budget=0.5",
    ),
)
