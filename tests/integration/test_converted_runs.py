"""A plain run that is converted to a B-cos network, through the command line."""

import signal
from unittest import mock

import pytest
import torch

from ibd.backbones import faded
from ibd.explain import Intrinsic, Target
from ibd.io import load_model
from ibd.models.baseline.lightning import Baseline
from tests.command import QUIET, assert_same_weights, checkpoint, fitted, ibd

STEPS = 2
"""Optimizer steps of an epoch."""
CONFIG = (
    "model: {name: baseline, backbone: {name: bcos_small_cnn, converted: true, width: 8, depth: 3}}\n"
    "data: {name: toybirds, preset: tiny, train_size: 64, val_size: 33, test_size: 33, batch_size: 32}\n"
)


@pytest.fixture
def conversion(tmp_path, baseline):
    """What trains a converted network of the plain one that `baseline` is, but for its length."""
    (tmp_path / "conversion.yaml").write_text(CONFIG)
    return ("conversion.yaml", *QUIET, "logger.figures_every=0", f"model.backbone.init_from={baseline}")


def test_a_plain_run_becomes_exact_to_the_pixel(conversion, baseline):
    before = load_model(baseline).network
    run = fitted(*conversion, "trainer.max_epochs=4")
    assert (
        checkpoint(run, "best")["epoch"] >= 1
    )  # half of the training it fades; what is half converted is no best model
    network = load_model(run).network.double()
    assert network.account == "pixels"
    assert faded(network) == 1
    image = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        expected = network(image).logits[:, 1] - network.bias()[1]
    heat = Intrinsic()(network, image, Target.cls(1)).map
    torch.testing.assert_close(heat.sum((1, 2)), expected, rtol=0, atol=1e-9)
    alike = torch.nn.functional.cosine_similarity(
        network.backbone.stage3.conv.weight.float().flatten(), before.backbone.stage3.conv.weight.flatten(), 0
    )
    assert alike > 0.9  # it has the weights of the plain one


def at_step(step, act):
    """Do something just before a step of the training."""
    real = Baseline.training_step

    def acting(self, *arguments):
        if self.global_step == step:
            act(self)
        return real(self, *arguments)

    return mock.patch.object(Baseline, "training_step", acting)


@pytest.mark.slow
def test_a_conversion_that_was_interrupted_goes_on_where_it_was(conversion):
    options = (*conversion, "trainer.max_epochs=4", "model.backbone.fade=1.0")
    whole = fitted(*options)
    with at_step(2 * STEPS, lambda _: signal.raise_signal(signal.SIGINT)):
        part = ibd("fit", *options).run
    assert faded(load_model(part)) == 0.5
    assert load_model(part).network.account == "cells"
    assert ibd("fit", f"resume={part}").code == 0
    assert faded(load_model(part)) == 1
    for which in ("last", "best"):
        assert_same_weights(whole, part, which)


def test_a_conversion_that_is_not_over_is_told(conversion):
    def stop(model):
        model.trainer.should_stop = True

    with at_step(0, stop):
        answer = ibd("fit", *conversion, "trainer.max_epochs=4")
    assert answer.code == 0, answer.err
    told = (
        "no epoch is the best one, so the last one is used: the conversion of its backbone is not over (25%; model.ba"
    )
    assert told in answer.err
    assert load_model(answer.run).network.account == "cells"


def test_a_training_without_an_end_is_refused(conversion):
    answer = ibd("fit", *conversion, "trainer.max_epochs=-1", "optimizer.schedule=constant")
    assert "model.backbone.fade: a conversion needs to know how long the training is" in answer.late_mistake


@pytest.mark.slow
def test_a_model_that_is_trained_in_phases_fades_its_backbone_too(conversion):
    prototypes = {"name": "protopnet", "per_class": 1, "distance": "cosine", "activation": "linear"}
    phases = ("model.warm={epochs: 1}", "model.joint={epochs: 2}")
    run = fitted(*conversion, *(f"model.{key}={value}" for key, value in prototypes.items()), *phases)
    assert load_model(run).network.account == "pixels"
