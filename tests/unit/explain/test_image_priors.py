"""Priors that are learned, and a spectrum that stays: closed forms, scikit-learn's density, what noise does."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ibd.errors import ConfigError, DataError
from ibd.explain.feature_visualization import (
    Colors,
    DenoisingExpert,
    FixedSpectrum,
    Material,
    MixtureExpert,
    Objective,
    make_by_recipes,
    maximize_activation,
    train_decoder,
)
from ibd.explain.feature_visualization.denoiser import Denoiser
from ibd.explain.feature_visualization.maximize import Visualization
from ibd.explain.feature_visualization.recipes import RECIPES, best_of


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    )


def smooth_images(count, size=(12, 10)):
    coarse = torch.rand(count, 3, 3, 3, generator=torch.Generator().manual_seed(1))
    return F.interpolate(coarse, size=size, mode="bilinear", align_corners=False)


@pytest.mark.parametrize("size", [(12, 10), (9, 11), (8, 9)])
def test_the_magnitudes_of_the_spectrum_stay(size):
    """Of the colors' logits, whatever the phases become, at each frequency; and the images differ."""
    images = smooth_images(7, size)
    kind = FixedSpectrum.of(images)
    colors = Colors.of(images)
    planes = torch.fft.rfft2(colors.unmix(torch.logit(images.clamp(0.01, 0.99))), norm="ortho")
    expected = planes.abs().mean(0)
    expected[:, 0, 0] = planes[:, :, 0, 0].real.mean(0)
    torch.testing.assert_close(kind.magnitude, expected)
    made = maximize_activation(small_net(), Objective.cls([0, 1]), size, steps=12, parametrization=kind)
    found = torch.fft.rfft2(colors.unmix(torch.logit(made.image)), norm="ortho").abs()
    torch.testing.assert_close(found, expected.abs().expand_as(found), atol=2e-3, rtol=2e-3)
    assert not torch.allclose(made.image[0], made.image[1], atol=0.05)
    assert float(made.trace[-1].mean()) > float(made.trace[0].mean())


def test_a_natural_spectrum_has_the_contrast_asked_for():
    kind = FixedSpectrum.natural((16, 16), contrast=0.7)
    made = maximize_activation(small_net(), Objective.cls(0), 16, steps=1, parametrization=kind)
    planes = Colors.natural().unmix(torch.logit(made.image))
    torch.testing.assert_close(planes.std((2, 3), correction=0), torch.full((1, 3), 0.7), atol=1e-3, rtol=1e-3)
    with pytest.raises(ConfigError, match=r"spectrum: magnitudes .* are not of images"):
        maximize_activation(small_net(), Objective.cls(0), 12, steps=1, parametrization=kind)


def test_phases_start_from_an_image():
    image = smooth_images(1)[0]
    kind = FixedSpectrum.of(image.unsqueeze(0))
    made = maximize_activation(small_net(), Objective.cls(0), start=image, steps=1, lr=1e-6, parametrization=kind)
    torch.testing.assert_close(made.image[0], image.clamp(0.01, 0.99), atol=0.02, rtol=0)


def test_a_mixture_is_that_of_scikit_learn():
    """The penalties of two images differ by minus the difference of scikit-learn's log densities, over the pixels."""
    mixture = pytest.importorskip("sklearn.mixture")
    images = torch.cat([0.3 * smooth_images(20), 0.6 + 0.3 * smooth_images(20).flip(0)])
    labels = torch.tensor([0] * 20 + [1] * 20)
    expert = MixtureExpert.fit(images, labels, gaussians=2, directions=5, classes=(1, 1, 0))
    along = (images.flatten(1) - images.flatten(1).mean(0)) @ expert.directions.t()
    model = mixture.GaussianMixture(2, covariance_type="diag", reg_covar=1e-3, random_state=0)
    model.fit(along[20:].double().numpy())
    density = model.score_samples(along[20:22].double().numpy())
    found = expert(torch.cat([images[20:22], images[:1]]))
    away = (images[20:22].flatten(1) - images.flatten(1).mean(0)).square().sum(1) - along[20:22].square().sum(1)
    rest = (0.5 * away / expert.rest).numpy()
    expected = (-density[1] + rest[1] + density[0] - rest[0]) / 360
    assert float(found[1] - found[0]) == pytest.approx(expected, abs=1e-4)
    assert bool((found >= 0).all())
    of_others = MixtureExpert.fit(images, labels, gaussians=2, directions=5, classes=(0, 0, 1))
    assert bool((of_others(torch.cat([images[20:22], images[:1]])) > found).all())


