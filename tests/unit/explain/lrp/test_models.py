"""Our own networks: a class and a unit of each conserve; prototype relevance propagation is its formula."""

import pytest
import torch
from torch import nn

from ibd.backbones.small import CifarResNet, SmallCNN
from ibd.explain.lrp import LRP
from ibd.explain.lrp.heads import nearest_patch
from ibd.explain.lrp.ledger import Ledger
from ibd.explain.targets import Target
from ibd.models.baseline.network import BaselineNetwork
from ibd.models.cbm.network import ConceptBottleneckNetwork
from ibd.models.cem.network import ConceptEmbeddingNetwork
from ibd.models.concept_whitening.network import ConceptWhiteningNetwork
from ibd.models.interpretable_cnn.network import InterpretableCNNNetwork
from ibd.models.pipnet.network import PIPNetwork
from ibd.models.protopnet.distance import nearest_patches
from ibd.models.protopnet.network import PrototypeNetwork
from tests.lrp_makers import perturb
from tests.model_makers import SPEC
from tests.reference import lrp as reference


def small():
    return SmallCNN(width=4, depth=3)


def whitened(activation):
    network = ConceptWhiteningNetwork(CifarResNet(8, width=4), SPEC.class_names, ["a", "b"], activation=activation)
    network.train()(torch.rand(8, 3, 32, 32))
    return network


def prototypes(**options):
    return PrototypeNetwork(small(), SPEC, 2, **{"dimension": 6, **options})


NETWORKS = {
    "baseline": lambda: BaselineNetwork(small(), SPEC.class_names),
    "concepts": lambda: ConceptBottleneckNetwork(small(), SPEC),
    "concepts, mlp": lambda: ConceptBottleneckNetwork(small(), SPEC, head="mlp"),
    "concepts, logits": lambda: ConceptBottleneckNetwork(small(), SPEC, bottleneck="logits"),
    "concepts, hard": lambda: ConceptBottleneckNetwork(small(), SPEC, bottleneck="hard"),
    "concepts, softmax": lambda: ConceptBottleneckNetwork(small(), SPEC, softmax_groups=["wing"]),
    "concepts, residual": lambda: ConceptBottleneckNetwork(small(), SPEC, residual=2),
    "embeddings": lambda: ConceptEmbeddingNetwork(small(), SPEC, embedding_size=3),
    "filters": lambda: InterpretableCNNNetwork(small(), SPEC, filters=7),
    "pipnet": lambda: PIPNetwork(small(), SPEC, prototypes=7, threshold=0.01),
    "prototypes": prototypes,
    "prototypes, no add-on": lambda: prototypes(add_on="none", dimension=16),
    "prototypes, cosine": lambda: prototypes(distance="cosine", activation="linear"),
    "prototypes, top 3": lambda: prototypes(activation="exponential", add_on="bottleneck", top_k=3),
    "prototypes, patches": lambda: prototypes(activation="linear", extent=2),
    **{f"axes, {each}": lambda each=each: whitened(each) for each in ("mean", "max", "positive_mean", "pool_max")},
}


def make(name):
    torch.manual_seed(0)
    network = NETWORKS[name]()
    for key, parameter in network.named_parameters():
        if "backbone" in key and parameter.dim() == 4:
            nn.init.normal_(parameter, std=0.4)
    return perturb(network).double()


def images():
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    ("composite", "bias"),
    [
        ("epsilon", "absorb"),
        ("epsilon_plus", "absorb"),
        ("epsilon_plus", "ignore"),
        pytest.param("epsilon", "ignore", marks=pytest.mark.slow),
        pytest.param("epsilon_gamma_box", "absorb", marks=pytest.mark.slow),
        pytest.param("epsilon_gamma_box", "ignore", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("target", [Target.cls(1), Target.unit(1)])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_class_and_a_unit_conserve(name, target, composite, bias):
    network, image = make(name), images()
    found = LRP(composite, bias=bias)(network, image, target)
    with torch.no_grad():
        torch.testing.assert_close(found.value, target.scores(network(image))[:, 0], rtol=1e-9, atol=0)
    torch.testing.assert_close(found.extra["conservation"], torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-3)
    assert bool((found.map != 0).any())


@pytest.mark.parametrize("name", ["baseline", "concepts", "prototypes", "axes, pool_max"])
def test_without_biases_the_map_is_the_unit(name):
    found = LRP(bias="ignore")(make(name), images(), Target.unit(1))
    torch.testing.assert_close(found.map.sum((1, 2)), found.value, rtol=1e-3, atol=0)


def test_a_contribution_splits_into_units():
    """A class logit of a linear head is a sum over units, and so is its relevance."""
    network, image = make("prototypes"), images()
    units = Target.units(list(range(6)))
    maps = LRP()(network, image, units).map
    weighted = (maps * network.weight().detach()[1].view(1, -1, 1, 1)).sum(1)
    torch.testing.assert_close(LRP()(network, image, 1).map, weighted, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("k", [1, 3])
def test_prototype_relevance_is_its_formula(k):
    generator = torch.Generator().manual_seed(0)
    patches = torch.rand(2, 5, 4, generator=generator, dtype=torch.float64).requires_grad_()
    points = torch.rand(3, 4, generator=generator, dtype=torch.float64)
    weights = torch.randn(2, 3, k, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        value = nearest_patches(patches, points, k)
    ledger = Ledger(2, (1, 1))
    ((_, carried),) = nearest_patch(patches, value, (patches, points, k), 0.0, ledger)
    (gradient,) = torch.autograd.grad((carried * weights).sum(), patches)
    for index in range(2):
        expected = reference.prototype(weights[index], patches[index].detach(), value.position[index], points)
        torch.testing.assert_close((gradient * patches).detach()[index], expected)
    torch.testing.assert_close(ledger.taken, torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-12)


def test_patches_without_any_activation_keep_their_relevance():
    patches = torch.zeros(1, 2, 3, dtype=torch.float64, requires_grad=True)
    points, ledger = torch.rand(1, 3, dtype=torch.float64), Ledger(1, (1, 1))
    with torch.no_grad():
        value = nearest_patches(patches, points)
    ((_, carried),) = nearest_patch(patches, value, (patches, points, 1), 0.0, ledger)
    (gradient,) = torch.autograd.grad(2 * carried.sum(), patches)
    assert not gradient.any()
    assert ledger.taken.item() == 2


def test_what_a_sigmoid_is_without_input_is_a_bias():
    """A class logit on probabilities: concepts bear ``w (p - 0.5)``, and w / 2 stays, also where biases are ignored."""
    network, image = make("concepts"), images()
    nn.init.zeros_(network.head.bias)
    weight = network.head.weight[1].detach()
    for parameter in (network.concepts.bias, *(m.bias for m in network.modules() if isinstance(m, nn.BatchNorm2d))):
        nn.init.zeros_(parameter)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.running_mean)
    with torch.no_grad():
        probability = network(image).units.scores.sigmoid()
    found = LRP("epsilon")(network, image, 1)
    torch.testing.assert_close(found.map.sum((1, 2)), ((probability - 0.5) * weight).sum(1))
    torch.testing.assert_close(found.extra["bias"], (weight / 2).sum().expand(2))
    ignored = LRP("epsilon", bias="ignore")(network, image, 1)
    torch.testing.assert_close(ignored.map, found.map)
