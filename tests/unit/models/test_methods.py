"""What every family says of its own head and units, by one contract."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from ibd.errors import UnsupportedError
from ibd.models.base import InterpretableNetwork
from ibd.models.baseline.lightning import Baseline
from tests.model_makers import (
    LARGE,
    SMALL,
    make_embedding,
    make_filters,
    make_module,
    make_pipnet,
    make_posthoc,
    make_prototypes,
    make_stochastic_module,
    make_whitening,
)
from tests.slider_makers import slider_logits

IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))


def pipnet_with_bias():
    module = make_pipnet(LARGE, bias=True).eval()
    nn.init.constant_(module.network.head.bias, 0.7)
    return module


FAMILIES = {
    "baseline": lambda: Baseline(LARGE, SMALL).eval(),
    "cbm": lambda: make_module(LARGE),
    "cbm, hidden layer": lambda: make_module(LARGE, head="mlp"),
    "cbm of logits": lambda: make_module(LARGE, bottleneck="logits"),
    "cbm with a residual": lambda: make_module(LARGE, residual=3),
    "cem": lambda: make_embedding(LARGE),
    "posthoc": lambda: make_posthoc(LARGE),
    "posthoc, a rest": lambda: make_posthoc(LARGE, truth=False, reading="relu", rest=True),
    "scbm": lambda: make_stochastic_module(LARGE),
    "scbm, amortized": lambda: make_stochastic_module(LARGE, covariance="amortized", bottleneck="hard"),
    "protopnet": make_prototypes,
    "pipnet": lambda: make_pipnet(LARGE).eval(),
    "pipnet with a bias": pipnet_with_bias,
    "concept whitening": lambda: make_whitening(LARGE),
    "interpretable CNN": lambda: make_filters(LARGE),
}


@pytest.fixture(scope="module", params=FAMILIES)
def module(request):
    torch.manual_seed(0)
    return FAMILIES[request.param]()


@torch.no_grad()
def test_the_bias_is_what_no_unit_accounts_for(module):
    network = module.network
    bias, units = network.bias(), network.encode(IMAGES)
    assert bias.shape == (3,)
    assert network.has_bias == bool(bias.any())
    found = bias + network.contributions(units).sum(1)
    if network.additive:
        torch.testing.assert_close(found, network.decode(units), rtol=1e-4, atol=1e-5)
    else:
        assert float((found - network.decode(units)).abs().max()) > 1e-3


def test_a_table_adds_up_with_its_bias():
    lines = pipnet_with_bias().predict(IMAGES[:1]).table(top=0).splitlines()
    rows = [line.split() for line in lines[2:]]
    parts = [float(row[3]) for row in rows if row[0] == "prototype"]
    bias, logit = (float(next(row for row in rows if row[0] == name)[-1]) for name in ("bias", "="))
    assert bias == pytest.approx(0.7)
    assert sum(parts) + bias == pytest.approx(logit, abs=0.005 * (len(parts) + 2))


@torch.no_grad()
def test_with_nothing_off_the_logits_stay(module):
    network = module.network
    units = network.encode(IMAGES)
    off = torch.zeros_like(units.scores, dtype=torch.bool)
    torch.testing.assert_close(network.decode_without(units, off, 5.0), network.decode(units), rtol=1e-4, atol=1e-5)
    off[:, 0] = True
    assert not torch.equal(network.decode_without(units, off, network.passed(units)[0] + 1), network.decode(units))


@torch.no_grad()
def test_sliders_begin_at_the_prediction(module):
    network = module.network
    units = network.encode(IMAGES)
    try:
        sliders = network.sliders(units, network.passed(units))
    except UnsupportedError:
        assert not network.additive or type(network).sliders is InterpretableNetwork.sliders
        return
    torch.testing.assert_close(slider_logits(sliders), network.decode(units).double(), rtol=1e-4, atol=1e-5)
    line = sliders.zero + sliders.slope * sliders.values
    for u, form in enumerate(sliders.forms):
        if form == "line" and sliders.asked[u]:
            np.testing.assert_allclose(line[:, u], sliders.reads[:, u], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_sliders_set_what_edit_sets(module):
    network = module.network
    units = network.encode(IMAGES)
    try:
        sliders = network.sliders(units)
    except UnsupportedError:
        return
    alone = {u for u, asked in enumerate(sliders.asked) if asked} - {u for group in sliders.exclusive for u in group}
    if sliders.moved:  # others follow, by the rule of a Gaussian
        return
    for unit in sorted(alone)[-2:]:
        line = sliders.zero[unit] + sliders.slope[..., unit] * 0.75
        reads = sliders.reads.copy()
        reads[:, unit] = {"positive": max(float(np.max(line)), 0), "rounded": 1}.get(sliders.forms[unit], line)
        edited = network.decode(network.edit(units, {unit: 0.75})).double()
        found = slider_logits(dataclasses.replace(sliders, reads=reads))
        torch.testing.assert_close(found, edited, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_only_truth_values_are_rounded(module):
    network = module.network
    units = network.encode(IMAGES)
    if not network.truth_values:
        with pytest.raises(UnsupportedError, match=f"^{network.unit_plural} cannot be rounded: they are not true or"):
            network.rounded(units)
        return
    rounded = network.rounded(units)
    names = dict(enumerate((network.readable(units) > 0.5).float().unbind(1)))
    if not network.exclusive_groups:
        torch.testing.assert_close(rounded.scores, network.edit(units, names).scores)
    assert torch.equal(network.readable(rounded) > 0.5, network.readable(units) > 0.5)


def test_two_of_an_exclusive_group_that_are_likely_are_both_rounded_up():
    network = make_module(LARGE).network
    units = dataclasses.replace(network.encode(IMAGES), scores=torch.full((3, 6), 2.0))
    assert (network.readable(network.rounded(units)) == 1).all()


def test_which_units_have_names_and_which_look_for_a_patch(module):
    network = module.network
    named = {"channel": 0, "axis": 6, "concept": 6}.get(network.unit_kind, len(network.unit_names))
    assert network.named_units().tolist() == [i < named for i in range(len(network.unit_names))]
    assert (network.perfect_score() is not None) == (network.unit_kind == "prototype")
    assert (network.unit_scale() is not None) == (network.unit_kind in ("concept", "axis"))


@torch.no_grad()
def test_the_copy_that_is_measured_is_another_one(module):
    network = module.network
    copy = network.for_inference()
    assert copy is not network
    assert not copy.training
    assert copy.unit_names == network.unit_names
    torch.testing.assert_close(copy(IMAGES).logits, network(IMAGES).logits, rtol=1e-4, atol=1e-5)
    assert not {id(each) for each in copy.parameters()} & {id(each) for each in network.parameters()}
