"""Fooling: budgets that are kept, smallest changes in closed form, one change for all images."""

import pytest
import torch
from torch import nn

from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.explain.base import Cost
from ibd.explain.fooling.attacks import fgsm, pgd, sizes, within
from ibd.explain.fooling.minimal import deepfool
from ibd.explain.fooling.universal import transfer_table, universal_perturbation

SHAPE = (3, 4, 5)


class Linear(nn.Module):
    """Logits that are linear in the pixels."""

    def __init__(self, weight, bias=0.0):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), bias

    def forward(self, image):
        return image.flatten(1) @ self.weight.t() + self.bias


def weights(classes, seed=0, scale=1.0):
    size = torch.Size(SHAPE).numel()
    return scale * torch.randn(classes, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inner(count=6, seed=1):
    """Images far enough from 0 and 1 that no change is cut off."""
    generator = torch.Generator().manual_seed(seed)
    return 0.45 + 0.1 * torch.rand(count, *SHAPE, generator=generator, dtype=torch.float64)


def smallest(weight, image, order, bias=0.0):
    """The distance to the nearest boundary of a linear model, in closed form; order is that of the dual norm."""
    logits = image.flatten(1) @ weight.t() + bias
    best = logits.argmax(1)
    found = []
    for row, c in zip(logits, best.tolist(), strict=True):
        others = [k for k in range(len(weight)) if k != c]
        found.append(min((row[c] - row[k]) / torch.linalg.vector_norm(weight[c] - weight[k], order) for k in others))
    return torch.stack(found)


@pytest.mark.parametrize(("norm", "dual"), [("l2", 2), ("linf", 1)])
@pytest.mark.parametrize("classes", [2, 5])
def test_the_smallest_change_of_a_linear_model_is_that_of_the_closed_form(norm, dual, classes):
    weight, images = weights(classes), inner()
    found = deepfool(Linear(weight), images, norm, overshoot=0.0)
    assert found.fooled.all()
    torch.testing.assert_close(found.size, smallest(weight, images, dual), rtol=1e-5, atol=1e-6)
    assert deepfool(Linear(weight), images, norm, overshoot=0.02).size.mean() > found.size.mean()


@pytest.mark.parametrize(("norm", "dual"), [("l2", 2), ("linf", 1)])
def test_a_budget_just_above_the_smallest_change_fools_and_one_just_below_does_not(norm, dual):
    weight, images = weights(2), inner()
    bias = -(images.flatten(1) @ weight.t()).mean(0)  # the boundary lies among the images: no change is cut off
    model, need = Linear(weight, bias), smallest(weight, images, dual, bias)
    for image, least in zip(images.split(1), need.tolist(), strict=True):
        assert pgd(model, image, 1.01 * least, norm, steps=20).fooled.all()
        assert fgsm(model, image, 1.01 * least, norm).fooled.all()
        assert not pgd(model, image, 0.99 * least, norm, steps=20, restarts=2).fooled.any()
        assert not fgsm(model, image, 0.99 * least, norm).fooled.any()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_the_budget_and_the_range_of_images_are_kept(norm):
    images = torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    images[0], images[1] = 0, 1
    found = pgd(Linear(weights(3)), images, 0.3, norm, steps=7)
    assert (sizes(found.difference, norm) <= 0.3 + 1e-12).all()
    assert torch.equal(found.size, sizes(found.difference, norm))
    assert found.image.min() >= 0
    assert found.image.max() <= 1
    assert found.cost.backwards == 5 * 7


def test_a_class_that_is_wanted_is_led_to():
    images = inner()
    model = Linear(weights(4))
    wanted = (model(images).argmax(1) + 2) % 4
    found = pgd(model, images, 0.4, target=wanted)
    assert torch.equal(found.after, wanted)
    assert found.rate == 1


def test_a_network_that_is_sure_beyond_its_numbers_is_fooled_all_the_same():
    weight = weights(2, scale=1e4).float()
    images = inner().float()
    model = Linear(weight)
    assert torch.softmax(model(images), 1).amax(1).min() == 1  # the cross-entropy is 0, and so is its gradient
    assert pgd(model, images, 0.35).fooled.all()


def test_within_is_the_nearest_point_of_the_budget():
    change = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    torch.testing.assert_close(within(change, 1.0, "l2"), torch.tensor([[0.6, 0.8], [0.3, 0.4]]))
    assert within(change, 1.0, "linf").tolist() == [[1.0, 1.0], [pytest.approx(0.3), pytest.approx(0.4)]]


def one_sided(count=40):
    """A linear model of two classes, images that all are of the first, and their differences of logits, sorted."""
    weight = weights(2)
    slope = weight[0] - weight[1]
    images = inner(count)
    flat = images.flatten(1)
    wanted = torch.linspace(0.5, 10, count, dtype=torch.float64)
    flat = flat + ((wanted - flat @ slope) / slope.square().sum()).unsqueeze(1) * slope
    return Linear(weight), flat.view_as(images), wanted, slope


@pytest.mark.parametrize(("norm", "dual"), [("l2", 2), ("linf", 1)])
@pytest.mark.parametrize("method", ["gradient", "deepfool"])
def test_the_universal_change_of_a_linear_model_is_that_of_the_closed_form(norm, dual, method):
    model, images, gaps, slope = one_sided()
    length = torch.linalg.vector_norm(slope, dual)
    radius = float(4.0 / length)  # the best change of this size fools all with a difference below 4
    found = universal_perturbation(model, [images[::2]], radius, norm, method, enough=1.0)
    best = -radius * (slope / length if norm == "l2" else slope.sign())
    alike = torch.isclose(found.change.flatten(), best, rtol=1e-6, atol=1e-9)
    assert alike.double().mean() > (0.9 if (norm, method) == ("linf", "deepfool") else 0.999)
    share = float((gaps[::2] < 4).double().mean())
    assert found.rates[-1] == pytest.approx(share)
    table = transfer_table([model], ["linear"], [found], [images[1::2]])
    assert float(table.rates[0, 0]) == pytest.approx(float((gaps[1::2] < 4).double().mean()))  # on unseen images
    assert table.rates[1, 0] < table.rates[0, 0]  # noise of the same size
    assert "linear" in table.table()


def test_what_moves_one_model_moves_its_like_and_not_one_of_other_directions():
    model, images, _, slope = one_sided()
    alike = Linear(model.weight.detach() * 1.001)
    other = Linear(weights(2, seed=9))
    across = other.weight.data[0] - other.weight.data[1]
    other.weight.data[0] -= (across @ slope) / (slope @ slope) * slope  # which does not look along the slope
    made = [universal_perturbation(one, [images], 0.03, "l2", epochs=2) for one in (model, alike, other)]
    rates = transfer_table([model, alike, other], ["a", "b", "c"], made, [images]).rates
    assert float(rates[0, 0]) == pytest.approx(float(rates[0, 1]))
    assert rates[0, 2] == 0


class Modes(Linear):
    """Its dropout would show that it was left in training."""

    def __init__(self):
        super().__init__(weights(3).float())
        self.drop = nn.Dropout(0.5)

    def forward(self, image):
        return super().forward(self.drop(image))


def test_the_model_is_left_as_it_was_and_gradients_are_found_where_there_are_none():
    model = Modes().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.inference_mode():
        found = pgd(model, inner().float(), 0.3)
    assert found.fooled.any()
    assert model.training
    assert model.weight.grad is None
    assert model.weight.requires_grad
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_bad_requests_are_one_line():
    model, image = Linear(weights(2)), inner(1)
    with pytest.raises(ConfigError, match="radius: 0 given"):
        pgd(model, image, 0)
    with pytest.raises(ConfigError, match="'l1' is not one of linf, l2"):
        pgd(model, image, 0.1, "l1")
    with pytest.raises(UnsupportedError, match=r"ibd\.ForeignModel"):
        pgd(Linear(weights(1)), image, 0.1)
    with pytest.raises(DataError, match="not finite"):
        deepfool(model, image * torch.nan)
    with pytest.raises(DataError, match="at least one image"):
        universal_perturbation(model, [], 0.1)
    given = universal_perturbation(model, [image], 0.1)
    with pytest.raises(ConfigError, match="one of each needed"):
        transfer_table([model], ["a", "b"], [given], [image])


def test_what_is_left_of_the_accuracy_of_a_linear_model_is_that_of_the_closed_form():
    from ibd.explain.fooling.robustness import robustness
    from ibd.types import Batch

    weight, images = weights(2), inner(20)
    bias = -(images.flatten(1) @ weight.t()).mean(0)
    model, need = Linear(weight, bias), smallest(weight, images, 1, bias)
    labels = model(images).argmax(1)
    labels[:2] = 1 - labels[:2]  # two that are wrong from the beginning
    batch = Batch(images, labels, torch.zeros(20, 0), torch.arange(20))
    radii = [float(need.quantile(share)) for share in (0.25, 0.75)]
    found = robustness(model, [batch], radii, steps=10)
    assert found.clean == pytest.approx(0.9)
    for radius, row in zip(radii, found.accuracy, strict=True):
        left = float((need[2:] > radius).sum()) / 20
        assert row[1:3].tolist() == pytest.approx([left, left], abs=0.051)
        assert row[0] > left
    torch.testing.assert_close(found.smallest.sort().values, need.sort().values, rtol=0.03, atol=1e-6)
    assert "pgd" in found.table()


def test_explanations_of_a_linear_model_show_nothing_of_it_but_the_other_class():
    from ibd.explain import Saliency
    from ibd.explain.fooling.effect import explanations_fooled
    from ibd.explain.fooling.figures import explanations_fooled_figure, fooled_figure, transfer_figure

    model, images = Linear(weights(3)), inner(4)
    fooled = pgd(model, images, 0.4)
    seen = explanations_fooled(model, fooled, [Saliency()])
    noise, same, shown, classes = seen.correlation[0]
    torch.testing.assert_close(noise, torch.ones_like(noise))  # its gradient is the same everywhere
    torch.testing.assert_close(same, torch.ones_like(same))
    torch.testing.assert_close(shown, classes)
    assert shown.max() < 0.9
    for figure in (fooled_figure(fooled, "abc"), explanations_fooled_figure(fooled, seen, "abc")):
        figure.canvas.draw()
    made = universal_perturbation(model, [images], 0.1, epochs=1)
    transfer_figure(transfer_table([model], ["a"], [made], [images]), [made]).canvas.draw()
    with pytest.raises(UnsupportedError, match="no image is fooled"):
        explanations_fooled(model, pgd(model, images, 1e-6), [Saliency()])


def test_half_of_the_predictions_are_half_of_all_and_not_of_those_that_were_fooled():
    from ibd.explain.fooling.robustness import Robustness

    found = Robustness("linf", [0.1], 1.0, torch.zeros(1, 4), torch.tensor([3.0, 1.0, 2.0]), 6, Cost())
    assert found.within(0.5) == 3.0
    assert found.within(0.2) == 2.0
    assert found.within(0.6) is None
    assert Robustness("linf", [0.1], 1.0, torch.zeros(1, 4), torch.zeros(0), 6, Cost()).within(0.5) is None


def test_of_the_universal_changes_after_each_time_the_best_is_kept():
    torch.manual_seed(6)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.Tanh(), nn.Linear(16, 6))
    with torch.no_grad():
        model[1].weight.mul_(6)
    images = torch.rand(16, 3, 4, 4)
    found = universal_perturbation(model, [images], 0.03, epochs=4, enough=1.0)
    assert len(set(found.rates)) > 1
    changed = model((images + found.change).clamp(0, 1)).argmax(1) != model(images).argmax(1)
    assert float(changed.double().mean()) == max(found.rates)
