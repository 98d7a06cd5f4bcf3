"""The concept bottleneck network, and the baseline's: what a score is, and that contributions add up."""

import pytest
import torch

from ibd.errors import ConfigError
from ibd.models.base import evaluating
from ibd.models.baseline.network import BaselineNetwork
from ibd.models.cbm.network import ConceptBottleneckNetwork
from ibd.types import DataSpec, Units
from tests.model_makers import SPEC, CountingBackbone, make_network
from tests.reference import concepts as reference

IMAGES = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
EDITS = {"wing": "blue", "flies": 0.25, 3: 0}


def make_baseline():
    torch.manual_seed(0)
    return BaselineNetwork(CountingBackbone(), SPEC.class_names).eval()


def additive_networks():
    for bottleneck in ("probabilities", "logits", "hard"):
        yield bottleneck, make_network(bottleneck=bottleneck)
        yield f"{bottleneck}, softmax", make_network(bottleneck=bottleneck, softmax_groups=["wing"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_score_is_exactly_the_mean_of_its_map(dtype):
    for network in (make_network(), make_baseline()):
        units = network.to(dtype).encode(IMAGES.to(dtype))
        assert units.scores.dtype == dtype
        assert torch.equal(units.scores, units.maps.mean((2, 3)))


def test_a_concept_map_is_the_concept_layer_at_each_position():
    network = make_network()
    features = network.backbone(IMAGES)
    at = network.concepts.weight.flatten(1) @ features[2, :, 1, 3] + network.concepts.bias
    torch.testing.assert_close(network.encode(IMAGES).maps[2, :, 1, 3], at)


@pytest.mark.parametrize(("name", "network"), [*additive_networks(), ("baseline", make_baseline())])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("edited", [False, True])
def test_contributions_and_bias_add_up_to_the_logits(name, network, dtype, edited):
    network = network.to(dtype)
    units = network.encode(IMAGES.to(dtype))
    if edited:
        units = network.edit(units, {"channel 1": 0, 2: -3.5} if name == "baseline" else EDITS)
    contributions = network.contributions(units)
    assert network.additive
    assert contributions.shape == (5, len(network.unit_names), 3)
    error = network.bias() + contributions.sum(1) - network.decode(units)
    assert error.abs().max() < (2e-5 if dtype == torch.float32 else 1e-13)
    network.float()


def test_mlp_contributions_are_leave_one_out():
    network = make_network(head="mlp", hidden_units=7)
    assert not network.additive
    units = network.encode(IMAGES)
    contributions, activation = network.contributions(units), network.activation(units.scores)
    for k in range(6):
        without = activation.clone()
        without[:, k] = 0
        torch.testing.assert_close(contributions[:, k], network.decode(units) - network.classify(without))
    torch.testing.assert_close(network.bias(), network.classify(torch.zeros(6)))


@pytest.mark.parametrize("groups", [[], ["wing"]])
def test_probabilities(groups):
    network = make_network(softmax_groups=groups)
    logits = 3 * torch.randn(7, 6)
    expected = reference.probabilities(logits, network.softmax_groups)
    found = network.probabilities(logits)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32))
    torch.testing.assert_close(network.probabilities(logits.view(7, 1, 6)), found.view(7, 1, 6))
    if groups:
        assert (found[:, :3].sum(1) < 1).all()  # "none of them" has the rest


@pytest.mark.parametrize("groups", [[], ["wing"]])
def test_log_odds_are_those_of_the_probabilities_and_rank_beyond_them(groups):
    network = make_network(softmax_groups=groups)
    logits = 3 * torch.randn(7, 6, dtype=torch.float64)
    torch.testing.assert_close(network.log_odds(logits), network.probabilities(logits).logit())
    certain = torch.tensor([[30.0, -5, -9, 30, 0, 0], [40.0, -5, -9, 40, 0, 0]])
    assert (network.probabilities(certain)[:, [0, 3]] == 1).all()
    torch.testing.assert_close(network.log_odds(certain)[:, [0, 3]].diff(dim=0), torch.tensor([[10.0, 10.0]]))


def test_bottlenecks():
    logits = torch.tensor([[-2.0, 0.5, 0.0, 3.0, -0.1, 9.0]])
    assert torch.equal(make_network(bottleneck="logits").activation(logits), logits)
    assert torch.equal(make_network(bottleneck="probabilities").activation(logits), logits.sigmoid())
    assert make_network(bottleneck="hard").activation(logits).tolist() == [[0, 1, 0, 1, 0, 1]]


def test_hard_bottleneck_passes_the_gradient_of_the_probability():
    logits = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 6, dtype=torch.float64)
    (make_network(bottleneck="hard").activation(logits) * weight).sum().backward()
    p = logits.detach().sigmoid()
    torch.testing.assert_close(logits.grad, weight * p * (1 - p))


def test_autocast_keeps_scores_and_logits_in_float32():
    for network in (make_network(), make_baseline()):
        with torch.autocast("cpu", torch.bfloat16):
            logits, units = network(IMAGES)
        assert logits.dtype == units.scores.dtype == torch.float32
        torch.testing.assert_close(units.scores, units.maps.float().mean((2, 3)), rtol=0, atol=0)


def test_runs_in_true_half_precision():
    for network in (make_network(), make_network(bottleneck="hard", head="mlp"), make_baseline()):
        assert network.to(torch.bfloat16)(IMAGES.bfloat16()).logits.isfinite().all()


def test_what_it_needs():
    with pytest.raises(ConfigError, match=r"needs concepts.*concepts\.csv"):
        ConceptBottleneckNetwork(CountingBackbone(), DataSpec(("a", "b")))
    with pytest.raises(ConfigError, match=r"'wings' is not an exclusive group of this data\. Did you mean 'wing'"):
        make_network(softmax_groups=["wings"])
    with pytest.raises(ConfigError, match=r"'size' is not an exclusive group of this data\. Known: wing"):
        make_network(softmax_groups=["size"])


def test_evaluating_gives_every_part_its_mode_back():
    network = make_network().train()
    network.backbone.eval()

    def fail():
        with evaluating(network):
            assert not any(part.training for part in network.modules())
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert network.training
    assert network.concepts.training
    assert not any(part.training for part in network.backbone.modules())


def test_the_siblings_of_a_corrected_concept_keep_their_scores_to_the_bit():
    """What rounding alone has moved would be taken for set by hand, and read without the calibration."""
    network = make_network(softmax_groups=["wing"])
    logits = 3 * torch.randn(500, 6, generator=torch.Generator().manual_seed(0))
    units = Units(logits, torch.zeros(500, 6, 1, 1))
    after = network.edit(units, {"wing::green": 0.25})
    assert torch.equal(after.scores[:, :2], logits[:, :2])
    torch.testing.assert_close(network.readable(after)[:, 2], torch.full((500,), 0.25))
    assert network.readable(network.edit(units, {"wing::green": 1}))[:, :2].max() < 1e-6
