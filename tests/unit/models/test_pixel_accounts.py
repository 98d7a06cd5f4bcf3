"""Every head on a B-cos backbone: what units say is a sum over pixels, and adds up to the logit."""

import pytest
import torch

from ibd.backbones import build_backbone, set_fade
from ibd.backbones.bcos.layers import BcosConv2d, UncenteredNorm2d
from ibd.backbones.bcos.pixels import per_score
from ibd.comparison.probes.sanity import SHIFT, shifted_model
from ibd.errors import UnsupportedError
from ibd.explain import Intrinsic, Target
from ibd.models.baseline.network import BaselineNetwork
from ibd.models.cbm.network import ConceptBottleneckNetwork
from ibd.models.concept_whitening.network import ConceptWhiteningNetwork
from ibd.models.concept_whitening.whitening import Whitening
from ibd.models.pipnet.network import PIPNetwork
from ibd.models.protopnet.network import PrototypeNetwork
from tests.model_makers import SPEC
from tests.slider_makers import slider_logits

COSINE = {"per_class": 2, "dimension": 5, "distance": "cosine"}
HEADS = {
    "baseline": lambda body: BaselineNetwork(body, SPEC.class_names),
    "probabilities": lambda body: ConceptBottleneckNetwork(body, SPEC),
    "logits": lambda body: ConceptBottleneckNetwork(body, SPEC, bottleneck="logits"),
    "evidence": lambda body: ConceptBottleneckNetwork(body, SPEC, bottleneck="evidence"),
    "hard": lambda body: ConceptBottleneckNetwork(body, SPEC, bottleneck="hard"),
    "residual": lambda body: ConceptBottleneckNetwork(body, SPEC, residual=2),
    "prototypes": lambda body: PrototypeNetwork(body, SPEC, **COSINE, activation="linear"),
    "large prototypes": lambda body: PrototypeNetwork(
        body, SPEC, **COSINE, activation="linear", top_k=2, extent=2, add_on="bottleneck"
    ),
    "whitening": lambda body: ConceptWhiteningNetwork(body, SPEC.class_names, ["red", "blue"], activation="mean"),
}


def make(head, dtype=torch.float64, **options):
    """Return a network with random weights and statistics, in evaluation mode."""
    torch.manual_seed(0)
    network = HEADS[head](build_backbone({"name": "bcos_small_cnn", "width": 4, "depth": 3, **options})).to(dtype)
    settle(network, images(dtype, 8))
    return network.eval()


def settle(network, image):
    """Let the norms see a batch as if it were all that there is: what they put out then has the size that it should."""
    for layer in network.modules():
        if isinstance(layer, UncenteredNorm2d):
            layer.momentum = 1.0
    network.train()(image)


def images(dtype=torch.float64, count=2):
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(("dtype", "within"), [(torch.float64, 1e-9), (torch.float32, 2e-4)])
def test_the_own_map_adds_up_to_the_logit(head, dtype, within):
    network, image = make(head, dtype), images(dtype)
    assert network.account == "pixels"
    with torch.no_grad():
        logits, units = network(image)
        bias, contributions = network.bias(), network.contributions(units)
    scale = float(logits.abs().max()) + float(contributions.abs().max())
    for target, value in (
        (Target.cls(1), logits[:, 1] - bias[1]),
        (Target.cls(1, "centered_logit"), logits[:, 1] - bias[1] - (logits - bias).mean(1)),
        (Target.cls(2) - Target.cls(0), logits[:, 2] - logits[:, 0] - bias[2] + bias[0]),
    ):
        explanation = Intrinsic()(network, image, target)
        assert explanation.map.shape == (2, 32, 32)
        torch.testing.assert_close(explanation.map.sum((1, 2)), value.to(dtype), rtol=0, atol=within * scale)
        torch.testing.assert_close(explanation.units.sum(1), value.to(dtype), rtol=0, atol=within * scale)


@pytest.mark.parametrize("head", sorted(HEADS.keys() - {"whitening"}))  # which needs the last layer to itself
def test_on_a_converted_backbone_the_own_map_adds_up_once_it_has_faded(head):
    network, image = make(head, converted=True), images()
    assert network.account != "pixels"
    with pytest.raises(UnsupportedError, match=r"not to pixels: the conversion of its backbone is not over \(0%\)"):
        network.pixel_maps(image)
    set_fade(network, 1.0)
    network.train()(images(count=8))
    network.eval()
    assert network.account == "pixels"
    with torch.no_grad():
        logits, _ = network(image)
        expected = logits[:, 1] - network.bias()[1]
    heat = Intrinsic()(network, image, Target.cls(1)).map
    torch.testing.assert_close(heat.sum((1, 2)), expected, rtol=0, atol=1e-9 * (1 + float(expected.abs().max())))


