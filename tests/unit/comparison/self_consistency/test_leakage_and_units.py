"""Concepts that tell more than their names, contributions that add up, and linear heads, where all is known."""

import numpy as np
import pytest
import torch

from ibd.comparison.self_consistency import concept_leakage, unit_account
from ibd.errors import UnsupportedError
from ibd.models.baseline.lightning import Baseline
from ibd.models.cbm.network import ConceptBottleneckNetwork
from ibd.types import Units
from tests.model_makers import (
    LARGE,
    SMALL,
    SPEC,
    CountingBackbone,
    TensorData,
    make_embedding,
    make_module,
    make_network,
    make_pipnet,
    make_prototypes,
    make_whitening,
)


@pytest.fixture(scope="module")
def data():
    return TensorData(unknown=0.0)


class Shades(ConceptBottleneckNetwork):
    """Every concept holds of every image, at 0.6 + 0.1 times the class; the head reads the shade of the first."""

    def __init__(self, images, labels, **options):
        super().__init__(CountingBackbone(), SPEC, **options)
        self.images, self.labels = images, labels
        with torch.no_grad():
            self.head.weight.zero_()
            middle = torch.tensor([0.6, 0.7, 0.8])
            self.head.weight[:, 0] = 2 * middle
            self.head.bias.copy_(-(middle**2))

    def encode(self, image):
        place = [int((self.images == each).flatten(1).all(1).nonzero()[0]) for each in image]
        scores = (0.6 + 0.1 * self.labels[place]).logit().unsqueeze(1).expand(-1, len(self.unit_names)).clone()
        return Units(scores, scores[:, :, None, None])


@pytest.fixture
def certain():
    """Data of which every concept holds."""
    data = TensorData(unknown=0.0)
    images, labels, concepts = data.splits["test"]
    data.splits["test"] = images, labels, torch.ones_like(concepts)
    return data


def test_shades_leak(certain):
    data, (images, labels, _) = certain, certain.splits["test"]
    found = concept_leakage(Shades(images, labels), data.dataset("test"), range(30))
    assert found.soft.tolist() == [1.0] * 30
    assert torch.equal(found.hard, (labels == 2).double())  # 1.0 is nearest to 0.8
    assert found.figures()["leakage_gap"] == pytest.approx(1 - float((labels == 2).double().mean()))
    assert found.task.min() > 0.6
    one = torch.tensor([4, 9])
    assert torch.equal(concept_leakage(Shades(images, labels), data.dataset("test"), one).gap, found.gap[one])


def test_a_hard_bottleneck_has_no_shades(certain):
    data, (images, labels, _) = certain, certain.splits["test"]
    found = concept_leakage(Shades(images, labels, bottleneck="hard"), data.dataset("test"), range(30))
    assert found.gap.tolist() == [0.0] * 30
    assert found.task.tolist() == [0.0] * 6
    found = concept_leakage(make_network(bottleneck="hard"), data.dataset("test"), range(30))
    assert found.gap.tolist() == [0.0] * 30


class Right(ConceptBottleneckNetwork):
    """Concepts as annotated, with certainty."""

    def __init__(self, images, concepts):
        super().__init__(CountingBackbone(), SPEC)
        self.images, self.truth = images, concepts

    def encode(self, image):
        place = [int((self.images == each).flatten(1).all(1).nonzero()[0]) for each in image]
        scores = self.truth[place] * 60 - 30
        return Units(scores, scores[:, :, None, None])


def test_right_concepts_leak_nothing(data):
    images, _, concepts = data.splits["test"]
    found = concept_leakage(Right(images, concepts), data.dataset("test"), range(30))
    assert found.figures()["leakage_gap"] == 0
    assert found.task.tolist() == pytest.approx([0.0] * 6, abs=1e-6)
    between = found.between[~torch.eye(6, dtype=torch.bool)]
    assert between.tolist() == pytest.approx([0.0] * 30, abs=1e-6)


