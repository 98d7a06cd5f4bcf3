"""Predicting a folder of photographs into a file, as `ibd predict RUN FOLDER -o FILE` does, over its bare backbone.

Loading the model is left out. CPU time is that of the process that computes and writes: with enough processes that
read, it alone decides on images per second. A ratio of 1.11 by the clock is 0.9 of the backbone's images per second.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from benchmarks.timing import Row, Times, side_by_side
from ibd.app.predictions.decoding import read_in_processes
from ibd.app.predictions.journal import Journal
from ibd.app.predictions.predict import Options, Work
from ibd.models.cbm.lightning import ConceptBottleneck
from ibd.models.columns import table_columns
from ibd.models.trained import TrainedModel
from ibd.types import DataSpec, groups_of

_GROUPS, _VALUES = 28, 4
_BATCH = 16
_PHOTOGRAPH = (500, 375)


def measure(
    repetitions: int, images: int = 96, backbone: str = "resnet18", size: int = 224, workers: tuple[int, ...] = (0, 1)
) -> list[Row]:
    """Return the ratios of predicting with some numbers of processes that read.

    Args:
        repetitions: rounds.
        images: photographs in the folder.
        backbone: name of the network.
        size: side of the images that it is fed with.
        workers: numbers of processes.
    """
    model = _model(backbone, size)
    with tempfile.TemporaryDirectory() as place:
        files = _photographs(Path(place), images)
        batches = [batch.images for batch in read_in_processes(files, model.spec, _BATCH, 0, pinned=False)]
        calls = {f"{n} readers": partial(_predict, model, files, Path(place), n) for n in workers}
        times = side_by_side({"backbone": partial(_backbone, model, batches), **calls}, repetitions)
    return [_row(n, images, model, backbone, times[f"{n} readers"], times["backbone"]) for n in workers]


def _model(backbone: str, size: int) -> TrainedModel:
    names = tuple(f"part{group}::value{value}" for group in range(_GROUPS) for value in range(_VALUES))
    classes = tuple(f"class {number}" for number in range(200))
    torch.manual_seed(0)
    options = {"name": backbone} if backbone == "small_cnn" else {"name": backbone, "weights": None}
    return ConceptBottleneck(DataSpec(classes, names, groups_of(names), image_size=(size, size)), options).eval()


def _photographs(folder: Path, count: int) -> list[str]:
    """Write as many JPEG files, soft as photographs are, and return their paths."""
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for path in paths:
        small = Image.effect_noise((50, 38), 90).convert("RGB")
        small.resize(_PHOTOGRAPH, Image.Resampling.BICUBIC).save(path, quality=90)
    return [str(path) for path in paths]


def _backbone(model: TrainedModel, batches: list[Tensor]) -> None:
    with torch.inference_mode():
        for batch in batches:
            model.network.backbone(batch.float().div_(255))


def _predict(model: TrainedModel, files: list[str], folder: Path, workers: int) -> None:
    columns = table_columns(model.network, sets=False)
    out = folder / "out.csv"
    out.with_name("out.csv.partial").mkdir()
    with Journal(out, {}, columns) as journal:
        Work(model, journal, Options(_BATCH, workers), len(files), 0).predict(files)
        journal.finish()


def _row(workers: int, images: int, model: TrainedModel, backbone: str, ours: Times, bare: Times) -> Row:
    cpu, wall = ours.ratio(bare)
    rates = " against ".join(f"{images / times.medians[1]:.1f}" for times in (ours, bare))
    readers = "the same process reads" if not workers else f"{workers} process{'es' * (workers > 1)} to read"
    height, width = model.spec.image_size
    shapes = (
        f"{images} JPEG of {_PHOTOGRAPH[0]} x {_PHOTOGRAPH[1]}, {backbone}, {height} x {width}, batches of {_BATCH}, "
    )
    shapes += f"{len(model.network.unit_names)} concepts"
    what = f"predicting a folder, {readers} / its backbone"
    return Row(what, shapes, f"{ours} / {bare} ({rates} images/s)", cpu, wall, "<= 1.11" if workers else "")
