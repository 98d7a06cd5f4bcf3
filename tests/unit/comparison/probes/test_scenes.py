"""Objects and cells of hand-made scenes, for networks that read the pixels of a place: what each is worth is known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ibd.comparison import cases
from ibd.comparison.cache import Cache
from ibd.comparison.groups.localization import measure as localization
from ibd.comparison.groups.objects import measure as objects_of
from ibd.comparison.groups.parts import measure as parts_of
from ibd.comparison.images import ComparedImages
from ibd.comparison.methods import ORACLE
from ibd.comparison.plan import Plan
from ibd.comparison.probes import scenes
from ibd.comparison.probes.network import Predictor
from ibd.comparison.probes.pixels import region_means, regions_of
from ibd.comparison.reference_maps import reference_maps
from ibd.data.toybirds import Distractor, Pose, Scene, Tag, ToyBirds, render
from ibd.data.toybirds.masks import take_apart
from ibd.metrics.functional.checks import beyond_rounding
from tests.unit.comparison.probes.makers import Linear

SIZE, CELL = 64, 8
BIRD = {"beak": "cone", "eye": "ring", "foot": "blue_claw", "tail": "red_fan", "wing": "yellow_oval"}
AWAY = Scene(0, 0, BIRD, pose=Pose(x=20.0)).set_background("flat")


def square(row, column, color, side=6.0):
    """A square in the middle of a cell."""
    x, y = ((2 * place + 1) * CELL / SIZE - 1 for place in (column, row))
    return Distractor("square", x, y, side / SIZE / 0.9, 0.0, color)


def scene_of(*distractors):
    return Scene(0, 0, BIRD, pose=Pose(x=20.0), distractors=distractors).set_background("flat")


def red():
    """The centered logit is the mean of red: half of the log-odds, with two classes."""
    weights = torch.zeros(3, SIZE, SIZE)
    weights[0] = 2 / SIZE**2
    return Linear(weights)


class Both(Linear):
    """The centered logit is 100 where two cells are bright in green, else 0: neither is enough."""

    def __init__(self, one, other):
        super().__init__(torch.zeros(1))
        self.places = one, other

    def forward(self, image):
        self.images += len(image)
        bright = [
            image[:, 1, CELL * y : CELL * (y + 1), CELL * x : CELL * (x + 1)].mean((1, 2)) for y, x in self.places
        ]
        score = 100.0 * ((bright[0] > 0.6) & (bright[1] > 0.6)).double()
        return torch.stack([score, -score], 1)


def measured(model, drawn, count=1):
    predictor = Predictor(model, torch.zeros(1, 3, SIZE, SIZE))
    classes = torch.zeros(count, dtype=torch.int64)
    return scenes.object_values(predictor, drawn, classes), scenes.cell_values(predictor, drawn, classes)


def test_an_additive_network_gives_what_is_painted():
    """Of 6 x 6 pixels, gray of 127 (0.5, rounded down) becomes red of 255 or of 0; nothing else is there."""
    drawn = scenes.draw_scenes([scene_of(square(1, 2, (1.0, 0.5, 0.5)), square(5, 5, (0.0, 0.5, 0.5)))], SIZE)
    objects, cells = measured(red(), drawn)
    gray = int(render(AWAY, SIZE)[0][0, 0, 0])
    more, less = (36 * (level - gray) / 255 / SIZE**2 for level in (255, 0))
    assert objects[0, :5].isnan().all()  # the bird is not in the picture
    np.testing.assert_allclose(objects[0, 5:], [more, less], atol=1e-6)
    expected = torch.full((8, 8), torch.nan, dtype=torch.float64)
    expected[1, 2], expected[5, 5] = more, less
    torch.testing.assert_close(cells.view(8, 8), expected, atol=1e-6, rtol=0, equal_nan=True)


def test_a_pair_that_is_needed_together_shares_what_it_gives():
    """Each object loses all if it is taken away. Of a cell that is the first end; alone it adds nothing, the other."""
    green = square(1, 1, (0.5, 1.0, 0.5)), square(6, 3, (0.5, 1.0, 0.5)), square(4, 4, (1.0, 0.5, 0.5))
    objects, cells = measured(Both((1, 1), (6, 3)), scenes.draw_scenes([scene_of(*green)], SIZE))
    assert objects[0, 5:].tolist() == [100, 100, 0]
    assert [float(cells.view(8, 8)[at]) for at in ((1, 1), (6, 3), (4, 4))] == [50, 50, 0]
    assert (~cells.isnan()).sum() == 3


def test_scenes_of_any_number_of_objects_and_every_picture_asked_once():
    birds = ToyBirds("standard", test_size=3, occlusion=1.0).dataset("test")
    some = [birds.scene(0).remove("tail"), scene_of(square(2, 2, (1.0, 0.0, 0.0))), birds.scene(2)]
    drawn = scenes.draw_scenes(some, SIZE)
    model = red()
    predictor = Predictor(model, torch.zeros(1, 3, SIZE, SIZE))
    objects = scenes.object_values(predictor, drawn, torch.zeros(3, dtype=torch.int64))
    assert predictor.forwards == 3 + drawn.masks.flatten(2).any(2).sum()
    cells = scenes.cell_values(predictor, drawn, torch.zeros(3, dtype=torch.int64))
    assert predictor.forwards == 3 + drawn.masks.flatten(2).any(2).sum() + 2 * 3 + 2 * (~cells.isnan()).sum()
    assert objects[0, 3].isnan()
    assert objects[1, 6:].isnan().all()
    region, _ = regions_of((SIZE, SIZE), 8)
    for row, scene in enumerate(some):
        found = take_apart(scene, SIZE)
        change = (found.picture[..., 0].astype(float) - found.without[..., 0]).sum((1, 2)) / 255 / SIZE**2
        seen = torch.from_numpy(found.masks.any((1, 2)))
        whole = found.picture[..., 0].mean() / 255
        wanted = beyond_rounding(torch.from_numpy(change), torch.tensor(whole))
        torch.testing.assert_close(objects[row, : len(change)][seen], wanted[seen], atol=1e-6, rtol=0)
        each = torch.from_numpy(found.picture[..., 0].astype(float) - found.behind[..., 0]) / 255 / SIZE**2
        by_cell = torch.zeros(64, dtype=torch.float64).index_add_(0, region.flatten(), each.flatten())
        wanted = beyond_rounding(by_cell, torch.tensor(whole))
        torch.testing.assert_close(cells[row].nan_to_num(0.0), wanted, atol=1e-6, rtol=0)


def test_cells_are_ranked_by_means_though_some_are_larger():
    """Of 33 pixels, the first cell of a row has 5: a map that is even must not rank by that."""
    assert region_means(torch.ones(2, 33, 33)).unique().tolist() == [1.0]
    maps = torch.arange(9.0).view(1, 3, 3)
    assert region_means(maps, 2).tolist() == [[(0 + 1 + 3 + 4) / 4, (2 + 5) / 2, (6 + 7) / 2, 8.0]]


def test_a_patch_is_foreground_and_stripes_are_background():
    patch, stripes = (scene_of().set_tag(Tag(kind, 1)) for kind in ("patch", "texture"))
    _, cells = measured(red(), scenes.draw_scenes([patch, stripes], SIZE), 2)
    assert 1 <= (~cells[0].isnan()).sum() <= 4  # in a corner
    assert cells[1].isnan().all()


@pytest.fixture(scope="module")
def case():
    data = ToyBirds("standard", test_size=16).dataset("test")
    drawn = [data.scene(i) for i in range(16)]
    images = torch.stack([data[i].image for i in range(16)])
    ids = [data.sample_id(i) for i in range(16)]
    masks = torch.stack([data.masks(i) for i in range(16)])
    chosen = ComparedImages("test", torch.arange(16), ids, images, data.labels, masks, masks.any(1), ["a"] * 5, drawn)
    generator = torch.Generator().manual_seed(0)
    model = Linear(torch.randn(3, SIZE, SIZE, generator=generator) / SIZE)
    model = SimpleNamespace(module=model, fingerprint="m", info=SimpleNamespace(name="m"))
    return cases.make_case(model, chosen, Cache(None), Plan(["object_spearman"], []), 1, 0)


def asked(case, name, maps):
    return SimpleNamespace(case=case, method=SimpleNamespace(name=name), maps=maps, validation=None)


def test_the_oracle_is_first_and_noise_is_at_chance(case):
    """Exact attribution of a linear network to pixels comes close; the oracle says what is true."""
    oracle = objects_of(asked(case, ORACLE, cases.oracle_maps(case))).scores
    for values in oracle.values():
        np.testing.assert_allclose(values, 1.0, atol=1e-12)
    noise = [reference_maps("noise", case.images.pixels, case.images.ids, seed) for seed in range(8)]
    found = [objects_of(asked(case, "noise", maps)).scores for maps in noise]
    for name, within in (("object_spearman", 0.08), ("cell_spearman", 0.04)):
        values = np.concatenate([each[name] for each in found])
        assert abs(np.nanmean(values)) < 4 * np.nanstd(values) / np.sqrt(len(values)) < 4 * within
    weights = case.predictor.network.weights.detach() * (1 - 2 * case.classes.view(-1, 1, 1, 1))
    behind = case.images.drawings.behind.permute(0, 3, 1, 2) / 255
    exact = objects_of(asked(case, "exact", (weights * (case.images.pixels - behind)).sum(1))).scores
    assert np.nanmean(exact["cell_spearman"]) > 0.95
    assert np.nanmean(exact["object_spearman"]) > 0.5


def test_the_oracle_lies_where_the_deciding_parts_are_exactly(case):
    found = localization(oracle := asked(case, ORACLE, cases.oracle_maps(case))).scores
    decided = case.truth.flatten(1).any(1).numpy()
    assert decided.sum() > 8
    for name in ("mass_accuracy", "rank_accuracy", "pointing_game", "roc_auc", "iou_at_size"):
        np.testing.assert_allclose(found[name][decided], 1.0, atol=1e-12, err_msg=name)
    assert oracle.maps is not case.truth


def test_parts_by_ring_mean_and_sum(case):
    case.kept = torch.ones_like(case.kept)
    oracle = parts_of(asked(case, ORACLE, cases.oracle_maps(case))).scores
    for name in ("part_spearman", "part_spearman_mean", "part_spearman_sum"):
        np.testing.assert_allclose(oracle[name], 1.0, atol=1e-12)
    units = SimpleNamespace(units=torch.randn(16, 7), maps=None)
    case.unit_parts = torch.eye(7, 5, dtype=torch.bool)
    own = parts_of(
        SimpleNamespace(case=case, method=SimpleNamespace(name="intrinsic_units"), attributions=units)
    ).scores
    np.testing.assert_array_equal(own["part_spearman"], own["part_spearman_mean"])
    np.testing.assert_array_equal(own["part_spearman"], own["part_spearman_sum"])
    even = parts_of(asked(case, "constant", torch.ones(16, SIZE, SIZE))).scores
    assert (even["part_spearman"] == 0).all()
    assert (even["part_spearman_mean"] == 0).all()
    assert even["part_spearman_sum"].std() > 0  # it says how large the parts are


def test_scenes_are_drawn_once_and_values_kept(case, tmp_path, monkeypatch):
    chosen = case.images.first(2)
    cells, plan, drawn = Cache(tmp_path), Plan(["cell_spearman"], []), []
    monkeypatch.setattr(scenes, "take_apart", lambda *given: drawn.append(given) or take_apart(*given))
    for name in ("m", "n", "m"):
        model = SimpleNamespace(module=case.model.module, fingerprint=name, info=case.model.info)
        made = cases.make_case(model, chosen, cells, plan, 1, 0)
        torch.testing.assert_close(made.cell_values, case.cell_values[:2], atol=1e-5, rtol=1e-4, equal_nan=True)
    assert len(drawn) == 2  # for both models
    assert cells.found == 3  # classes, subsets, objects of the first
    less = cases.make_case(model, chosen, cells, Plan(["part_spearman"], []), 1, 0)
    assert less.object_values is None
