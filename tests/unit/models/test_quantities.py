"""Concepts that are numbers with a unit, beside true or false ones: against sums made by hand."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torchmetrics.functional import r2_score

from ibd.comparison.self_consistency.leakage import concept_leakage
from ibd.errors import ConfigError, UnsupportedError
from ibd.metrics.quantities import quantity_metrics
from ibd.models.cbm import policies
from ibd.models.cbm.finish import ReadSplit, fit_head, typical_error
from ibd.models.cbm.group_scores import expected_gain
from ibd.models.cbm.intervention import cached_bottleneck
from ibd.models.cbm.lightning import ConceptBottleneck
from ibd.models.cbm.losses import concept_loss
from ibd.models.cem.lightning import ConceptEmbedding
from ibd.models.prediction import Prediction
from ibd.models.quantities import Measured
from ibd.types import Batch, DataSpec, Quantity, groups_of
from tests.model_makers import SMALL, SPEC, TensorImages, make_module, make_network, make_whitening
from tests.slider_makers import slider_logits

NAN = math.nan
NAMES = ("wing::red", "wing::blue", "flies", "size", "year")
MIXED = dataclasses.replace(
    SPEC,
    concept_names=NAMES,
    concept_groups=groups_of(NAMES),
    quantities={"size": Quantity("mm", 20.0, 4.0), "year": Quantity("", 2019.0, 2.5)},
)
FORMS = ["probabilities", "logits", "evidence", "hard"]


def units(network, count=3, seed=0):
    torch.manual_seed(seed)
    return network.encode(torch.rand(count, 3, 16, 16))


def test_the_specification_keeps_quantities():
    again = DataSpec.from_dict(MIXED.to_dict())
    assert again == MIXED
    assert list(again.measured) == [3, 4]
    plain = MIXED.to_dict()
    for wrong in (
        {"size": {"unit": "mm", "mean": 1.0, "deviation": 0.0}},
        {"what": plain["quantities"]["size"]},
        {"size": 3},
    ):
        with pytest.raises(ConfigError, match=r"^spec\.quantities: '"):
            DataSpec.from_dict(plain | {"quantities": wrong})


@pytest.mark.parametrize(
    ("deviation", "value", "shown"),
    [(4.0, 12.5, "12.50 mm"), (0.03, 0.12345, "0.1235 mm"), (900.0, 12345.6, "12346 mm")],
)
def test_a_quantity_is_shown_to_a_hundredth_of_its_deviation(deviation, value, shown):
    assert Quantity("mm", 0.0, deviation).shown(value) == shown


def test_standardized_values():
    measured = Measured(MIXED.measured, 5)
    values = torch.tensor([[1.0, 0.25, 0.0, 26.0, 2014.0], [0.0, 1.0, NAN, NAN, 2019.0]])
    expected = torch.tensor([[1.0, 0.25, 0.0, 1.5, -2.0], [0.0, 1.0, NAN, NAN, 0.0]])
    torch.testing.assert_close(measured.standardized(values), expected, equal_nan=True)
    torch.testing.assert_close(measured.in_units(expected), values, equal_nan=True)
    assert measured.truth(values)[:, 3:].isnan().all()
    halved = measured.bfloat16()  # in which 2019 would be 2016
    assert halved.in_units(expected)[1, 4] == 2019
    assert not measured.state_dict()


@pytest.mark.parametrize("bottleneck", FORMS)
def test_a_number_is_read_and_set_in_its_unit(bottleneck):
    """Whatever the bottleneck, logits move by the weight times the change in standard deviations."""
    network = make_network(MIXED, bottleneck=bottleneck)
    before = units(network)
    readable = network.readable(before)
    torch.testing.assert_close(readable[:, 3], 20 + 4 * before.scores[:, 3])
    assert ((readable[:, :3] >= 0) & (readable[:, :3] <= 1)).all()
    after = network.edit(before, {"size": readable[:, 3] + 6.0, "year": 2021.5})
    torch.testing.assert_close(
        network.readable(after)[:, 3:], torch.stack([readable[:, 3] + 6, torch.full((3,), 2021.5)], 1)
    )
    assert torch.equal(after.scores[:, :3], before.scores[:, :3])
    change = torch.stack([torch.full((3,), 1.5), 1 - before.scores[:, 4]], 1)
    expected = network.decode(before) + change @ network.head.weight[:, 3:].T
    torch.testing.assert_close(network.decode(after), expected)
    torch.testing.assert_close(network.contributions(after).sum(1) + network.bias(), expected)


@pytest.mark.parametrize("bottleneck", FORMS)
def test_what_is_true_or_false_passes_as_it_does_without_numbers(bottleneck):
    """The first three concepts beside two numbers, and beside two other truth values with the same weights."""
    mixed, plain = (make_network(s, bottleneck=bottleneck) for s in (MIXED, dataclasses.replace(MIXED, quantities={})))
    seen = units(mixed)
    assert torch.equal(mixed.activation(seen.scores)[:, :3], plain.activation(seen.scores)[:, :3])
    assert torch.equal(mixed.activation(seen.scores)[:, 3:], seen.scores[:, 3:])
    values = {"wing::red": 1, "flies": 0.3}
    assert torch.equal(mixed.edit(seen, values).scores, plain.edit(seen, values).scores)


def test_a_number_has_no_probability_and_is_not_rounded():
    network = make_network(MIXED)
    seen = units(network)
    assert network.probabilities(seen.scores)[:, 3:].isnan().all()
    assert network.log_odds(seen.scores)[:, 3:].isnan().all()
    rounded = network.rounded(seen)
    assert torch.equal(rounded.scores[:, 3:], seen.scores[:, 3:])
    assert set(network.readable(rounded)[:, :3].round(decimals=6).flatten().tolist()) <= {0.0, 1.0}
    assert network.unit_scale().tolist() == [1, 1, 1, 4, 2.5]
    with pytest.raises(ConfigError, match=r"'flies' is set to 12\.5: a truth value from 0 to 1 is needed"):
        network.edit(seen, {"flies": 12.5})


@pytest.mark.parametrize("bottleneck", ["probabilities", "hard"])
def test_gradients_are_numbers(bottleneck):
    network = make_network(MIXED, bottleneck=bottleneck).train()
    network.decode(units(network)).sum().backward()
    assert all(bool(p.grad.isfinite().all()) for p in network.parameters() if p.grad is not None)


@pytest.mark.parametrize("bottleneck", FORMS)
def test_sliders_take_numbers_in_their_unit(bottleneck):
    network = make_network(MIXED, bottleneck=bottleneck)
    seen = units(network)
    sliders = network.sliders(seen)
    torch.testing.assert_close(slider_logits(sliders).float(), network.decode(seen), rtol=1e-4, atol=1e-3)
    size, flies = NAMES.index("size"), NAMES.index("flies")
    assert (sliders.low[size], sliders.high[size]) == (8, 32)
    assert (sliders.low[flies], sliders.high[flies]) == (0, 1)
    assert (sliders.asked[size], sliders.forms[size], sliders.asked[flies]) == ("quantity", "line", "truth")
    edited = network.activation(network.edit(seen, {"size": 12.5}).scores)
    np.testing.assert_allclose(sliders.zero[size] + sliders.slope[size] * 12.5, edited[0, size].item(), rtol=1e-5)


def test_a_table_names_the_unit():
    network = make_network(MIXED).requires_grad_(False)
    seen = network.edit(units(network, 1), {"size": 12.5})
    edited = torch.tensor([[False, False, False, True, False]])
    table = Prediction(network, seen, network.decode(seen), edited, ["a"]).table(top=0)
    assert "12.50 mm*" in table


def test_the_loss_of_a_number_is_its_squared_error():
    """Two known truth values and two known numbers of a batch of two: mean loss of a known pair times K."""
    logits = torch.tensor([[0.3, -1.0, 2.0], [1.0, 0.5, -0.5]])
    concepts = torch.tensor([[0.75, NAN, 1.5], [1.0, NAN, -1.0]])
    numbers, ratio = torch.tensor([False, False, True]), torch.tensor([4.0, 1.0, 1.0])
    bce = [F.binary_cross_entropy_with_logits(logits[i, 0], concepts[i, 0]) for i in range(2)]
    squared = 0.5**2 + 0.5**2
    plain = concept_loss(logits, concepts, torch.ones(3), "none", numbers=numbers)
    assert plain.item() == pytest.approx(float(sum(bce) + squared) * 3 / 4)
    weighted = concept_loss(logits, concepts, ratio, "concept", numbers=numbers)
    assert weighted.item() == pytest.approx(float(4 * sum(bce) + squared) * 3 / 4)


def test_soft_targets_of_a_softmax_group_that_exceed_1_are_scaled_down():
    """0.8 and 0.8 are 0.5 and 0.5, and leave nothing for none of them."""
    logits = torch.tensor([[0.4, -0.7]])
    share = -torch.tensor([0.4, -0.7, 0.0]).log_softmax(0)[:2].mean()
    found = concept_loss(logits, torch.tensor([[0.8, 0.8]]), torch.ones(2), softmax_groups=[[0, 1]])
    assert found.item() == pytest.approx(share.item())


def test_metrics_of_numbers():
    """R2 of (1, 2, 4) for (1, 2, 3) is 1 - 1 / 2; the other column is unknown in the first batch, and not merged."""
    metrics = quantity_metrics({0: "size", 2: "year"})
    target = torch.tensor([[1.0, 0.0, NAN], [2.0, 1.0, NAN], [3.0, 1.0, NAN]])
    predicted = torch.tensor([[1.0, 9.0, 5.0], [2.0, 9.0, 5.0], [4.0, 9.0, 5.0]])
    for collection in metrics.values():
        collection.update(predicted[:0], target[:0])
        collection.update(predicted, target)
    assert metrics["r2"].compute()["r2_size"].item() == pytest.approx(0.5)
    assert metrics["mae"].compute()["mae_size"].item() == pytest.approx(1 / 3)
    assert metrics["r2"].compute()["r2_year"].isnan()
    assert metrics["mae"].compute()["mae_year"].isnan()
    late = torch.tensor([[NAN, 0.0, 1.0], [NAN, 0.0, 3.0]])
    for collection in metrics.values():
        collection.update(late + 0.5, late)
    assert metrics["mae"].compute()["mae_year"].item() == pytest.approx(0.5)
    expected = r2_score(torch.tensor([1.5, 3.5]), torch.tensor([1.0, 3.0]))
    assert metrics["r2"].compute()["r2_year"].item() == pytest.approx(expected.item())
    assert quantity_metrics({}) == {}


def test_a_module_measures_numbers_apart_from_truth_values():
    """What accuracy and AUROC are given of a number is unknown; the mean error is in its unit."""
    module = make_module(MIXED)
    concepts = torch.tensor([[1.0, 0.0, 1.0, 22.0, NAN], [0.0, 1.0, 0.0, 18.0, 2020.0]])
    batch = Batch(torch.rand(2, 3, 16, 16), torch.tensor([0, 1]), concepts, torch.arange(2))
    output = module(batch.image)
    inputs = module.metric_inputs(output, batch)
    for kind in ("concept", "ranking"):
        assert inputs[kind][1][:, 3:].isnan().all()
        assert torch.equal(inputs[kind][1][:, :3], concepts[:, :3])
    kinds = module.build_metrics()
    kinds["mae"].update(*inputs["mae"])
    expected = (20 + 4 * output.units.scores[:, 3] - concepts[:, 3]).abs().mean()
    assert kinds["mae"].compute()["mae_size"].item() == pytest.approx(expected.item(), rel=1e-5)
    assert module.losses(output, batch)["loss"].isfinite()


def test_a_head_learns_from_standardized_truth():
    """Classes by size alone, 14, 20 and 26 mm: the head is that of a network without numbers for -1.5, 0 and 1.5."""
    network, plain = make_network(MIXED), make_network(dataclasses.replace(MIXED, quantities={}), bottleneck="logits")
    labels = torch.arange(90) % 3
    concepts = torch.tensor([0.0, 0.0, 1.0, 0.0, 2019.0]).repeat(90, 1)
    concepts[:, 3] = 14.0 + 6 * labels
    concepts[0, 3] = NAN
    scores = network.measured.standardized(concepts).nan_to_num(-1.5)
    read = ReadSplit(scores, concepts, labels)
    assert fit_head(network, read, read, "independent", 100, 0.1, 0.0)["head/val_accuracy"] == 1
    seen = network.activation(scores)
    seen[:, :3] = concepts[:, :3]
    of_truth, val = ReadSplit(seen, concepts, labels), ReadSplit(network.activation(scores), concepts, labels)
    fit_head(plain, of_truth, val, "sequential", 100, 0.1, 0.0)
    torch.testing.assert_close(network.head.weight, plain.head.weight)
    off = ReadSplit(scores + torch.tensor([0, 0, 0, 0.5, 0.0]), concepts, labels)
    torch.testing.assert_close(typical_error(network, off), torch.tensor([NAN, NAN, NAN, 0.5, 0.0]), equal_nan=True)
    nobody = ReadSplit(scores, torch.full_like(concepts, NAN), labels)
    assert typical_error(network, nobody)[3:].tolist() == [1, 1]


def bottleneck(network, count=4):
    torch.manual_seed(1)
    concepts = torch.tensor([[1.0, 0.0, 1.0, 26.0, 2021.5], [0.0, NAN, 0.0, NAN, 2019.0]]).repeat(count // 2, 1)
    return cached_bottleneck(network, ReadSplit(torch.randn(count, 5), concepts, torch.arange(count) % 3)), concepts


def test_a_curve_corrects_numbers():
    network = make_network(MIXED)
    found, concepts = bottleneck(network)
    assert found.corrected[0].tolist() == pytest.approx([1, 0, 1, 1.5, 1])
    assert found.corrected[1, 3] == found.predicted[1, 3]
    assert [list(group) for group in found.groups] == [[0, 1], [2], [3], [4]]
    assert policies.uncertainty_ranks(found)[:, 2:].tolist() == [[2, 3]] * len(concepts)


def test_a_number_may_turn_out_higher_or_lower():
    """The expected change is the mean divergence of one error up and one down, by the head itself."""
    network = make_network(MIXED)
    found, _ = bottleneck(network)
    with pytest.raises(UnsupportedError, match="does not know how far its quantities are off"):
        policies.expected_change_ranks(found)
    network.error.copy_(torch.tensor([NAN, NAN, NAN, 0.7, 0.2]))
    found, _ = bottleneck(network)
    now = network.classify(found.predicted)
    ends = []
    for sign in (0.7, -0.7):
        moved = found.predicted.clone()
        moved[:, 3] += sign
        then = network.classify(moved).log_softmax(1)
        ends.append((then.exp() * (then - now.log_softmax(1))).sum(1))
    expected = (ends[0] + ends[1]) / 2
    for weight in (found.weight, None):
        either = dataclasses.replace(found, weight=weight)
        told = either.untold()
        gain = expected_gain(either, either.beliefs(told), now, told, either.images, 2)
        torch.testing.assert_close(gain, expected)
    assert sorted(policies.expected_change_ranks(found)[0].tolist()) == [0, 1, 2, 3]


def test_leakage_leaves_numbers_out():
    module = make_module(MIXED)
    torch.manual_seed(0)
    concepts = (torch.rand(12, 5) > 0.5).float() * torch.tensor([1, 1, 1, 30, 2020])
    found = concept_leakage(
        module, TensorImages(torch.rand(12, 3, 16, 16), torch.arange(12) % 3, concepts, False), range(12)
    )
    assert found.task.isnan().tolist() == [False, False, False, True, True]
    assert found.between[3:].isnan().all()
    only = dataclasses.replace(MIXED, concept_names=("size",), concept_groups={"size": (0,)}, exclusive_groups=())
    only = dataclasses.replace(only, quantities={"size": MIXED.quantities["size"]})
    images = TensorImages(torch.rand(4, 3, 16, 16), torch.arange(4) % 3, torch.rand(4, 1), False)
    with pytest.raises(UnsupportedError, match="all concepts are quantities: they do not pretend to be yes or no"):
        concept_leakage(make_module(only), images, range(4))


def test_an_axis_cannot_stand_for_a_number():
    network = make_whitening(MIXED).network
    assert network.concept_names == ["wing::red", "wing::blue", "flies"]
    with pytest.raises(ConfigError, match=r"model\.concepts: 'size' is a quantity: an axis is turned to images that"):
        make_whitening(MIXED, concepts=["flies", "size"])


def test_a_checkpoint_keeps_units_and_errors(tmp_path):
    from ibd.io import load_model

    module = make_module(MIXED)
    module.network.error.copy_(torch.tensor([NAN, NAN, NAN, 0.7, 0.2]))
    module.save(tmp_path / "model.ckpt")
    again = load_model(tmp_path / "model.ckpt").network
    assert again.quantities == MIXED.measured
    assert again.error[3:].tolist() == pytest.approx([0.7, 0.2])
    assert "network.error" not in make_module().state_dict()  # as checkpoints before there were quantities


def test_the_epoch_is_chosen_by_what_covers_numbers():
    assert make_module(MIXED, regime="sequential").monitor == ("val/concept_loss", "min")
    assert make_module(regime="sequential").monitor == ("val/concept_auroc", "max")


@pytest.mark.parametrize("bottleneck", FORMS)
def test_the_account_of_a_bcos_bottleneck_is_exact_with_numbers(bottleneck):
    """Logits are bias and contributions, and a number above its offset is the sum of its pixels."""
    torch.manual_seed(0)
    backbone = {"name": "bcos_small_cnn", "width": 4, "depth": 3}
    network = ConceptBottleneck(MIXED, backbone, bottleneck=bottleneck).eval().network
    network.low.fill_(-3.0)
    network.high.fill_(2.0)
    image = torch.rand(2, 3, 16, 16)
    seen = network.encode(image)
    assert network.account == "pixels"
    assert network.offset()[3:].tolist() == [0, 0]
    torch.testing.assert_close(network.contributions(seen).sum(1) + network.bias(), network.decode(seen))
    heat = network.pixel_maps(image, units=[3], weights=False).heat
    torch.testing.assert_close(heat.flatten(1).sum(1), seen.scores[:, 3] - network.offset()[3], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("bottleneck", ["probabilities", "logits", "hard"])
def test_numbers_go_with_a_residual(bottleneck):
    module = make_module(MIXED, bottleneck=bottleneck, residual=2, residual_penalty=1.0)
    before = units(module.network)
    readable = module.network.readable(before)
    torch.testing.assert_close(readable[:, 3], 20 + 4 * before.scores[:, 3])
    after = module.network.edit(before, {"size": 26})
    assert torch.equal(after.scores[:, 5:], before.scores[:, 5:])
    change = (1.5 - before.scores[:, [3]]) * module.network.head.weight[:, 3]
    torch.testing.assert_close(module.network.decode(after), module.network.decode(before) + change)
    assert module.network.unit_scale()[3:5].tolist() == [4, 2.5]
    batch = Batch(torch.rand(4, 3, 16, 16), torch.arange(4) % 3, torch.rand(4, 5), torch.arange(4))
    assert all(bool(term.isfinite()) for term in module.losses(module(batch.image), batch).values())


def test_an_embedding_cannot_be_mixed_by_a_number():
    with pytest.raises(
        UnsupportedError, match="mix two vectors by a probability, and 'size' is a quantity, which has no"
    ):
        ConceptEmbedding(MIXED, SMALL)
