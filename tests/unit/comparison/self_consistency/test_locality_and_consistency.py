"""Concepts that answer to their part or to others, and bottlenecks beside pictures, by networks of known answers."""

import dataclasses

import pytest
import torch

from ibd.comparison.self_consistency import bottleneck_against_pixels, part_locality
from ibd.comparison.self_consistency.consistency import log_odds_change
from ibd.comparison.self_consistency.locality import locality_of, units_of_parts
from ibd.comparison.self_consistency.redrawing import (
    drawn as draw,
    other_surroundings,
    other_variants,
    redrawn,
    seen_parts,
)
from ibd.data.toybirds import PARTS, VARIANTS, Distractor, ToyBirds
from ibd.data.toybirds.parts import FIRST_PART
from ibd.errors import ConfigError, UnsupportedError
from ibd.models.baseline.lightning import Baseline
from tests.model_makers import SMALL, TensorData, make_module, make_whitening
from tests.self_consistency_makers import Drawn, KnowingConcepts, place

NAN = torch.nan
INDICES = [3, 0, 7]


@pytest.fixture
def drawn(monkeypatch):
    return Drawn(monkeypatch)


@pytest.fixture
def birds():
    return ToyBirds("tiny", train_size=4, val_size=4, test_size=10)


def test_what_knows_each_part_is_local_and_its_bottleneck_is_the_picture(drawn, birds):
    network, images = KnowingConcepts(drawn, birds.spec), birds.dataset("test")
    found = part_locality(network, images, INDICES)
    torch.testing.assert_close(found.matrix, torch.eye(5, dtype=torch.float64), atol=1e-6, rtol=0)
    assert found.rows == found.columns == list(PARTS)
    assert found.images.tolist() == [3] * 5
    expected = {"locality": 1.0, "own_change": 1.0, "other_change": 0.0, "surroundings_change": 0.0}
    assert found.figures() == pytest.approx(expected, abs=1e-6)
    both = bottleneck_against_pixels(network, images, INDICES)
    for values in (both.same_class, both.similarity, both.correlation):
        torch.testing.assert_close(values, torch.ones(3, 5).double())
    assert float(both.similarity_unchanged.mean()) < 0.9


def test_what_sees_everything_everywhere(drawn, birds):
    weights = dict(zip(PARTS, (0.01, 0.02, 0.03, 0.04, 0.05), strict=True))

    def logits(scene):
        shade = 0.2 + sum(weight * place(scene, part) for part, weight in weights.items())
        return torch.full((26,), shade).logit()

    images = birds.dataset("test")
    found = part_locality(KnowingConcepts(drawn, birds.spec, logits), images, INDICES)
    for p, part in enumerate(PARTS):
        moves = []
        for i in INDICES:
            scene = images.scene(i)
            new = scene.replace(part, other_variants(scene, i)[p])
            moves.append(weights[part] * abs(place(new, part) - place(scene, part)))
        torch.testing.assert_close(found.matrix[p], torch.full((5,), sum(moves) / 3).double(), atol=1e-6, rtol=0)
    assert found.locality.tolist() == pytest.approx([0.5] * 5, abs=1e-5)


def test_what_sees_nothing(drawn, birds):
    network = KnowingConcepts(drawn, birds.spec, lambda scene: torch.zeros(26))
    found = part_locality(network, birds.dataset("test"), INDICES)
    assert found.figures()["own_change"] == 0
    assert torch.isnan(torch.tensor(found.figures()["locality"]))
    both = bottleneck_against_pixels(network, birds.dataset("test"), INDICES)
    assert both.same_class_unchanged.tolist() == [[1.0] * 5] * 3
    # Both are of the same concepts, in batches of two sizes. A logit is a sum of 26 products, whose absolute values add
    # up to 11: it is off by 26 * 2^-24 * 11 = 1.7e-5 at most, and total variation is at most a quarter of how far the
    # differences of two logits change, 6.8e-5.
    torch.testing.assert_close(both.similarity_unchanged, torch.ones(3, 5).double(), rtol=0, atol=2e-5)
    assert both.correlation.isnan().all()  # of no change in the picture
    assert float(both.similarity.mean()) < 1