@pytest.mark.parametrize("head", HEADS)
def test_units_are_sums_over_pixels_of_a_linear_map(head):
    network, image = make(head, max_out=2), images()
    with torch.no_grad():
        scores = network.linear_pass(image)[1]
    maps = network.pixel_maps(image)
    torch.testing.assert_close(maps.heat.sum((2, 3)), scores, rtol=0, atol=1e-9)
    six = torch.cat([image, 1 - image], 1)
    torch.testing.assert_close((maps.weights * six.unsqueeze(1)).sum(2), maps.heat, rtol=0, atol=1e-12)
    own = Intrinsic()(network, image, Target.unit(1)).map
    torch.testing.assert_close(own, maps.heat[:, 1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("head", HEADS)
def test_the_map_of_a_class_is_that_of_its_units_by_what_they_contribute(head):
    network, image = make(head), images()
    with torch.no_grad():
        units = network.encode(image)
        parts = network.contributions(units)[:, :, 1]
        scores = network.linear_pass(image)[1]
    each = network.pixel_maps(image).heat
    by_unit = torch.einsum("bu,buhw->bhw", per_score(parts, scores), each)
    torch.testing.assert_close(Intrinsic()(network, image, Target.cls(1)).map, by_unit, rtol=0, atol=1e-9)


@pytest.mark.parametrize("head", ["baseline", "probabilities", "logits", "evidence", "prototypes", "whitening"])
def test_an_intervention_moves_the_share_of_its_unit_and_nothing_else(head):
    network, image = make(head), images()
    off = torch.zeros(2, len(network.unit_names), dtype=torch.bool)
    off[:, 1] = True
    with torch.no_grad():
        logits, units = network(image)
        without = network.decode_without(units, off)
        moved = network.contributions(units)[:, 1]
    torch.testing.assert_close(logits - without, moved, rtol=0, atol=1e-9)
    share = network.pixel_maps(image, network.contributions(units).transpose(1, 2) * ~off.unsqueeze(1)).heat
    torch.testing.assert_close(share.sum((2, 3)), without - network.bias(), rtol=0, atol=1e-9)


def test_by_hand_a_pixel_has_what_the_formula_gives_it():
    """A convolution of single pixels with b = 2 is (w . x) |cos|: a pixel adds the head times that, over n."""
    torch.manual_seed(0)
    network = HEADS["baseline"](build_backbone({"name": "bcos_small_cnn", "width": 1, "depth": 3, "b": 2.0})).double()
    body = network.backbone
    for name in ("stage1", "stage2", "stage3"):
        setattr(body, name, torch.nn.Identity())
    body.stage1 = BcosConv2d(6, 4, 1, b=2.0).double()
    network.eval()
    image = images()
    six = torch.cat([image, 1 - image], 1)
    weight = body.stage1.weight.detach().flatten(1)
    weight = weight / weight.norm(dim=1, keepdim=True)
    product = torch.einsum("oc,bchw->bohw", weight, six)
    by_hand = product * product.abs() / six.norm(dim=1, keepdim=True)
    heat = torch.einsum("o,bohw->bhw", network.head.weight.detach()[1], by_hand) / (32 * 32)
    torch.testing.assert_close(Intrinsic()(network, image, Target.cls(1)).map, heat, rtol=1e-5, atol=1e-9)


def test_what_has_no_direction_is_like_no_prototype():
    network = make("prototypes")
    blank = torch.zeros(1, 5, 3, 3).double()
    matches = network.match(blank)
    assert bool((matches.distance == 1).all())
    assert bool((matches.maps == 0).all())


def test_nothing_speaks_for_a_concept_that_is_at_its_offset():
    network = make("probabilities")
    with torch.no_grad():
        network.concepts.weight.zero_()
        units = network.encode(images())
    assert bool((network.contributions(units) == 0).all())
    torch.testing.assert_close(network.decode(units), network.bias().expand(2, -1))
    assert float(network.probabilities(units.scores).max()) < 0.2


@pytest.mark.parametrize("bottleneck", ["probabilities", "logits", "evidence", "hard"])
def test_sliders_compute_the_logits(bottleneck):
    network = make(bottleneck)
    with torch.no_grad():
        logits, units = network(images())
        passed = network.passed(units)
        torch.testing.assert_close(passed @ network.linear_weight().t() + network.bias(), logits)
    network.concepts.bias.data.uniform_(-3, 1)
    network.low.fill_(-4.0)
    network.high.fill_(4.0)
    with torch.no_grad():
        logits, units = network(images())
        sliders = network.sliders(units)
    torch.testing.assert_close(slider_logits(sliders), logits, rtol=0, atol=1e-9)
    assert (set(sliders.low), set(sliders.high)) == ({0}, {1})
    if bottleneck == "probabilities":
        torch.testing.assert_close(torch.from_numpy(sliders.values), network.readable(units))


def test_evidence_is_what_speaks_for_a_concept():
    network = make("evidence")
    with torch.no_grad():
        network.concepts.bias.copy_(torch.tensor([-3.0, -3.0, -1.0, 0.0, 0.0, 0.0]))
        logits = torch.tensor([[-4.0, 1.0, -0.5, -2.0, 0.0, 3.0]]).double()
        assert network.activation(logits).tolist() == [[0.0, 4.0, 0.5, 0.0, 0.0, 3.0]]


def test_a_mean_that_is_taken_away_is_no_sum_over_pixels():
    body = build_backbone({"name": "bcos_small_cnn", "width": 4, "depth": 3})
    centered = ConceptWhiteningNetwork(
        body, SPEC.class_names, ["red"], activation="mean", whitening=Whitening(center=True)
    )
    assert centered.account == "units"


@pytest.mark.parametrize("head", HEADS)
def test_an_own_map_is_one_pass_forward_and_one_back_for_each_question(head):
    network, image = make(head), images()
    passes = []
    handle = network.backbone.normalize.register_forward_hook(lambda *_: passes.append(1))
    asked = Intrinsic()(network, image, Target.classes([0, 1]))
    handle.remove()
    assert len(passes) == 1
    assert (asked.cost.forwards, asked.cost.backwards) == (2, 4)  # of each of two images
    with torch.no_grad():
        torch.testing.assert_close(asked.value, network(image).logits[:, :2], rtol=0, atol=1e-9)
    assert not asked.unit_maps.requires_grad


@pytest.mark.parametrize("converted", [False, True])  # to the pixel, and painted
def test_a_class_and_a_unit_asked_together_are_the_sum_of_both(converted):
    network, image = make("probabilities", converted=converted), images()
    assert (network.account == "pixels") is not converted
    explain = Intrinsic()
    both, a, b = (
        explain(network, image, target).map
        for target in (Target.cls(1) + 2 * Target.unit(0), Target.cls(1), Target.unit(0))
    )
    torch.testing.assert_close(both, a + 2 * b, rtol=0, atol=1e-9)


def test_maps_are_those_of_evaluation():
    network = make("baseline")
    expected = network.pixel_maps(images()).heat
    before = network.backbone.stage1.norm.running_square.clone()
    torch.testing.assert_close(network.train().pixel_maps(images(), weights=False).heat, expected)
    assert network.training
    assert torch.equal(network.backbone.stage1.norm.running_square, before)
    assert network.pixel_maps(images(), weights=False).weights is None


def test_under_autocast_nothing_still_adds_nothing():
    network = make("evidence", torch.float32)
    with torch.no_grad():
        network.concepts.weight.zero_()
        network.concepts.bias.uniform_(-3.1, -2.9)
        with torch.autocast("cpu", torch.bfloat16):
            passed = network.passed(network.encode(images(torch.float32)))
    assert float(passed.abs().max()) < 1e-6  # in bfloat16 the offset alone is rounded by 0.01


def test_own_maps_pass_the_sanity_of_a_shifted_input():
    network = make("baseline", torch.float32)
    moved = shifted_model(network)
    image = images(torch.float32)
    torch.testing.assert_close(moved(image + SHIFT).logits, network(image).logits, rtol=1e-4, atol=1e-5)
    mine, theirs = (Intrinsic()(n, i, Target.cls(1)).map for n, i in ((network, image), (moved, image + SHIFT)))
    torch.testing.assert_close(theirs, mine, rtol=1e-3, atol=1e-5)
    assert network.backbone.normalize.shift == 0


def test_what_is_not_exact_to_the_pixel_says_so():
    body = build_backbone({"name": "small_cnn", "width": 4, "depth": 3})
    assert BaselineNetwork(body, SPEC.class_names).account == "cells"
    assert ConceptBottleneckNetwork(body, SPEC).account == "units"
    with pytest.raises(UnsupportedError, match="exact down to its units, not to pixels: take a B-cos backbone"):
        ConceptBottleneckNetwork(body, SPEC).pixel_maps(images(torch.float32))


def test_what_mixes_units_is_not_exact_to_the_pixel():
    def body():
        return build_backbone({"name": "bcos_small_cnn", "width": 4, "depth": 3})

    assert ConceptBottleneckNetwork(body(), SPEC, softmax_groups=["wing"]).account == "units"
    assert ConceptBottleneckNetwork(body(), SPEC, head="mlp").account == "units"
    assert PrototypeNetwork(body(), SPEC, per_class=2, dimension=5).account == "units"  # squared distances
    assert PrototypeNetwork(body(), SPEC, **COSINE, activation="exponential").account == "units"  # not 0 at 0
    assert PIPNetwork(body(), SPEC, prototypes=4).account == "units"
    assert ConceptWhiteningNetwork(body(), SPEC.class_names, ["red"], ["stage2.norm"]).account == "units"


@pytest.mark.parametrize(
    "name",
    [
        "bcos_cifar_resnet",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("bcos_resnet18", "bcos_densenet121")),
    ],
)
def test_larger_bodies(name):
    torch.manual_seed(0)
    options = {"depth": 8, "width": 4} if name == "bcos_cifar_resnet" else {}
    network = BaselineNetwork(build_backbone({"name": name, **options}), SPEC.class_names).double()
    settle(network, images(count=4))
    network.eval()
    with torch.no_grad():
        expected = network(images()).logits[:, 1] - network.bias()[1]
    torch.testing.assert_close(
        Intrinsic()(network, images(), Target.cls(1)).map.sum((1, 2)), expected, rtol=1e-9, atol=1e-9
    )
