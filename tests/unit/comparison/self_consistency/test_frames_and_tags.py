"""Prototypes that answer to what they frame or to another part, units that are masks, and networks that read a tag."""

import math

import numpy as np
import pytest
import torch

from ibd.comparison.self_consistency import (
    dissect,
    input_dependence,
    misalignment,
    prototype_parts,
    tag_effects,
    tagged,
)
from ibd.comparison.self_consistency.maps import enlarged
from ibd.comparison.self_consistency.prototypes import Misalignment
from ibd.comparison.self_consistency.redrawing import other_variants
from ibd.data.toybirds import PARTS, ToyBirds
from ibd.errors import ConfigError, UnsupportedError
from ibd.metrics.functional.dissection import quantile_thresholds
from ibd.models.baseline.lightning import Baseline
from ibd.models.protopnet.evaluation import evaluate_prototypes
from tests.model_makers import SMALL, TensorData, make_module, make_pipnet, make_prototypes, make_whitening
from tests.self_consistency_makers import Drawn, KnowingChannels, KnowingPrototypes, place

NAN = torch.nan
INDICES = [3, 0, 7]


@pytest.fixture
def drawn(monkeypatch):
    return Drawn(monkeypatch)


@pytest.fixture
def birds():
    return ToyBirds("tiny", train_size=12, val_size=4, test_size=12)


@pytest.fixture
def hans():
    return ToyBirds("hans", image_size=32, train_size=4, val_size=4, test_size=16)


@pytest.mark.parametrize("shift", [0, 1])
def test_a_prototype_changes_with_the_part_it_watches(drawn, birds, shift):
    watched = [(p + shift) % 5 for p in range(5)]
    images = birds.dataset("test")
    found = misalignment(KnowingPrototypes(drawn, birds.spec.class_names, watched), images, INDICES, batch_size=10)
    assert found.change.shape == (3, 5, 6)
    for n, i in enumerate(INDICES):
        scene = images.scene(i)
        for p, part in enumerate(PARTS):
            moved = abs(place(scene, part) - place(scene.replace(part, other_variants(scene, i)[p]), part)) / 10
            for t in range(5):
                expected = moved if watched[t] == p else 0.0
                assert float(found.change[n, t, p]) == pytest.approx(expected, abs=1e-6)
    assert (found.change[..., 5] == 0).all()
    assert (found.moved[..., 5] == 0).all()  # the bird is where it was
    assert found.rank[found.change == 0].max() > 0  # passed by another one, though it did not change
    at_wing = found.under[:, 4]
    assert (at_wing == 4).all()
    if shift:  # what frames the wing watches the beak
        assert found.change[:, 4, 4].max() == 0
    else:
        assert found.change[:, 4, 4].min() > 0


def test_figures_of_misalignment():
    change = torch.tensor([[[0.4, 0.1, 0.2, 0.3, NAN, 0.05], [0.9, 0.9, 0.9, 0.9, 0.9, 0.9]]]).double()
    under = torch.tensor([[0, 5]])  # the second one frames no part
    outside = torch.tensor([[[False, True, True, False, True], [True] * 5]])
    found = Misalignment(change, change / 2, change / 4, under, outside)
    figures = found.figures()
    assert figures["prototype_change_inside"] == pytest.approx(0.4)
    assert figures["prototype_change_outside"] == pytest.approx(0.15)
    assert figures["prototype_change_surroundings"] == pytest.approx(0.05)
    assert figures["prototype_alignment"] == pytest.approx(0.4 / 0.55)
    assert figures["prototype_location_change"] == pytest.approx(0.075)
    assert figures["prototype_rank_change"] == pytest.approx(0.0375)
    matrix = found.matrix()
    assert matrix[:4, 0].tolist() == pytest.approx([0.4, 0.1, 0.2, 0.3])
    assert matrix[:, 5].tolist() == pytest.approx([0.9] * 5)
    assert matrix[:, 1:5].isnan().all()
    assert figures["locality"] == pytest.approx(0.4 / 1.3)  # of the beak alone
    nothing = Misalignment(change, change, change, torch.full((1, 2), 5), outside).figures()
    assert all(math.isnan(value) for value in nothing.values())


