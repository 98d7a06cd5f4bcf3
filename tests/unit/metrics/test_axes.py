"""Metrics on axes against the definitions, over batches and processes, and what is undefined."""

import math

import numpy as np
import pytest
import torch

from ibd.metrics import (
    AxisCorrelation,
    AxisPurity,
    ConceptImportance,
    ConceptSeparation,
    auc_matrix,
    auroc_per_concept,
    axis_correlation,
    correlation_matrix,
)
from tests.reference import axes as reference

pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method")  # of a metric that has seen nothing
IMAGES, AXES, CONCEPTS, CLASSES = 24, 5, 3, 4


def case(seed=0, unknown=0.3, ties=True):
    """Activations that depend on each other and on the concepts, with a mean, ties and gaps."""
    g = torch.Generator().manual_seed(seed)
    concepts = (torch.rand(IMAGES, CONCEPTS, generator=g) < 0.5).float()
    mixing = torch.randn(AXES, AXES, generator=g)
    maps = torch.einsum("de,behw->bdhw", mixing, torch.randn(IMAGES, AXES, 3, 2, generator=g)) + 2
    maps[:, :CONCEPTS] += 3 * concepts[:, :, None, None]
    scores = maps.amax((2, 3))
    label = torch.randint(CLASSES, (IMAGES,), generator=g)
    logits = torch.randn(IMAGES, CLASSES, generator=g)
    logits[torch.arange(IMAGES), label] += 1
    return {
        "maps": maps,
        "scores": scores.round() if ties else scores,
        "concepts": concepts.masked_fill(torch.rand(concepts.shape, generator=g) < unknown, torch.nan),
        "representation": maps.mean((2, 3)),
        "logits": logits,
        "without": logits.unsqueeze(1) + torch.randn(IMAGES, CONCEPTS, CLASSES, generator=g),
        "label": label,
    }


METRICS = {
    "purity": (AxisPurity, ("scores", "concepts")),
    "correlation": (lambda: AxisCorrelation(AXES), ("maps",)),
    "separation": (lambda: ConceptSeparation(CONCEPTS, AXES), ("representation", "concepts")),
    "importance": (lambda: ConceptImportance(CONCEPTS), ("logits", "without", "label")),
}


def fed(name, data, parts=(IMAGES,)):
    make, arguments = METRICS[name]
    metric = make()
    for part in zip(*(data[argument].split(parts) for argument in arguments), strict=True):
        metric.update(*part)
    return metric


def details(metric):
    """Everything that a metric says."""
    result = metric.compute()
    found = dict(result) if isinstance(result, dict) else {"figure": result}
    for name in ("per_concept", "correlation", "covariance", "matrix"):
        if hasattr(metric, name):
            found[name] = getattr(metric, name)()
    return found


@pytest.mark.parametrize("unknown", [0.0, 0.4])
@pytest.mark.parametrize("ties", [True, False])
def test_auc_is_the_share_of_pairs_in_order(unknown, ties):
    data = case(unknown=unknown, ties=ties)
    found = auc_matrix(data["scores"], data["concepts"])
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found, reference.auc_matrix(data["scores"], data["concepts"]), atol=1e-12)


@pytest.mark.parametrize("unknown", [0.0, 0.4])
def test_auc_of_more_axes_than_are_ranked_at_a_time(unknown):
    g = torch.Generator().manual_seed(1)
    scores = torch.randn(70, 150, generator=g).mul(3).round()
    concepts = (torch.rand(70, 4, generator=g) < 0.3).float()
    concepts[torch.rand(70, 4, generator=g) < unknown] = torch.nan
    expected = torch.stack([auroc_per_concept(scores, c.unsqueeze(1).expand(-1, 150)) for c in concepts.T])
    torch.testing.assert_close(auc_matrix(scores, concepts), expected, atol=1e-12, rtol=0)


def test_auc_without_a_curve_beside_infinities_and_a_constant_axis():
    nan, inf = torch.nan, torch.inf
    concepts = torch.tensor([[1.0, 0, nan, 0], [1, 0, nan, 1], [1, 0, nan, 1], [1, 0, nan, nan]])
    scores = torch.tensor([[0.0, 1, -inf], [inf, 1, 2], [inf, 1, 3], [9, 1, 2]])
    found = auc_matrix(scores, concepts)
    assert found[:3].isnan().all()
    assert found[3].tolist() == [1.0, 0.5, 1.0]
    tied = auc_matrix(torch.tensor([[0.0], [inf], [inf], [5.0]]), torch.tensor([[0.0], [1], [0], [nan]]))
    assert tied.item() == 0.75


def test_purity_is_that_of_the_concepts_own_axis():
    data = case()
    metric = fed("purity", data)
    own = torch.tensor(reference.auc_matrix(data["scores"], data["concepts"]), dtype=torch.float64).diagonal()
    torch.testing.assert_close(metric.per_concept(), own)
    assert metric.compute().item() == pytest.approx(own.mean().item())
    data["concepts"][:, 1] = 1
    metric = fed("purity", data)
    assert metric.per_concept().isnan().tolist() == [False, True, False]
    assert metric.compute().item() == pytest.approx(own[[0, 2]].mean().item())


