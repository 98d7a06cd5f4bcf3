"""``ibd map``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ibd.app.verbs.base import Verb, run_or_place


def run(run: str, changes: list[str], out: str | None) -> Iterable[str]:
    """Lay images out on a map by what a layer makes of them: RUN [layer=NAME] [color=class] [method=tsne].

    Draws points by class, concept or error, and thumbnails. RUN may be package.module:make_model of any network, with
    data=FOLDER and model.preprocess=imagenet or the like.
    """
    from ibd.app.code_map import show_map

    return show_map(run_or_place(run), changes, out)


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("run", metavar="RUN")
    p.add_argument(
        "changes", nargs="*", metavar="key=value", help="layer=NAME or units, color=class, error or CONCEPT, images=500"
    )
    p.add_argument("--out", metavar="FOLDER", help="where to write; default RUN/figures")


VERB = Verb(
    "map",
    run,
    _arguments,
    (
        "ibd map runs/toybirds-cbm",
        "ibd map runs/mine layer=backbone.layer3 color=error method=pca images=1000",
        "ibd map torchvision.models:resnet18 data=photographs model.preprocess=imagenet layer=avgpool",
    ),
)
