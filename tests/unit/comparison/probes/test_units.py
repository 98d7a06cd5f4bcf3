"""Units switched off: closed forms on linear heads, no pass of the backbone, all families."""

import pytest
import torch

from ibd.comparison.probes.network import Predictor
from ibd.comparison.probes.units import (
    completeness,
    encoded,
    interpretable,
    unit_tables,
)
from ibd.errors import DataError, UnsupportedError
from ibd.metrics.functional.curves import ablation_gain
from tests.explainer_makers import WITH_UNITS, images, make
from tests.unit.comparison.probes.makers import Convolutions


def prepared(name, count=3):
    model, image = make(name).eval(), images(count, (32, 32))
    predictor = Predictor(model, image)
    classes = predictor.predicted(image)
    with torch.no_grad():
        units = encoded(predictor, image)
        parts = interpretable(predictor).contributions(units)[torch.arange(count), :, classes]
    return predictor, units, parts, classes


@pytest.mark.parametrize("name", WITH_UNITS)
def test_both_ends_and_no_pass_of_the_backbone(name):
    predictor, units, parts, classes = prepared(name)
    before = predictor.forwards
    tables = unit_tables(predictor, units, parts, classes, steps=4)
    assert predictor.forwards == before
    network = interpretable(predictor)
    with torch.no_grad():
        whole = predictor.values(network.decode(units), classes)
        nothing = predictor.values(network.decode_without(units, torch.ones_like(units.scores).bool()), classes)
    for table in (tables.ordered, tables.reversed, tables.random):
        torch.testing.assert_close(table.centered[:, 0], whole.centered, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(table.centered[:, -1], nothing.centered, rtol=1e-5, atol=1e-6)
    assert tables.fractions[0] == 0
    assert tables.fractions[-1] == 1


@pytest.mark.parametrize("name", ["baseline", "cbm", "protopnet", "pipnet"])
def test_a_linear_head_loses_the_contributions(name):
    predictor, units, parts, classes = prepared(name)
    network = interpretable(predictor)
    off = torch.rand(units.scores.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    with torch.no_grad():
        whole, found = network.decode(units), network.decode_without(units, off)
        lost = network.contributions(units) * off.unsqueeze(2)
    torch.testing.assert_close(found, whole - lost.sum(1), rtol=1e-4, atol=1e-5)
    rows = torch.arange(len(classes))
    torch.testing.assert_close((whole - found)[rows, classes], (parts * off).sum(1), rtol=1e-3, atol=1e-4)


def test_the_order_is_by_absolute_contribution():
    predictor, units, parts, classes = prepared("baseline")
    count = parts.shape[1]
    tables = unit_tables(predictor, units, parts, classes, steps=count)
    network = interpretable(predictor)
    for row in range(len(classes)):
        order = parts[row].abs().sort(descending=True, stable=True).indices
        for reverse, table in ((False, tables.ordered), (True, tables.reversed)):
            for k in range(count + 1):
                off = torch.zeros(1, count, dtype=torch.bool)
                off[0, (order.flip(0) if reverse else order)[:k]] = True
                wanted = predictor.values(network.decode_without(units[row : row + 1], off), classes[row : row + 1])
                torch.testing.assert_close(table.centered[row, k], wanted.centered[0], rtol=1e-5, atol=1e-6)


def test_random_orders_depend_on_the_id_alone_and_the_true_order_gains():
    predictor, units, parts, classes = prepared("protopnet")
    whole = unit_tables(predictor, units, parts, classes, ids=["a", "b", "c"], steps=3)
    some = unit_tables(predictor, units[[2, 0]], parts[[2, 0]], classes[[2, 0]], ids=["c", "a"], steps=3)
    torch.testing.assert_close(some.random.centered, whole.random.centered[[2, 0]], rtol=1e-5, atol=1e-5)  # of float32
    other = unit_tables(predictor, units, parts, classes, ids=["a", "b", "c"], steps=3, seed=1)
    assert not torch.equal(other.random.centered, whole.random.centered)
    assert ablation_gain(whole.ordered.kept, whole.random.kept, whole.fractions).shape == (3,)


def test_units_become_what_is_given():
    for name in WITH_UNITS:
        predictor, units, _, _ = prepared(name)
        network = interpretable(predictor)
        mean = network.passed(units).mean(0)
        off = torch.zeros_like(units.scores).bool()
        off[:, 1] = True
        with torch.no_grad():
            zero, found = network.decode_without(units, off), network.decode_without(units, off, mean)
            same = network.decode_without(units, ~off & False, mean)
            torch.testing.assert_close(same, network.decode(units))
        if name in ("baseline", "cbm", "protopnet"):
            weight = network.weight()[:, 1] if name == "protopnet" else network.head.weight[:, 1]
            torch.testing.assert_close(found - zero, (weight * mean[1]).expand_as(zero), rtol=1e-3, atol=1e-5)
        if name == "concept_whitening":
            edited = network.decode(network.edit(units, {1: float(mean[1])}))
            torch.testing.assert_close(found, edited)


def test_completeness():
    for name in ("baseline", "cbm", "cem", "protopnet", "pipnet"):
        predictor, units, _, classes = prepared(name)
        assert float(completeness(interpretable(predictor), units, classes).max()) < 1e-4
    predictor, units, parts, classes = prepared("concept_whitening")
    with torch.no_grad():
        logit = interpretable(predictor).decode(units)[torch.arange(3), classes]
    wanted = (parts.sum(1) - logit).abs().double()
    torch.testing.assert_close(completeness(interpretable(predictor), units, classes), wanted, rtol=1e-4, atol=1e-5)


def test_mistakes():
    predictor, units, parts, classes = prepared("baseline")
    with pytest.raises(DataError, match="contributions of shape"):
        unit_tables(predictor, units, parts[:, 1:], classes)
    with pytest.raises(UnsupportedError, match="Convolutions has no units"):
        encoded(Predictor(Convolutions(), images(1)), images(1))
