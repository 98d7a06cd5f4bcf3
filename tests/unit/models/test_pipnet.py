"""PIP-Net: its network, the two views, the losses."""

import math

import pytest
import torch

from ibd.errors import ConfigError
from ibd.models.pipnet.lightning import PIPNet
from ibd.models.pipnet.losses import align_loss, class_loss, tanh_loss
from ibd.models.pipnet.network import PIPNetwork
from ibd.models.pipnet.views import shifted, two_views, vary_color
from ibd.models.prediction import Prediction
from ibd.types import Batch
from tests.model_makers import SPEC, CountingBackbone, make_pipnet, random_concepts

IMAGES = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def network(**options):
    """Return a network with peaked prototypes, some of them below the threshold."""
    torch.manual_seed(0)
    made = PIPNetwork(CountingBackbone(), SPEC, **{"prototypes": 7, **options})
    if options.get("prototypes", 7):
        torch.nn.init.normal_(made.add_on.weight, std=4)
    return made.eval()


def predict(made, images=IMAGES):
    with torch.no_grad():
        logits, units = made(images)
    return Prediction(made, units, logits, torch.zeros_like(units.scores, dtype=torch.bool))


def batch(count=4, size=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, size, size, generator=generator)
    return Batch(images, torch.arange(count) % 3, random_concepts(count), torch.arange(count))


# Network


@pytest.mark.parametrize("prototypes", [None, 7])
def test_a_position_has_one_unit_of_prototypes_and_an_image_the_most_of_any_position(prototypes):
    made = network(prototypes=prototypes, threshold=0)
    units = made.encode(IMAGES)
    assert units.maps.shape == (5, prototypes or 4, 4, 4)
    torch.testing.assert_close(units.maps.sum(1), torch.ones(5, 4, 4))
    features = made.add_on(made.backbone(IMAGES)).double()
    for b, j in ((0, 0), (4, 3)):
        shares = [
            (features[b, :, y, x].exp() / features[b, :, y, x].exp().sum())[j].item()
            for y in range(4)
            for x in range(4)
        ]
        assert units.scores[b, j].item() == pytest.approx(max(shares), abs=1e-6)
    assert made.unit_kind == "prototype"
    assert made.unit_names[3] == "prototype 3"


def test_below_the_threshold_a_prototype_is_absent_but_only_in_evaluation():
    made = network(threshold=0.3)
    full = network(threshold=0).encode(IMAGES).scores
    assert 0 < int((full < 0.3).sum()) < full.numel()
    assert torch.equal(made.encode(IMAGES).scores, torch.where(full >= 0.3, full, 0.0))
    assert torch.equal(made.train().encode(IMAGES).scores, full)


@pytest.mark.parametrize("bias", [False, True])
def test_contributions_add_up_to_the_logits_and_never_speak_against_a_class(bias):
    made = network(bias=bias)
    torch.nn.init.normal_(made.head.weight)
    if bias:
        torch.nn.init.uniform_(made.head.bias)
    p = predict(made)
    parts = p.contributions.double()
    assert parts.shape == (5, 7, 3)
    assert bool((parts >= 0).all())
    torch.testing.assert_close(made.bias().double() + parts.sum(1), p.logits.double(), atol=1e-6, rtol=1e-6)


def test_a_prototype_is_switched_off_and_reweighted():
    made = network()
    p = predict(made)
    j = int(p.contributions.sum((0, 2)).argmax())
    off, double = p.intervene({f"prototype {j}": 0}), p.intervene({j: 2})
    torch.testing.assert_close(off.logits, p.logits - p.contributions[:, j])
    torch.testing.assert_close(double.logits, p.logits + p.contributions[:, j])
    assert made.backbone.passes == 1
    assert f"prototype {j}" in off.table(0)
    made.reweight({f"prototype {j}": 0})
    torch.testing.assert_close(predict(made).logits, off.logits)
    made.mask[:] = False
    assert not predict(made).logits.any()


def test_without_any_evidence_it_abstains():
    made = network()
    with torch.no_grad():
        made.head.weight[:, 2:] = 0
    p = predict(made)
    q = p.intervene({0: torch.tensor([0.0, 1, 1, 1, 0]), 1: torch.tensor([0.0, 1, 1, 1, 0])})
    assert q.abstains.tolist() == [True, False, False, False, True] or (p.units.scores[:, :2].sum(1) == 0).any()
    assert made.abstains(torch.tensor([[0.0, 0, 0], [0, 0.2, 0]])).tolist() == [True, False]
    torch.testing.assert_close(q.probabilities[0], torch.full((3,), 1 / 3))
    assert q.table(0).splitlines()[0] == "image 0: abstains"
    assert "%" in q.table(1).splitlines()[0]
    assert str(q).splitlines()[0] == "image 0: abstains"  # five images: a line for each
    made = network(bias=True)
    with torch.no_grad():
        made.head.bias[:] = torch.tensor([0.3, 0, 0])
    nothing = predict(made).intervene(dict.fromkeys(range(7), 0))
    assert nothing.abstains.all()
    torch.testing.assert_close(nothing.logits[0], torch.tensor([0.3, 0, 0]))


def test_probabilities_are_those_that_are_trained():
    logits = torch.tensor([[0.0, 1, 3]])
    expected = torch.tensor([[1.0, 2, 10]]) / 13
    torch.testing.assert_close(network().class_probabilities(logits), expected)
    assert class_loss(logits, torch.tensor([2])).item() == pytest.approx(-math.log(10 / 13))


