"""Prototype metrics: known answers, slow loops, any batches and processes, and what is undefined."""

import copy
import math

import pytest
import torch

from ibd.metrics import (
    CONSISTENCY_HALF,
    EnergyPointingGame,
    ExplanationSize,
    LocationInstability,
    PartInterpretability,
    PointingGame,
    PrototypeConsistency,
    PrototypePurity,
    PrototypeStability,
    add_noise,
    energy_inside,
    explanation_size,
    head_sparsity,
    part_centers,
    part_hits,
    peak_positions,
    peaks_inside,
    prototype_uniqueness,
)
from ibd.metrics.parts import _CHUNK
from tests.reference import filters, prototype_metrics as reference

IMAGES, UNITS, PARTS, CLASSES = 60, 6, 4, 3
OWN_CLASS = torch.arange(UNITS) % CLASSES
DIAGONAL = 15.62
THRESHOLDS = torch.linspace(0.5, 0.8, UNITS)


def case(seed=0, images=IMAGES):
    """Random evidence with ties, parts out of sight, and an image without any part."""
    g = torch.Generator().manual_seed(seed)
    visible = torch.rand(images, PARTS, generator=g) > 0.3
    visible[0] = False
    hits = (torch.rand(images, UNITS, PARTS, generator=g) > 0.4) & visible[:, None]
    noisy = hits ^ ((torch.rand(hits.shape, generator=g) > 0.9) & visible[:, None])
    masks = (torch.rand(images, PARTS, 12, 10, generator=g) > 0.9) & visible[:, :, None, None]
    maps = torch.rand(images, UNITS, 3, 4, generator=g) * (torch.rand(images, UNITS, 1, 1, generator=g) > 0.1)
    contributions = torch.randn(images, UNITS, CLASSES, generator=g).pow(3)
    contributions[1] = 0
    labels = torch.randint(CLASSES, (images,), generator=g)
    return {
        "hits": hits,
        "noisy": noisy,
        "visible": visible,
        "own": labels[:, None] == OWN_CLASS,
        "scores": torch.randn(images, UNITS, generator=g).mul(4).round(),
        "index": torch.randperm(images, generator=g),
        "masks": masks,
        "maps": maps,
        "peaks": peak_positions(maps, (12, 10)),
        "centers": part_centers(masks),
        "contributions": contributions,
        "labels": labels,
    }


pytestmark = pytest.mark.filterwarnings("ignore:The ``compute`` method")  # of a metric that has seen nothing

METRICS = {
    "consistency": (lambda: PrototypeConsistency(UNITS, PARTS, 0.7), ("hits", "visible", "own")),
    "stability": (lambda: PrototypeStability(UNITS), ("hits", "noisy", "own")),
    "purity": (lambda: PrototypePurity(UNITS, PARTS), ("scores", "hits", "visible", "index")),
    "pointing": (lambda: PointingGame(UNITS), ("peaks", "masks", "own")),
    "energy": (lambda: EnergyPointingGame(UNITS), ("maps", "masks", "own")),
    "size": (ExplanationSize, ("contributions", "labels")),
    "instability": (lambda: LocationInstability(UNITS, PARTS, DIAGONAL), ("peaks", "centers", "own")),
    "interpretability": (lambda: PartInterpretability(THRESHOLDS, PARTS, 0.1), ("maps", "masks", "own")),
}


def fed(name, data, size=IMAGES, metric=None):
    make, arguments = METRICS[name]
    metric = metric or make()
    for start in range(0, len(data["own"]), size):
        metric.update(*(data[argument][start : start + size] for argument in arguments))
    return metric


def some(data, keep):
    return {key: value[keep] for key, value in data.items()}


