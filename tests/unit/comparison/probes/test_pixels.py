"""Tables of removed pixels: closed forms on a linear model, passes that are needed, independence of the batch."""

import pytest
import torch

from ibd.comparison.probes.network import Predictor
from ibd.comparison.probes.pixels import ROAD_NOISE, PixelProbe, regions_of
from ibd.errors import ConfigError, DataError
from ibd.metrics.functional.curves import aopc, curve_area, deletion_auc, insertion_auc
from tests.unit.comparison.probes.makers import Convolutions, Linear, random_images, random_linear

SIZE, PIXELS = 8, 64
FIRST = torch.zeros(3, dtype=torch.int64)


def linear_probe(steps=16, **options):
    model, image = random_linear(SIZE), random_images(3, SIZE)
    return model, PixelProbe(Predictor(model, image), image, FIRST, steps=steps, **options)


def worth(model, probe, baseline):
    """Return (B, H, W): what the log-odds lose when a pixel becomes that of the baseline."""
    lost = (probe.images - probe.baseline(baseline)) * model.weights.detach()
    return lost.sum(1)


def odds(values):
    """Return the log-odds of one class of two: twice its centered logit."""
    return 2 * values.centered


def removed(values, order, counts):
    """Return the sums over the first so many pixels of each image, in plain loops."""
    rows = zip(values.flatten(1).tolist(), order, strict=True)
    return torch.tensor([[sum(row[i] for i in first[:k]) for k in counts] for row, first in rows], dtype=torch.float64)


def test_deletion_and_insertion_of_a_linear_model_are_known():
    model, probe = linear_probe()
    maps = torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    tables, lost = probe.pixels(maps), worth(model, probe, "blur")
    clean = (probe.images * model.weights).flatten(1).sum(1, keepdim=True).detach()
    counts = [round(i * PIXELS / 16) for i in range(17)]
    down = maps.flatten(1).argsort(1, descending=True).tolist()
    expected = clean - removed(lost, down, counts)
    torch.testing.assert_close(odds(tables.morf), expected, rtol=0, atol=1e-9)
    torch.testing.assert_close(tables.morf.probability, expected.sigmoid(), rtol=0, atol=1e-9)
    torch.testing.assert_close(tables.morf.kept, (expected >= 0).double(), rtol=0, atol=0)
    up = clean - removed(lost, [row[::-1] for row in down], counts)
    torch.testing.assert_close(odds(tables.lerf), up, rtol=0, atol=1e-9)
    assert tables.fractions.tolist() == [k / PIXELS for k in counts]
    # Insertion begins with the baseline and puts the highest in first.
    base = clean - lost.flatten(1).sum(1, keepdim=True)
    inserted = base + removed(lost, down, counts)
    torch.testing.assert_close(odds(tables.insertion), inserted, rtol=0, atol=1e-9)
    heights = ((expected[:, 1:] + expected[:, :-1]) / 2).mean(1)
    torch.testing.assert_close(deletion_auc(odds(tables.morf), tables.fractions), heights, rtol=0, atol=1e-9)
    torch.testing.assert_close(
        insertion_auc(odds(tables.insertion), tables.inserted),
        ((inserted[:, 1:] + inserted[:, :-1]) / 2).mean(1), rtol=0, atol=1e-9,
    )  # fmt: skip


def test_aopc_of_a_linear_model_is_known():
    model, probe = linear_probe(steps=4)
    lost = worth(model, probe, "blur")
    tables = probe.regions(lost, cells=2)
    regions = torch.stack([lost[:, y : y + 4, x : x + 4].sum((1, 2)) for y in (0, 4) for x in (0, 4)], 1)
    best = regions.sort(1, descending=True).values
    falls = torch.cat([torch.zeros(3, 1), best.cumsum(1)], 1)
    torch.testing.assert_close(aopc(odds(tables.morf)), falls.mean(1), rtol=0, atol=1e-6)
    worst = torch.cat([torch.zeros(3, 1), best.flip(1).cumsum(1)], 1)
    torch.testing.assert_close(aopc(odds(tables.lerf)), worst.mean(1), rtol=0, atol=1e-6)


