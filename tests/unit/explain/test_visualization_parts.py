"""Parametrizations, movements, penalties and the sheet: each does what it says."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.explain.feature_visualization import (
    L2,
    Blur,
    Colors,
    Decoder,
    GaussianExpert,
    HighFrequency,
    Nearness,
    Objective,
    Roughness,
    TotalVariation,
    Transforms,
    maximize_activation,
    visualization_sheet,
)
from ibd.explain.feature_visualization.weighing import Penalties
from ibd.models.baseline.lightning import Baseline
from tests.model_makers import SMALL, SPEC, make_embedding, make_module, make_pipnet, make_prototypes, make_whitening

QUICK = {"size": 16, "steps": 24, "progress": False}
PLAIN = {**QUICK, "transforms": None}


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    )  # fmt: skip


FAMILIES = {
    "baseline": lambda: Baseline(SPEC, SMALL),
    "cbm": make_module,
    "cem": make_embedding,
    "concept_whitening": make_whitening,
    "pipnet": make_pipnet,
    "protopnet": make_prototypes,
}


def test_a_decoder_is_all_that_can_come_out():
    torch.manual_seed(1)
    decoder = nn.Sequential(nn.Linear(4, 3 * 16 * 16), nn.Sigmoid(), nn.Unflatten(1, (3, 16, 16)))
    made = maximize_activation(small_net(), Objective.cls(2), parametrization=Decoder(decoder, 4), **QUICK)
    logits = torch.logit(made.image.flatten(1)) - decoder[0].bias
    solved = torch.linalg.lstsq(decoder[0].weight, logits.t()).solution
    torch.testing.assert_close(decoder[0].weight @ solved, logits.t(), atol=1e-3, rtol=1e-3)
    assert float(made.value) > float(made.trace[0])
    assert all(parameter.requires_grad and parameter.grad is None for parameter in decoder.parameters())
    pulled = maximize_activation(small_net(), Objective.cls(2), parametrization=Decoder(decoder, 4, pull=50.0), **QUICK)
    short = torch.linalg.lstsq(decoder[0].weight, (torch.logit(pulled.image.flatten(1)) - decoder[0].bias).t()).solution
    assert float(short.detach().norm()) < float(solved.detach().norm())


def test_an_expert_pulls_towards_what_it_has_seen():
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(12, 3, 2, 2, generator=generator)
    images = F.interpolate(coarse, size=(16, 16), mode="bilinear")
    expert = GaussianExpert.fit(images, directions=5)
    away = [
        float((made.image - expert.mean).square().mean())
        for made in (
            maximize_activation(small_net(), Objective.cls(2), penalties=chosen, **PLAIN)
            for chosen in ([], [GaussianExpert.fit(images, 5, weight=100.0)])
        )
    ]
    assert away[1] < away[0] / 2
    flat = (images[:3].double() - expert.mean).flatten(1)
    directions = expert.directions.double()
    covariance = directions.T @ torch.diag(expert.variances - expert.rest).double() @ directions
    covariance += expert.rest * torch.eye(768)
    expected = 0.5 * (flat @ torch.linalg.inv(covariance) * flat).sum(1) / 768
    torch.testing.assert_close(expert(images[:3]).double(), expected, atol=1e-4, rtol=1e-3)
    with pytest.raises(ConfigError, match="expert: fitted on images"):
        expert(torch.rand(1, 3, 8, 8))


def test_penalties_are_what_they_say():
    image = torch.rand(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(L2(weight=2.0)(image), 2 * ((image - 0.5) ** 2).mean((1, 2, 3)))
    variation = (image[:, :, 1:] - image[:, :, :-1]).abs().mean((1, 2, 3))
    variation += (image[..., 1:] - image[..., :-1]).abs().mean((1, 2, 3))
    torch.testing.assert_close(TotalVariation()(image), variation)
    flat = torch.full_like(image, 0.3)
    for penalty in (TotalVariation(), Blur(), HighFrequency(), Roughness()):
        assert float(penalty(flat).max()) < 1e-10
    wave = torch.cos(2 * torch.pi * torch.arange(8) * 3 / 8).expand(1, 3, 6, 8)
    torch.testing.assert_close(HighFrequency()(wave), torch.tensor([(3 / 8) ** 2 * 0.5]))  # of mean power a half


def test_penalties_grow_over_the_ramp():
    """At the first step there is none; with it the image is another one afterwards."""

    def penalty(image):
        return 100 * image.flatten(1).mean(1)

    options = {**PLAIN, "steps": 1}
    without = maximize_activation(small_net(), Objective.cls(2), **options)
    ramped = maximize_activation(small_net(), Objective.cls(2), penalties=[penalty], ramp=0.5, **options)
    assert torch.equal(without.image, ramped.image)
    at_once = maximize_activation(small_net(), Objective.cls(2), penalties=[penalty], **options)
    assert not torch.equal(at_once.image, ramped.image)
    grown = Penalties([lambda image: image.flatten(1).sum(1)], 16, ramp=0.5)
    image, values = torch.ones(2, 1, 1, 1), torch.zeros(2)
    assert [float(grown(image, values, step)) for step in (0, 2, 8, 20)] == [0, 0.5, 2, 2]


@pytest.mark.parametrize("penalty", [TotalVariation(), Blur(), HighFrequency(), Roughness()])
def test_penalties_make_smoother_images(penalty):
    rough = [
        float(made.image.diff(dim=3).abs().mean())
        for made in (
            maximize_activation(small_net(), Objective.cls(2), penalties=chosen, **QUICK) for chosen in ([], [penalty])
        )
    ]
    assert rough[1] < rough[0]


def test_movements_are_those_asked_for():
    image = torch.rand(1, 3, 12, 20, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator()
    still = Transforms(0.0, 0.0, (1.0, 1.0))
    torch.testing.assert_close(still(image, generator), image)
    padded = Transforms(0.0, 0.0, (1.0, 1.0), padding=3)(image, generator)
    torch.testing.assert_close(padded, F.pad(image - 0.5, (3, 3, 3, 3)) + 0.5, atol=1e-5, rtol=0)
    shift = Transforms(0.25, 0.0, (1.0, 1.0)).matrices(torch.tensor([[0.5, 0.5, 1.0, 0.5]]), (12, 20))
    grid = F.affine_grid(shift, [1, 3, 12, 20], align_corners=False)
    moved = F.grid_sample(image, grid, align_corners=False)
    torch.testing.assert_close(moved[..., :15], image[..., 5:], atol=1e-5, rtol=0)
    turned = Transforms(0.0, 90.0, (1.0, 1.0)).matrices(torch.tensor([[1.0, 0.5, 0.5, 0.5]]), (12, 20))
    square = F.grid_sample(image, F.affine_grid(turned, [1, 3, 12, 20], align_corners=False), align_corners=False)
    middle = torch.rot90(image[..., 4:16], 1, (2, 3))
    torch.testing.assert_close(square[..., 4:16], middle, atol=1e-5, rtol=0)  # by pixels, not by shares of the sides


def test_colors_of_images():
    generator = torch.Generator().manual_seed(0)
    root = torch.tensor([[0.2, 0.0, 0.0], [0.1, 0.1, 0.0], [0.15, 0.0, 0.05]])
    pixels = 0.5 + torch.einsum("rc,bchw->brhw", root, torch.randn(4, 3, 40, 40, generator=generator))
    found = Colors.of(pixels)
    product = found.matrix @ found.matrix.t()
    torch.testing.assert_close(
        product / product.trace(), root @ root.t() / (root @ root.t()).trace(), atol=0.02, rtol=0
    )
    planes = torch.randn(1, 3, 4, 5)
    torch.testing.assert_close(found.unmix(found.mix(planes)), planes, atol=1e-3, rtol=1e-3)
    with pytest.raises(DataError, match="all of one color"):
        Colors.of(torch.zeros(2, 3, 4, 4))


@pytest.mark.parametrize("family", ["cbm", "concept_whitening", "protopnet"])
def test_a_sheet_has_four_rows_and_says_the_scores(family, tmp_path):
    module = FAMILIES[family]().eval()
    images = torch.rand(9, 3, *module.spec.image_size, generator=torch.Generator().manual_seed(0))
    names = module.network.unit_names[1:3]
    path = tmp_path / "sheet.png"
    figure = visualization_sheet(module, images, units=names, steps=4, path=path, progress=False)
    assert path.exists()
    rows = [figure.axes[3 * row : 3 * row + 3] for row in range(4)]
    titles = [[axis.get_title() for axis in row[1:]] for row in rows]
    assert titles[0][0].startswith(names[0].replace("::", "\n"))
    with torch.no_grad():
        units = module(images).units
    scores, maps = units.scores[:, 1:3], units.maps[:, 1:3]
    assert titles[1] == [f"{float(best):.1f}" for best in maps.amax((0, 2, 3))]
    assert titles[3] == [f"{float(best):.1f}" for best in scores.amax(0)]
    for k in range(2):
        torch.testing.assert_close(shown(rows[3][1 + k]), images[int(scores[:, k].argmax())])
    first = shown(rows[2][0])
    assert any(torch.equal(first, image) for image in images)
    changes = [float((shown(axis) - first).abs().mean()) for axis in rows[2][1:]]
    assert all(0 < change < 0.2 for change in changes)


def test_the_patch_of_a_sheet_has_its_highest_place_in_the_middle():
    module = make_module().eval()
    images = torch.rand(5, 3, *module.spec.image_size, generator=torch.Generator().manual_seed(1))
    figure = visualization_sheet(module, images, units=[2], steps=1, progress=False)
    with torch.no_grad():
        maps = module(images).units.maps[:, 2]
    best = int(maps.flatten(1).amax(1).argmax())
    row, column = divmod(int(maps[best].argmax()), maps.shape[2])
    y, x = (int((at + 0.5) * 16 / cells) for at, cells in ((row, maps.shape[1]), (column, maps.shape[2])))
    patch = shown(figure.axes[3])
    middle = [side // 2 for side in patch.shape[1:]]
    torch.testing.assert_close(patch[:, middle[0], middle[1]], images[best, :, y, x])


def shown(axis):
    return torch.tensor(axis.images[0].get_array()).permute(2, 0, 1)


def test_nearness_counts_changes_and_their_edges():
    image = torch.rand(3, 6, 7)
    changed = image.repeat(2, 1, 1, 1)
    changed[1, :, 2, 3] += 0.5
    found = Nearness(image, weight=2.0, variation=1.5)(changed)
    edges = 3 * 2 * 0.5 * (1 / (3 * 5 * 7) + 1 / (3 * 6 * 6)) * 3
    torch.testing.assert_close(found, torch.tensor([0.0, 2 * 0.5 / 42 + edges]))


def test_a_sheet_of_classes_of_any_model():
    images = torch.rand(6, 3, 16, 16)
    figure = visualization_sheet(small_net(), images, classes=[3, 0, 1], steps=2, progress=False)
    assert [axis.get_title().partition("\n")[0] for axis in figure.axes[1:4]] == ["class 3", "class 0", "class 1"]
    with pytest.raises(ConfigError, match="of units or of classes"):
        visualization_sheet(small_net(), images)
    with pytest.raises(UnsupportedError, match="has no names"):
        visualization_sheet(small_net(), images, units="a*")
