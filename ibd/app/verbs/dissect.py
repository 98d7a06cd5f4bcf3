"""``ibd dissect``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ibd.app.verbs.base import Verb, run_or_place


def run(run: str, changes: list[str], out: str | None) -> Iterable[str]:
    """Say which annotated parts and concepts every channel of layers detects: RUN [layers=a,b] [images=1000].

    Names forms of several concepts where one is not enough, and segments each concept by few and by all filters. RUN
    may be package.module:make_model of any network, with data=FOLDER data.masks=NAME and model.preprocess=imagenet.
    """
    from ibd.app.dissection.command import show_dissection

    return show_dissection(run_or_place(run), changes, out)


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("run", metavar="RUN")
    p.add_argument("changes", nargs="*", metavar="key=value", help="layers=a,b images=1000 length=3 net2vec=all")
    p.add_argument("--out", metavar="FOLDER", help="where to write; default RUN/figures/dissection")


VERB = Verb(
    "dissect",
    run,
    _arguments,
    (
        "ibd dissect runs/toybirds-baseline",
        "ibd dissect runs/mine layers=backbone.layer3,backbone.layer4 net2vec=all",
        "ibd dissect torchvision.models:resnet18 data=photographs data.masks=masks model.preprocess=imagenet",
    ),
)
