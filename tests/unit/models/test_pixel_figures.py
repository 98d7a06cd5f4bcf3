"""Figures of units whose account is exact to the pixel show that, and not the cells of a map."""

import numpy as np
import pytest
import torch

from ibd.backbones import build_backbone
from ibd.explain.render import overlay, smoothed
from ibd.models.concept_whitening.figures import axis_maps_figure
from ibd.models.concept_whitening.network import ConceptWhiteningNetwork
from ibd.models.prediction import Prediction
from ibd.models.protopnet.explanations import local_explanation
from ibd.models.protopnet.figures import local_figure
from ibd.models.protopnet.lightning import ProtoPNet
from tests.model_makers import SPEC

BODY = {"name": "bcos_small_cnn", "width": 4, "depth": 3}


@pytest.fixture
def images():
    height, width = SPEC.image_size
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))


def shown(axis):
    (picture,) = axis.get_images()
    return np.asarray(picture.get_array())


def test_prototypes(images):
    torch.manual_seed(0)
    model = ProtoPNet(SPEC, backbone=BODY, per_class=2, dimension=5, distance="cosine", activation="linear").eval()
    prediction = model.predict(images)
    figure = local_figure(model, prediction, images, top=2)
    for number, row in enumerate(local_explanation(model, prediction, top=2)):
        image, column = divmod(number, 2)
        heat = model.network.pixel_maps(images[image : image + 1], units=[row.prototype]).heat[0, 0]
        expected = overlay(images[image], smoothed(heat), normalization="percentile")
        np.testing.assert_allclose(shown(figure.axes[3 * image + 1 + column]), expected, atol=1e-4)
    assert "what each pixel adds to its similarity" in figure.get_supxlabel().replace("\n", " ")


def test_after_an_intervention_maps_are_those_of_the_cells_that_were_set(images):
    """What the pixels add is what the network saw: it does not add up to a value that was set by hand."""
    network = whitened()
    with torch.no_grad():
        logits, units = network(images)
        units = network.edit(units, {"red": 2.5})
    edited = torch.zeros_like(units.scores, dtype=torch.bool)
    edited[:, 0] = True
    figure = axis_maps_figure(Prediction(network, units, logits, edited, []), images[:1], top=1)
    np.testing.assert_allclose(
        shown(figure.axes[1]),
        overlay(images[0], units.maps[0, 0], scale=float(units.maps[0, 0].abs().max())),
        atol=1e-6,
    )
    assert "Pixel by pixel" not in figure.get_supxlabel()


def whitened():
    torch.manual_seed(0)
    return ConceptWhiteningNetwork(build_backbone(BODY), SPEC.class_names, ["red", "blue"], activation="mean").eval()


def test_axes(images):
    network = whitened()
    with torch.no_grad():
        logits, units = network(images)
    prediction = Prediction(network, units, logits, torch.zeros_like(units.scores, dtype=torch.bool), [])
    figure = axis_maps_figure(prediction, images[:1], top=1)
    unit = int(units.scores[0, :2].argmax())
    heat = network.pixel_maps(images[:1], units=[unit]).heat[0, 0]
    expected = overlay(images[0], smoothed(heat), normalization="percentile")
    np.testing.assert_allclose(shown(figure.axes[1]), expected, atol=1e-4)
    assert "Pixel by pixel" in figure.get_supxlabel().replace("\n", " ")
