"""What the verb `axes` writes: figures on the axes of a run, pictures, tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from ibd.app.terminal import save_figure, writing
from ibd.data.base import ImageDataModule, Split
from ibd.io import find_run, load_run
from ibd.models.concept_whitening.charts import (
    auc_figure,
    correlation_figure,
    importance_figure,
    purity_figure,
    trajectory_figure,
)
from ibd.models.concept_whitening.evaluation import evaluate_axes, top_images
from ibd.models.concept_whitening.figures import axis_maps_figure, top_images_figure
from ibd.models.concept_whitening.lightning import ConceptWhitening
from ibd.models.concept_whitening.reading import annotated, concept_columns
from ibd.models.concept_whitening.report import AxisReport, save_top_images
from ibd.models.concept_whitening.top_images import TopImage, require_axes
from ibd.training.display import first_of_each_class
from ibd.types import stack_samples

_PER_PAGE = 10
_MOST_COLUMNS = 12
_PER_PICTURE = 4
_MAPS = 5


def show_axes(
    run: str,
    changes: Sequence[str],
    baseline: str | None,
    split: Split,
    images: int,
    top: int,
    pages: int,
    out: Path | None,
) -> Iterator[str]:
    """Measure and draw the axes of a run; yield lines on it for a person, as they come.

    Args:
        run: RUN of the command line.
        changes: changes to its data.
        baseline: RUN of the same network without whitening; None compares with nothing.
        split: images to measure, and to draw.
        images: number of images to draw maps of; 0 for none.
        top: images of each axis; 0 for none.
        pages: pages of ten axes each; 0 for all.
        out: folder to write into.

    Raises:
        UnsupportedError: the model has no axes that stand for concepts.
        ConfigError: there is no such split, the baseline is of another kind, or a file cannot be written.
    """
    loaded, data = load_run(run, *changes)
    model = require_axes(loaded)
    folder = out or find_run(run) / "figures" / "axes"
    report = evaluate_axes(model, data, split, baseline)
    for name, value in sorted(report.figures.items()):
        yield f"{name:<36} {value:.4g}"
    with writing(folder / "axes.json"):
        for path in report.save(folder):
            yield f"table:   {path}"
    for path in _draw_charts(report, folder):
        yield f"figure:  {path}"
    shown = top_images(model, data, split, top, report=report) if top else []
    table = folder / "top_images.csv"
    with writing(table):
        count = save_top_images(shown, table)
    yield f"table:   {table} ({count} rows)"
    for path in _draw_top(shown, data, split, pages, folder):
        yield f"figure:  {path}"
    if 0 < pages * _PER_PAGE < len(report.concept_names) and top:
        yield f"({pages * _PER_PAGE} of {len(report.concept_names)} axes are drawn; --pages 0 draws all)"
    for path in _draw_maps(model, data, split, images, folder):
        yield f"figure:  {path}"


def _draw_charts(report: AxisReport, folder: Path) -> Iterator[Path]:
    """Draw what was measured; yield the files."""
    names = report.concept_names
    yield save_figure(correlation_figure(report.correlation, report.baseline_correlation), folder / "correlation.png")
    yield save_figure(importance_figure(**report.importance, names=names), folder / "importance.png")
    if "axis_purity" not in report.figures:
        return
    yield save_figure(auc_figure(report.auc, names), folder / "auc.png")
    own = report.auc.diagonal()
    purity = purity_figure(own, names, report.best_channel, report.best_channel_optimistic)
    yield save_figure(purity, folder / "purity.png")
    if len(report.trajectory) > 1:
        yield save_figure(trajectory_figure(report.trajectory, names), folder / "trajectory.png")


def _draw_top(
    shown: Sequence[TopImage], data: ImageDataModule, split: Split, pages: int, folder: Path
) -> Iterator[Path]:
    """Draw the images that activate the axes most, ten axes to a page; yield the files."""
    dataset = data.dataset(split)
    axes = list(dict.fromkeys(image.axis for image in shown))[: pages * _PER_PAGE or None]
    parts = [axes[start : start + _PER_PAGE] for start in range(0, len(axes), _PER_PAGE)]
    for page, part in enumerate(parts):
        name = "top_images.png" if len(parts) == 1 else f"top_images_{page + 1}.png"
        rows = [image for image in shown if image.axis in part and image.rank < _MOST_COLUMNS]
        yield save_figure(top_images_figure(rows, dataset), folder / name)


def _draw_maps(
    model: ConceptWhitening, data: ImageDataModule, split: Split, count: int, folder: Path
) -> Iterator[Path]:
    """Draw where axes are seen in some images, four to a picture; yield the files."""
    dataset = data.dataset(split)
    chosen = first_of_each_class(dataset.labels, count)
    columns = concept_columns(model.network, data.spec)
    parts = [chosen[start : start + _PER_PICTURE] for start in range(0, len(chosen), _PER_PICTURE)]
    for page, part in enumerate(parts):
        batch = stack_samples([dataset[index] for index in part])
        known = annotated(batch.concepts, columns)
        concepts = None if bool(torch.isnan(known).all()) else known
        figure = axis_maps_figure(model.predict(batch.image), batch.image, batch.label, concepts, _MAPS)
        name = f"maps_{split}.png" if len(parts) == 1 else f"maps_{split}_{page + 1}.png"
        yield save_figure(figure, folder / name)
