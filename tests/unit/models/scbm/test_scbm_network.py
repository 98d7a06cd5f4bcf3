"""Interventions on dependent concepts: what moves, what does not, and in which order it does not matter."""

import numpy as np
import pytest
import torch

from ibd.errors import ConfigError
from ibd.models.cbm.network import ConceptBottleneckNetwork
from ibd.models.prediction import Prediction
from ibd.models.scbm.covariance import Covariance
from ibd.models.scbm.gaussian import widening
from ibd.types import Units
from tests.model_makers import CONCEPTS, SPEC, CountingBackbone, make_stochastic
from tests.reference import gaussian as reference

KINDS = {
    "global": {},
    "low rank": {"rank": 2},
    "amortized": {"covariance": "amortized"},
    "confidence": {"placement": "confidence"},
    "percentile": {"placement": "percentile", "rank": 3},
    "logits": {"bottleneck": "logits"},
    "hard": {"bottleneck": "hard", "covariance": "amortized", "rank": 1},
    "mlp": {"head": "mlp", "hidden_units": 4},
}


@pytest.fixture(params=KINDS)
def network(request):
    return make_stochastic(**KINDS[request.param])


@pytest.fixture
def images():
    return torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def predicted(network, images):
    logits, units = network(images)
    return Prediction(network, units, logits, torch.zeros_like(units.scores, dtype=torch.bool))


def test_without_corrections_it_is_the_plain_bottleneck(network, images):
    plain = ConceptBottleneckNetwork(
        CountingBackbone(), SPEC, network.bottleneck, "linear" if network.additive else "mlp", 4
    )
    weights = {name: value for name, value in network.state_dict().items() if not name.startswith("covariance")}
    plain.load_state_dict(weights)
    assert torch.equal(plain.eval()(images).logits, network(images).logits)
    assert torch.equal(plain(images).units.scores, network(images).units.scores)


def test_corrections_by_hand(images):
    """A chain of three: the moves are those of the textbook's formula, at the published place."""
    network = make_stochastic(placement="percentile")
    before = network.encode(images)
    after = network.edit(before, {"size::big": 1, "flies": 0})
    factor = network.covariance.factor(network.covariance.values[None])[0].double().numpy()
    covariance = factor @ factor.T
    wide = widening(torch.from_numpy(np.diag(covariance).copy())).numpy()
    known = np.array([name in ("size::big", "flies") for name in CONCEPTS])
    value = np.where(np.arange(6) == 3, network.high.numpy(), network.low.numpy()) * wide
    for row in range(len(images)):
        mean = before.scores[row].double().numpy() * wide
        moved, left = reference.condition(mean, covariance, value, known)
        expected = moved / widening(torch.from_numpy(left)).numpy()
        np.testing.assert_allclose(after.scores[row].numpy()[~known], expected[~known], rtol=1e-5, atol=1e-5)
    assert network.readable(after)[:, 3].min() > 0.999
    assert network.readable(after)[:, 5].max() < 0.001


def test_the_order_of_corrections_does_not_matter(network, images):
    start = predicted(network, images)
    edits = [{"size::big": 1}, {"flies": 0}, {"wing": "blue"}]
    one = start.intervene({"size::big": 1, "flies": 0, "wing::blue": 1})
    for order in ((0, 1, 2), (2, 0, 1), (1, 2, 0)):
        step = start
        for index in order:
            step = step.intervene(edits[index])
        assert torch.equal(step.units.scores, one.units.scores)
        assert torch.equal(step.edited, one.edited)
        assert torch.equal(step.logits, one.logits)


def test_a_later_value_takes_the_place_of_an_earlier_one(network, images):
    start = predicted(network, images)
    twice = start.intervene({"flies": 1}).intervene({"flies": 0})
    assert torch.equal(twice.units.scores, start.intervene({"flies": 0}).units.scores)


def test_the_backbone_does_not_run_again_and_images_are_apart(network, images):
    start = predicted(network, images)
    count = network.backbone.images
    values = torch.tensor([1.0, 0, 1, 0, 1])
    whole = start.intervene({"flies": values})
    assert network.backbone.images == count
    for row in range(5):
        alone = start[row].intervene({"flies": float(values[row])})
        torch.testing.assert_close(alone.units.scores[0], whole.units.scores[row], rtol=1e-5, atol=1e-5)


