"""What filters look at: the images in which each is most active, where it is there, and the part that it keeps to."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

from ibd.data.dataset import ImageDataset
from ibd.drawing import PlainFigure, shorten
from ibd.explain.boxes import field_of, placed
from ibd.explain.figures import GRAY, GREEN, ORANGE, frame_field
from ibd.explain.render import overlay
from ibd.models.base import evaluating
from ibd.models.interpretable_cnn.evaluation import FilterReport
from ibd.models.lightning import InterpretableModule


def shown_filters(report: FilterReport, most: int = 8) -> list[int]:
    """Return the most active unit of each class, those that cover a part best first."""
    found = []
    for label in sorted({*report.category[report.category >= 0].tolist()}):
        members = (report.category == label).nonzero()[:, 0]
        found.append(int(members[report.activation[members].argmax()]))
    covers = report.interpretability.nan_to_num(0.0)
    return sorted(found, key=lambda unit: -float(covers[unit]))[:most]


@torch.no_grad()
def filters_figure(
    model: InterpretableModule, dataset: ImageDataset, report: FilterReport, units: list[int], images: int = 6
) -> Figure:
    """Return a row of images for each unit: those of any class in which it is most active, with its map and its place.

    Args:
        model: the model that was measured.
        dataset: the images that it was measured on.
        report: what `evaluate_filters` found.
        units: units to draw.
        images: images in a row.
    """
    images = min(images, report.strongest.shape[1])
    figure = PlainFigure(figsize=(1.2 * images + 0.3, 1.65 * len(units) + 0.4), layout="constrained")
    figure.set_layout_engine("constrained", h_pad=0.12)
    axes = figure.subplots(len(units), images, squeeze=False)
    size = model.spec.image_size
    classes = model.spec.class_names
    for row, unit in enumerate(units):
        samples = [dataset.load(index) for index in report.strongest[unit, :images].tolist()]
        batch = torch.stack([sample.image for sample in samples]).to(model.device)
        with evaluating(model):
            maps = model(batch).units.maps[:, unit].float().cpu()
        field, scale = field_of(model, maps, size), float(maps.abs().max())
        for axis, sample, heat in zip(axes[row], samples, maps, strict=True):
            axis.set_axis_off()
            axis.imshow(overlay(sample.image, placed(heat, size, field), scale=scale), interpolation="nearest")
            place = int(heat.argmax())
            if field is not None and not field.whole_image:
                frame_field(axis, field, place // heat.shape[1], place % heat.shape[1])
            own = sample.label == int(report.category[unit])
            axis.set_title(shorten(classes[sample.label], 16), fontsize=7, color=GREEN if own else ORANGE)
        title = report.unit_names[unit] if "(" in report.unit_names[unit] else _named(report, classes, unit)
        words = axes[row, 0].text(0, 1.24, title + _part(report, unit), transform=axes[row, 0].transAxes, fontsize=8)
        words.set_in_layout(False)  # it is wider than its image
    figure.suptitle(" ", fontsize=9)  # room for the words above the first row
    note = "Green: of the filter's class. Framed: what its place sees."
    figure.supxlabel(note, fontsize=7, color=GRAY)
    return figure


def _named(report: FilterReport, classes: tuple[str, ...], unit: int) -> str:
    return f"{report.unit_names[unit]} ({classes[int(report.category[unit])]})"


def _part(report: FilterReport, unit: int) -> str:
    """Return the part that is most often at the peak, in words; nothing where parts are not known."""
    shares = report.purity[unit].nan_to_num(-1.0) if report.part_names else torch.zeros(0)
    if not len(shares) or float(shares.max()) < 0:
        return ""
    if not float(shares.max()):
        return ": none of the parts at the peak"
    return f": {report.part_names[int(shares.argmax())]} at the peak in {100 * float(shares.max()):.0f} %"
