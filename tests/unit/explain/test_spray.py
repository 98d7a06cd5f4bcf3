"""SpRAy: planted clusters are found, their number by the gap, and what is strange about them."""

import pytest
import torch
from torch import nn

from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.explain.base import Explainer
from ibd.explain.relevance_clusters import cluster_maps, relative_gaps
from ibd.explain.spray_figures import spray_figure
from ibd.explain.strategies import _sameness, _variance, class_maps, pixel_spread, smallest_region, spray
from ibd.types import Batch

CORNERS = ((2, 2), (2, 12), (12, 7))


def planted(sizes, seed=0, noise=0.3, move=1):
    """Maps with a bump at the place of their cluster, moved by a pixel at most, under noise; and whose they are."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    maps = noise * torch.randn(len(truth), 16, 16, generator=generator)
    moved = torch.randint(-move, move + 1, (len(truth), 2), generator=generator)
    for row, (which, shift) in enumerate(zip(truth.tolist(), moved.tolist(), strict=True)):
        top, left = CORNERS[which][0] + shift[0], CORNERS[which][1] + shift[1]
        maps[row, top : top + 3, left : left + 3] += 1
    order = torch.randperm(len(truth), generator=generator)
    return maps[order], truth[order]


def rand_index(first, second):
    return pytest.importorskip("sklearn.metrics").adjusted_rand_score(first.numpy(), second.numpy())


@pytest.mark.parametrize("sizes", [(60, 60, 60), (90, 40, 25), (70, 50)])
def test_planted_clusters_are_found_and_counted(sizes):
    maps, truth = planted(sizes)
    found = cluster_maps(maps, draws=9)
    assert found.count == len(sizes)
    assert rand_index(found.labels, truth) >= 0.9
    assert found.gap > found.chance
    assert torch.bincount(found.labels).tolist() == sorted(torch.bincount(found.labels).tolist(), reverse=True)


def test_maps_of_one_kind_are_one_cluster():
    counts = [cluster_maps(planted((80,), seed, move=0)[0], draws=19, seed=seed).count for seed in range(3)]
    assert counts == [1, 1, 1]


def test_clusters_apart_have_as_many_eigenvalues_of_0_and_the_scale_of_a_map_does_not_matter():
    maps, truth = planted((40, 40, 40), noise=0.05)
    scaled = maps * torch.logspace(-3, 3, len(maps))[:, None, None]
    found = cluster_maps(scaled, draws=0)
    assert torch.allclose(found.eigenvalues[:3], torch.zeros(3, dtype=torch.float64), atol=1e-9)
    assert found.eigenvalues[3] > 0.05
    assert rand_index(found.labels, truth) == 1
    assert cluster_maps(maps, clusters=2, draws=0).count == 2


def test_gaps_are_relative():
    import numpy as np

    gaps = relative_gaps(np.array([0.0, 0.001, 0.002, 0.09, 0.14]))
    assert gaps == pytest.approx([0.001 / 0.012, 0.088 / 0.1, 0.05 / 0.15])


def test_too_few_maps_and_wrong_ones_are_said():
    with pytest.raises(DataError, match="12 maps given, at least 20"):
        cluster_maps(torch.rand(12, 4, 4))
    with pytest.raises(DataError, match="not finite"):
        cluster_maps(torch.full((40, 4, 4), torch.nan))
    with pytest.raises(ConfigError, match="clusters: 0 given"):
        cluster_maps(torch.rand(40, 4, 4), clusters=0)


def test_the_smallest_region_is_that_of_the_largest_values():
    shares = torch.tensor([[0.1, 0.4], [0.2, 0.3]])
    assert smallest_region(shares, 0.5).tolist() == [[False, True], [False, True]]
    assert smallest_region(shares, 0.39).tolist() == [[False, True], [False, False]]
    assert smallest_region(shares, 1.0).all()


class Weighted(nn.Module):
    """Logits that weigh pixels: class 1 reads a corner, and what is bright in the middle."""

    def forward(self, image):
        corner, middle = image[:, 0, :2, :2].sum((1, 2)), image[:, :, 5:11, 5:11].sum((1, 2, 3))
        return torch.stack([-corner, corner + 0.1 * middle], 1)


class Pixels(Explainer):
    """What is bright counts, where the model looks."""

    name = "pixels"

    def explain(self, call, image):
        scores = call.scores(image)
        looked = torch.zeros(16, 16)
        looked[:2, :2], looked[5:11, 5:11] = 1, 0.1
        return self.answer(call, (image.mean(1) * looked).unsqueeze(1), scores)


def marked(count=80):
    """Noise; of class 1 every other image has a white mark in the corner, which is black in all others."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, 16, 16, generator=generator)
    images[:, :, :2, :2] = 0
    labels, has = torch.arange(count) // (count // 2), torch.arange(count) % 2 == 1
    images[(labels == 1) & has, :, :2, :2] = 1
    every = Batch(images, labels, torch.zeros(count, 0), torch.arange(count))
    return [every.select(torch.arange(count) % 2 == part) for part in range(2)]


def test_a_mark_is_the_strangest_cluster_without_being_told_of_it():
    maps = class_maps(Weighted(), marked(), 1, Pixels())
    assert sorted(maps.index.tolist()) == list(range(40, 80))
    found = spray(maps, pixel_spread(marked()), neighbors=5, most=4, draws=9)
    assert [len(cluster) for cluster in found.clusters] == [20, 20]
    strange, other = found.clusters
    assert (maps.index[strange.members] % 2 == 1).all()
    assert strange.spot[:2, :2].sum() == strange.spot.sum()
    assert strange.strangeness > 0.95  # the same white pixels in every image
    assert abs(other.strangeness) < 0.3  # noise, as everywhere
    assert strange.half < 0.05 < other.half
    assert float(strange.relevance.sum()) == pytest.approx(1)
    dataset = torch.cat([batch.image for batch in marked()])
    figure = spray_figure(found, "a $5_b", [dataset[:2], dataset[:1]], ["tag", ""])
    figure.canvas.draw()
    assert "2 kinds of maps of 40 images" in figure.get_suptitle()


def test_what_cannot_be_clustered_is_said():
    with pytest.raises(DataError, match="no images of class 3"):
        class_maps(Weighted(), marked(), 3, Pixels())
    maps = class_maps(Weighted(), marked(), 1, Pixels())
    against = type(maps)(1, -maps.maps, maps.index, maps.small)
    with pytest.raises(UnsupportedError, match="nothing speaks for it"):
        spray(against, pixel_spread(marked()))


def test_a_small_cluster_is_not_strange_for_its_size():
    """Of images of noise, two have as much in common as forty; of one, nothing can be said."""
    images = torch.rand(200, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spread, spot = _variance(images), torch.ones(8, 8, dtype=torch.bool)
    pairs = [_sameness(images[start : start + 2], spot, spread) for start in range(0, 200, 2)]
    assert sum(pairs) / len(pairs) == pytest.approx(0, abs=0.03)
    assert _sameness(images[:40], spot, spread) == pytest.approx(0, abs=0.03)
    assert _sameness(images[:1], spot, spread) == 0
    assert _sameness(images[:1].repeat(2, 1, 1, 1), spot, spread) == 1
