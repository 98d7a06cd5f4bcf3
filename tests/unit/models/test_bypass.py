"""What passes the names by, of networks whose weights are set by hand; and the residual beside the concepts."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from ibd.backbones.base import Backbone
from ibd.errors import ConfigError, UnsupportedError
from ibd.models.baseline.lightning import Baseline
from ibd.models.bypass import reduced_logits, require_names, rounded_logits, typical_units
from ibd.models.cbm.finish import ReadSplit
from ibd.models.cbm.intervention import cached_bottleneck, intervention_curve
from ibd.models.cbm.lightning import ConceptBottleneck
from ibd.models.cbm.losses import cross_correlation
from ibd.models.cbm.network import ConceptBottleneckNetwork
from ibd.models.cem.network import ConceptEmbeddingNetwork
from ibd.models.trained import TrainedModel
from ibd.training.bypassing import CountBypass
from ibd.types import Batch, DataSpec, groups_of
from tests.model_makers import (
    SMALL,
    SPEC,
    TensorData,
    TensorImages,
    make_embedding,
    make_filters,
    make_module,
    make_pipnet,
    make_prototypes,
    make_whitening,
    random_concepts,
)

COLORS = DataSpec(("dull", "green"), ("red",), groups_of(("red",)), image_size=(2, 2))
RED, GREEN = torch.tensor([0.0, 1, 0, 1]), torch.tensor([0.0, 0, 1, 1])
IMAGES = torch.stack([RED, GREEN, 0 * RED], 1)[:, :, None, None].expand(4, 3, 2, 2)


class Pixels(Backbone):
    """Its features are the colors, 1 and -1."""

    out_channels = 3

    def __init__(self):
        super().__init__()
        self.only = nn.Identity()

    def forward(self, image):
        return 2 * image - 1


def bottleneck(head, residual=1):
    """The concept is red, the residual is green, and class 1 is spoken for by what `head` weighs."""
    network = ConceptBottleneckNetwork(Pixels(), COLORS, residual=residual).eval()
    with torch.no_grad():
        network.concepts.weight.zero_()
        network.concepts.bias.zero_()
        network.concepts.weight[0, 0] = 20.0
        network.concepts.weight[1:, 1] = 1.0
        network.head.weight.copy_(torch.tensor([[0.0, 0.0], head])[:, : 1 + residual])
        network.head.bias.copy_(torch.tensor([0.0, -0.5 * head[0]]))
    return network


def embeddings(of_name):
    """The concept is red, and its vectors tell red; or its vectors tell green, and its probability nothing."""
    network = ConceptEmbeddingNetwork(Pixels(), COLORS, embedding_size=1).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        # Vectors (c+, c-) of one number each; the rectifier leaves 0.01 of what is negative.
        if of_name:
            network.embeddings.weight[:, 0] = torch.tensor([20.0, 0.0])
            network.embeddings.bias.copy_(torch.tensor([0.0, 1.0]))  # (20, 1) of red, (-0.2, 1) of others
            network.scorer.weight.copy_(torch.tensor([[1.0, 0.0]]))
            network.scorer.bias.fill_(-5.0)
            network.head.weight[1] = 1.0
            network.head.bias[1] = -4.0
        else:
            network.embeddings.weight[:, 1] = 1.0
            network.head.weight[1] = 1.0
    return network


def accuracies(network, labels):
    """The share of the four images that are right, by what is left of the units."""
    model = TrainedModel(COLORS, network)
    data = TensorImages(IMAGES, labels, RED.unsqueeze(1), augment=False)
    typical = typical_units(model.network, data)
    output = model(IMAGES)
    logits = {"whole": output.logits, **reduced_logits(network, output.units, typical)}
    logits["rounded"] = rounded_logits(network, output.units)
    return {name: float((each.argmax(1) == labels).float().mean()) for name, each in logits.items()}


@pytest.mark.parametrize(
    ("network", "labels", "expected"),
    [
        # The residual is all: without the concept nothing is lost, with the concept alone every image is class 0 or 1
        (bottleneck([0.0, 1.0]), GREEN, {"whole": 1.0, "without_named": 1.0, "named_alone": 0.5, "rounded": 1.0}),
        # The concept is all
        (bottleneck([1.0, 0.0]), RED, {"whole": 1.0, "without_named": 0.5, "named_alone": 1.0, "rounded": 1.0}),
        # There is no residual: nothing is left out of "named_alone", which is not given
        (bottleneck([1.0, 0.0], residual=0), RED, {"whole": 1.0, "without_named": 0.5, "rounded": 1.0}),
        # What a probability is made of are its vectors: these know the concept, too
        (embeddings(True), RED, {"whole": 1.0, "without_named": 1.0, "named_alone": 1.0, "rounded": 1.0}),
        # The vectors are all, the name says nothing
        (embeddings(False), GREEN, {"whole": 1.0, "without_named": 1.0, "named_alone": 0.5, "rounded": 1.0}),
    ],
    ids=["residual", "concept", "no residual", "vectors of the name", "vectors"],
)
def test_by_hand(network, labels, expected):
    assert accuracies(network, labels.long()) == expected


def test_both_are_needed():
    """Class 1 is red or green: the mean of the one leaves the other."""
    network = bottleneck([2.0, 1.0])
    with torch.no_grad():
        network.head.bias[1] = -0.5  # 2 p + z - 0.5, of z = -1, 1: right for all but green alone and red alone
    labels = torch.tensor([0, 1, 1, 1])
    found = accuracies(network, labels)
    # logits of (dull, red, green, both): -1.5, 0.5, 0.5, 2.5; p = 0.5: -0.5, -0.5, 1.5, 1.5; z = 0: -0.5, 1.5, ...
    assert found == {"whole": 1.0, "without_named": 0.75, "named_alone": 0.75, "rounded": 1.0}


def test_means_are_those_of_training_images_spread_evenly():
    data, module = TensorData(sizes=(40, 8, 8)), make_embedding()
    found = typical_units(module.network, data.dataset("train"), most=10, batch_size=3)
    with torch.no_grad():
        units = module(data.splits["train"][0][::4]).units
    torch.testing.assert_close(found.passed, module.network.probabilities(units.scores).mean(0))
    torch.testing.assert_close(found.beside, units.state[0].flatten(1).mean(0))
    every = typical_units(module.network, data.dataset("train"))
    with torch.no_grad():
        units = module(data.splits["train"][0]).units
    torch.testing.assert_close(every.passed, module.network.probabilities(units.scores).mean(0))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Baseline(SPEC, SMALL), "its channels have no names that the classes could pass by"),
        (make_prototypes, "its classes are sums over its prototypes: nothing passes them by"),
        (make_pipnet, "its classes are sums over its prototypes: nothing passes them by"),
        (make_filters, "its classes are sums over its filters: nothing passes them by"),
    ],
)
def test_where_it_says_nothing(make, why):
    with pytest.raises(UnsupportedError, match=f"^{why}"):
        require_names(make().network)


@pytest.mark.parametrize("make", [make_module, lambda: make_module(residual=2), make_embedding, make_whitening])
def test_a_test_counts_them_in_its_one_pass(make):
    data, module = TensorData(sizes=(20, 8, 30)), make()
    counted = CountBypass(data)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = pl.Trainer(accelerator="cpu", enable_progress_bar=False, callbacks=[counted], **quiet)
    trainer.test(module, datamodule=data, verbose=False)
    images, labels, _ = data.splits["test"]
    with torch.no_grad():
        units = module.eval()(images).units
    expected = reduced_logits(module.network, units, typical_units(module.network, data.dataset("train")))
    rounded = rounded_logits(module.network, units)
    expected |= {} if rounded is None else {"rounded": rounded}
    assert counted.figures() == {
        f"test/accuracy_{name}": pytest.approx(float((logits.argmax(1) == labels).double().mean()))
        for name, logits in expected.items()
    }
    assert "named_alone" in expected or make is make_module


# --- the residual ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["probabilities", "logits", "evidence", "hard"])
def test_a_residual_is_a_unit_without_a_name(form):
    network = make_module(residual=2, bottleneck=form).network.double()
    images = torch.rand(5, 3, 16, 16, dtype=torch.float64)
    units = network.encode(images)
    assert network.unit_names[6:] == ["residual 0", "residual 1"]
    assert all(max(group) < 6 for group in network.unit_groups.values())
    assert network.named_units().tolist() == [True] * 6 + [False] * 2
    assert torch.equal(network.readable(units)[:, 6:], units.scores[:, 6:])
    assert torch.equal(units.scores, units.maps.mean((2, 3)))
    edited = network.edit(units, {"wing": "blue"})
    assert torch.equal(edited.scores[:, 6:], units.scores[:, 6:])
    for each in (units, edited, network.rounded(units)):
        error = network.bias() + network.contributions(each).sum(1) - network.decode(each)
        assert error.abs().max() < 1e-13


def test_a_residual_has_no_truth_value():
    prediction = make_module(residual=2).predict(torch.rand(1, 3, 16, 16))
    with pytest.raises(ConfigError, match=r"^'residual 1' is no concept: it has no name, so no truth value either$"):
        prediction.intervene({"residual 1": 1})
    with pytest.raises(ConfigError, match="Did you mean one of: 'residual 0'"):
        prediction.intervene({"residul 0": 1})


@pytest.mark.parametrize("options", [{}, {"bottleneck": "logits"}, {"head": "mlp"}])
def test_a_correction_leaves_the_residual(options):
    network = make_module(residual=2, **options).network.requires_grad_(False)
    scores = torch.randn(14, 8, generator=torch.Generator().manual_seed(0))
    read = ReadSplit(scores, random_concepts(14), torch.arange(14) % 3)
    cached = cached_bottleneck(network, read)
    assert cached.group_of.tolist() == [0, 0, 0, 1, 1, 2, -1, -1]
    assert torch.equal(cached.corrected[:, 6:], scores[:, 6:])
    without = make_module(**options).network
    assert torch.equal(cached.absent[:, :6], cached_bottleneck(without, read._replace(scores=scores[:, :6])).absent)
    curve = intervention_curve(make_module(residual=2, **options), TensorData(), trials=2)
    assert curve.group_names == ["wing", "size", "flies"]


def test_squared_correlations_by_hand():
    x = torch.tensor([-1.0, 1, -1, 1])
    y = torch.tensor([-1.0, -1, 1, 1])
    # of x with itself 1, with what is orthogonal 0, with a mixture cos^2 45 degrees = 1 / 2, with a constant 0
    found = cross_correlation(x.unsqueeze(1), torch.stack([5 * x + 3, 0.001 * y, x + y, torch.full((4,), 7.0)], 1))
    torch.testing.assert_close(found, torch.tensor((1 + 0 + 0.5 + 0) / 4))
    half = cross_correlation(x.unsqueeze(1).bfloat16(), x.unsqueeze(1).bfloat16())
    assert half.dtype == torch.float32


def test_the_penalty_moves_the_residual_and_not_the_concepts():
    module = make_module(residual=2, residual_penalty=1.0, concept_weight=0.0, normalize_loss=False).train()
    network = module.network
    nn.init.zeros_(network.head.weight)  # so that no class loss reaches the units
    batch = Batch(torch.rand(9, 3, 16, 16), torch.zeros(9).long(), random_concepts(9), torch.arange(9))
    features = network.backbone(batch.image).detach()
    terms = module.losses(module.from_features(features), batch)
    terms["loss"].backward()
    assert 0 < terms["residual_correlation"].item() <= 1
    assert not bool(network.concepts.weight.grad[:6].any())
    assert bool((network.concepts.weight.grad[6:] != 0).any())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"residual": -1}, "model.residual: -1 given, at least 0 is needed"),
        ({"residual": 2, "regime": "sequential"}, "model.residual: .* 'joint' is needed"),
        ({"residual_penalty": 1.0}, "model.residual_penalty: 1 given, but model.residual is 0"),
        ({"residual": 2, "residual_penalty": -1.0}, r"model.residual_penalty: -1.0 given, at least 0 is needed"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ConfigError, match=message):
        ConceptBottleneck(SPEC, SMALL, **options)