def test_regions_are_ordered_by_their_means():
    """Of 5 x 5 pixels in 2 x 2 regions of 9, 6, 6 and 4 pixels, the smallest has the highest mean, not sum."""
    model, image = random_linear(5), random_images(1, 5)
    probe = PixelProbe(Predictor(model, image), image, FIRST[:1], steps=4)
    maps = torch.full((1, 5, 5), 0.6)
    maps[:, 3:, 3:] = 1.0
    maps[:, 3:, :3] = maps[:, :3, 3:] = 0.1
    assert regions_of((5, 5), 2)[1].tolist() == [9, 6, 6, 4]
    lost = worth(model, probe, "blur")
    tables = probe.regions(maps, cells=2)
    score = tables.morf.probability.logit()  # of two classes: weights times pixels
    first, second = score[:, 0] - score[:, 1], score[:, 1] - score[:, 2]
    torch.testing.assert_close(first, lost[:, 3:, 3:].sum((1, 2)), rtol=0, atol=1e-9)
    torch.testing.assert_close(second, lost[:, :3, :3].sum((1, 2)), rtol=0, atol=1e-9)


class Remembering(Linear):
    """Keeps the images that it sees."""

    def forward(self, image):
        self.seen = image.detach().clone()
        return super().forward(image)


def test_what_road_fills_in_is_noisy():
    """An image of one color is imputed by that color: what differs is the noise, on what was removed alone."""
    size, fraction = 24, 0.25
    model = Remembering(torch.zeros(3, size, size, dtype=torch.float64))
    image = torch.full((2, 3, size, size), 0.5, dtype=torch.float64)
    probe = PixelProbe(Predictor(model, image), image, FIRST[:2], ["a", "b"])
    maps = torch.randn(1, size, size, generator=torch.Generator().manual_seed(3)).expand(2, -1, -1)
    probe.road(maps, (fraction,))
    order, seen = maps.flatten(1).argsort(1, descending=True), probe.predictor.network.seen
    removed, moved = size * size // 4, (seen - 0.5).abs().amax(1).flatten(1)
    assert len(seen) == 4
    for row, (i, first) in enumerate([(0, True), (0, False), (1, True), (1, False)]):
        gone = order[i, :removed] if first else order[i, -removed:]
        there = torch.ones(size * size, dtype=torch.bool)
        there[gone] = False
        assert float(moved[row, there].max()) < 1e-6
        noise = (seen[row] - 0.5).flatten(1)[:, gone]
        assert float(noise.std()) == pytest.approx(ROAD_NOISE, rel=0.15)
        assert abs(float(noise.mean())) < 0.1 * ROAD_NOISE * 2
    assert not torch.allclose(moved[0], moved[2])  # every image has its own


def test_no_order_deletes_faster_than_the_true_one():
    model, probe = linear_probe()
    best = curve_area(
        odds(probe.pixels(worth(model, probe, "blur")).morf), probe.pixels(worth(model, probe, "blur")).fractions
    )
    for seed in range(3):
        maps = torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))
        tables = probe.pixels(maps)
        assert bool((curve_area(odds(tables.morf), tables.fractions) > best).all())


def test_only_what_is_needed_is_asked_and_endpoints_are_shared():
    _, probe = linear_probe(steps=5)
    network, maps = probe.predictor.network, torch.randn(4, 3, SIZE, SIZE)
    probe.predictor.batch_size(probe.images)  # measures one image, once
    seen, before = network.images, probe.predictor.forwards
    for each in maps:
        probe.pixels(each)
        probe.regions(each)
    needed = 3 * (2 + 4 * 2 * 2 * 4)  # both ends once; of 4 maps pixels and regions, from both sides, 4 steps between
    assert network.images - seen == needed
    assert probe.predictor.forwards - before == needed
    probe.pixels(maps[0], "pull_push")
    assert network.images - seen == needed + 3 * (1 + 2 * 4)
    probe.road(maps[0], (0.25, 0.5))
    assert network.images - seen == needed + 3 * (1 + 2 * 4) + 3 * 2 * 2


