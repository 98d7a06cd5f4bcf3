"""Figures of axes: nothing is cut off or overlaps, colors are the truth, numbers are those that were given."""

import itertools
import math

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text

from ibd.explain.figures import GRAY, GREEN, ORANGE
from ibd.explain.render import overlay
from ibd.models.concept_whitening.charts import (
    auc_figure,
    correlation_figure,
    importance_figure,
    purity_figure,
    trajectory_figure,
)
from ibd.models.concept_whitening.figures import axis_maps_figure, top_images_figure
from ibd.models.concept_whitening.top_images import TopImage
from tests.axis_makers import AxisModule
from tests.model_makers import CONCEPTS, SPEC, TensorData

LONG = [
    f"{part}_color::{value}"
    for part in ("wing", "tail_feathers", "beak", "underparts_of_the_whole_bird", "eye")
    for value in ("red", "iridescent_blue", "green", "brown_with_gray_stripes", "white", "yellow")
]
SLOW = pytest.mark.slow
GENERATOR = torch.Generator().manual_seed(0)


def rand(*shape):
    return torch.rand(*shape, generator=GENERATOR, dtype=torch.float64)


def matrix(count, axes=40):
    auc = rand(count, max(count, axes))
    auc[count // 2] = torch.nan
    return auc


def pictures(names, columns=6):
    """Return a row of images for each name, annotated by 1, 0, NaN in turn; the last name's by nothing."""
    truth = [1.0, 0.0, math.nan]
    return [
        TopImage(
            axis, name, rank, (7 * axis + rank) % 30, "x", 3.5 - rank, "ant",
            math.nan if len(names) - 1 == axis > 0 else truth[rank % 3],
        )
        for axis, name in enumerate(names)
        for rank in range(columns)
    ]  # fmt: skip


def predicted(names=CONCEPTS, count=3):
    """Return a prediction of some images by a network with axes of these names."""
    torch.manual_seed(0)
    model = AxisModule(concept_names=names, width=max(4, -(-len(names) // 4)))
    images = TensorData().splits["test"][0][:count]
    return model.predict(images), images


def maps(names, count):
    prediction, images = predicted(names, count)
    return axis_maps_figure(prediction, images, torch.ones(count).long(), torch.ones(count, len(names)))


FIGURES = {
    "auc": lambda names: auc_figure(matrix(len(names)), names),
    "correlation": lambda names: correlation_figure(matrix(70, 70)[:, :70], matrix(70, 70)[:, :70]),
    "correlation alone": lambda names: correlation_figure(torch.eye(8)),
    "importance": lambda names: importance_figure(rand(len(names)) - 0.3, rand(len(names)) - 0.3, names),
    "purity": lambda names: purity_figure(rand(len(names)), names, rand(len(names)), rand(len(names))),
    "purity alone": lambda names: purity_figure(rand(len(names)), names),
    "trajectory": lambda names: trajectory_figure({f"layer{i}.1.bn1": rand(len(names)) for i in range(8)}, names),
    "two layers": lambda names: trajectory_figure({f"stage{i}.norm": rand(len(names)) for i in range(2)}, names),
    "top images": lambda names: top_images_figure(pictures(names[-10:]), TensorData().dataset("test")),
    "one image": lambda names: top_images_figure(pictures(names[:1], 1), TensorData().dataset("test")),
    "maps": lambda names: maps(names, 3),
    "one map": lambda names: maps(names[-1:], 1),
}


def written(figure):
    """Return the texts that are drawn: tick labels are also kept for ticks that are out of view."""
    drawn = {id(text): text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()}
    for axis in figure.axes:
        for line in (axis.xaxis, axis.yaxis):
            low, high = sorted(line.get_view_interval())
            for tick in [*line.get_major_ticks(), *line.get_minor_ticks()]:
                if not axis.axison or not low <= tick.get_loc() <= high:
                    drawn.pop(id(tick.label1), None)
                    drawn.pop(id(tick.label2), None)
    return list(drawn.values())


@pytest.mark.parametrize("count", [3, *(pytest.param(count, marks=SLOW) for count in (1, 26, 30))])
@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off_or_overlaps(name, count):
    figure = FIGURES[name](LONG[-count:])
    FigureCanvasAgg(figure).draw()
    texts = written(figure)
    boxes = [text.get_window_extent() for text in texts]
    for text, box in zip(texts, boxes, strict=True):
        assert box.x0 >= -1, text
        assert box.x1 <= figure.bbox.width + 1, text
        assert box.y0 >= -1, text
        assert box.y1 <= figure.bbox.height + 1, text
    upright = [(t, b) for t, b in zip(texts, boxes, strict=True) if t.get_rotation() in (0, 90)]
    for (first, a), (second, b) in itertools.combinations(upright, 2):
        assert not a.shrunk(0.98, 0.98).overlaps(b.shrunk(0.98, 0.98)), (first, second)


def test_the_matrix_is_that_of_the_concepts_axes():
    auc = matrix(4)
    figure = auc_figure(auc, ["a", "b", "c", "d"])
    axis = figure.axes[0]
    np.testing.assert_allclose(axis.images[0].get_array().filled(np.nan), auc[:, :4], atol=1e-6)
    assert axis.images[0].get_clim() == (0, 1)
    assert [text.get_text() for text in axis.texts] == [
        f"{float(auc[row, column]):.2f}" for row in (0, 1, 3) for column in range(4)
    ]
    assert [patch.get_xy() for patch in axis.patches] == [(k - 0.5, k - 0.5) for k in range(4)]
    own, others = auc[[0, 1, 3], [0, 1, 3]].mean(), auc[:, :4][~torch.eye(4, dtype=torch.bool)].nanmean()
    assert axis.get_title() == f"AUC of an axis: {own:.3f} for the own concept\n{others:.3f} for others"
    assert figure.get_supxlabel().startswith("gray")
    assert auc_figure(auc[:2], ["a", "b"]).get_supxlabel() == ""
    assert not auc_figure(matrix(13), LONG[:13]).axes[0].texts


def test_correlations_share_a_scale_and_are_absolute():
    after, before = torch.eye(80, dtype=torch.float64), 2 * rand(80, 80) - 1
    figure = correlation_figure(after, before)
    left, right = figure.axes[:2]
    np.testing.assert_allclose(left.images[0].get_array(), before[:64, :64].abs(), atol=1e-6)
    assert left.images[0].get_clim() == right.images[0].get_clim() == (0, 1)
    mean = before[~torch.eye(80, dtype=torch.bool)].abs().mean()
    assert left.get_title() == f"channels of the baseline\nmean beside the diagonal {mean:.3f}"
    assert right.get_title() == "axes, whitened\nmean beside the diagonal 0.000"
    assert figure.get_supxlabel() == "the first 64 of 80; the means are over all"
    assert correlation_figure(after[:9, :9]).get_supxlabel() == ""


def test_importance_is_in_order_and_in_points():
    drop, loss = torch.tensor([0.01, -0.02, 0.03]), torch.tensor([0.5, -0.1, 0.7])
    left, right = importance_figure(drop, loss, ["a", "b", "c"]).axes
    assert [bar.get_width() for bar in right.patches] == pytest.approx([0.7, 0.5, -0.1])
    assert [bar.get_width() for bar in left.patches] == pytest.approx([3, 1, -2])
    assert [to_hex(bar.get_facecolor()) for bar in left.patches] == [GREEN, GREEN, ORANGE]
    assert [label.get_text() for label in left.get_yticklabels()] == ["c", "a", "b"]


def test_purity_stands_beside_the_baselines():
    own, best = torch.tensor([0.6, math.nan, 0.9]), torch.tensor([0.7, 0.5, 0.8])
    axis = purity_figure(own, ["a", "b", "c"], best).axes[0]
    lines = {line.get_label(): line.get_xdata() for line in axis.lines if not line.get_label().startswith("_")}
    np.testing.assert_allclose(lines["the concept's axis"], [0.9, 0.6, math.nan], atol=1e-6)
    np.testing.assert_allclose(lines["best channel of the baseline"], [0.8, 0.7, 0.5], atol=1e-6)
    assert [label.get_text() for label in axis.get_yticklabels()] == ["c", "a", "b"]


def test_the_trajectory_ends_with_the_mean():
    layers = {"first": torch.tensor([0.5, math.nan, 0.7]), "last": torch.tensor([0.9, math.nan, 0.8])}
    axis = trajectory_figure(layers, ["a", "b", "c"]).axes[0]
    nan = math.nan
    expected = [[0.5, 0.9], [nan, nan], [0.7, 0.8], [0.6, 0.85]]
    np.testing.assert_allclose(axis.images[0].get_array().filled(np.nan), expected, atol=1e-6)
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b", "c", "mean"]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["first", "last"]


def test_top_images_are_framed_by_the_truth():
    data = TensorData().dataset("test")
    shown = pictures(["wing::red", "flies"], 4)
    figure = top_images_figure(shown[::-1][4:] + shown[4:], data)  # in whatever order
    first = figure.axes[:4]
    assert [to_hex(axis.spines["left"].get_edgecolor()) for axis in first] == [GREEN, ORANGE, GRAY, GREEN]
    assert [axis.get_xlabel() for axis in first] == ["3.50", "2.50", "1.50", "0.50"]
    for axis, image in zip(figure.axes, shown, strict=True):
        np.testing.assert_allclose(axis.images[0].get_array(), data[image.index].image.permute(1, 2, 0))
    assert figure.axes[0].get_ylabel() == "wing::\nred\n2 of 3 hold it\n(67 %)"
    assert figure.axes[4].get_ylabel() == "flies\nnot annotated"


def test_maps_are_those_of_the_highest_concept_axes_on_one_scale():
    prediction, images = predicted()
    concepts = torch.full((3, 6), torch.nan)
    concepts[:, :3], concepts[:, 3:5] = 1.0, 0.0
    figure = axis_maps_figure(prediction, images, torch.zeros(3).long(), concepts, top=6)
    colors = {name: [GREEN, GREEN, GREEN, ORANGE, ORANGE, GRAY][k] for k, name in enumerate(CONCEPTS)}
    for row in range(3):
        scores = prediction.units.scores[row, :6]
        order = scores.argsort(descending=True).tolist()
        axes = figure.axes[7 * row : 7 * row + 7]
        largest = prediction.units.maps[row, :6].abs().max()
        for axis, unit in zip(axes[1:], order, strict=True):
            name = CONCEPTS[unit].replace("::", "::\n")
            assert axis.get_title() == f"{name}\n{scores[unit]:.2f}"
            assert axis.title.get_color() == colors[CONCEPTS[unit]]
            expected = overlay(images[row], prediction.units.maps[row, unit], scale=float(largest))
            np.testing.assert_allclose(axis.images[0].get_array(), expected)
        assert axes[0].get_title().split(" ")[0] == SPEC.class_names[int(prediction.labels[row])]
    assert "orange where it does not" in figure.get_supxlabel().replace("\n", " ")
    alone = axis_maps_figure(prediction, images[:1], top=2)
    assert len(alone.axes) == 3
    assert "orange" not in alone.get_supxlabel()
