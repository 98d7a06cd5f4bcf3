"""The interpretable CNN: templates, the filter loss, filters and their classes, its training."""

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.boxes import placed
from ibd.explain.render import overlay
from ibd.io import load_model
from ibd.models.baseline.lightning import Baseline
from ibd.models.interpretable_cnn.evaluation import evaluate_filters
from ibd.models.interpretable_cnn.figures import filters_figure, shown_filters
from ibd.models.interpretable_cnn.lightning import InterpretableCNN
from ibd.models.interpretable_cnn.losses import filter_loss, mutual_information, template_traces
from ibd.models.interpretable_cnn.network import InterpretableCNNNetwork
from ibd.models.interpretable_cnn.templates import all_templates, masks_at, peaks
from tests.model_makers import PIXELS, SMALL, SPEC, Pixels, TensorData, make_filters
from tests.reference import templates as reference

IMAGES = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def random_maps(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).mul(4).relu()


def quiet(epochs=1, **options):
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
        **options,
    )


# Templates


def test_a_template_by_hand():
    """At the middle of 3 x 3, beta 1: 1 in the middle, 2/3 beside it, 1/3 in the corners; negative: -1."""
    found = all_templates((3, 3), 1.0, torch.zeros(1))
    assert found.shape == (10, 9)
    beside = [1 / 3, 2 / 3, 1 / 3, 2 / 3, 1, 2 / 3, 1 / 3, 2 / 3, 1 / 3]
    assert found[4].tolist() == pytest.approx(beside)
    assert found[9].tolist() == [-1] * 9
    assert all_templates((3, 3), 4.0, torch.zeros(1))[0].tolist() == pytest.approx([1, -1 / 3, -1, -1 / 3] + [-1] * 5)


@pytest.mark.parametrize("grid", [(8, 8), (3, 5)])
def test_a_mask_is_the_positive_part_of_the_template_at_the_peak(grid):
    maps = random_maps(4, 2, *grid)
    expected = all_templates(grid, 4.0, maps)[peaks(maps)].relu().view(4, 2, *grid)
    torch.testing.assert_close(masks_at(peaks(maps), grid, 4.0), expected, check_dtype=False)
    assert torch.equal(peaks(maps * expected), peaks(maps))  # the peak is still the peak


# The loss


@pytest.mark.parametrize("grid", [(3, 3), (2, 4)])
def test_the_loss_is_minus_the_mutual_information(grid):
    maps = random_maps(6, 3, *grid)
    expected = [reference.information(maps[:, f].tolist(), beta=3.0, tau=2.0) for f in range(3)]
    found = mutual_information(template_traces(maps, 2.0, 3.0))
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    assert min(expected) > 1e-3
    own = torch.arange(6)[:, None] < torch.tensor([[2, 3, 4]])
    for gradient in ("exact", "target", "balanced"):
        assert float(filter_loss(maps, own, 2.0, 3.0, gradient)) == pytest.approx(-sum(expected))


def test_it_is_large_where_a_map_tells_its_template_and_0_where_all_maps_are_the_same():
    """Closed form: with n + 1 maps that fit a template each, without any doubt, log(n + 1)."""
    n = 4
    sharp = torch.eye(n, dtype=torch.float64).view(n, 1, 2, 2) * 1e4
    maps = torch.cat([sharp, torch.zeros(1, 1, 2, 2, dtype=torch.float64)])
    assert float(mutual_information(template_traces(maps, 4.0, 4.0))) == pytest.approx(math.log(n + 1), abs=1e-6)
    assert float(mutual_information(template_traces(sharp[:1].expand(5, 1, 2, 2), 4.0, 4.0))) == pytest.approx(0)


def test_the_exact_gradient_is_that_of_finite_differences():
    maps = random_maps(4, 2, 2, 3).requires_grad_()
    own = torch.tensor([[True, False]] * 4)
    assert torch.autograd.gradcheck(lambda x: filter_loss(x, own, 2.0, 4.0, "exact"), maps)


