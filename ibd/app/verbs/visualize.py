"""``ibd visualize``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from ibd.app.verbs.base import Verb, parted, run_or_place


def run(run: str, rest: list[str], out: str | None) -> Iterable[str]:
    """Make images that classes, units or channels respond to: RUN [TARGET ...] [recipes=fourier,maco,...|all].

    A target is a class or unit by name, or LAYER:NUMBER for a channel. RUN may be package.module:make_model of any
    network, with model.preprocess=imagenet or the like, and data=FOLDER for recipes that learn from images.
    """
    from ibd.app.visualize import show_visualizations

    targets, changes = parted(rest)
    return show_visualizations(run_or_place(run), targets, changes, out)


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("run", metavar="RUN")
    p.add_argument("rest", nargs="*", metavar="TARGET key=value", help="recipes=a,b or all, steps=256 size=128 seed=0")
    p.add_argument("--out", metavar="PNG", help="where to draw; default RUN/figures/visualized.png")


VERB = Verb(
    "visualize",
    run,
    _arguments,
    (
        "ibd visualize runs/toybirds-cbm",
        "ibd visualize runs/toybirds-cbm alpine_wren woodland_martin recipes=all",
        "ibd visualize runs/mine backbone.layer4:3 backbone.layer4:17 steps=512",
        "ibd visualize torchvision.models:resnet18 281 980 model.preprocess=imagenet",
    ),
)
