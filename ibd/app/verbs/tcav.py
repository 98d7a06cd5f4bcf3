"""``ibd tcav``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ibd.app.verbs.base import Verb, run_or_place


def run(run: str, changes: list[str], out: str | None) -> Iterable[str]:
    """Test which classes rest on which labelled concepts, by a layer: RUN [layer=...] [concepts=a,b] [classes=c].

    RUN may be package.module:make_model of any network, with data=FOLDER and model.preprocess=imagenet or the like.
    """
    from ibd.app.tcav import show_tcav

    return show_tcav(run_or_place(run), changes, out)


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("run", metavar="RUN")
    p.add_argument("changes", nargs="*", metavar="key=value", help="layer=NAME, concepts=a,b classes=c,d images=512")
    p.add_argument("--out", metavar="FOLDER", help="where to write; default RUN/figures")


VERB = Verb(
    "tcav",
    run,
    _arguments,
    (
        "ibd tcav runs/toybirds-baseline",
        "ibd tcav runs/mine layer=backbone.layer3 concepts=wing_color classes=jay,robin",
        "ibd tcav torchvision.models:resnet18 data=photographs layer=layer4 model.preprocess=imagenet",
    ),
)