def full_size(name, data):
    """What the loops say about all of it."""
    lists = {key: value.tolist() for key, value in data.items()}
    if name == "consistency":
        return reference.consistency(lists["hits"], lists["visible"], lists["own"], 0.7)
    if name == "stability":
        return reference.stability(lists["hits"], lists["noisy"], lists["own"])
    if name == "purity":
        found = reference.purity(lists["scores"], lists["hits"], lists["visible"], lists["index"])
        return sum(found) / len(found)
    if name == "pointing":
        peaks = [[reference.peak(grid, (12, 10)) for grid in row] for row in lists["maps"]]
        return reference.pointing(peaks, lists["masks"], lists["own"])
    if name == "energy":
        pairs = torch.nonzero(data["own"]).tolist()
        shares = [reference.energy(data["maps"][i, u].numpy(), data["masks"][i].numpy()) for i, u in pairs]
        shares = [share for share in shares if not math.isnan(share)]
        return sum(shares) / len(shares)
    if name in ("instability", "interpretability"):
        parts = (
            reference.instability(lists["peaks"], lists["centers"], lists["own"], DIAGONAL)
            if name == "instability"
            else filters.interpretability(data["maps"], data["masks"], data["own"], THRESHOLDS, 0.1)
        )
        return sum(value for value in parts if value is not None) / sum(value is not None for value in parts)
    sizes = [reference.explanation_size(c, y) for c, y in zip(lists["contributions"], lists["labels"], strict=True)]
    sizes = [size for size in sizes if not math.isnan(size)]
    return sum(sizes) / len(sizes)


@pytest.mark.parametrize("name", METRICS)
def test_it_is_what_the_papers_say(name):
    data = case()
    expected = full_size(name, data)
    assert 0.05 < expected < (0.95 if name != "size" else UNITS)  # a case that could tell
    assert fed(name, data).compute().item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_batches_of_any_size_in_any_order_give_the_same(name):
    data = case()
    whole = fed(name, data).compute()
    for size in (1, 7):
        torch.testing.assert_close(fed(name, data, size).compute(), whole)
    torch.testing.assert_close(fed(name, some(data, torch.arange(IMAGES).flip(0)), 7).compute(), whole)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("cut", [0, 4, 25])  # also a process without data, and one with fewer images than are kept
def test_processes_together_are_one(name, cut):
    data = case()
    whole = fed(name, data)
    ranks = [fed(name, some(data, part)) for part in (slice(0, cut), slice(cut, None))]

    def gather(tensor, group=None):  # states come in their order, as they would from every process
        gathered.append(tensor)
        return [list(r.metric_state.values())[len(gathered) - 1] for r in ranks]

    first = copy.deepcopy(ranks[0])
    first.dist_sync_fn, first.distributed_available_fn = gather, lambda: True
    gathered = []
    torch.testing.assert_close(first.compute(), whole.compute())
    if hasattr(whole, "per_prototype"):
        gathered = []
        torch.testing.assert_close(first.per_prototype(), whole.per_prototype(), equal_nan=True)
    ranks[0].merge_state(ranks[1])
    torch.testing.assert_close(ranks[0].compute(), whole.compute())


@pytest.mark.parametrize("name", METRICS)
def test_forward_gives_the_batch_and_keeps_the_whole(name):
    """Lightning logs by calling the metric, which merges states and does not update them."""
    data = case()
    make, arguments = METRICS[name]
    metric = make()
    for start in range(0, IMAGES, 20):
        batch = some(data, slice(start, start + 20))
        torch.testing.assert_close(metric(*(batch[a] for a in arguments)), fed(name, batch).compute())
    torch.testing.assert_close(metric.compute(), fed(name, data).compute())


@pytest.mark.parametrize("name", METRICS)
def test_nothing_known_is_nan_and_not_0(name):
    assert math.isnan(METRICS[name][0]().compute())
    data = case()
    data["own"][:], data["visible"][:], data["contributions"][:] = False, False, 0
    assert math.isnan(fed(name, data).compute())


