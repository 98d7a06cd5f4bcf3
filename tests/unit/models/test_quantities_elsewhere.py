"""Numbers among the concepts, where something else takes truth values: policies, annotators, calibration, planes."""

import dataclasses

import pytest
import torch

from ibd.errors import ConfigError, UnsupportedError
from ibd.models.calibration.calibration import Calibration, known_truth, log_odds
from ibd.models.calibration.scaling import Scaling, fit_concepts
from ibd.models.cbm import policies
from ibd.models.cbm.annotators import Annotator
from ibd.models.cbm.finish import ReadSplit
from ibd.models.cbm.group_scores import concept_error, contribution
from ibd.models.cbm.intervention import cached_bottleneck
from ibd.models.posthoc_cbm.lightning import PosthocBottleneck
from ibd.models.posthoc_cbm.network import PosthocNetwork
from ibd.models.prediction import Prediction
from ibd.models.scbm.lightning import StochasticConceptBottleneck
from ibd.types import DataSpec, Quantity, groups_of
from tests.model_makers import PIXELS, SMALL, CountingBackbone, make_embedding, make_network, make_stochastic

NAMES = ("wing::red", "wing::blue", "flies", "size")
MIXED = DataSpec(
    ("a", "b", "c"), NAMES, groups_of(NAMES), image_size=(16, 16), quantities={"size": Quantity("mm", 20.0, 4.0)}
)


def everything(bottleneck):
    told = bottleneck.untold()
    left = torch.ones(len(told), len(bottleneck.groups), dtype=torch.bool)
    return bottleneck, bottleneck.beliefs(told), told, left


def test_a_number_is_off_by_so_many_deviations():
    network = make_network(MIXED).requires_grad_(False)
    scores = torch.tensor([[2.0, -1.0, 0.0, 0.5], [0.0, 0.0, 0.0, -1.0]])
    concepts = torch.tensor([[1.0, 0.0, 1.0, 26.0], [0.0, 0.0, 0.0, torch.nan]])  # 26 mm: 1.5 deviations above the mean
    found = cached_bottleneck(network, ReadSplit(scores, concepts, torch.tensor([0, 1])))
    error = concept_error(*everything(found))
    assert error[:, 2].tolist() == pytest.approx([1.0, 0.0])  # read as 0.5 deviations; unknown
    assert error[:, 1].tolist() == pytest.approx([0.5, 0.5])
    carried = contribution(*everything(found))
    expected = scores[:, 3].abs() * network.head.weight[:, 3].abs().sum()
    torch.testing.assert_close(carried[:, 2], expected)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_every_policy_orders_numbers(head):
    network = make_network(MIXED, head=head, hidden_units=5).requires_grad_(False)
    network.error.copy_(torch.tensor([torch.nan, torch.nan, torch.nan, 0.3]))
    concepts = torch.tensor([[1.0, 0.0, 1.0, 26.0], [0.0, torch.nan, 0.0, 13.0]]).repeat(4, 1)
    scores = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    found = cached_bottleneck(network, ReadSplit(scores, concepts, torch.arange(8) % 3))
    for name in ("uncertainty", "concept_error", "contribution", "expected_change", "expected_certainty"):
        ranks = getattr(policies, f"{name}_ranks")(found)
        assert torch.equal(ranks.sort(1).values, torch.arange(3).expand(8, 3))
        assert policies.accuracy_by_budget(found, ranks).isfinite().all()


def test_the_contribution_of_vectors_is_that_of_the_network():
    """A concept that passes several numbers carries their sum to a class, and not each by itself."""
    network = make_embedding().network.requires_grad_(False)
    features = torch.randn(5, network.embeddings.in_features, 2, 2, generator=torch.Generator().manual_seed(1))
    units = network.encode_features(features)
    read = ReadSplit(units.scores, torch.full((5, 6), torch.nan), torch.zeros(5, dtype=torch.long), units.state)
    found = cached_bottleneck(network, read)
    expected = network.contributions(units).abs().sum(2)
    expected = torch.stack([expected[:, list(group)].sum(1) for group in network.unit_groups.values()], 1)
    for weight in (found.weight, None):
        carried = contribution(*everything(dataclasses.replace(found, weight=weight)))
        torch.testing.assert_close(carried, expected, rtol=1e-4, atol=1e-5)


def test_nobody_knows_how_far_off_people_are_about_a_number():
    groups, numbers = MIXED.concept_groups, MIXED.measured
    with pytest.raises(ConfigError, match=r"^noise: 'size' is a quantity, .* noise\.GROUP=0\.1$"):
        Annotator.of(groups, noise=0.1, quantities=numbers)
    person = Annotator.of(groups, noise={"flies": 1.0}, unknown={"size": 1.0}, quantities=numbers)
    told = person.answers(torch.tensor([[1.0, 0.0, 1.0, 26.0]]), [[0, 1]], 0)
    assert told.nan_to_num(-1.0).tolist() == [[1, 0, 0, -1]]
    person = Annotator.of(groups, noise={"flies": 1.0}, quantities=numbers)
    assert float(person.answers(torch.tensor([[1.0, 0.0, 1.0, 26.0]]), [[0, 1]], 0)[0, 3]) == 26


def test_a_calibration_leaves_numbers_in_their_unit():
    network = make_network(MIXED).requires_grad_(False)
    units = network.encode(torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(2)))
    truth = known_truth(network, torch.tensor([[1.0, 0.0, 1.0, 26.0], [0.0, 1.0, 0.0, 0.5]]).repeat(3, 1))
    assert truth[:, 3].isnan().all()
    for method in ("temperature", "vector"):
        scaling = fit_concepts(log_odds(network, units), truth, method)
        without = fit_concepts(log_odds(network, units)[:, :3], truth[:, :3], method)
        assert scaling.scale[:3] == pytest.approx(without.scale, rel=1e-4)
        values = Calibration("val", True, 0, Scaling(), scaling).values(network, units)
        assert torch.equal(values[:, 3], network.readable(units)[:, 3])
        assert bool(((values[:, :3] > 0) & (values[:, :3] < 1)).all())


def test_what_moved_is_said_in_calibrated_values():
    network = make_stochastic()
    logits, units = network(torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3)))
    calibration = Calibration("val", True, 0, Scaling(), Scaling("temperature", (0.5,), (), 10))
    nothing = torch.zeros_like(units.scores, dtype=torch.bool)
    before = Prediction(network, units, logits, nothing, calibration=calibration)
    after = before.intervene({"flies": 0})
    assert float(after.moved.abs().max()) > 0.01
    torch.testing.assert_close(after.unit_values[:, :5] - after.moved[:, :5], before.unit_values[:, :5])
    assert after.moved[:, 5].tolist() == [0, 0]


def test_planes_and_covariances_are_of_truth_values():
    assert MIXED.truths == [0, 1, 2]
    module = PosthocBottleneck(MIXED, PIXELS)
    assert module.network.unit_names == list(NAMES[:3])
    assert not module.network.quantities
    with pytest.raises(ConfigError, match="'size' is a quantity, which no image is an example of"):
        PosthocNetwork(CountingBackbone(), MIXED, {"names": ["size"], "truth": True})
    alone = DataSpec(("a", "b"), ("size",), groups_of(("size",)), quantities=MIXED.quantities)
    with pytest.raises(ConfigError, match="this data has quantities alone"):
        PosthocBottleneck(alone, PIXELS)
    with pytest.raises(UnsupportedError, match=r"'size' is a quantity: take model\.name=cbm$"):
        StochasticConceptBottleneck(MIXED, SMALL)