def test_correlation_and_whiteness_are_those_of_all_pixels():
    data = case()
    metric, expected = fed("correlation", data, (7, 1, 16)), reference.covariance(data["maps"])
    np.testing.assert_allclose(metric.covariance(), expected, rtol=1e-10)
    assert metric.compute().item() == pytest.approx(reference.mean_absolute_correlation(expected), rel=1e-6)
    scale = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(metric.correlation(), expected / np.outer(scale, scale), atol=1e-12)
    diagonal, off_diagonal = metric.whiteness()
    assert diagonal.item() == pytest.approx(np.diag(expected).mean() - 1)
    beside = ~np.eye(AXES, dtype=bool)
    assert off_diagonal.item() == pytest.approx(np.abs(expected[beside]).mean())
    assert axis_correlation(data["maps"]).item() == pytest.approx(metric.compute().item())


def test_correlation_takes_vectors_and_a_large_mean():
    value = torch.randn(500, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    value[:, 1] += 0.5 * value[:, 0]
    metric, far = AxisCorrelation(3), AxisCorrelation(3)
    metric.update(value)
    for part in (value + 1e8).split(60):
        far.update(part)
    expected = np.corrcoef(value.numpy().T)
    np.testing.assert_allclose(metric.correlation(), expected, atol=1e-12)
    np.testing.assert_allclose(far.correlation(), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_axis_that_does_not_vary_correlates_with_nothing(dtype):
    value = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    value[:, 2] = 0.1
    metric = AxisCorrelation(3)
    for part in value.split(130):
        metric.update(part)
    expected = abs(np.corrcoef(value[:, :2].numpy().T)[0, 1])
    assert metric.compute().item() == pytest.approx(expected, abs=1e-5)
    assert metric.correlation()[2].isnan().all()
    assert metric.covariance()[2].abs().max() < 1e-18
    metric.reset()
    metric.update(torch.ones(9, 3))
    assert math.isnan(metric.compute())


def test_correlation_of_the_extremes():
    value = torch.randn(300, 1, generator=torch.Generator().manual_seed(0))
    assert axis_correlation(torch.cat([value, -2 * value + 3], 1)).item() == pytest.approx(1)
    white = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    metric = AxisCorrelation(2)
    metric.update(white)
    assert metric.compute().item() == 0
    assert metric.whiteness() == (0, 0)
    metric.update(torch.zeros(0, 2, 4, 4))
    assert metric.covariance().tolist() == [[1, 0], [0, 1]]
    assert correlation_matrix(torch.tensor([[4.0, 1], [1, 1]])).tolist() == [[1, 0.5], [0.5, 1]]


@pytest.mark.parametrize("unknown", [0.0, 0.4])
def test_separation_is_over_pairs_of_different_images(unknown):
    data = case(unknown=unknown)
    data["representation"][3] = 0
    metric, expected = (
        fed("separation", data, (5, 1, 18)),
        torch.tensor(reference.separation(data["representation"], data["concepts"])),
    )
    torch.testing.assert_close(metric.matrix(), expected)
    beside = ~torch.eye(CONCEPTS, dtype=torch.bool)
    assert metric.compute().item() == pytest.approx(expected[beside].mean().item())


def test_separation_of_the_extremes():
    metric = ConceptSeparation(3, 2)
    right, up = torch.tensor([[1.0, 0]]), torch.tensor([[0, 1.0]])
    metric.update(torch.cat([right, 3 * right, up, 0.1 * up]), torch.tensor([[1.0, 0, 0]] * 2 + [[0, 1.0, 0]] * 2))
    assert metric.matrix()[:2, :2].tolist() == [[1, 0], [0, 1]]
    assert metric.matrix()[2].isnan().all()
    assert metric.compute().item() == 0
    metric.reset()
    metric.update(torch.cat([right, up]), torch.tensor([[1.0, 1, 0]] * 2))  # images that are not alike at all
    assert metric.matrix().isnan().all()
    assert math.isnan(metric.compute())


def test_importance_is_what_removing_an_axis_does():
    data = case()
    data["without"][:, 1] = data["logits"]
    found = fed("importance", data, (7, 17)).compute()
    drop, loss = reference.importance(data["logits"], data["without"], data["label"].tolist())
    torch.testing.assert_close(found["accuracy_drop"], torch.tensor(drop, dtype=torch.float64))
    torch.testing.assert_close(found["loss_increase"], torch.tensor(loss, dtype=torch.float64))
    assert found["accuracy_drop"][1] == 0
    assert abs(found["loss_increase"][1]) < 1e-12
    assert abs(found["accuracy_drop"][0]) > 0.01
    assert all(value.isnan().all() for value in ConceptImportance(2).compute().values())


@pytest.mark.parametrize("name", METRICS)
def test_batches_and_processes_do_not_matter(name):
    data = case()
    expected = details(fed(name, data))
    for parts in ((IMAGES - 1, 1), (1,) * IMAGES):
        torch.testing.assert_close(details(fed(name, data, parts)), expected, equal_nan=True)
    first = fed(name, {key: value[:9] for key, value in data.items()}, (4, 5))
    second = fed(name, {key: value[9:] for key, value in data.items()}, (10, 5))
    empty = METRICS[name][0]()
    first.merge_state(second)
    if name != "purity":  # whose lists are left out where a process has seen nothing
        first.merge_state(empty)
    torch.testing.assert_close(details(first), expected, equal_nan=True)


@pytest.mark.parametrize("name", METRICS)
def test_half_precision_is_taken(name):
    data = case(unknown=0.0, ties=False)
    half = {key: value.bfloat16() if value.is_floating_point() else value for key, value in data.items()}
    found, expected = details(fed(name, half)), details(fed(name, data))
    torch.testing.assert_close(found, expected, atol=0.1, rtol=0.05, equal_nan=True)
