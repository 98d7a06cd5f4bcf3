"""Figures of predictions: what they say, that nothing is cut off, and that colors mean what the caption says."""

import itertools

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from torch import nn

from ibd.backbones import build_backbone
from ibd.drawing import shorten
from ibd.explain.figures import GRAY, GREEN, ORANGE, prediction_figure
from ibd.explain.render import overlay, upsample
from ibd.models.baseline.network import BaselineNetwork
from ibd.models.prediction import Prediction
from ibd.types import DataSpec, groups_of
from tests.model_makers import SPEC, CountingBackbone, make_network

IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
LONG = tuple(
    f"has_{part}_color_and_its_pattern::{value}_with_iridescent_stripes"
    for part in ("wing", "tail")
    for value in "abcd"
)


def predict(network, images=IMAGES):
    with torch.no_grad():
        logits, units = network(images)
    return Prediction(network, units, logits, torch.zeros_like(units.scores, dtype=torch.bool))


def long_names():
    classes = [f"the rather long name of class {i} of the whole family" for i in range(3)]
    return make_network(DataSpec(tuple(classes), LONG, groups_of(LONG), image_size=(16, 16)))


def few_units():
    return make_network(DataSpec(("a", "b"), ("x", "y"), groups_of(("x", "y")), image_size=(16, 16)))


def texts(figure):
    axes = figure.axes
    titles = [axis.title for axis in axes if axis.get_title()]
    labels = [label for axis in axes if axis.axison for label in axis.get_yticklabels()]
    return titles, labels, figure._supxlabel


@pytest.mark.parametrize(
    "make",
    [make_network, long_names, few_units, lambda: BaselineNetwork(CountingBackbone(64), SPEC.class_names).eval()],
)
@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_nothing_is_cut_off_or_overlaps(make, count):
    network = make()
    prediction = predict(network, IMAGES[:count])
    truth = torch.ones(count, len(network.unit_names))
    figure = prediction_figure(prediction, IMAGES[:count], torch.ones(count).long(), truth)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    titles, labels, caption = texts(figure)
    for text in (*titles, *labels, caption):
        box = text.get_window_extent()
        assert box.x0 >= -1, text
        assert box.x1 <= figure.bbox.width + 1, text
        assert box.y0 >= -1, text
        assert box.y1 <= figure.bbox.height + 1, text
    for first, second in itertools.combinations(titles, 2):
        assert not first.get_window_extent().overlaps(second.get_window_extent()), (first, second)


def test_bars_are_the_largest_contributions_colored_by_the_truth():
    prediction = predict(make_network())
    truth = (prediction.unit_values > 0.5).float()
    best = int(prediction.labels[0])
    part = prediction.contributions[0, :, best]
    order = part.abs().argsort(descending=True)[:4].tolist()
    truth[0, order[1]] = 1 - truth[0, order[1]]
    truth[0, order[2]] = torch.nan
    figure = prediction_figure(prediction, IMAGES, concepts=truth, top=4)
    bars = figure.axes[1].patches
    assert [bar.get_width() for bar in bars] == pytest.approx(part[order].tolist())
    assert [to_hex(bar.get_facecolor()) for bar in bars] == [GREEN, ORANGE, GRAY, GREEN]
    labels = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    values = prediction.unit_values[0]
    assert labels == [f"{SPEC.concept_names[u]} = {values[u]:.2f}" for u in order]
    shown = [axis.get_title().replace("\n", "") for axis in figure.axes[2:5]]
    assert shown == [SPEC.concept_names[u] for u in order[:3]]
    assert len(figure.axes) == 3 * 5


@pytest.mark.slow
def test_titles_and_caption_say_what_is_known():
    prediction = predict(make_network())
    labels = prediction.labels.clone()
    labels[1] = (labels[1] + 1) % 3
    figure = prediction_figure(prediction, IMAGES, labels)
    titles = [axis.get_title() for axis in figure.axes[::5]]
    assert titles[0].endswith(" %\n(right)")
    assert titles[1].endswith(f" %\n(true: {SPEC.class_names[int(labels[1])]})")
    assert figure.axes[1].get_title() == "what each concept adds to the logit"
    assert "green" not in figure.get_supxlabel()
    edited = prediction_figure(prediction.intervene({"wing": "red"}), IMAGES, labels, torch.ones(3, 6), top=6)
    assert "* set by hand" in edited.get_supxlabel()
    assert "orange where it is not" in edited.get_supxlabel()
    assert sum(label.get_text().endswith("*") for label in edited.axes[1].get_yticklabels()) == 3
    mlp = prediction_figure(predict(make_network(head="mlp")), IMAGES)
    assert mlp.axes[1].get_title() == "logit lost without each concept"