def test_prototypes_of_a_network_whatever_the_batches(birds):
    module, images = make_prototypes(birds), birds.dataset("test")
    whole = misalignment(module, images, range(5), shown=4)
    small = misalignment(module, images, [4, 2], batch_size=1, shown=4)
    torch.testing.assert_close(small.change, whole.change[[4, 2]], atol=1e-5, rtol=0, equal_nan=True)
    assert torch.equal(small.under, whole.under[[4, 2]])
    torch.testing.assert_close(small.moved, whole.moved[[4, 2]], atol=0.03, rtol=0, equal_nan=True)  # a pixel of 51
    torch.testing.assert_close(small.rank, whole.rank[[4, 2]], atol=1e-9, rtol=0, equal_nan=True)
    assert float(whole.moved.nan_to_num().min()) >= 0
    assert float(whole.moved.nan_to_num().max()) <= 1
    with pytest.raises(UnsupportedError, match="channels do not"):
        misalignment(Baseline(birds.spec, SMALL), images, [0])


def test_parts_of_prototypes_are_those_of_the_whole_evaluation(birds):
    module = make_prototypes(birds)
    masked = ToyBirds("tiny", train_size=12, val_size=4, test_size=12, masks=True, batch_size=5)
    expected = evaluate_prototypes(module, masked)
    found = prototype_parts(module, birds.dataset("test"), range(12), batch_size=7)
    assert found == pytest.approx({name: expected[name] for name in found}, nan_ok=True)
    assert {"consistency", "stability", "purity", "pointing"} <= set(found)
    with pytest.raises(UnsupportedError, match="no part masks"):
        prototype_parts(module, TensorData(spec=birds.spec).dataset("test"), [0, 1])
    with pytest.raises(UnsupportedError, match="one class each"):
        prototype_parts(make_pipnet(birds.spec), birds.dataset("test"), [0])


def reference_iou(maps, masks, share=0.005):
    """Return (U, C) by plain loops."""
    units, concepts = maps.shape[1], masks.shape[1]
    result = np.full((units, concepts), np.nan)
    for u in range(units):
        ordered = np.sort(maps[:, u].ravel())[::-1]
        on = maps[:, u] > ordered[int(share * len(ordered))]
        for c in range(concepts):
            either = (on | masks[:, c]).sum()
            if either:
                result[u, c] = (on & masks[:, c]).sum() / either
    return result


def test_units_that_are_graded_masks(drawn, birds):
    images = birds.dataset("test")

    def maps(drawn, image):
        grading = torch.linspace(1, 2, image.shape[2] * image.shape[3]).view(1, 1, *image.shape[2:])
        return (drawn.masks(image) * grading).float()  # unit p is part p; the sixth is nothing anywhere

    def six(drawn, image):
        return torch.nn.functional.pad(maps(drawn, image), (0, 0, 0, 0, 0, 1))

    network = KnowingChannels(drawn, birds.spec.class_names, lambda scene: torch.zeros(6), six)
    found = dissect(network, images, birds.spec, range(12), batch_size=5, form_units=2)
    batch = torch.stack([images[i].image for i in range(12)])
    masks = torch.stack([images.masks(i) for i in range(12)])
    held = images.concepts[:12].bool()[:, :, None, None] & masks[:, images.concept_parts]
    everything = torch.cat([masks, held], 1)
    expected = reference_iou(six(drawn, batch).numpy(), everything.numpy())
    np.testing.assert_allclose(found.iou.numpy(), expected, atol=1e-12)
    assert found.concepts == [*PARTS, *birds.spec.concept_names]
    assert found.area.tolist() == everything.sum((0, 2, 3)).tolist()
    figures = found.figures()
    assert figures["unique_detectors"] == len({c for c in found.detectors.concept.tolist() if c >= 0})
    assert math.isnan(figures["dissection_own_best"])  # channels have no names
    assert len(found.forms) == 2
    assert figures["form_iou"] >= figures["form_single_iou"] > 0
    assert [name.partition(" is ")[0] for name in found.breakdown()["form"]] == [f"channel {u}" for u in found.forms]
    none = dissect(network, images, birds.spec, range(12), form_units=0)
    assert math.isnan(none.figures()["form_iou"])


