"""``ibd dream``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ibd.app.verbs.base import Verb, run_or_place


def run(run: str, image: str, changes: list[str], out: str | None) -> Iterable[str]:
    """Make stronger what a layer sees in an image (DeepDream): RUN IMAGE [layer=NAME] [channel=5] [target=CLASS].

    RUN may be package.module:make_model of any network, with model.preprocess=imagenet or the like.
    """
    from ibd.app.dream import show_dream

    return show_dream(run_or_place(run), image, changes, out)


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("run", metavar="RUN")
    p.add_argument("image", metavar="IMAGE")
    p.add_argument("changes", nargs="*", metavar="key=value", help="layer=NAME octaves=4 scale=1.4 steps=20 size=320")
    p.add_argument("--out", metavar="PNG", help="where to draw; default RUN/figures/dream_IMAGE.png")


VERB = Verb(
    "dream",
    run,
    _arguments,
    (
        "ibd dream runs/mine photograph.jpg layer=backbone.layer3 size=320",
        "ibd dream torchvision.models:resnet18 photograph.jpg layer=layer3 model.preprocess=imagenet",
        "ibd dream runs/toybirds-baseline bird.png target=alpine_wren octaves=2",
    ),
)