def test_concepts_of_another_number_are_not_compared():
    network = BaselineNetwork(CountingBackbone(64), SPEC.class_names).eval()
    figure = prediction_figure(predict(network), IMAGES, concepts=torch.ones(3, 6))
    assert {to_hex(bar.get_facecolor()) for bar in figure.axes[1].patches} == {GRAY}


class Patches(CountingBackbone):
    """Cells that see the sum of 6 x 6 pixels, side by side."""

    def __init__(self):
        super().__init__(1)
        self.conv, self.normalize = nn.Conv2d(3, 1, 6, stride=6, bias=False), nn.Identity()
        nn.init.ones_(self.conv.weight)


def framed(backbone, row, column):
    """Return the frame in each map of a figure of an image with one bright pixel, and the caption."""
    image = torch.zeros(1, 3, 16, 16)
    image[..., row, column] = 1
    figure = prediction_figure(predict(BaselineNetwork(backbone, ["a", "b"]).eval(), image), image)
    frames = [
        [(*patch.get_xy(), patch.get_width(), patch.get_height()) for patch in axis.patches] for axis in figure.axes
    ]
    return frames[2:], figure.get_supxlabel()


def test_what_the_strongest_cell_sees_is_framed():
    frames, caption = framed(Patches(), 8, 3)
    assert frames == [[(-0.5, 5.5, 6, 6)]]  # a pixel spans half a unit to either side of its number
    assert caption.endswith("; framed: the 6 x 6 pixels that the strongest cell sees")


def test_a_cell_that_sees_all_is_not_framed():
    frames, caption = framed(build_backbone({"name": "small_cnn", "width": 1, "depth": 4, "norm": "group"}), 8, 3)
    assert not any(frames)
    assert "framed" not in caption
    frames, caption = framed(build_backbone({"name": "small_cnn", "width": 1, "depth": 4}), 8, 3)
    assert not any(frames)


@pytest.mark.parametrize("width", [5, 6, 9])
def test_shorten_keeps_both_ends(width):
    found = shorten("abcdefghij", width)
    assert len(found) == width
    assert found.startswith("ab")
    assert found.endswith("ij")
    assert shorten("abc", width) == "abc"


def test_overlay_paints_for_red_and_against_blue():
    image, heat = torch.full((3, 4, 4), 0.5), torch.zeros(4, 4)
    heat[0, 0], heat[1, 1], heat[2, 2] = 2.0, -2.0, 1.0
    picture = overlay(image, heat)
    assert picture.shape == (4, 4, 3)
    assert picture.dtype == np.float32
    red, blue, half, gray = picture[0, 0], picture[1, 1], picture[2, 2], picture[3, 3]
    assert red[0] > red[2] + 0.3
    assert blue[2] > blue[0] + 0.3
    assert gray[0] == gray[1] == gray[2]
    np.testing.assert_allclose(half, (red + gray) / 2, atol=1e-6)
    np.testing.assert_allclose(overlay(image, heat, scale=4.0)[0, 0], half, atol=1e-6)
    np.testing.assert_allclose(overlay(image, heat * 100), picture, atol=1e-6)  # the map's own scale
    assert (overlay(image, torch.zeros(4, 4)) == gray).all()
    assert overlay(image.requires_grad_(), torch.ones(2, 2)).shape == (4, 4, 3)


def test_upsample_keeps_sign_and_scale():
    maps = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    large = upsample(maps, (16, 20))
    assert large.shape == (2, 3, 16, 20)
    torch.testing.assert_close(upsample(torch.full((1, 1, 2, 2), -3.0), (7, 9)), torch.full((1, 1, 7, 9), -3.0))
    torch.testing.assert_close(large.mean((2, 3)), maps.mean((2, 3)), atol=0.2, rtol=0)
    assert upsample(maps.half(), (16, 20)).dtype == torch.float32
