"""``ibd invert``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ibd.app.verbs.base import Verb, run_or_place


def run(run: str, image: str, changes: list[str], out: str | None) -> Iterable[str]:
    """Show what layers still know of an image, by images that they say the same of: RUN IMAGE [layers=a,b].

    RUN may be package.module:make_model of any network, with model.preprocess=imagenet or the like.
    """
    from ibd.app.dream import show_inversion

    return show_inversion(run_or_place(run), image, changes, out)


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("run", metavar="RUN")
    p.add_argument("image", metavar="IMAGE")
    p.add_argument("changes", nargs="*", metavar="key=value", help="layers=a,b steps=256 size=128 seed=0")
    p.add_argument("--out", metavar="PNG", help="where to draw; default RUN/figures/inverted_IMAGE.png")


VERB = Verb(
    "invert",
    run,
    _arguments,
    (
        "ibd invert runs/toybirds-baseline bird.png",
        "ibd invert torchvision.models:resnet18 photograph.jpg layers=layer1,layer4 model.preprocess=imagenet",
    ),
)
