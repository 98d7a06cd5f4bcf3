"""Means that count each sample once, over any batches and processes."""

import pytest
import torch

from ibd.errors import ConfigError
from ibd.metrics.functional.bootstrap import mean_interval
from ibd.metrics.per_sample import PerSampleMetric

pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method")  # of a metric that has seen nothing
NAN = torch.nan


def data(count=101, seed=0):
    g = torch.Generator().manual_seed(seed)
    values = torch.randn(count, generator=g, dtype=torch.float64)
    values[::10] = NAN
    return values, torch.randperm(count, generator=g)


def fed(values, ids, parts, **options):
    metric = PerSampleMetric(**options)
    for part in torch.arange(len(ids)).split(parts):
        metric.update(values[part], ids[part])
    return metric


def test_any_batches_in_any_order_give_the_same_to_the_bit():
    values, ids = data()
    one = fed(values, ids, 101)
    order = torch.randperm(101, generator=torch.Generator().manual_seed(9))
    many = fed(values[order], ids[order], 7)
    assert one.compute().dtype == torch.float64
    assert one.compute().item() == many.compute().item() == values[ids.argsort()].nanmean().item()
    assert one.interval() == many.interval() == mean_interval(values[ids.argsort()])
    assert (int(many.n()), int(many.n_nan())) == (90, 11)
    assert torch.equal(many.sample_ids(), torch.arange(101))


def test_a_repeated_sample_counts_once_and_padding_not_at_all():
    values, ids = data()
    metric = fed(torch.cat([values, values[:9], values[:3] * 0]), torch.cat([ids, ids[:9], torch.full((3,), -1)]), 13)
    assert metric.compute().item() == fed(values, ids, 101).compute().item()
    assert int(metric.n()) == 90
    torn = fed(torch.tensor([2.0, NAN, 1.0, NAN]), torch.tensor([5, 5, 5, 6]), 1)
    assert torn.values().tolist()[:1] == [1.0]  # whichever process has it


def test_no_float32_drift():
    metric = fed(torch.full((200_000,), 0.1, dtype=torch.float64), torch.arange(200_000) + 2**40, 50_000)
    assert metric.compute().item() == pytest.approx(0.1, abs=1e-15)
    assert metric.half().compute().item() == pytest.approx(0.1, abs=1e-15)


def test_curves_by_column():
    values, ids = data(60)
    columns = torch.stack([values, values + 1, values * NAN], 1)
    metric = fed(columns, ids, 7, columns=3)
    assert metric.compute()[:2].tolist() == [fed(c, ids, 60).compute().item() for c in (values, values + 1)]
    assert metric.n().tolist() == [54, 54, 0]
    assert metric.interval()[1] == fed(values + 1, ids, 60).interval()


def test_nothing_and_what_does_not_fit():
    empty = PerSampleMetric()
    assert empty.compute().isnan()
    assert int(empty.n()) == 0
    assert PerSampleMetric(columns=2).compute().isnan().tolist() == [True, True]
    with pytest.raises(ConfigError, match=r"\(3,\) is needed"):
        empty.update(torch.ones(2), torch.arange(3))
    with pytest.raises(ConfigError, match=r"\(3, 2\) is needed"):
        PerSampleMetric(columns=2).update(torch.ones(3), torch.arange(3))


def test_states_are_merged_and_reset():
    values, ids = data()
    first, second = fed(values[:50], ids[:50], 7), fed(values[40:], ids[40:], 50)
    first.merge_state(second)
    assert first.compute().item() == fed(values, ids, 101).compute().item()
    first.reset()
    first.update(values[:1] * 0 + 3, ids[:1])
    assert first.compute().isnan()  # its value was NaN
    assert int(first.n_nan()) == 1
