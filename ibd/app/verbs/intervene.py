"""``ibd intervene``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

from ibd.app.terminal import count, edits, newest, read_values
from ibd.app.verbs.base import Verb


def run(
    run: str, image: str, values: list[str], figure: str | None, out: str | None, overwrite: bool, top: int
) -> Iterable[str]:
    """Set units by hand and show the prediction before and after: RUN IMAGE name=value ...

    -o FILE writes both down: *.json with the logits of all classes, *.csv with the columns of `ibd predict -o`.
    """
    from ibd.app.correcting import check_out, write_correction
    from ibd.models.loading import load_network

    wanted, run = edits(values), newest(run)
    check_out(out, overwrite)
    model = load_network(run)
    before = model.predict(image)
    read = read_values(wanted, model.network)
    after = before.intervene(read)
    yield from f"before\n{before.table(0, top)}\n\nafter {', '.join(values)}\n{after.table(0, top)}".split("\n")
    if figure:
        from ibd.app.pictures import draw_prediction

        yield draw_prediction(run, before.join(after), model.read_images([image, image]), figure)
    if out:
        given = {name: value if isinstance(value, float) else wanted[name] for name, value in read.items()}
        yield write_correction(before, after, given, run, image, Path(out))


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("run", metavar="RUN")
    p.add_argument("image", metavar="IMAGE")
    p.add_argument("values", nargs="+", metavar="NAME=VALUE", help="wing_color::red=1, or wing_color=red")
    p.add_argument("--figure", metavar="PNG", help="also draw it")
    p.add_argument("-o", "--out", metavar="FILE", help="also write it down: *.json or *.csv")
    p.add_argument("--overwrite", action="store_true", help="let FILE replace one that is there")
    p.add_argument("--top", type=count, default=10, help="units to show; 0 for all")


VERB = Verb(
    "intervene",
    run,
    _arguments,
    (
        "ibd intervene runs/toybirds-cbm bird.png tail=green_spike",
        "ibd intervene runs/mine image.jpg wing_color=red length=12.5 --figure before_and_after.png",
        'ibd intervene runs/toybirds-protopnet bird.png "prototype 17=0" -o corrected.json',
    ),
    changing=False,
)