def test_the_gradient_by_the_target_template_is_the_papers():
    maps = random_maps(5, 2, 3, 3).requires_grad_()
    own = torch.tensor([[True, False], [True, True], [False, True], [False, False], [False, True]])
    (found,) = torch.autograd.grad(filter_loss(maps, own, gradient="target"), maps)
    for f in range(2):
        expected = torch.tensor(reference.target_gradient(maps[:, f].tolist(), own[:, f].tolist()), dtype=maps.dtype)
        assert expected.abs().max() > 1e-4
        torch.testing.assert_close(found[:, f].flatten(1), expected, atol=1e-14, rtol=1e-9)


def test_the_balanced_gradient_weighs_own_and_other_images_alike_whatever_the_scale():
    """Own images are pulled up at their peak, others down everywhere: half of a mean over cells for each filter."""
    maps = random_maps(6, 3, 4, 4).add(0.1).requires_grad_()
    own = torch.arange(6)[:, None] < torch.tensor([[1, 3, 0]])
    (found,) = torch.autograd.grad(filter_loss(maps, own), maps)
    flat = found.flatten(2)
    at_peak = flat.gather(2, peaks(maps).unsqueeze(2)).squeeze(2)
    assert (at_peak < 0).equal(own)
    assert (at_peak * own).sum(0).tolist() == pytest.approx([-0.5 / 16, -0.5 / 16, 0])
    assert (at_peak * ~own).sum(0).tolist() == pytest.approx([0.5 / 16] * 3)
    assert bool((flat >= 0)[~own].all())
    (small,) = torch.autograd.grad(filter_loss(maps / 1e6, own, tau=50.0), maps)
    assert float((small * 1e6).flatten(2).gather(2, peaks(maps).unsqueeze(2)).sum()) == pytest.approx(1 / 32)


def test_very_large_activations_are_no_overflow():
    maps = (random_maps(6, 2, 3, 3) * 1e5).float().requires_grad_()
    for gradient in ("exact", "target", "balanced"):
        loss = filter_loss(maps, torch.eye(6, 2).bool(), gradient=gradient)
        (found,) = torch.autograd.grad(loss, maps)
        assert bool(loss.isfinite() & found.isfinite().all())


def test_an_unknown_gradient():
    with pytest.raises(ConfigError, match=r"model.gradient: unknown gradient 'balance'. Did you mean 'balanced'\?"):
        filter_loss(random_maps(2, 1, 2, 2), torch.ones(2, 1, dtype=torch.bool), gradient="balance")


# The network


def test_by_hand_a_map_is_kept_around_its_peak_alone():
    """Features are colors, in 4 x 4 cells: red has two spots, and the smaller one, far away, does not count."""
    network = InterpretableCNN(SPEC, PIXELS).network.eval()
    image = torch.zeros(1, 3, 16, 16)
    image[0, 0, 4:8, 4:8], image[0, 0, 12:, 12:], image[0, 1, 12:, :4] = 0.8, 0.6, 0.4
    units = network.encode(image)
    kept = torch.zeros(3, 4, 4)
    kept[0, 1, 1], kept[1, 3, 0] = 0.8, 0.4
    torch.testing.assert_close(units.maps[0], kept)
    assert units.scores[0].tolist() == pytest.approx([0.8 / 16, 0.4 / 16, 0])
    assert network.places(units)[0].tolist() == [[1, 1], [3, 0], [0, 0]]


def test_filters_are_named_by_the_class_that_activates_them_most():
    network = InterpretableCNN(SPEC, PIXELS).network
    assert network.unit_names == ["filter 0", "filter 1", "filter 2"]
    network.assign(torch.tensor([[0.1, 0.5, 0.0], [0.3, torch.nan, 0.0], [0.2, 0.1, 0.0]]))
    network.name_filters()
    assert network.unit_names == ["filter 0 (bee)", "filter 1 (ant)", "filter 2"]
    assert network.unit_groups == {"ant": [1], "bee": [0]}
    assert network.own(torch.tensor([1, 2])).tolist() == [[True, False, False], [False, False, False]]
    again = InterpretableCNNNetwork(copy.deepcopy(network.backbone), SPEC)
    again.load_state_dict(network.state_dict())
    assert again.unit_names == copy.deepcopy(network).unit_names == network.unit_names