@pytest.mark.parametrize("baseline", ["blur", "pull_push"])
def test_batches_change_nothing(baseline):
    model, image = Convolutions(), random_images(4, 16, dtype=torch.float32)
    maps = torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(2))
    ids, classes = ["a", "b", "c", "d"], torch.tensor([0, 1, 2, 0])

    def tables(order, memory):
        rows = torch.tensor(order)
        predictor = Predictor(model, image, memory=memory)
        probe = PixelProbe(predictor, image[rows], classes[rows], [ids[i] for i in order], steps=4)
        found = (
            probe.pixels(maps[rows], baseline),
            probe.regions(maps[rows], baseline),
            probe.road(maps[rows], (0.3, 0.6)),
        )
        return torch.cat([torch.cat([odds(t.morf), odds(t.lerf)], 1) for t in found], 1)

    whole = tables([0, 1, 2, 3], 2**28)
    torch.testing.assert_close(tables([0, 1, 2, 3], 1), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(tables([2, 0], 2**28), whole[[2, 0]], rtol=1e-5, atol=1e-5)


def test_a_monotone_change_of_the_map_changes_nothing():
    _, probe = linear_probe()
    maps = torch.randn(3, SIZE, SIZE, dtype=torch.float64)
    assert torch.equal(odds(probe.pixels(maps).morf), odds(probe.pixels(maps.exp() * 3).morf))


def test_a_map_with_a_nan_is_undefined_and_not_asked_about():
    _, probe = linear_probe(steps=4)
    maps = torch.randn(3, SIZE, SIZE)
    maps[1, 2, 3] = torch.nan
    whole = probe.clean, probe.baseline("blur")
    before = probe.predictor.forwards
    for tables in (probe.pixels(maps), probe.regions(maps), probe.road(maps, (0.5,))):
        assert odds(tables.morf).isnan().all(1).tolist() == [False, True, False]
        assert tables.lerf.probability.isnan().any(1).tolist() == [False, True, False]
    assert probe.predictor.forwards - before == 3 + 2 * 2 * 2 * 3 + 2 * 2
    assert len(whole) == 2


def test_few_pixels_and_constant_maps():
    model = random_linear(2)
    image = random_images(2, 2)
    probe = PixelProbe(Predictor(model, image), image, FIRST[:2], steps=16)
    tables = probe.pixels(torch.ones(2, 2, 2))
    assert tables.fractions.tolist() == [0, 0.25, 0.5, 0.75, 1]
    one = PixelProbe(Predictor(random_linear(1), image[:, :, :1, :1]), image[:, :, :1, :1], FIRST[:2])
    assert one.pixels(torch.ones(2, 1, 1)).morf.centered.shape == (2, 2)
    assert bool(odds(tables.morf).isfinite().all())


def test_regions_cover_the_image():
    region, counts = regions_of((10, 7), 3)
    assert region.shape == (10, 7)
    assert counts.sum() == 70
    assert len(counts) == 9
    assert regions_of((4, 4), 8)[1].tolist() == [1] * 16


def test_mistakes():
    _, probe = linear_probe()
    with pytest.raises(ConfigError, match=r"unknown baseline 'blurr'.*blur"):
        probe.pixels(torch.zeros(3, SIZE, SIZE), "blurr")
    with pytest.raises(DataError, match="maps of shape"):
        probe.pixels(torch.zeros(3, SIZE, SIZE - 1))
    with pytest.raises(ConfigError, match="fractions"):
        probe.road(torch.zeros(3, SIZE, SIZE), (0.5, 0.5))
    with pytest.raises(DataError, match="3 images, 2 classes"):
        PixelProbe(probe.predictor, probe.images, FIRST[:2])