def test_a_prototype_without_evidence_is_left_out():
    """Two prototypes of the class that is there, one of a class that is not, one pruned."""
    hits = torch.ones(5, 4, 2, dtype=torch.bool)
    hits[:, 1] = False
    visible = torch.tensor([[True, False]]).expand(5, 2)
    own = torch.tensor([[True, True, False, True]]).expand(5, 4)
    for metric in (PrototypeConsistency(4, 2), PrototypePurity(4, 2), PrototypeStability(4)):
        if isinstance(metric, PrototypePurity):
            metric.update(torch.ones(5, 4).masked_fill(~own, torch.nan), hits, visible, torch.arange(5))
        elif isinstance(metric, PrototypeConsistency):
            metric.update(hits, visible, own)
        else:
            metric.update(hits, hits ^ torch.tensor([[False], [True], [False], [False]]), own, visible)
        assert metric.per_prototype().nan_to_num(-1).tolist() == [1, 0, -1, 1]
        assert metric.compute().item() == pytest.approx(2 / 3)
        metric.active = [True, True, True, False]  # pruned between two calls
        assert metric.compute().item() == pytest.approx(1 / 2)
        metric.active = torch.tensor([False, False, True, False])
        assert math.isnan(metric.compute())


def test_a_part_detector_is_pure_and_consistent_and_a_random_one_is_not():
    """Through the maps: a bright cell where part 2 is, and one anywhere, in images of 56 pixels.

    Parts keep off the border, where bicubic upsampling pulls a peak outwards.
    """
    g = torch.Generator().manual_seed(0)
    images, grid, side = 300, 7, 56
    inner = torch.arange(grid * grid).view(grid, grid)[1:-1, 1:-1].flatten()
    cells = torch.stack([inner[torch.randperm(25, generator=g)[:4]] for _ in range(images)])
    masks = torch.zeros(images, 4, side, side, dtype=torch.bool)
    maps = torch.zeros(images, 2, grid, grid)
    for i, row in enumerate(cells.tolist()):
        for p, cell in enumerate(row):
            y, x = cell // grid * 8, cell % grid * 8
            masks[i, p, y + 2 : y + 6, x + 2 : x + 6] = True
        maps[i, 0].view(-1)[row[2]] = 1
        maps[i, 1].view(-1)[inner[torch.randint(25, (1,), generator=g)]] = 1
    peaks = peak_positions(maps, (side, side))
    hits, visible = part_hits(peaks, part_centers(masks), 4)
    assert hits[:, 0, 2].all()
    consistency, purity, pointing = PrototypeConsistency(2, 4), PrototypePurity(2, 4, top=100), PointingGame(2)
    consistency.update(hits, visible, torch.ones(images, 2))
    purity.update(torch.rand(images, 2, generator=g), hits, visible, torch.arange(images))
    pointing.update(peaks, masks, torch.ones(images, 2))
    assert consistency.per_prototype().tolist() == [1, 0]
    assert purity.shares()[0, 2] == 1
    assert purity.per_prototype()[0] == 1
    assert purity.per_prototype()[1].item() < 0.12  # a part is in 1 of 25 cells
    assert pointing.per_prototype()[0] == 1
    assert pointing.per_prototype()[1].item() == pytest.approx(4 / 25, abs=0.05)


@pytest.mark.parametrize(("count", "consistent"), [(7, 0), (8, 1)])
def test_four_in_five_are_enough(count, consistent):
    hits = (torch.arange(10) < count).view(10, 1, 1)
    metric = PrototypeConsistency(1, 1)
    metric.update(hits, torch.ones(10, 1), torch.ones(10, 1))
    assert metric.compute() == consistent


@pytest.mark.parametrize("size", [(12, 10), (28, 28), (3, 4), (17, 2)])
def test_peaks_are_those_of_the_loop(size):
    maps = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(1)).round(decimals=1)
    expected = [[reference.peak(grid, size) for grid in image] for image in maps.tolist()]
    assert peak_positions(maps, size).tolist() == [[list(map(float, at)) for at in image] for image in expected]
    moved = peak_positions(100 + 0.01 * maps.double(), size)  # neither scale nor offset moves a peak
    assert torch.equal(moved, peak_positions(maps, size))