def test_a_filter_is_switched_off_by_its_name_without_another_pass():
    p = make_filters().predict(IMAGES)
    name = p.network.unit_names[3]
    assert name == "filter 3 (cow)"
    q = p.intervene({name: 0})
    torch.testing.assert_close(q.logits, p.logits - p.contributions[:, 3])
    assert name in q.table(0)


def test_every_cell_has_its_exact_share():
    network = make_filters().network
    with torch.no_grad():
        units = network.encode(IMAGES)
        painted = (network.contributions(units)[..., None, None] * network.shares(units)[:, :, None]).sum((1, 3, 4))
        torch.testing.assert_close(painted + network.bias(), network.decode(units), atol=1e-5, rtol=1e-5)
    assert network.account == "cells"


def test_scores_are_in_float32_under_autocast():
    module = make_filters().train()
    with torch.autocast("cpu", torch.bfloat16):
        logits, units = module(IMAGES)
        loss = filter_loss(units.state[0], torch.ones(5, 7, dtype=torch.bool))
    assert units.scores.dtype == logits.dtype == loss.dtype == torch.float32


# Training


def test_the_activity_of_classes_is_kept_and_assigns_filters():
    made = InterpretableCNN(SPEC, PIXELS)
    maps = torch.zeros(3, 3, 2, 2)
    maps[0, 0], maps[1, 1], maps[2, 1] = 2.0, 1.0, 3.0
    made._watch(maps, torch.tensor([0, 2, 2]))
    assert made.network.category.tolist() == [0, 2, -1]
    made._watch(maps[:1] * 6, torch.tensor([2]))
    torch.testing.assert_close(made.network.activity[2], torch.tensor([1.2, 1.8, 0.0]))  # 0.9 of before, 0.1 of now
    assert made.network.activity[1].isnan().all()
    made._watch(maps[:1] * 60, torch.tensor([2]))
    assert made.network.category.tolist() == [2, 2, -1]


@pytest.mark.parametrize(("gradient", "rate"), [("balanced", 30.0), ("target", 1e4), ("exact", 1e4)])
def test_following_the_gradient_raises_the_information(gradient, rate):
    maps = random_maps(8, 1, 4, 4).float().abs().add(0.5)
    own = torch.arange(8)[:, None] < 4
    before = float(filter_loss(maps, own))
    for _ in range(100):
        maps.requires_grad_()
        (slope,) = torch.autograd.grad(filter_loss(maps, own, gradient=gradient), maps)
        maps = (maps - rate * slope).detach().clamp(0, 30)
    assert float(filter_loss(maps, own)) < 3 * before < 0
    if gradient == "balanced":  # the exact one knows of no class: it puts a peak into images of others as well
        assert float(maps[~own[:, 0]].max()) < 0.5
        assert float(maps[own[:, 0]].amax((1, 2, 3)).min()) > 20