def test_what_moves_by_rounding_alone_does_not_move():
    """Else the rank correlation of last bits would be one of anything."""
    before = torch.tensor([[3.0, -40.0, 7.0, 0.5]])
    noise = torch.tensor([[1.0, -2.0, 2.0, -1.0]]) * 2.0**-22
    assert not log_odds_change(before, before * (1 + noise)).any()
    assert log_odds_change(before, before + torch.tensor([[0.0, 0.0, 0.01, 0.0]])).abs().amin() > 1e-3


def test_a_part_without_concepts_has_a_row_and_no_column(drawn):
    birds = ToyBirds("tiny", test_size=4, concepts="factored", drop_concept_part="wing")
    network = KnowingConcepts(drawn, birds.spec, lambda scene: torch.tensor([place(scene, "wing") - 2.0] * 17))
    found = part_locality(network, birds.dataset("test"), [0, 1])
    assert (found.rows, found.columns) == (list(PARTS), list(PARTS[:4]))
    assert found.matrix[4].min() > 0
    assert found.locality[4].isnan()
    assert (found.matrix[:4] == 0).all()
    assert bottleneck_against_pixels(network, birds.dataset("test"), [0]).parts == list(PARTS[:4])


def test_factored_concepts_are_set_together(drawn):
    birds = ToyBirds("tiny", test_size=4, concepts="factored")
    names = birds.spec.concept_names

    def truth(scene):
        held = {
            f"{part}_{factor}::{value}"
            for part, variant in scene.parts.items()
            for factor, value in zip(_factors(part), variant.split("_"), strict=True)
        }
        return torch.tensor([30.0 if name in held else -30.0 for name in names])

    both = bottleneck_against_pixels(KnowingConcepts(drawn, birds.spec, truth), birds.dataset("test"), [0, 1, 2])
    torch.testing.assert_close(both.similarity, torch.ones(3, 5).double())


def _factors(part):
    return ("color", "shape") if part in ("foot", "tail", "wing") else ("shape",)


def test_hidden_parts_count_for_nothing(drawn, birds):
    images = birds.dataset("test")
    scene = images.scene(0)
    leaf = Distractor("square", scene.pose.x, scene.pose.y, 3.0, 0.0, (0.5, 0.5, 0.5), "front")
    images.pictures.scenes[0] = dataclasses.replace(scene, distractors=(leaf,))
    assert seen_parts(images.scene(0)) == [False] * 5
    network = KnowingConcepts(drawn, birds.spec)
    found = part_locality(network, images, [0, 1])
    assert found.images.tolist() == [1] * 5
    torch.testing.assert_close(found.matrix, torch.eye(5).double(), atol=1e-6, rtol=0)
    both = bottleneck_against_pixels(network, images, [0, 1])
    assert both.same_class[0].isnan().all()
    assert both.same_class[1].tolist() == [1.0] * 5
    nothing = part_locality(network, images, [0])
    assert nothing.matrix.isnan().all()
    assert nothing.locality.isnan().all()


def test_changes_depend_on_seed_and_image_alone(birds):
    images = birds.dataset("test")
    alone = next(redrawn(images, [3], seed=1))
    together = list(redrawn(images, [7, 3, 0], batch_size=14, seed=1))
    assert [batch.index for batch in together] == [[7, 3], [0]]
    assert torch.equal(together[0].changed[1], alone.changed[0])
    assert together[0].variants[1] == alone.variants[0]
    assert torch.equal(alone.image[0], images[3].image)
    assert torch.equal(alone.masks[0], images.masks(3))
    shown = torch.from_numpy(draw([images.scene(3)], 32)[1][0])
    parts = shown == FIRST_PART + torch.arange(len(PARTS)).view(-1, 1, 1)
    edge = torch.nn.functional.max_pool2d((~parts).float(), 3, 1, 1).bool()
    inside = (~edge).any(0)  # edges are smooth
    assert inside.sum() > 20
    assert torch.equal(alone.changed[0, 5][:, inside], alone.image[0][:, inside])  # only what is behind it is new
    assert (alone.changed[0, 5] != alone.image[0]).float().mean() > 0.3
    for i in range(10):
        scene = images.scene(i)
        for part, variant in zip(PARTS, other_variants(scene, i), strict=True):
            assert variant in VARIANTS[part]
            assert variant != scene.parts[part]
    scene = images.scene(0)
    assert len({tuple(other_variants(scene, i)) for i in range(10)}) > 1
    assert len({tuple(other_variants(scene, 0, seed)) for seed in range(10)}) > 1