def test_one_gaussian_is_the_distance_from_its_mean():
    images = smooth_images(12)
    expert = MixtureExpert.fit(images, gaussians=1, directions=3)
    middle = expert.mean + (expert.means[0, 0] @ expert.directions).view_as(expert.mean)
    assert float(expert(middle.unsqueeze(0))) == pytest.approx(0, abs=1e-5)
    step = 2 * expert.variances[0, 0, 1].sqrt() * expert.directions[1].view_as(middle)
    assert float(expert((middle + step).unsqueeze(0))) == pytest.approx(0.5 * 4 / 360, rel=1e-3)


def test_mistakes_of_mixtures():
    images, labels = smooth_images(6), torch.tensor([0, 0, 0, 1, 1, 1])
    with pytest.raises(ConfigError, match="expert: mixtures of 2 classes, and 3 images"):
        MixtureExpert.fit(images, labels)(torch.rand(3, 3, 12, 10))
    with pytest.raises(DataError, match="expert: class 1 has 1 images"):
        MixtureExpert.fit(images[:4], labels[:4])
    with pytest.raises(ConfigError, match="expert: fitted on images"):
        MixtureExpert.fit(images)(torch.rand(1, 3, 8, 8))


def test_the_slope_of_a_denoiser_is_that_of_the_density():
    """Of colors around gray the best denoiser draws towards it: the penalty's slope is 2 / n times the way it goes."""

    class Best(nn.Module):
        def forward(self, image):
            return 0.5 + 0.75 * (image - 0.5)  # variance 3 of the images to 1 of the noise

    image = torch.rand(2, 3, 4, 4, requires_grad=True)
    expert = DenoisingExpert(Best())
    (gradient,) = torch.autograd.grad(expert(image).sum(), image)
    torch.testing.assert_close(gradient, 2 * 0.25 * (image - 0.5) / 48)
    torch.testing.assert_close(expert(image), (0.25 * (image - 0.5)).square().mean((1, 2, 3)))


def test_a_denoiser_learns_what_images_are_like():
    """Of smooth images it takes away little, and of noise most."""
    images = smooth_images(24)
    state = torch.get_rng_state()
    with torch.inference_mode():
        expert = DenoisingExpert.fit(images, width=8, steps=80, batch=16, progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    noisy = images + 0.15 * torch.randn(images.shape, generator=torch.Generator().manual_seed(2))
    clean = expert.denoiser(noisy)
    assert float(F.mse_loss(clean, images)) < 0.6 * float(F.mse_loss(noisy, images))
    assert float(expert(images).mean()) < 0.6 * float(expert(noisy).mean())
    assert not any(parameter.requires_grad for parameter in expert.denoiser.parameters())
    again = DenoisingExpert.fit(images, width=8, steps=80, batch=16, progress=False)
    torch.testing.assert_close(again(noisy), expert(noisy), atol=1e-5, rtol=1e-3)
    assert Denoiser(5)(torch.rand(1, 5, 6, 7)).shape == (1, 5, 6, 7)


def birds(count, first=0):
    """Images of 16 x 16: a body of any color at any height on a ground of any color."""
    generator = torch.Generator().manual_seed(first)
    body, ground = torch.rand(2, count, 3, 1, 1, generator=generator)
    tops = torch.randint(2, 6, (count,), generator=generator)
    rows = torch.arange(16)[None, :, None]
    inside = (rows >= tops.view(-1, 1, 1)) & (rows < tops.view(-1, 1, 1) + 8) & (torch.arange(16) // 4 % 3 > 0)
    return torch.where(inside.unsqueeze(1), body, ground)


def test_a_decoder_has_the_principal_components():
    """Numpy's singular vectors; unseen images come back with a third of their distance from the mean at most."""
    images, unseen = birds(120), birds(40, first=1)
    decoder = train_decoder(images, 16, code=12, progress=False)
    away = (images - images.mean(0)).flatten(1).double().numpy()
    _, deviations, directions = np.linalg.svd(away, full_matrices=False)
    found = decoder.decoder.images.double().numpy()
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), deviations[:12] / 119**0.5, rtol=1e-2)
    subspace, expected = found[:, :6] @ np.linalg.pinv(found[:, :6]), directions[:6].T @ directions[:6]
    np.testing.assert_allclose(subspace, expected, atol=2e-2)
    torch.testing.assert_close(torch.cov(decoder.encode(images).t()), torch.eye(12), atol=1e-4, rtol=0)
    assert len(decoder.codes) == 60  # the longer half
    left = (decoder.decoder(decoder.encode(unseen)) - unseen).square().mean()
    assert float(left) < 0.33 * float((images.mean(0) - unseen).square().mean())