def test_presence_is_in_float32_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        logits, units = network()(IMAGES)
    assert units.maps.dtype == units.scores.dtype == logits.dtype == torch.float32
    torch.testing.assert_close(units.maps.sum(1), torch.ones(5, 4, 4))


def test_a_finer_map_has_the_same_weights():
    coarse, fine = make_pipnet(), make_pipnet(finer=2)
    assert predict(coarse.network).units.maps.shape[2:] == (2, 2)
    assert predict(fine.network).units.maps.shape[2:] == (8, 8)
    fine.load_state_dict(coarse.state_dict())
    with pytest.raises(ConfigError, match=r"model.finer: 4 given, but SmallCNN has 3 strided stages"):
        make_pipnet(finer=4)


def test_a_finer_map_of_a_residual_network():
    made = PIPNet(SPEC, {"name": "resnet18"}, finer=2).eval()
    assert made.network.encode(torch.rand(1, 3, 64, 64)).maps.shape == (1, 512, 8, 8)


# Views


def test_views_share_geometry_stay_in_range_and_differ():
    torch.manual_seed(0)
    data = batch(6)
    both = two_views(data, color=0.3, shift=2)
    assert both.image.shape == (12, 3, 16, 16)
    assert torch.equal(both.label, data.label.repeat(2))
    assert torch.equal(both.index, data.index.repeat(2))
    assert bool((both.image >= 0).all() & (both.image <= 1).all())
    assert all(not torch.equal(one, two) for one, two in zip(*both.image.chunk(2), strict=True))
    assert torch.equal(data.image, batch(6).image)
    torch.manual_seed(0)
    assert torch.equal(two_views(data, 0.3, 2).image, both.image)
    same = two_views(data, color=0, shift=0)
    torch.testing.assert_close(same.image, data.image.repeat(2, 1, 1, 1))


def test_a_view_is_the_same_scene_a_few_pixels_further():
    """Its bright spot lies at most `shift` away, and in all directions over many draws."""
    data = batch(200)
    data.image[:] = 0.1
    data.image[:, :, 8, 8] = 0.9
    spots = two_views(data, color=0.3, shift=2).image.mean(1).flatten(1).argmax(1)
    offset = torch.stack([spots // 16 - 8, spots % 16 - 8], 1)
    assert {tuple(o) for o in offset.tolist()} == {(y, x) for y in range(-2, 3) for x in range(-2, 3)}


def test_a_shift_repeats_the_border():
    image = torch.arange(16.0).view(1, 1, 4, 4).expand(1, 3, 4, 4)
    moved = shifted(image, torch.tensor([[1, -2]]))[0, 0]
    assert moved.tolist() == [[2, 3, 3, 3], [2, 3, 3, 3], [6, 7, 7, 7], [10, 11, 11, 11]]


def test_colors_are_those_of_torchvision():
    from torchvision.transforms.v2 import functional

    image, factor = batch(3).image, torch.tensor([[0.7, 1.3, 0.6], [1.3, 0.7, 1.4], [1, 1, 1]])
    for one, varied, (b, c, s) in zip(image, vary_color(image, factor), factor.tolist(), strict=True):
        expected = functional.adjust_saturation(functional.adjust_contrast(functional.adjust_brightness(one, b), c), s)
        torch.testing.assert_close(varied, expected, atol=1e-3, rtol=0)  # its gray has rounded weights


# Losses


def test_losses_are_the_published_ones():
    """Against plain loops in float64."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 4, 2, 3, generator=generator, dtype=torch.float64).mul(3).softmax(2)
    first, second = maps
    total, positions = 0.0, 0
    for b in range(3):
        for y in range(2):
            for x in range(3):
                dot = sum(float(first[b, d, y, x]) * float(second[b, d, y, x]) for d in range(4))
                total, positions = total - math.log(dot + 1e-12), positions + 1
    assert align_loss(first, second).item() == pytest.approx(total / positions, abs=1e-12)

    presence = first.amax((2, 3))
    total = 0.0
    for d in range(4):
        total -= math.log(math.tanh(sum(float(presence[b, d]) for b in range(3))) + 1e-8)
    assert tanh_loss(presence).item() == pytest.approx(total / 4, abs=1e-12)

    evidence = torch.rand(3, 5, generator=generator, dtype=torch.float64) * 4
    labels, total = torch.tensor([4, 0, 2]), 0.0
    for b in range(3):
        scores = [math.log(1 + float(o) ** 2) for o in evidence[b]]
        total -= scores[labels[b]] - math.log(sum(math.exp(s) for s in scores))
    assert class_loss(evidence, labels).item() == pytest.approx(total / 3, abs=1e-12)


def test_each_view_is_aligned_to_the_other_one_as_it_is():
    """Half the gradient of the plain symmetric loss: at each term only one of the views moves."""
    first, second = (torch.randn(2, 4, 3, 3).requires_grad_() for _ in range(2))
    align_loss(first.softmax(1), second.softmax(1)).backward()
    for moving, other in ((first, second), (second, first)):
        alone = moving.detach().clone().requires_grad_()
        (-torch.log((alone.softmax(1) * other.detach().softmax(1)).sum(1) + 1e-12).mean() / 2).backward()
        torch.testing.assert_close(moving.grad, alone.grad)