def test_a_prediction_says_what_was_set_and_what_moved(images):
    network = make_stochastic()
    after = predicted(network, images).intervene({"wing": "red"})
    assert after.edited[0].tolist() == [True, True, True, False, False, False]  # the siblings follow by definition
    assert bool((after.moved[:, :3] == 0).all())
    assert float(after.moved[:, 3:].abs().max()) > 0.01
    change = network.readable(after.units) - network.readable(network.encode(images))
    torch.testing.assert_close(after.moved[:, 3:], change[:, 3:])
    text = after.table(0, top=0)
    assert "~ moved with what was set" in text
    first = CONCEPTS[int(after.moved[0].abs().argmax())]
    assert f"in all: {first} " in text
    assert "moved" not in predicted(network, images).table(0)


def test_contributions_add_up_after_a_correction(images):
    network = make_stochastic()
    after = predicted(network, images).intervene({"flies": 1})
    total = network.bias() + after.contributions.sum(1)
    torch.testing.assert_close(total, after.logits, rtol=1e-4, atol=1e-4)


def test_uncorrelated_concepts_stay_to_the_bit(images):
    network = make_stochastic()
    network.covariance.set_matrix(torch.diag(torch.tensor([1.0, 4.0, 9.0, 0.5, 2.0, 3.0])))
    for placement in ("posterior", "confidence", "percentile"):
        network.placement = placement
        before = network.encode(images)
        after = network.edit(before, {"flies": 1, "size::big": 0.3})
        assert torch.equal(after.scores[:, [0, 1, 2, 4]], before.scores[:, [0, 1, 2, 4]])


def test_a_value_in_between_is_its_own_logit(network, images):
    before = network.encode(images)
    after = network.edit(before, {"flies": 0.5, "size::big": 1})
    expected = 0.5 if network.bottleneck != "logits" else float((0.5 * network.low + 0.5 * network.high)[5].sigmoid())
    assert network.readable(after)[:, 5].tolist() == pytest.approx([expected] * 5)
    assert bool(after.scores.isfinite().all())


def test_many_images_are_done_in_parts(images, monkeypatch):
    network = make_stochastic(covariance="amortized")
    whole = network.edit(network.encode(images), {"flies": 1}).scores
    monkeypatch.setattr("ibd.models.scbm.network._MOST_VALUES", 72)
    torch.testing.assert_close(network.edit(network.encode(images), {"flies": 1}).scores, whole)


def test_units_of_no_image_can_be_edited():
    network = make_stochastic()
    units = network.encode(torch.rand(1, 3, 16, 16))
    assert network.edit(units[:0], {"flies": 1}).scores.shape == (0, 6)
    assert Units.cat([units, network.edit(units, {"flies": 1})]).scores.shape == (2, 6)


def test_mistakes():
    for options, message in (
        ({"rank": 7}, "model.rank: 7 given, 6 at most is needed"),
        ({"rank": 0}, "model.rank: 0 given, at least 1 is needed"),
        ({"level": 1.0}, "model.level: 1.0 given, more than 0 and less than 1 is needed"),
    ):
        with pytest.raises(ConfigError) as caught:
            make_stochastic(**options)
        assert message in str(caught.value)


def test_a_covariance_can_be_set():
    matrix = torch.tensor([[2.0, 0.8, 0.1], [0.8, 1.0, -0.3], [0.1, -0.3, 3.0]])
    full = Covariance(3)
    full.set_matrix(matrix)
    factor = full.factor(full.values[None])[0]
    torch.testing.assert_close(factor @ factor.T, matrix, rtol=1e-4, atol=1e-4)
    shared = torch.tensor([[1.0], [2.0], [-1.0]])
    low = Covariance(3, rank=1)
    low.set_matrix(shared @ shared.T + 1e-4 * torch.eye(3))
    factor = low.factor(low.values[None])[0]
    torch.testing.assert_close(factor @ factor.T, shared @ shared.T, atol=1e-2, rtol=1e-2)
