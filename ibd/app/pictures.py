"""The pictures of predictions and of prototypes that the command line writes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ibd.app.terminal import save_figure, writing
from ibd.data.base import ImageDataModule, Split
from ibd.errors import IbdError
from ibd.explain.figures import prediction_figure
from ibd.io import find_run, load_model, load_run_data
from ibd.models.prediction import Prediction
from ibd.models.protopnet.evaluation import evaluate_prototypes, load_with_parts, nearest_patches
from ibd.models.protopnet.explanations import local_explanations, sources_of, to_csv
from ibd.models.protopnet.figures import global_figure, local_figure
from ibd.models.protopnet.lightning import ProtoPNet
from ibd.models.trained import TrainedModel
from ibd.training.display import first_of_each_class

_PER_PAGE = 10
_NEAREST = 3
_MOST_COLUMNS = 8


def figure_of(run: str, model: TrainedModel, prediction: Prediction, images: Tensor) -> Figure:
    """Return the figure of a prediction that fits its model: with source images, for prototypes.

    Args:
        run: run that the model was read from; where its data is not there any more, the sources are left out.
        model: the model.
        prediction: prediction of the images.
        images: (B, 3, H, W) in [0, 1].
    """
    if not isinstance(model, ProtoPNet):
        return prediction_figure(prediction, images)
    data = None
    with contextlib.suppress(IbdError):
        data = load_run_data(run)
    return local_figure(model, prediction, images, data)


def draw_prediction(run: str, prediction: Prediction, images: Tensor, path: str) -> str:
    """Write the figure of a prediction; return a line on it.

    Args:
        run: run that predicted.
        prediction: prediction of the images.
        images: (B, 3, H, W) in [0, 1].
        path: file to write.
    """
    return f"figure: {save_figure(figure_of(run, load_model(run), prediction, images), Path(path))}"


def show_prototypes(
    run: str, changes: Sequence[str], split: Split, images: int, top: int, pages: int, out: Path | None
) -> Iterator[str]:
    """Measure and draw the prototypes of a run; yield lines on it for a person, as they come.

    Args:
        run: RUN of the command line.
        changes: changes to its data.
        split: images to measure, and to explain.
        images: number of images to draw.
        top: prototypes of each image; 0 for all.
        pages: pages of ten prototypes each; 0 for all.
        out: folder to write into.

    Raises:
        UnsupportedError: the model has no prototypes.
        ConfigError: there is no such split, or a file cannot be written.
    """
    model, data = load_with_parts(run, *changes)
    folder = out or find_run(run) / "figures" / "prototypes"
    for name, value in evaluate_prototypes(model, data, split).items():
        yield f"{name:<28} {value:.4g}"
    sources = folder / "prototypes.json"
    with writing(sources):
        sources.write_text(json.dumps([s.to_dict() for s in sources_of(model).values()], indent=1), encoding="utf-8")
    yield f"sources: {sources}"
    for path in _draw_global(model, data, split, pages, folder):
        yield f"figure:  {path}"
    for path in _draw_local(model, data, split, images, top, folder):
        yield f"figure:  {path}"
    kept = int(model.network.mask.sum())
    if 0 < pages * _PER_PAGE < kept:
        yield f"({pages * _PER_PAGE} of {kept} prototypes are drawn; --pages 0 draws all)"
    table = folder / "local.csv"
    with writing(table):
        rows = local_explanations(model, data.loader(split), top, dataset=data.dataset(split))
        count = to_csv(chain.from_iterable(rows), table)
    yield f"table:   {table} ({count} rows)"


def _draw_global(model: ProtoPNet, data: ImageDataModule, split: Split, pages: int, folder: Path) -> Iterator[Path]:
    """Draw what the kept prototypes are and respond to; yield the files."""
    kept = model.network.mask.nonzero().flatten().tolist()
    shown = kept[: pages * _PER_PAGE or None]
    nearest = nearest_patches(model, data, "train", _NEAREST + 1)  # one of them may be the source
    nearest += nearest_patches(model, data, split, _NEAREST) if split != "train" else []
    parts = [shown[start : start + _PER_PAGE] for start in range(0, len(shown), _PER_PAGE)]
    for page, part in enumerate(parts):
        name = "global.png" if len(parts) == 1 else f"global_{page + 1}.png"
        yield save_figure(global_figure(model, data, nearest, part, _NEAREST), folder / name)


def _draw_local(
    model: ProtoPNet, data: ImageDataModule, split: Split, count: int, top: int, folder: Path
) -> Iterator[Path]:
    """Draw what the predictions of some images rest on; yield the files."""
    dataset = data.dataset(split)
    for index in first_of_each_class(dataset.labels, count):
        sample = dataset[index]
        image, label = sample.image.unsqueeze(0), torch.tensor([sample.label])
        columns = min(top or _MOST_COLUMNS, _MOST_COLUMNS)
        figure = local_figure(model, model.predict(image), image, data, columns, label)
        yield save_figure(figure, folder / f"local_{split}_{index}.png")
