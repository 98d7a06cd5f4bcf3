"""Gradients by the pixels and by layers."""

import pytest
import torch

from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.gradients import GradientTimesInput, IntegratedGradients, Saliency, Sensitivity
from ibd.explain.targets import Target
from tests.explainer_makers import Functional, images, make
from tests.reference import explainers as reference


def gradient(model, image, k):
    leaf = image.clone().requires_grad_()
    return torch.autograd.grad(model(leaf)[:, k].sum(), leaf)[0]


def test_of_the_pixels():
    model, image = Functional().eval(), images()
    plain = gradient(model, image, 2)
    close = torch.testing.assert_close
    close(Saliency()(model, image, 2).map, plain.abs().amax(1))
    close(Saliency(reduce="abs")(model, image, 2).map, plain.abs().sum(1))
    close(Saliency(reduce="sum")(model, image, 2).map, plain.sum(1))
    close(Sensitivity()(model, image, 2).map, plain.square().sum(1))
    close(GradientTimesInput()(model, image, 2).map, (plain * image).sum(1))
    close(
        Saliency(reduce="sum")(model, image, Target.cls(2) - Target.cls(0)).map,
        (plain - gradient(model, image, 0)).sum(1),
    )
    with pytest.raises(ConfigError, match="reduce"):
        Saliency(reduce="mean")


def test_gradient_times_input_adds_up_without_biases():
    model, image = Functional(bias=False).double().eval(), images().double()
    found = GradientTimesInput()(model, image, 1)
    torch.testing.assert_close(found.map.double().sum((1, 2)), found.value, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("layer", ["first", "second"])
def test_of_a_layer(layer):
    model, image = Functional(bias=False).eval(), images()
    found = GradientTimesInput(layer)(model, image, 1)
    torch.testing.assert_close(found.units.sum(1), found.value)  # channel attribution
    torch.testing.assert_close(found.unit_maps.sum((1, 2, 3)), found.value)  # spatial attribution
    assert found.units.shape == (3, 5 if layer == "first" else 6)
    assert len(found.unit_names) == found.units.shape[1]
    assert found.map.shape == (3, 33, 38)
    several = GradientTimesInput(layer)(model, image, Target.classes([0, 1]))
    assert several.units.shape == (3, 2, found.units.shape[1])
    torch.testing.assert_close(several.units[:, 1], found.units)


def test_of_a_layer_without_positions():
    model, image = make("tuple").eval(), images()
    found = GradientTimesInput("hidden")(model, image, 1)
    assert found.map is None
    assert found.units.shape == (3, 6)


def test_integrated_gradients():
    torch.manual_seed(0)
    model, image = Functional().double().eval(), images(2, (16, 17)).double()
    found = IntegratedGradients(steps=64)(model, image, 1)
    expected = reference.integrated_gradients(image, lambda x: gradient(model, x, 1), 2000).sum(1)
    torch.testing.assert_close(found.map, expected, rtol=1e-2, atol=2e-4)
    black = model(torch.zeros_like(image))[:, 1]
    torch.testing.assert_close(
        found.map.double().sum((1, 2)) - (found.value - black), found.extra["completeness"], atol=1e-5, rtol=0
    )
    assert (found.extra["completeness"].abs() < 0.02 * (found.value - black).abs() + 1e-4).all()


def test_integrated_gradients_of_something_smooth_are_complete():
    model, image = make("tuple").double().eval(), images(2).double()
    model.relu = torch.tanh
    for layer in (None, "second"):
        found = IntegratedGradients(layer, steps=20)(model, image, Target.classes([0, 1]))
        assert found.extra["completeness"].shape == (2, 2)
        assert found.extra["completeness"].abs().max() < 1e-8


def test_integrated_gradients_of_a_layer_run_only_what_comes_after():
    model, image = make("tuple"), images()
    found = IntegratedGradients("second", steps=5)(model, image, 1)
    assert found.cost.forwards == 6  # the image, and the baseline
    assert found.cost.heads >= 5 * 3 * 2


def test_a_constant_has_no_gradient():
    with pytest.raises(UnsupportedError, match="no gradient"):
        Saliency()(Functional(), images(), Target.of(lambda logits: torch.ones(len(logits))))