def test_images_of_a_decoder_start_from_those_it_knows():
    images = birds(30)
    decoder = train_decoder(images, 16, code=29, progress=False)
    made = maximize_activation(small_net(), Objective.cls([0, 1]), 16, steps=1, lr=1e-6, parametrization=decoder)
    nearest = (made.image.unsqueeze(1) - images).abs().flatten(2).mean(2).amin(1)
    assert float(nearest.max()) < 0.01
    far = train_decoder(images, 16, code=29, pull=0.0, progress=False)
    options = {"steps": 30, "start": images[4]}
    held, free = (
        maximize_activation(small_net(), Objective.cls(1), parametrization=kind, **options)
        for kind in (train_decoder(images, 16, code=29, pull=100.0, progress=False), far)
    )
    moved = [float((each.image[0] - images[4]).abs().mean()) for each in (held, free)]
    assert moved[0] < 0.5 * moved[1]
    assert float(free.value) > float(free.trace[0])


def test_a_decoder_is_learned_from_a_folder_in_one_call(tmp_path):
    """Of images of one color each: its images are such."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for number in range(24):
        folder = tmp_path / f"class{number % 2}"
        folder.mkdir(exist_ok=True)
        color = tuple(int(value) for value in rng.integers(60, 200, 3))
        Image.new("RGB", (20, 14), color).save(folder / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no image")
    state = torch.get_rng_state()
    with torch.inference_mode():
        made = train_decoder(tmp_path, size=(8, 12), progress=False)
    assert torch.equal(torch.get_rng_state(), state)
    assert made.code == (3,)  # there is no more to tell of a color
    drawn = made.decoder(torch.randn(32, 3, generator=torch.Generator().manual_seed(1)))
    assert drawn.shape == (32, 3, 8, 12)
    assert float(drawn.std((2, 3)).mean()) < 1e-3
    assert float(drawn.mean((2, 3)).std(0).mean()) > 0.1  # of the colors that there are, it is 0.16
    visualized = maximize_activation(small_net(), Objective.cls(1), (8, 12), steps=5, parametrization=made)
    assert visualized.image.shape == (1, 3, 8, 12)
    with pytest.raises(DataError, match="there is no such folder of images"):
        train_decoder(tmp_path / "class0" / "none", size=8)
    with pytest.raises(DataError, match="decoder: the images are all the same"):
        train_decoder(torch.full((5, 3, 8, 8), 0.3), size=8)


def test_every_recipe_makes_images():
    images = smooth_images(8, (12, 12))
    material = Material((12, 12), images, torch.tensor([0, 1] * 4), (1, 0), progress=False)
    quick = [name for name in RECIPES if name != "denoiser"]
    made = list(make_by_recipes(small_net(), Objective.cls([1, 0]), material, quick, steps=3))
    assert [recipe.name for recipe, _ in made] == quick
    for _, each in made:
        assert each.image.shape == (2, 3, 12, 12)
        assert each.probability.shape == (2,)
    without = Material((12, 12), progress=False)
    assert len(list(make_by_recipes(small_net(), Objective.cls(1), without, ["fourier", "maco"], steps=1))) == 2
    with pytest.raises(DataError, match="this one learns from images"):
        list(make_by_recipes(small_net(), Objective.cls(1), without, ["gaussian"], steps=1))
    with pytest.raises(ConfigError, match=r"recipes: there is no 'furier'\. Did you mean 'fourier'"):
        list(make_by_recipes(small_net(), Objective.cls(1), without, ["furier"]))


def test_of_several_starts_the_best_of_each_image_is_kept():
    def made(*values):
        value = torch.tensor(values)
        return Visualization(value.view(-1, 1, 1, 1), value, value.expand(5, -1), {}, value / 10)

    kept = best_of([made(1.0, 5.0), made(3.0, 2.0)])
    for found in (kept.image.flatten(), kept.value, kept.trace[4], 10 * kept.probability):
        torch.testing.assert_close(found, torch.tensor([3.0, 5.0]))
    assert kept.trace.shape == (5, 2)
