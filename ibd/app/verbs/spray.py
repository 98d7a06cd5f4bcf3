"""``ibd spray``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ibd.app.verbs.base import Verb, run_or_place


def run(run: str, changes: list[str], out: str | None) -> Iterable[str]:
    """Cluster the relevance maps of each class, and say which clusters are strange: RUN [classes=a,b] [explainer=lrp].

    A model that reads a watermark has a cluster of its own for the images that have one (SpRAy). RUN may be
    package.module:make_model of any network, with data=FOLDER and model.preprocess=imagenet or the like.
    """
    from ibd.app.spray import show_spray

    return show_spray(run_or_place(run), changes, out)


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("run", metavar="RUN")
    p.add_argument("changes", nargs="*", metavar="key=value", help="classes=a,b images=400 explainer=lrp clusters=3")
    p.add_argument("--out", metavar="FOLDER", help="where to write; default RUN/figures/spray")


VERB = Verb(
    "spray",
    run,
    _arguments,
    (
        "ibd spray runs/toybirds-hans",
        "ibd spray runs/mine classes=jay,robin explainer=integrated_gradients images=200",
        "ibd spray torchvision.models:resnet18 data=photographs model.preprocess=imagenet",
    ),
)
