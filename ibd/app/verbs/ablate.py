"""``ibd ablate``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ibd.app.verbs.base import Verb, run_or_place


def run(run: str, changes: list[str], out: str | None) -> Iterable[str]:
    """Take the relevant channels of layers out and say what the accuracy is: RUN [layers=a,b] [method=lrp].

    The most relevant first, the least relevant first, and at random; and where images have masks, how well as many
    channels meet them. RUN may be package.module:make_model of any network, with data=FOLDER and
    model.preprocess=imagenet. replacement=mean puts a channel's mean in its place, orders=all takes one order for all
    classes.
    """
    from ibd.app.ablate import show_ablation

    return show_ablation(run_or_place(run), changes, out)


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("run", metavar="RUN")
    p.add_argument("changes", nargs="*", metavar="key=value", help="layers=a,b method=lrp replacement=mean images=256")
    p.add_argument("--out", metavar="FOLDER", help="where to write; default RUN/figures")


VERB = Verb(
    "ablate",
    run,
    _arguments,
    (
        "ibd ablate runs/toybirds-baseline",
        "ibd ablate runs/mine layers=backbone.layer3,backbone.layer4 replacement=mean",
        "ibd ablate torchvision.models:resnet18 data=photographs model.preprocess=imagenet layers=layer4",
    ),
)