def test_small_masks_are_found_exactly(drawn, birds):
    rare = [name for name in birds.spec.concept_names if name.startswith("eye")][:3]

    def maps(drawn, image):
        found = []
        for (scene, _), mask in zip(drawn.of(image), drawn.masks(image), strict=True):
            eye = f"eye::{scene.parts['eye']}"
            found.append(torch.stack([mask[PARTS.index("eye")] * (eye == name) * 0.01 for name in rare]))
        return torch.nn.functional.pad(torch.stack(found).float(), (0, 0, 0, 0, 0, 3))

    network = KnowingChannels(drawn, birds.spec.class_names, lambda scene: torch.zeros(6), maps)
    network.unit_names[:3] = rare
    found = dissect(network, birds.dataset("test"), birds.spec, range(12), form_units=0)
    small = [u for u in range(3) if 0 < found.area[found.own[u]] <= 0.005 * 12 * 1024]
    assert small  # otherwise nothing is tested
    for unit in small:
        assert found.iou[unit, found.own[unit]] == 1.0


def test_dissection_of_a_network_whatever_the_batches(birds):
    module, images = make_module(birds.spec), birds.dataset("test")
    whole, small = (dissect(module, images, birds.spec, range(6), size, form_units=1) for size in (100, 2))
    assert torch.equal(whole.iou.nan_to_num(-1), small.iou.nan_to_num(-1))
    assert whole.forms == small.forms
    with torch.inference_mode():
        maps = module.network.encode(torch.stack([images[i].image for i in range(6)])).maps
    size = birds.spec.image_size
    masks = torch.stack([images.masks(i) for i in range(6)])
    held = images.concepts[:6].bool()[:, :, None, None] & masks[:, images.concept_parts]
    on = enlarged(module.network, maps, size) > quantile_thresholds(maps).view(-1, 1, 1)
    for unit in (0, 9):
        wanted = [
            float((on[:, unit] & held[:, k]).sum()) / max(1, int((on[:, unit] | held[:, k]).sum())) for k in (0, 9)
        ]
        assert whole.iou[unit, [5, 14]].nan_to_num(0).tolist() == pytest.approx(wanted)
    with pytest.raises(UnsupportedError, match="no part masks"):
        dissect(module, TensorData(spec=birds.spec).dataset("test"), birds.spec, [0])


def test_maps_lie_where_the_cells_look(birds):
    for module in (
        make_module(birds.spec),
        make_whitening(birds.spec, backbone={"name": "small_cnn", "width": 8, "depth": 3}),
    ):
        with torch.inference_mode():
            field = module.network.receptive_field(birds.spec.image_size)
        assert (field.stride, field.offset) == ((8, 8), (0.5, 0.5))
    one = torch.zeros(1, 1, 4, 4)
    one[0, 0, 2, 1] = 1
    assert (
        enlarged(module.network, one, (32, 32))[0, 0].argmax() == 16 * 32 + 8
    )  # not in the middle of the 8 x 8 pixels


def tag_reader(drawn, spec, without):
    """A network that takes the tag for the class, and without one says `without` of the scene."""

    def scores(scene):
        said = without(scene) if scene.tag is None else scene.tag.code
        return torch.nn.functional.one_hot(torch.tensor(said), len(spec.class_names)).float()

    return KnowingChannels(drawn, spec.class_names, scores)


