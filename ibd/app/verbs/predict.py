"""``ibd predict``."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from pathlib import Path

from ibd.app.terminal import count, newest
from ibd.app.verbs.base import Verb
from ibd.errors import ConfigError, DataError


def run(
    run: str,
    images: list[str],
    figure: str | None,
    top: int,
    out: str | None,
    skip_damaged: bool,
    overwrite: bool,
    probabilities: bool,
    workers: int | None,
    batch_size: int,
    device: str,
) -> Iterable[str]:
    """Say what a model predicts for images, and on which units that rests; -o FILE writes it down for many images.

    With -o, an IMAGE may be a folder (all images in it and below), a pattern in quotes, or a table: *.csv with a column
    file, image or path, relative to the table. FILE has a row for each image: file, class, probability, abstains, and
    the value of each unit. Where one was interrupted or killed, the same command goes on.
    """
    if out is None:
        if skip_damaged or overwrite or probabilities:
            raise ConfigError(
                "--skip-damaged, --overwrite and --probabilities are for predictions that are written down: add -o FILE"
            )
        return _table(newest(run), images, figure, top)
    if figure:
        raise ConfigError("--figure draws predictions that are shown: leave it out, or -o")
    from ibd.app.predictions.predict import Options, predict_files

    options = Options(batch_size, workers, device, skip_damaged, overwrite, probabilities)
    return predict_files(newest(run), images, Path(out), options)


def _table(run: str, images: list[str], figure: str | None, top: int) -> Iterator[str]:
    """Yield the lines of the tables of some images."""
    from ibd.models.loading import load_network

    model = load_network(run)
    try:
        prediction = model.predict(images)
    except DataError as error:
        from ibd.app.predictions.listing import means_many

        if any(map(means_many, images)):
            raise DataError(f"{error} (-o FILE.csv predicts all images of a folder, a pattern or a table)") from None
        raise
    yield from "\n\n".join(prediction.table(index, top) for index in range(len(prediction))).split("\n")
    if figure:
        from ibd.app.pictures import draw_prediction

        yield draw_prediction(run, prediction, model.read_images(images), figure)


def _arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("run", metavar="RUN")
    p.add_argument("images", nargs="+", metavar="IMAGE", help="an image file; with -o also a folder, pattern or table")
    p.add_argument("--figure", metavar="PNG", help="also draw it")
    p.add_argument("--top", type=count, default=10, help="units to show; 0 for all")
    p.add_argument("-o", "--out", metavar="FILE", help="write a row for each image: *.csv, *.jsonl or *.parquet")
    p.add_argument("--skip-damaged", action="store_true", help="list images that cannot be read, and pass over them")
    p.add_argument("--overwrite", action="store_true", help="let FILE replace one that is there")
    p.add_argument("--probabilities", action="store_true", help="write a column with the probability of each class")
    p.add_argument("--workers", type=count, help="processes that read images; default what fits the machine")
    p.add_argument("--batch-size", type=count, default=64, help="images computed at a time")
    p.add_argument("--device", default="auto", help="auto, cpu, cuda, ...; of predictions that are written down")


VERB = Verb(
    "predict",
    run,
    _arguments,
    (
        "ibd predict runs/toybirds-cbm bird.png",
        "ibd predict runs/mine a.jpg b.jpg --figure seen.png --top 0",
        "ibd predict runs/mine photographs -o predicted.csv",
        'ibd predict runs/mine "camera/**/*.jpg" -o predicted.parquet --skip-damaged --workers 8',
    ),
    changing=False,
)