def test_what_is_in_front_of_the_bird_stays(birds):
    scene = birds.dataset("test").scene(0)
    back, front = (Distractor("disc", 0.1, 0.2, 0.1, 0.0, (0.5, 0.5, 0.5), layer) for layer in ("back", "front"))
    new = other_surroundings(dataclasses.replace(scene, distractors=(back, front)), 0)
    assert new.distractors == (front,)
    assert new.background != scene.background
    assert (new.parts, new.pose) == (scene.parts, scene.pose)


def test_batch_size_and_other_images_change_nothing(birds):
    module, images = make_module(birds.spec), birds.dataset("test")
    one, many = (bottleneck_against_pixels(module, images, [5, 2, 8, 1], size) for size in (1, 100))
    torch.testing.assert_close(one.similarity, many.similarity, atol=1e-5, rtol=0)
    some = bottleneck_against_pixels(module, images, [8])
    torch.testing.assert_close(some.similarity[0], many.similarity[2], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        part_locality(module, images, [5, 2], 1).matrix, part_locality(module, images, [2, 5], 100).matrix,
        atol=1e-6, rtol=0,
    )  # fmt: skip


def test_axes_are_measured_by_their_range(birds):
    module, images = (
        make_whitening(birds.spec, backbone={"name": "small_cnn", "width": 8, "depth": 3}),
        birds.dataset("test"),
    )
    with pytest.raises(UnsupportedError, match="range of its axes"):
        part_locality(module, images, INDICES)
    module.network.low.fill_(-1.0)
    module.network.high.fill_(1.0)
    narrow = part_locality(module, images, INDICES)
    assert narrow.columns == list(PARTS)
    module.network.high.fill_(3.0)
    torch.testing.assert_close(part_locality(module, images, INDICES).matrix, narrow.matrix / 2)
    with pytest.raises(UnsupportedError, match="set to true and false, as concepts can; axes cannot"):
        bottleneck_against_pixels(module, images, INDICES)


def test_locality_leaves_out_what_is_not_known():
    matrix = torch.tensor([[3.0, 1.0, NAN], [2.0, NAN, NAN], [1.0, NAN, 4.0]]).double()
    names = ["a", "b", "c"]
    assert locality_of(matrix, names, names)[0] == 0.75
    assert locality_of(matrix, names, names)[1].isnan()
    assert locality_of(matrix, names, names)[2] == 0.8
    assert locality_of(matrix[:, :1], names, ["a"]).isnan().all()


def test_names_of_parts():
    names = ["axis 3", "wing_color::red", "beak::cone", "wing_shape::oval", "legs::two"]
    assert units_of_parts(names) == {"beak": [2], "wing": [1, 3]}


def test_what_cannot_be_measured(birds):
    with pytest.raises(UnsupportedError, match="those of TensorImages cannot"):
        part_locality(make_module(birds.spec), TensorData().dataset("test"), [0])
    with pytest.raises(UnsupportedError, match="no concept is named for a part"):
        part_locality(make_module(), birds.dataset("test"), [0])
    with pytest.raises(UnsupportedError, match="no concept is named for a part"):
        bottleneck_against_pixels(make_module(), birds.dataset("test"), [0])
    with pytest.raises(UnsupportedError, match="channel"):
        part_locality(Baseline(birds.spec, SMALL), birds.dataset("test"), [0])
    with pytest.raises(ConfigError, match="no images given"):
        part_locality(make_module(birds.spec), birds.dataset("test"), [])