def test_a_network_that_reads_the_tag(drawn, hans):
    images = hans.dataset("test")
    labels = images.labels
    energy = (labels != 0).float()[:, None, None]
    pictures, mask = tagged(images, range(16))
    maps = {
        "knows": mask * energy + ~mask * 0.5,
        "even": torch.ones(16, 32, 32),
        "nothing": -torch.ones(16, 32, 32),
    }
    found = tag_effects(tag_reader(drawn, hans.spec, lambda scene: 0), images, range(16), maps, batch_size=7)
    figures = found.figures()
    zero = float((labels == 0).double().mean())
    assert [figures[f"accuracy_{mode}"] for mode in ("aligned", "absent", "flipped")] == [1.0, zero, 0.0]
    assert figures["flip_rate"] == 1 - zero
    assert figures["follows_tag"] == 1.0
    revealed, on_tag = found.breakdown()["reveals_tag"], found.breakdown()["energy_on_tag"]
    assert revealed["knows"] == 1.0
    assert revealed["even"] == pytest.approx(0.5, abs=0.3)
    assert on_tag["even"] == pytest.approx(figures["tag_area"])
    assert math.isnan(on_tag["nothing"])
    assert math.isnan(revealed["nothing"])
    assert torch.equal(found.area, mask.double().mean((1, 2)))
    blind = tag_effects(tag_reader(drawn, hans.spec, lambda scene: scene.cls), images, [2, 5]).figures()
    assert (blind["flip_rate"], blind["accuracy_absent"]) == (0.0, 1.0)
    assert pictures.shape == (16, 3, 32, 32)


def test_tags_are_drawn_as_the_data_does_and_added_where_there_are_none(hans):
    images, _ = tagged(hans.dataset("test"), [4, 9])
    assert torch.equal(images[1], hans.dataset("test")[9].image)
    bare, mask = tagged(hans.dataset("test"), [4, 9], "absent")
    assert not mask.any()
    other, flipped = tagged(hans.dataset("test"), [4, 9], "flipped")
    near = torch.nn.functional.max_pool2d(flipped[:, None].float(), 3, 1, 1).bool()  # its edge is smooth
    assert torch.equal(other.where(~near, bare), bare)
    assert not torch.equal(other, images)


def test_what_has_no_tag(birds, hans):
    with pytest.raises(UnsupportedError, match="no tag"):
        tag_effects(make_module(birds.spec), birds.dataset("test"), [0])
    with pytest.raises(ConfigError, match="1 maps of 'x' given for 2 images"):
        tag_effects(make_module(hans.spec), hans.dataset("test"), [0, 1], {"x": torch.zeros(1, 32, 32)})


def test_input_dependence(drawn, birds):
    images = birds.dataset("test")
    network = KnowingChannels(drawn, birds.spec.class_names, lambda scene: torch.eye(6)[scene.cls])
    behind = [any(item.layer == "back" for item in images.scene(i).distractors) for i in range(12)]
    number = {"calls": 0}

    def less(pictures, classes):
        assert torch.equal(classes, images.labels)
        number["calls"] += 1
        return torch.full((len(pictures), 32, 32), -1.0 if number["calls"] == 1 else 0.0)

    found = input_dependence(less, network, images, range(12))
    assert 0 < sum(behind) < 12
    assert found[~torch.tensor(behind)].isnan().all()
    assert set(found[~found.isnan()].tolist()) == {1.0}
    even = input_dependence(lambda pictures, classes: torch.zeros(len(pictures), 32, 32), network, images, range(12), 5)
    assert set(even[~even.isnan()].tolist()) == {0.5}
    moody = KnowingChannels(drawn, birds.spec.class_names, lambda scene: torch.eye(6)[len(scene.distractors)])
    assert input_dependence(lambda x, c: x[:, 0], moody, images, range(12)).isnan().all()
