"""Concept embeddings: by hand, against loops, and how often a concept is corrected in training."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from ibd.backbones.bcos.networks import BcosSmallCNN
from ibd.errors import ConfigError
from ibd.models.cbm import policies
from ibd.models.cbm.finish import ReadSplit
from ibd.models.cbm.group_scores import expected_gain
from ibd.models.cbm.intervention import POLICIES, cached_bottleneck, intervention_curve
from ibd.models.cbm.losses import concept_loss
from ibd.models.cem.lightning import ConceptEmbedding
from ibd.models.cem.network import ConceptEmbeddingNetwork
from ibd.types import Batch, DataSpec, Units, groups_of
from tests.model_makers import SMALL, SPEC, CountingBackbone, TensorData, make_embedding, random_concepts
from tests.reference import intervention as reference

IMAGES = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))
EDITS = {"wing": "blue", "flies": 0.25, 3: 0}
TWO = DataSpec(("a", "b"), ("u", "v"), groups_of(("u", "v")), image_size=(16, 16))


def by_hand():
    """Two concepts with vectors of one number, of two features h: c+ = h0, c- = -h0; c+ = h1, c- = h1 / 2."""
    network = ConceptEmbeddingNetwork(CountingBackbone(2), TWO, embedding_size=1).double()
    with torch.no_grad():
        network.embeddings.weight.copy_(torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, 0.5]]))
        network.embeddings.bias.zero_()
        network.scorer.weight.copy_(torch.tensor([[1.0, 100]]))  # (c+, c-)
        network.scorer.bias.fill_(0.5)
        network.head.weight.copy_(torch.tensor([[2.0, 0], [0, -1]]))
        network.head.bias.copy_(torch.tensor([0.5, 0]))
    return network


def test_by_hand():
    network = by_hand()
    features = torch.tensor([[[[2.0, 0.0]], [[-0.01, -0.03]]]], dtype=torch.float64)  # pooled: 1 and -0.02
    units = network.encode_features(features)
    # Vectors: LeakyReLU(1, -1) = (1, -0.01), LeakyReLU(-0.02, -0.01) = (-0.0002, -0.0001)
    torch.testing.assert_close(units.state[0], torch.tensor([[[1, -0.01], [-0.0002, -0.0001]]]).double())
    torch.testing.assert_close(units.scores, torch.tensor([[1 - 1 + 0.5, -0.0002 - 0.01 + 0.5]]).double())
    # A position adds w+ h0 + 0.01 w- (-h0) = 2 - 2, 0 - 0 to the first logit, 0.01 (h1 + 100 h1 / 2) to the second
    expected = [[[0.5, 0.5]], [[0.5 - 0.01 * 51 * 0.01, 0.5 - 0.01 * 51 * 0.03]]]
    torch.testing.assert_close(units.maps, torch.tensor([expected]).double())
    p = 1 / (1 + math.exp(-0.5)), 1 / (1 + math.exp(-0.4898))
    mixed = p[0] * 1 + (1 - p[0]) * -0.01, p[1] * -0.0002 + (1 - p[1]) * -0.0001
    torch.testing.assert_close(
        network.contributions(units)[0], torch.tensor([[2 * mixed[0], 0], [0, -mixed[1]]]).double()
    )
    torch.testing.assert_close(network.decode(units)[0], torch.tensor([0.5 + 2 * mixed[0], -mixed[1]]).double())
    told = network.decode(network.edit(units, {"u": 1, "v": 0}))
    torch.testing.assert_close(told[0], torch.tensor([0.5 + 2 * 1, 0.0001]).double())
    off = torch.tensor([[True, False]])
    torch.testing.assert_close(network.decode_without(units, off)[0, 0], torch.tensor(0.5 - 2 * 0.01).double())


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 2e-5), (torch.float64, 1e-13)])
def test_contributions_add_up_and_a_score_is_the_mean_of_its_map(dtype, most):
    network = make_embedding().network.to(dtype)
    units = network.encode(IMAGES.to(dtype))
    assert units.scores.dtype == units.maps.dtype == dtype
    assert (units.scores - units.maps.mean((2, 3))).abs().max() < most
    for each in (units, network.edit(units, EDITS)):
        contributions = network.contributions(each)
        assert contributions.shape == (5, 6, 3)
        assert (network.bias() + contributions.sum(1) - network.decode(each)).abs().max() < most


def test_autocast_keeps_everything_but_the_backbone_in_float32():
    network = make_embedding().network
    with torch.autocast("cpu", torch.bfloat16):
        logits, units = network(IMAGES)
    assert {tensor.dtype for tensor in (logits, units.scores, units.maps, *units.state)} == {torch.float32}
    torch.testing.assert_close(units.scores, units.maps.mean((2, 3)), rtol=1e-4, atol=1e-5)
    assert network.to(torch.bfloat16)(IMAGES.bfloat16()).logits.isfinite().all()


def test_the_map_is_the_gradient_of_the_logit_at_each_position():
    network = make_embedding().network.double()
    features = network.backbone(IMAGES.double()).detach().requires_grad_()
    units = network.encode_features(features)
    (gradient,) = torch.autograd.grad(units.scores[:, 2].sum(), features)
    cells = features.shape[2] * features.shape[3]
    linear = (gradient * features).sum(1) * cells
    rest = units.maps[:, 2] - linear  # the offset: the same everywhere
    torch.testing.assert_close(rest, rest[:, :1, :1].expand_as(rest), rtol=1e-9, atol=1e-9)


def test_a_bcos_backbone_has_an_account_of_units_alone():
    network = ConceptEmbeddingNetwork(BcosSmallCNN(width=2, depth=3), SPEC).eval()
    assert network.account == "units"
    units = network.encode(IMAGES)
    torch.testing.assert_close(network.bias() + network.contributions(units).sum(1), network.decode(units))


# --- random corrections ----------------------------------------------------------------------------------------------


def test_each_concept_of_each_image_is_corrected_by_itself_at_the_wanted_rate():
    torch.manual_seed(0)
    module, count = make_embedding(intervention_rate=0.25), 4000
    concepts = random_concepts(count, unknown=0.3)
    scores = torch.full((count, 6), 0.5)
    corrected = module.corrected(Units(scores, scores), concepts).scores
    moved, known = corrected != scores, ~concepts.isnan()
    assert not bool(moved[~known].any())
    shares = moved.sum(0) / known.sum(0)
    assert (shares - 0.25).abs().max() < 4 * math.sqrt(0.25 * 0.75 / (0.7 * count))
    both = (moved[:, 0] & moved[:, 3])[known[:, 0] & known[:, 3]].float().mean()
    assert abs(float(both) - 0.25**2) < 0.02  # of one image, too: not all or none
    torch.testing.assert_close(corrected.sigmoid()[moved], concepts[moved], rtol=0, atol=1e-6)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_the_class_loss_is_of_the_corrected_and_the_concept_loss_of_the_predicted(rate):
    module = make_embedding(intervention_rate=rate, imbalance="none", concept_weight=2.0)
    concepts, labels = random_concepts(5), torch.tensor([0, 1, 2, 0, 1])
    batch = Batch(IMAGES, labels, concepts, torch.arange(5))
    output = module(IMAGES)
    told = module.network.edit(output.units, dict(enumerate(concepts.unbind(1))))
    logits = module.network.decode(told) if rate else output.logits
    plain = nn.functional.cross_entropy(output.logits, labels)
    expected = nn.functional.cross_entropy(logits, labels)
    assert (rate == 0) == torch.equal(expected, plain)
    concept = concept_loss(output.units.scores, concepts, torch.ones(6)) / 6
    found = module.train().losses(output, batch)
    torch.testing.assert_close(found["class_loss"], expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["concept_loss"], concept)
    torch.testing.assert_close(found["loss"], expected + 2 * concept)
    torch.testing.assert_close(module.eval().losses(output, batch)["class_loss"], plain)


# --- interventions ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    return make_embedding().network.double().requires_grad_(False)


@pytest.fixture(scope="module")
def data(network):
    channels = network.embeddings.in_features
    features = torch.randn(14, channels, 2, 2, generator=torch.Generator().manual_seed(100), dtype=torch.float64)
    units = network.encode_features(features)
    labels = torch.randint(3, (14,), generator=torch.Generator().manual_seed(5))
    return ReadSplit(units.scores, random_concepts(14, unknown=0.2).double(), labels, units.state)


def logits_of(network, data, index, scores):
    return network.decode(Units(scores[None], scores[None], (data.state[0][index : index + 1],)))[0]


def test_the_curve_against_a_decode_for_each_image_and_budget(network, data):
    bottleneck = cached_bottleneck(network, data)
    ranks = policies.random_ranks(bottleneck, 1)
    groups, expected = list(network.unit_groups.values()), torch.zeros(4)
    for index, (scores, truth, label) in enumerate(zip(*data[:3], strict=True)):
        order = ranks[index].argsort().tolist()
        for budget in range(4):
            edited = reference.correct(network, scores, truth, [groups[g] for g in order[:budget]])
            expected[budget] += int(logits_of(network, data, index, edited).argmax()) == int(label)
    found = policies.accuracy_by_budget(bottleneck, ranks)
    assert found.tolist() == pytest.approx((expected / 14).tolist())
    assert len(set(found.tolist())) > 1


def test_the_curve_in_parts_and_with_groups_whose_concepts_lie_apart(network, data, monkeypatch):
    bottleneck = cached_bottleneck(network, data)
    apart = replace(bottleneck, groups=[[0, 3], [2, 1], [5, 4]])
    ranks = policies.random_ranks(apart, 1)
    monkeypatch.setattr(policies, "_MOST_VALUES", 1)  # an image at a time

    found = policies.right_by_budget(apart, ranks)

    for budget in range(4):
        told = (ranks < budget)[:, apart.group_of_concept]
        logits = network.classify(apart.beliefs(told).reads)
        assert found[budget].tolist() == (logits.argmax(1) == apart.labels).tolist()


def test_expected_change_against_loops(network, data):
    bottleneck = cached_bottleneck(network, data)
    now = network.classify(bottleneck.predicted)
    for index, group in enumerate(network.unit_groups.values()):
        told, images = bottleneck.untold(), bottleneck.images
        found = expected_gain(bottleneck, bottleneck.beliefs(told), now, told, images, index)
        for image, scores in enumerate(data.scores):

            def changed(values, image=image, scores=scores):
                units = Units(scores[None], scores[None], (data.state[0][image : image + 1],))
                return reference.kl(network.decode(network.edit(units, values))[0], network.decode(units)[0])

            p = network.probabilities(scores).tolist()
            if list(group) in network.exclusive_groups:
                scale = max(1.0, sum(p[k] for k in group))
                expected = sum(p[k] / scale * changed({k: 1}) for k in group)
                expected += max(0.0, 1 - sum(p[k] for k in group)) * changed(dict.fromkeys(group, 0))
            else:
                expected = sum(p[k] * changed({k: 1}) + (1 - p[k]) * changed({k: 0}) for k in group) / len(group)
            assert float(found[image]) == pytest.approx(expected, rel=1e-4, abs=1e-9)


def test_the_learned_order_is_greedy(network, data):
    bottleneck = cached_bottleneck(network, data)
    order = policies.learned_order(bottleneck)
    current, left = bottleneck.predicted, [0, 1, 2]
    for chosen in order:
        scores = {}
        for group in left:
            logits = network.classify(torch.where(bottleneck.group_of == group, bottleneck.corrected, current))
            loss = float(nn.functional.cross_entropy(logits, data.labels))
            scores[group] = (-float((logits.argmax(1) == data.labels).double().mean()), loss)
        assert scores[chosen] == pytest.approx(min(scores.values()))
        left.remove(chosen)
        current = torch.where(bottleneck.group_of == chosen, bottleneck.corrected, current)


def test_the_backbone_reads_each_split_once():
    module, seen = make_embedding(), []
    encode = module.network.encode
    module.network.encode = lambda image: (seen.append(len(image)), encode(image))[1]
    data = TensorData(sizes=(40, 24, 30))
    curve = intervention_curve(module, data, trials=3)
    assert sum(seen) == 30 + 24
    images, labels, _ = data.splits["test"]
    accuracy = (module.predict(images).labels == labels).double().mean()
    for policy in POLICIES:
        assert curve.mean(policy)[0] == pytest.approx(float(accuracy))
        assert curve.mean(policy)[-1] == pytest.approx(float(curve.mean("random")[-1]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding_size": 0}, "model.embedding_size: 0 given, at least 1 is needed"),
        ({"intervention_rate": 1.5}, "model.intervention_rate: 1.5 given, a share from 0 to 1 is needed"),
        ({"spec": DataSpec(("a", "b"))}, "needs concepts, and this data has none"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ConfigError, match=message):
        ConceptEmbedding(**{"spec": SPEC, "backbone": SMALL, **options})


def test_an_output_can_be_joined_and_edited_later():
    prediction = make_embedding().predict(IMAGES)
    again = prediction[:2].join(prediction[2:]).intervene({"flies": 1})
    torch.testing.assert_close(again.logits, prediction.intervene({"flies": 1}).logits)
    assert not torch.equal(again.logits, prediction.logits)
