"""``ibd atlas``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ibd.app.verbs.base import Verb, run_or_place


def run(run: str, changes: list[str], out: str | None) -> Iterable[str]:
    """Draw an activation atlas of a layer: what it holds at many places of many images: RUN [layer=NAME] [grid=10].

    Each cell has what excites the layer so, in a frame of the class that it speaks for. Ctrl-C draws what is done. RUN
    may be package.module:make_model of any network, with data=FOLDER and model.preprocess=imagenet or the like.
    """
    from ibd.app.atlas import show_atlas

    return show_atlas(run_or_place(run), changes, out)


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("run", metavar="RUN")
    p.add_argument(
        "changes",
        nargs="*",
        metavar="key=value",
        help="layer=NAME grid=10 places=2000 steps=128 classes=a,b method=tsne",
    )
    p.add_argument("--out", metavar="FOLDER", help="where to write; default RUN/figures")


VERB = Verb(
    "atlas",
    run,
    _arguments,
    (
        "ibd atlas runs/toybirds-baseline",
        "ibd atlas runs/mine layer=backbone.layer3 grid=14 places=5000 classes=jay,robin",
        "ibd atlas torchvision.models:resnet18 data=photographs model.preprocess=imagenet layer=layer4",
    ),
)
