"""``ibd discover``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from ibd.app.verbs.base import Verb


def run(run: str, changes: list[str], out: str) -> Iterable[str]:
    """Find concepts in a layer that nobody labelled, and write a page by which they can be named: RUN [key=value].

    RUN may be the name of a backbone, with weights= and data=FOLDER; or package.module:make_model of any network, with
    data=FOLDER and model.preprocess=imagenet or the like.
    """
    from ibd.app.discovery.command import show_concepts
    from ibd.app.terminal import newest

    return show_concepts(newest(run) if Path(run).exists() else run, changes, out)


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("run", metavar="RUN", help="a run folder or a checkpoint, a backbone's name, package.module:make")
    p.add_argument("changes", nargs="*", metavar="key=value", help="method=nmf k=20 layer=NAME class=NAME data=FOLDER")
    p.add_argument("-o", "--out", metavar="FOLDER", default="discovered", help="where to write; default discovered")


VERB = Verb(
    "discover",
    run,
    _arguments,
    (
        "ibd discover runs/mine k=auto class=robin -o robins",
        "ibd discover timm/resnet18 weights=DEFAULT data=photographs method=sae active=3 k=20",
        "ibd discover mymodels:make_resnet data=photographs model.preprocess=imagenet layer=layer4 k=[5,10,20]",
    ),
)
