"""Our measurements against Quantus 0.6 where Quantus is right, and the counter-example where it is not."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

import ibd
from ibd.explain.quantus import quantus_explain
from ibd.metrics import quantus_metric
from ibd.metrics.functional import curves, localization, properties, robustness
from tests.explainer_makers import explainer, images, make

quantus = pytest.importorskip("quantus")

IMAGES, SIZE = 5, 12


class Linear(nn.Module):
    """f(x) = w x + 1 for class 0, its negative for class 1."""

    def __init__(self):
        super().__init__()
        g = torch.Generator().manual_seed(0)
        self.weight = torch.randn(SIZE * SIZE, generator=g)

    def forward(self, x):
        value = x.flatten(1) @ self.weight + 1
        return torch.stack([value, -value], 1)


def case(seed=0):
    g = torch.Generator().manual_seed(seed)
    image = torch.rand(IMAGES, 1, SIZE, SIZE, generator=g)
    mask = torch.zeros(IMAGES, 1, SIZE, SIZE, dtype=torch.bool)
    mask[:, :, 2:7, 3:9] = True
    return image, torch.randn(IMAGES, SIZE, SIZE, generator=g), mask


def theirs(name, maps, mask=None, image=None, batch_size=64, call=None, **options):
    options = {"disable_warnings": True, "display_progressbar": False, "normalise": False, "abs": False, **options}
    metric = getattr(quantus, name)(**options)
    image = torch.zeros(len(maps), 1, SIZE, SIZE) if image is None else image
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return metric(
            model=Linear().eval(),
            x_batch=image.numpy(),
            y_batch=np.zeros(len(maps), dtype=int),
            a_batch=maps.unsqueeze(1).numpy().copy(),
            s_batch=None if mask is None else mask.numpy().astype(float),
            device="cpu",
            batch_size=batch_size,
            **(call or {}),
        )


def test_same_localization_of_positive_maps():
    _, maps, mask = case()
    maps = maps.abs() + 0.01
    found = localization.localize(maps, mask[:, 0])
    for name, ours in (
        ("RelevanceMassAccuracy", "mass_accuracy"),
        ("RelevanceRankAccuracy", "rank_accuracy"),
        ("PointingGame", "pointing_game"),
        ("AUC", "roc_auc"),
        ("AttributionLocalisation", "mass_accuracy"),
    ):
        np.testing.assert_allclose(theirs(name, maps, mask), found[ours], atol=1e-6, err_msg=name)
    k = int(mask[0].sum())
    np.testing.assert_allclose(theirs("TopKIntersection", maps, mask, k=k), found["rank_accuracy"], atol=1e-6)


def test_same_rank_scores_of_signed_maps():
    _, maps, mask = case(1)
    for name, ours in (("RelevanceRankAccuracy", localization.rank_accuracy), ("AUC", localization.roc_auc)):
        np.testing.assert_allclose(theirs(name, maps, mask), ours(maps, mask[:, 0]), atol=1e-6)


def test_same_complexity_and_sparseness():
    _, maps, _ = case()
    np.testing.assert_allclose(theirs("Complexity", maps, abs=True), properties.complexity(maps), atol=1e-5)
    np.testing.assert_allclose(theirs("Sparseness", maps, abs=True), properties.sparseness(maps), atol=1e-5)


def test_same_curve_of_pixel_flipping():
    """Theirs has no step 0, and its "black" is the lowest pixel: a number is given instead."""
    image, _, _ = case()
    weight = Linear().weight.view(SIZE, SIZE)
    maps = image[:, 0] * weight
    flipped = theirs(
        "PixelFlipping", maps, image=image, features_in_step=12, perturb_baseline=0.0, call={"softmax": False}
    )
    order = maps.flatten(1).sort(1, descending=True).values.double()
    left = 1 + maps.double().flatten(1).sum(1, keepdim=True) - order.cumsum(1)[:, 11::12]
    np.testing.assert_allclose(np.array(flipped), left, atol=1e-4)
    table = torch.cat([1 + maps.double().flatten(1).sum(1, keepdim=True), left], 1)
    assert curves.deletion_auc(table, torch.linspace(0, 1, 13, dtype=torch.float64)).isfinite().all()


def test_counter_example_an_empty_mask_is_a_hit():
    _, maps, mask = case()
    mask[2] = False
    assert theirs("PointingGame", maps, mask)[2] == True  # noqa: E712  # a numpy bool: NaN was written into it
    assert localization.pointing_game(maps, mask[:, 0])[2].isnan()


def test_counter_example_ties_at_the_top_are_a_hit():
    _, maps, mask = case()
    flat = torch.full_like(maps, 0.5)
    flat[:, 0, 0] = 0.0  # one that is constant is refused
    assert all(theirs("PointingGame", flat, mask))
    assert localization.pointing_game(flat, mask[:, 0]).tolist() == pytest.approx([30 / 143] * IMAGES)


def test_counter_example_mass_of_signed_maps_is_no_share():
    _, _, mask = case()
    outside = [value for seed in range(20) for value in theirs("RelevanceMassAccuracy", case(seed)[1], mask)]
    assert max(outside) > 1
    assert min(outside) < 0
    ours = torch.cat([localization.mass_accuracy(case(seed)[1], mask[:, 0]) for seed in range(20)])
    assert 0 < float(ours.min()) < float(ours.max()) < 1


def test_counter_example_completeness_of_an_exact_map_is_false():
    image, _, _ = case()
    maps = image[:, 0] * Linear().weight.view(SIZE, SIZE)
    said = theirs("Completeness", maps, image=image, normalise=True, abs=False)
    assert not any(said)
    value = Linear()(image)[:, 0] - Linear()(image * 0)[:, 0]
    assert float(properties.conservation(maps, value).max()) < 1e-5


def test_counter_example_a_score_depends_on_the_neighbors():
    """Theirs divides by the maximum of the batch, and then adds 1e-7."""
    _, maps, _ = case()
    maps = maps.abs()
    maps[4] *= 1e7
    together = theirs("Sparseness", maps, normalise=True)[0]
    alone = theirs("Sparseness", maps[:1], normalise=True)[0]
    assert abs(together - alone) > 0.1
    assert properties.sparseness(maps)[0].item() == properties.sparseness(maps[:1])[0].item()


def test_counter_example_the_callers_array_is_changed():
    _, maps, _ = case()
    given = maps.abs().double().numpy()
    before = given.copy()
    metric = quantus.Sparseness(disable_warnings=True, display_progressbar=False, normalise=False, abs=False)
    metric.evaluate_batch(x_batch=given, a_batch=given)
    assert not np.array_equal(given, before)
    properties.sparseness(torch.from_numpy(before))
    assert np.array_equal(before, maps.abs().double().numpy())


def test_counter_example_maps_that_are_negative_are_refused():
    _, maps, mask = case()
    with pytest.raises(AssertionError):
        theirs("RelevanceRankAccuracy", -maps.abs(), mask)
    assert localization.rank_accuracy(-maps.abs(), mask[:, 0]).isfinite().all()


def test_same_sensitivity_of_one_draw():
    """Of a linear explanation: their ratio of norms is ours."""
    _, maps, _ = case()
    changed = maps + 0.1 * case(1)[1]
    ours = robustness.max_sensitivity(maps, changed.unsqueeze(1))
    norm = quantus.norm_func.fro_norm
    expected = norm((maps - changed).flatten(1).numpy()) / norm(maps.flatten(1).numpy())
    np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize("name", ["gradient_input", "gradcam", "intrinsic"])
def test_quantus_asks_our_explainers(name):
    """What it measures of maps that it asks for is that of the same maps given; for robustness it asks many times."""
    model, image = make("cbm").eval(), images(3, (16, 16))
    labels = np.array([0, 2, 1])
    given = explainer(name).on(model).attribute(image, torch.tensor(labels)).numpy()
    options = {"disable_warnings": True, "display_progressbar": False, "normalise": False, "abs": False}
    call = {"model": model.logits, "x_batch": image.numpy(), "y_batch": labels, "device": "cpu"}
    asked = {"explain_func": quantus_explain, "explain_func_kwargs": {"method": name}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = quantus.Complexity(**options)(**call, **asked)
        np.testing.assert_allclose(found, quantus.Complexity(**options)(**call, a_batch=given.copy()), rtol=1e-6)
        robust = quantus.MaxSensitivity(nr_samples=2, **options)(**call, **asked)
    assert np.isfinite(np.array(robust)[np.abs(given).sum((1, 2, 3)) > 0]).all()  # a map of zeros has no ratio


def test_quantus_evaluates_by_our_measures():
    """In its `evaluate`, beside its own, and equal to ours of the same maps."""
    image, _, mask = case()
    labels, model = np.zeros(IMAGES, dtype=int), Linear().eval()
    metrics = {
        "ours": quantus_metric("rank_accuracy"),
        "theirs": quantus.RelevanceRankAccuracy(
            disable_warnings=True, display_progressbar=False, normalise=False, abs=False
        ),
        "properties": quantus_metric("sparseness"),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = quantus.evaluate(
            metrics=metrics,
            xai_methods={"gradient_input": quantus_explain, "saliency": quantus_explain},
            model=model,
            x_batch=image.numpy(),
            y_batch=labels,
            s_batch=mask.numpy().astype(float),
            agg_func=np.mean,
            explain_func_kwargs={},
            call_kwargs={"call": {"device": "cpu"}},
        )
    maps = image[:, 0] * Linear().weight.view(SIZE, SIZE)
    assert found["gradient_input"]["ours"] == pytest.approx(float(localization.rank_accuracy(maps, mask[:, 0]).mean()))
    assert found["gradient_input"]["ours"] == pytest.approx(found["gradient_input"]["theirs"])
    assert found["saliency"]["ours"] == pytest.approx(found["saliency"]["theirs"])
    assert found["gradient_input"]["properties"] == pytest.approx(float(properties.sparseness(maps).mean()), rel=1e-5)


def test_quantus_evaluates_by_measures_of_ours_that_ask_the_model():
    """With explanations of ours, each of which it hands over with its name; and with maps that are given."""
    model, image, labels = make("cbm").eval(), images(3, (16, 16)).numpy(), np.array([0, 2, 1])
    names = ("deletion", "insertion", "max_sensitivity", "randomization")
    given = quantus_explain(model.logits, image, labels, "gradient_input")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = quantus.evaluate(
            metrics={name: ibd.quantus_metric(name) for name in names},
            xai_methods={"gradient_input": quantus_explain, "saliency": quantus_explain},
            model=model.logits,
            x_batch=image,
            y_batch=labels,
            agg_func=list,
            explain_func_kwargs={},
            call_kwargs={"call": {"device": "cpu", "batch_size": 2, "softmax": False, "channel_first": True}},
        )
    call = {"model": model.logits, "x_batch": image, "y_batch": labels, "explain_func": quantus_explain}
    for method in ("gradient_input", "saliency"):
        for name in names:
            expected = ibd.quantus_metric(name)(**call, explain_func_kwargs={"method": method})
            assert found[method][name] == pytest.approx(expected, nan_ok=True)
    assert found["gradient_input"]["deletion"] == ibd.quantus_metric("deletion")(**call, a_batch=given)