def test_what_is_trained_and_how_it_ends(tmp_path):
    """What is logged; the end assigns by all training images as they are, and a checkpoint has it all."""
    torch.manual_seed(0)
    data = TensorData()
    made = InterpretableCNN(SPEC, SMALL, filters=6, filter_weight=0.05, optimizer={"lr": 0.01})
    fit = quiet(2)
    fit.fit(made, datamodule=data)
    logged = {"train/filter_loss", "train/class_loss", "train/loss", "val/class_loss", "val/accuracy"}
    assert logged <= fit.callback_metrics.keys()
    assert float(fit.callback_metrics["train/filter_loss"]) <= 0
    figures = made.finish(data)
    assert ("train", False) in data.asked
    images, labels, _ = data.splits["train"]
    with torch.no_grad():
        maps = made.eval().network.add_on(made.network.backbone(images)).relu()
    mean = torch.stack([maps[labels == c].mean((0, 2, 3)) for c in range(3)])
    torch.testing.assert_close(made.network.activity, mean)
    assert made.network.category.tolist() == torch.where(mean.amax(0) > 0, mean.argmax(0), -1).tolist()
    assert figures["filters/used"] == int((mean.amax(0) > 0).sum())
    made.save(tmp_path / "x.ckpt")
    assert load_model(tmp_path / "x.ckpt").network.unit_names == made.network.unit_names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": 0}, "model.beta: 0 given, more than 0"),
        ({"tau": -1.0}, "model.tau: -1.0 given, more than 0"),
        ({"filters": 0}, "model.filters: 0 given, at least 1"),
        ({"filter_weight": -0.1}, "model.filter_weight: -0.1 given, at least 0"),
        ({"gradient": "exactly"}, "model.gradient: unknown gradient 'exactly'"),
        ({"backbone": {**SMALL, "frozen": True}}, "model.filters: a number is needed where the backbone is frozen"),
    ],
)
def test_mistakes(options, message):
    with pytest.raises(ConfigError, match=message):
        InterpretableCNN(SPEC, **{"backbone": SMALL, **options})


# Evaluation


def test_a_picture_has_a_map_where_its_cells_look_and_names_no_part_without_one():
    model, data = make_filters(), TensorData()
    report = evaluate_filters(model, data, split="val")
    unit, dataset = shown_filters(report)[0], data.dataset("val")
    image = dataset.load(int(report.strongest[unit, 0])).image
    maps = model(image[None]).units.maps[0, unit].detach()
    field = model.network.receptive_field((16, 16))
    expected = overlay(image, placed(maps, (16, 16), field), scale=float(maps.max()))
    drawn = filters_figure(model, dataset, report, [unit], images=1).axes[0]
    np.testing.assert_allclose(drawn.images[0].get_array(), expected, atol=1e-6)
    assert not np.allclose(expected, overlay(image, maps, scale=float(maps.max())), atol=0.05)  # shared out evenly
    for share, told in ((0.0, "none of the parts at the peak"), (0.3, "wing at the peak in 30 %"), (math.nan, ")")):
        purity = torch.full((7, 1), share)
        drawn = filters_figure(model, dataset, replace(report, part_names=["wing"], purity=purity), [unit], images=1)
        assert drawn.axes[0].texts[0].get_text().endswith(told)


def test_figures_without_parts_and_without_data():
    report = evaluate_filters(make_filters(), TensorData(), split="val")
    assert report.figures["filters"] == 7
    assert report.figures["classes"] == 2
    assert "purity" not in report.figures
    with pytest.raises(ConfigError, match="needs the data"):
        evaluate_filters(make_filters())


def test_units_of_other_families_belong_to_the_class_that_activates_them_most():
    data = TensorData()
    images, labels, _ = data.splits["val"]
    torch.manual_seed(0)
    model = Baseline(SPEC, SMALL).eval()
    report = evaluate_filters(model, data, split="val")
    with torch.no_grad():
        scores = model(images).units.maps.relu().mean((2, 3))
    mean = torch.stack([scores[labels == c].mean(0) for c in range(3)])
    assert report.category.tolist() == mean.argmax(0).tolist()


class Pooled(Pixels):
    """One number for each color of the whole image."""

    def __init__(self):
        super().__init__()
        self.pool = torch.nn.AvgPool2d(16)


def test_units_without_a_place_are_refused():
    with pytest.raises(UnsupportedError, match="have no maps"):
        evaluate_filters(Baseline(SPEC, {"name": "tests.unit.models.test_interpretable_cnn:Pooled"}), TensorData())
