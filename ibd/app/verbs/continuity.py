"""``ibd continuity``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ibd.app.verbs.base import Verb, run_or_place


def run(run: str, image: str, changes: list[str], figure: str | None) -> Iterable[str]:
    """Move an image pixel by pixel and show whether its explanations go along: RUN IMAGE [explainers=a,b] [steps=8].

    Says the largest relative change of each map in a step, by that of the image (Montavon 2018), and draws all of them.
    RUN may be package.module:make_model of any network, with model.preprocess=imagenet.
    """
    from ibd.app.continuity import show_continuity

    return show_continuity(run_or_place(run), image, changes, figure)


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("run", metavar="RUN")
    p.add_argument("image", metavar="IMAGE")
    p.add_argument("changes", nargs="*", metavar="key=value", help="explainers=a,b steps=8 pixels=1 target=CLASS")
    p.add_argument("--figure", metavar="PNG", help="where to draw; default RUN/figures/continuity_IMAGE.png")


VERB = Verb(
    "continuity",
    run,
    _arguments,
    (
        "ibd continuity runs/toybirds-baseline bird.png",
        "ibd continuity runs/mine image.jpg explainers=gradient_input,lrp,smoothgrad steps=16",
    ),
)