def test_of_tied_pixels_the_first_is_taken_with_both_its_coordinates():
    maps = torch.zeros(1, 3, 7, 7)
    maps[0, 0, 1, 5] = 1  # its center lies between pixels 47 and 48, 175 and 176
    maps[0, 1, 1, 5], maps[0, 1, 5, 1] = 1, 1
    maps[0, 2, 3, 5], maps[0, 2, 3, 2] = 1, 1
    y, x = 1 * 32 + 15, 5 * 32 + 15
    assert peak_positions(maps, (224, 224))[0, :2].tolist() == [[y, x], [y, x]]
    assert peak_positions(maps, (224, 224))[0, 2].tolist() == [3 * 32 + 15, 2 * 32 + 15]
    noise = 1e-8 * torch.rand(maps.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(peak_positions(maps + noise, (224, 224)), peak_positions(maps, (224, 224)))


def test_a_map_without_a_peak_points_nowhere():
    maps = torch.ones(1, 4, 3, 3)
    maps[0, 1, 0, 0], maps[0, 2, 0, 0], maps[0, 3, 1, 1] = torch.nan, torch.inf, 2
    peaks = peak_positions(maps, (9, 9))
    assert peaks.isnan().all(2).tolist() == [[True, True, True, False]]
    masks = torch.ones(1, 1, 9, 9, dtype=torch.bool)
    assert part_hits(peaks, part_centers(masks), 9)[0][0, :, 0].tolist() == [False, False, False, True]
    assert peaks_inside(peaks, masks).isnan().tolist() == [[True, True, True, False]]


def test_more_maps_than_fit_into_a_chunk():
    side = 512
    maps = torch.zeros(1, _CHUNK // side**2 * 2 + 3, 2, 2)
    maps[0, torch.arange(maps.shape[1]), torch.arange(maps.shape[1]) % 2, 1] = 1
    found = peak_positions(maps, (side, side))[0, :, 0] > side // 2
    assert found.tolist() == [i % 2 == 1 for i in range(maps.shape[1])]


def test_centers_and_hits_are_those_of_the_loop():
    data = case(images=8)
    centers, size = part_centers(data["masks"]), (12, 10)
    for half in (1.0, 2.5, CONSISTENCY_HALF * 12):
        hits, visible = part_hits(data["peaks"], centers, half)
        for i in range(8):
            expected = [reference.center(mask) for mask in data["masks"][i].tolist()]
            assert visible[i].tolist() == [e is not None for e in expected]
            for u in range(UNITS):
                at = reference.peak(data["maps"][i, u].tolist(), size)
                assert hits[i, u].tolist() == [reference.hit(at, e, half, size) for e in expected]
    assert hits.any()
    assert not hits.all()


def test_the_border_of_the_square_belongs_to_it():
    peaks, centers = torch.tensor([[[10.0, 20.0]]]), torch.tensor([[[14.0, 16.0], [14.0, 24.5], [torch.nan] * 2]])
    hits, visible = part_hits(peaks, centers, 4)
    assert hits.tolist() == [[[True, False, False]]]
    assert visible.tolist() == [[True, True, False]]


def test_purity_counts_each_sample_once_and_breaks_ties_by_index():
    """Without that the sampler's padding, or the order of batches, would change the top images."""
    data = case()
    data["index"][10:20] = data["index"][20:30]  # the same samples, seen again
    for key in ("scores", "hits"):
        data[key][10:20] = data[key][20:30]
    data["visible"][10:20] = data["visible"][20:30]
    data["index"][2:6] = -1
    for part in (data, some(data, slice(0, 8))):  # 8 are fewer than are kept
        expected = reference.purity(*(part[key].tolist() for key in ("scores", "hits", "visible", "index")))
        for size in (1, 9, IMAGES):
            assert fed("purity", part, size).per_prototype().tolist() == pytest.approx(expected)


def test_purity_orders_negative_zero_and_infinite_scores():
    scores = torch.tensor([-torch.inf, -2.0, -0.0, 0.0, 1e-30, 3.0, torch.inf, torch.nan])
    for top in range(1, 8):
        metric = PrototypePurity(1, 8, top)
        metric.update(scores[:, None], torch.eye(8).bool()[:, None], torch.ones(8, 8), torch.arange(8))
        kept = metric.shares()[0] > 0
        assert kept.nonzero().flatten().tolist() == sorted([6, 5, 4, 2, 3, 1, 0][:top])  # -0 ties with 0


def test_stability_leaves_out_images_in_which_nothing_can_change():
    hits = torch.tensor([[[True]], [[False]]])
    for visible, expected in ((None, 0.5), (torch.tensor([[True], [False]]), 0.0)):
        metric = PrototypeStability(1)
        metric.update(hits, torch.zeros(2, 1, 1), torch.ones(2, 1), visible)
        assert metric.compute() == expected


def test_noise_is_that_of_the_protocol_and_of_the_sample_alone():
    image, std = torch.full((4, 3, 64, 64), 0.5), (0.2, 0.3, 0.4)
    index = torch.tensor([5, 9, -1, 2])
    noisy = add_noise(image, std, index)
    assert torch.equal(noisy[1:2], add_noise(image[:1], std, index[1:2]))
    assert not torch.equal(noisy[0], noisy[1])
    assert not torch.equal(noisy, add_noise(image, std, index, seed=1))
    normalized = (noisy - 0.5) / torch.tensor(std).view(3, 1, 1)
    assert normalized.abs().max().item() == pytest.approx(0.25, abs=1e-5)
    # A normal of 0.2 clamped at 1.25 sigma has this deviation, in every channel.
    assert normalized.std((0, 2, 3)).tolist() == pytest.approx([0.1626] * 3, rel=0.02)
    assert add_noise(torch.ones(1, 3, 8, 8), std, index[:1]).max() <= 1
    assert add_noise(torch.zeros(1, 3, 8, 8), std, index[:1]).min() >= 0


def test_energy_of_a_map_that_is_half_on_a_part():
    maps, masks = torch.ones(1, 2, 4, 4), torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    masks[..., :4] = True
    maps[0, 1] = -1
    assert energy_inside(maps, masks)[0, 0].item() == pytest.approx(0.5)
    assert energy_inside(maps, masks)[0, 1].isnan()  # no energy
    assert energy_inside(maps, ~masks & masks).isnan().all()  # no part


def test_explanation_size_of_known_contributions():
    equal = torch.full((1, 20, 2), 0.1)
    assert explanation_size(equal, torch.tensor([1])).item() == 19
    assert explanation_size(equal, torch.tensor([1]), share=1.0).item() == 20
    assert explanation_size(torch.full((1, 25, 1), 0.1), torch.tensor([0]), share=0.28).item() == 7
    one = torch.zeros(1, 20, 2)
    one[0, 7, 0], one[0, :, 1] = -5, 1  # evidence against counts too; the other class does not
    assert explanation_size(one, torch.tensor([0])).item() == 1


def test_unique_prototypes_and_zeros_of_the_head():
    vectors = torch.tensor([[1.0, 0], [1, 0], [2, 0], [0, -0.0], [0, 0], [1 + 1e-6, 0]])
    assert prototype_uniqueness(vectors).item() == pytest.approx(4 / 6)
    assert prototype_uniqueness(vectors[:5].view(5, 2, 1, 1), cosine=True).item() == pytest.approx(2 / 5)
    lengths = torch.tensor([[1.0, 3, 7]]) * torch.arange(1, 10).view(9, 1)
    assert prototype_uniqueness(lengths, cosine=True).item() == pytest.approx(1 / 9)
    assert math.isnan(prototype_uniqueness(vectors[:0]))
    assert head_sparsity(torch.tensor([[0.0, 1e-12], [-0.0, 3]])).item() == 0.5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_are_taken(dtype):
    data = case()
    data = {key: value.to(dtype) if value.is_floating_point() else value for key, value in data.items()}
    data["maps"] = data["maps"].requires_grad_()
    data["peaks"] = peak_positions(data["maps"], (12, 10))
    for name in METRICS:
        value = fed(name, data).compute()
        assert value.dtype == torch.float32
        assert not value.requires_grad
        assert value.isfinite()
