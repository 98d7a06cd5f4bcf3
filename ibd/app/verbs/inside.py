"""``ibd inside``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ibd.app.verbs.base import Verb, run_or_place


def run(run: str, image: str, changes: list[str], out: str | None) -> Iterable[str]:
    """Draw what a layer's channels put out for an image, and its weights: RUN IMAGE [layer=NAME] [top=32].

    And how many channels of each layer are blank. RUN may be package.module:make_model of any network, with
    model.preprocess=imagenet or the like.
    """
    from ibd.app.inside import show_inside

    return show_inside(run_or_place(run), image, changes, out)


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("run", metavar="RUN")
    p.add_argument("image", metavar="IMAGE")
    p.add_argument("changes", nargs="*", metavar="key=value", help="layer=NAME top=32 filters=8 inputs=8")
    p.add_argument("--out", metavar="FOLDER", help="where to write; default RUN/figures")


VERB = Verb(
    "inside",
    run,
    _arguments,
    (
        "ibd inside runs/toybirds-baseline bird.png",
        "ibd inside runs/mine image.jpg layer=backbone.layer2 top=64",
        "ibd inside torchvision.models:resnet18 cat.jpg model.preprocess=imagenet layer=layer3.1.conv2",
    ),
)
