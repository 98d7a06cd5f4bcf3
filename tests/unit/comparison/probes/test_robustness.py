"""Explanations of changed images: only where the prediction stays, and what moves with the image, moves."""

import pytest
import torch
from torch import nn

from ibd.comparison.attributions import ask
from ibd.comparison.methods import Method
from ibd.comparison.probes.network import Predictor
from ibd.comparison.probes.robustness import (
    Changed,
    changed_maps,
    matched,
    noisy,
    translated,
)
from ibd.comparison.probes.sanity import sanity
from ibd.comparison.results import ExplainerInfo
from ibd.errors import ConfigError, DataError
from ibd.explain.cam import HiResCAM
from ibd.explain.gradients import GradientTimesInput, Saliency
from ibd.explain.targets import Target
from ibd.metrics.functional.robustness import local_lipschitz, max_sensitivity, translation_equivariance
from tests.explainer_makers import images
from tests.unit.comparison.probes.makers import Convolutions, random_images, random_linear


def test_changes_are_drawn_by_the_id_alone():
    image = images(3, (9, 11))
    found = noisy(image, ["a", "b", "c"], draws=2)
    assert found.shape == (3, 2, 3, 9, 11)
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert torch.equal(noisy(image[[2, 0]], ["c", "a"], draws=2), found[[2, 0]])
    assert not torch.equal(found[:, 0], found[:, 1])
    assert not torch.equal(noisy(image, ["a", "b", "c"], draws=2, seed=1), found)
    assert not torch.equal(noisy(image[:1], ["b"], draws=2), found[:1])


def test_how_large_the_changes_are():
    gray = torch.full((50, 3, 16, 16), 0.5)
    noise = noisy(gray, range(50), draws=2, sigma=0.02) - 0.5
    assert abs(float(noise.std()) / 0.02 - 1) < 0.02
    assert torch.equal(noisy(gray, range(50), sigma=0.0)[:, 0], gray)


def test_images_are_moved_by_whole_pixels():
    image = images(2, (6, 7))
    down, left = translated(image, [(2, 0), (0, -1)]).unbind(1)
    assert torch.equal(down[:, :, 2:], image[:, :, :-2])
    assert torch.equal(down[:, :, 0], image[:, :, 0])
    assert torch.equal(left[..., :-1], image[..., 1:])
    assert torch.equal(left[..., -1], image[..., -1])


def test_distances_and_matched_predictions_of_a_linear_model():
    model, image = random_linear(), random_images(3)
    step = torch.zeros(3, 3, 3, 8, 8, dtype=torch.float64)
    step[:, 1] = 0.01
    direction = model.weights.detach() / model.weights.detach().norm()
    score = (image * model.weights.detach()).flatten(1).sum(1)
    size = model.weights.detach().norm()
    step[:, 2] = -(2 * score / size).view(-1, 1, 1, 1) * direction  # to the other side
    classes = (score < 0).long()
    predictor = Predictor(model, image)
    changed = matched(predictor, image, classes, image.unsqueeze(1) + step)
    assert changed.valid[:, 2].tolist() == [False] * 3
    assert bool(changed.valid[:, 0].all())
    torch.testing.assert_close(changed.distance[:, 1], torch.full((3,), 0.01 * (3 * 64) ** 0.5, dtype=torch.float64))
    torch.testing.assert_close(changed.distance[:, 2], 2 * score.abs() / size)


def test_only_what_counts_is_explained():
    model, image, asked = Convolutions(), images(3, (8, 8)), []

    def explain(model, image, target):
        asked.append(len(image))
        return Saliency()(model, image, target)

    valid = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    versions = noisy(image, range(3), draws=3)
    classes = torch.tensor([0, 1, 2])
    maps = changed_maps(explain, model, classes, Changed(versions, torch.ones(3, 3), valid), batch_size=4)
    assert asked == [4, 1]
    assert torch.equal(maps.isnan().flatten(2).any(2), ~valid)
    for i, j in valid.nonzero().tolist():
        single = Saliency()(model, versions[i, j : j + 1], Target.cls(classes[i : i + 1], "centered_logit")).map
        torch.testing.assert_close(maps[i, j], single[0], rtol=1e-4, atol=1e-6)
    figures = max_sensitivity(torch.ones(3, 8, 8), maps, valid)
    assert figures.isnan().tolist() == [False, True, False]


def test_the_gradient_of_a_linear_model_does_not_move():
    model, image = random_linear(), random_images(3)
    classes = torch.zeros(3, dtype=torch.int64)
    changed = Changed(noisy(image, range(3)), torch.ones(3, 4), torch.ones(3, 4, dtype=torch.bool))
    maps = changed_maps(Saliency(), model, classes, changed)
    own = Saliency()(model, image, Target.cls(classes, "centered_logit")).map
    assert local_lipschitz(own.float(), maps, changed.distance, changed.valid).tolist() == [0, 0, 0]


class Equivariant(nn.Module):
    """Convolutions and a sum: what moves inside of a black frame moves what it says of each position."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.ReLU(), nn.Conv2d(6, 2, 3, padding=1))

    def forward(self, image):
        return self.layers(image).mean((2, 3))


def test_explanations_of_an_equivariant_model_move_with_the_image():
    image = torch.zeros(3, 3, 20, 20)
    image[:, :, 7:13, 6:12] = torch.rand(3, 3, 6, 6)
    shifts = [(3, 0), (0, -2), (-1, 2)]
    model = Equivariant()
    predictor = Predictor(model, image)
    classes = predictor.predicted(image)
    changed = matched(predictor, image, classes, translated(image, shifts))
    assert bool(changed.valid.all())
    maps = GradientTimesInput()(model, image, Target.cls(classes, "centered_logit")).map
    found = translation_equivariance(maps, changed_maps(GradientTimesInput(), model, classes, changed), shifts)
    torch.testing.assert_close(found, torch.ones(3, dtype=torch.float64), rtol=0, atol=0.01)
    centered = torch.rand(3, 20, 20).unsqueeze(1).expand(-1, 3, -1, -1)
    assert bool((translation_equivariance(centered[:, 0], centered, shifts) < 0.2).all())


def test_mistakes():
    with pytest.raises(ConfigError, match="draws"):
        noisy(images(1), [0], draws=0)
    predictor = Predictor(random_linear(), random_images())
    with pytest.raises(DataError, match="changed images of shape"):
        matched(predictor, random_images(), torch.zeros(3), random_images().unsqueeze(1)[:2])


def test_changed_images_are_asked_what_the_images_were_asked():
    """What is common to all logits is no part of what a comparison explains, and would be all of the difference."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)
    )
    model.eval()[-1].weight.data += 1
    image = torch.rand(6, 3, 8, 8)
    classes = model(image).argmax(1)
    hirescam = Method(ExplainerInfo("hirescam", "posthoc"), HiResCAM())
    own = ask(model, hirescam, image, classes).map
    still = Changed(image.unsqueeze(1), torch.ones(6, 1), torch.ones(6, 1, dtype=torch.bool))
    found = changed_maps(hirescam.explainer, model, classes, still)
    torch.testing.assert_close(max_sensitivity(own, found), torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-4)
    moved = translation_equivariance(own, found, [(0, 0)])
    torch.testing.assert_close(moved, torch.ones_like(moved), rtol=0, atol=1e-4)
    checks = sanity(hirescam.explainer, model, image, classes, most=1, more=1, maps=own)
    assert checks.values["input_shift"] > 0.999
    assert checks.passed["input_shift"]