def test_rounded_logits_are_the_percentiles(data):
    network = make_network(bottleneck="logits")
    found = concept_leakage(network, data.dataset("test"), range(30), batch_size=7)
    with torch.no_grad():
        scores = network.encode(data.splits["test"][0]).scores
        rounded = torch.where(scores > 0, network.high, network.low)
        right = (network.classify(rounded).argmax(1) == data.splits["test"][1]).double()
    assert torch.equal(found.hard, right)
    network.low.fill_(torch.nan)
    with pytest.raises(UnsupportedError, match="no training percentiles"):
        concept_leakage(network, data.dataset("test"), range(30))
    with pytest.raises(UnsupportedError, match="channels do not pretend"):
        concept_leakage(Baseline(SPEC, SMALL), data.dataset("test"), range(30))


def test_unknown_concepts_give_no_information():
    data = TensorData(unknown=1.0)
    found = concept_leakage(make_network(), data.dataset("test"), range(30))
    assert found.task.isnan().all()
    assert found.between.isnan().all()
    assert not found.gap.isnan().any()


def reference_account(network, image):
    """Return error, named share and needed units of one image, by plain loops in float64."""
    with torch.no_grad():
        units = network.encode(image[None])
        logits = network.decode(units)[0].double().numpy()
        parts = network.contributions(units)[0].double().numpy()
        bias = network.bias().double().numpy()
    c = logits.argmax()
    error = abs(bias[c] + parts[:, c].sum() - logits[c])
    size = sorted(abs(row[c] - row.mean()) for row in parts)[::-1]
    needed = next(n for n in range(1, len(size) + 1) if sum(size[:n]) >= 0.9 * sum(size) * (1 - 1e-6))
    nameless = {f"{kind} {index}" for kind in ("channel", "residual") for index in range(len(parts))}
    named = sum(
        abs(row[c] - row.mean()) for row, name in zip(parts, network.unit_names, strict=True) if name not in nameless
    )
    share = named / (sum(size) + abs(bias[c] - bias.mean()))
    return error, share, needed


@pytest.mark.parametrize("kind", ["cbm", "residual", "cem", "mlp", "hard", "baseline", "protopnet", "pipnet"])
def test_units_against_plain_loops(kind):
    data = TensorData((2, 2, 6), spec=LARGE)
    torch.manual_seed(1)
    module = {
        "cbm": lambda: make_module(LARGE),
        "residual": lambda: make_module(LARGE, residual=2),
        "cem": lambda: make_embedding(LARGE),
        "mlp": lambda: make_module(LARGE, head="mlp"),
        "hard": lambda: make_module(LARGE, bottleneck="hard"),
        "baseline": lambda: Baseline(LARGE, SMALL).eval(),
        "protopnet": make_prototypes,
        "pipnet": lambda: make_pipnet(LARGE).eval(),
    }[kind]()
    found = unit_account(module, data.dataset("test"), range(6), batch_size=4)
    for i, image in enumerate(data.splits["test"][0]):
        error, share, needed = reference_account(module.network, image)
        assert float(found.error[i]) == pytest.approx(error, abs=1e-5)
        assert float(found.named[i]) == pytest.approx(share, abs=1e-5)
        assert float(found.needed[i]) == needed
    assert found.units == len(module.network.unit_names)
    if kind != "mlp":
        assert found.figures()["completeness_error"] < 1e-5
    else:
        assert found.figures()["completeness_error"] > 1e-3
    again = unit_account(module, data.dataset("test"), [4], batch_size=1)
    torch.testing.assert_close(again.named[0], found.named[4])


def test_axes_have_no_completeness_and_some_have_names(data):
    module = make_whitening()
    found = unit_account(module, data.dataset("test"), range(5))
    assert found.error.isnan().all()
    assert np.isnan(found.figures()["completeness_error"])
    assert module.network.named_units().tolist() == [True] * 6 + [False] * (found.units - 6)
    with torch.no_grad():
        units = module.network.encode(data.splits["test"][0][:5])
        parts = module.network.contributions(units).double()
        predicted = module.network.decode(units).argmax(1)
    size = (parts - parts.mean(2, keepdim=True))[torch.arange(5), :, predicted].abs()
    torch.testing.assert_close(found.named, size[:, :6].sum(1) / size.sum(1), atol=1e-5, rtol=1e-4)
