"""Prototypes that a person forgets, keeps or replaces by another training patch, with the last layer solved again."""

import pytest
import torch

from ibd.errors import ConfigError, UnsupportedError
from ibd.models.protopnet.editing import Patch, PrototypeEdits, edit_prototypes, right_images
from ibd.models.protopnet.evaluation import nearest_patches
from ibd.models.protopnet.last_layer import fit_last_layer
from ibd.models.protopnet.projection import read_similarities
from ibd.models.protopnet.push import push
from tests.model_makers import make_module as make_bottleneck, make_pipnet
from tests.unit.models.protopnet.makers import SquareData, features_of, make_module

CLASSES = ["ant", "ant", "bee", "bee", "cow", "cow"]
QUICK = {"last_layer": {"ridge": 0.1, "tolerance": 1e-2}}


@pytest.fixture
def data():
    return SquareData()


@pytest.fixture
def module(data):
    module = make_module(**QUICK).eval()
    push(module.network, data)
    return module


def test_offered_patches_are_of_the_own_class_one_of_each_image(module, data):
    """Beside a loop over all of them in float64."""
    offered = nearest_patches(module, data, k=4, own_class=True)
    features, labels = features_of(module.network, data).double(), data.splits["train"][1]
    prototypes = module.network.prototypes.double()
    for unit in range(6):
        mine = [patch for patch in offered if patch.prototype == unit]
        assert {(patch.owner, patch.class_name) for patch in mine} == {(CLASSES[unit],) * 2}
        assert len({patch.index for patch in mine}) == 4
        own = (labels == unit // 2).nonzero().flatten()
        squared = (features[own] - prototypes[unit, :, None, None]).square().sum(1).flatten(1).amin(1)
        nearest, _ = squared.sort()
        assert [patch.distance for patch in mine] == pytest.approx(nearest[:4].tolist(), abs=1e-4)
        source = module.sources()[unit]
        assert (mine[0].index, mine[0].row, mine[0].column) == (source.index, source.row, source.column)


def test_forgetting_solves_the_last_layer_without_them(module, data):
    network = module.network
    scores, labels = read_similarities(network, data)
    kept = torch.tensor([True, False, True, True, True, False])
    wanted, _ = fit_last_layer(scores, labels, network.initial_head(), network.own(), kept, ridge=0.1, tolerance=1e-2)
    report = edit_prototypes(module, data, PrototypeEdits(forget=frozenset({1, 5})))
    assert torch.equal(network.mask, kept)
    assert report.kept == 4
    torch.testing.assert_close(network.weight(), wanted)
    assert not network.weight()[:, [1, 5]].any()
    assert "70 training images" in report.solved
    assert torch.equal(report.after, right_images(module, data))
    by_hand = module.predict(data.splits["val"][0]).logits.argmax(1) == data.splits["val"][1]
    assert torch.equal(report.after, by_hand)


def test_a_replaced_prototype_is_the_training_patch(module, data):
    patch = nearest_patches(module, data, k=4, own_class=True)[3 * 4 + 2]
    place = Patch(patch.index, patch.row, patch.column)
    edit_prototypes(module, data, PrototypeEdits(replace={3: place}))
    source = module.sources()[3]
    assert (source.index, source.row, source.column) == (place.image, place.row, place.column)
    assert source.sample == f"tensor {place.image}"
    assert source.moved == pytest.approx(patch.distance, abs=1e-6)
    assert float(module.verify_projection(data).max()) <= 1e-5  # still patches, all of them
    units = module.predict(data.splits["train"][0][place.image]).units
    assert float(units.scores[0, 3]) == pytest.approx(module.network.perfect_score(), abs=0.05)
    assert int(units.maps[0, 3].argmax()) == place.row * 3 + place.column


def test_keeping_switches_on_what_was_pruned_or_switched_off(module, data):
    module.network.mask[[0, 1]] = torch.tensor([True, False])
    module.reweight({"prototype 2": 0})
    edit_prototypes(module, data, PrototypeEdits(keep=frozenset({1, 2}), forget=frozenset({0})))
    assert module.network.mask.tolist() == [False, True, True, True, True, True]
    assert module.network.factor.tolist() == [1.0] * 6
    assert module.network.weight()[:, [1, 2]].any(0).all()


def test_a_factor_of_a_person_is_part_of_what_is_solved(module, data):
    """Logits are made of factor times similarity: a factor of 2 halves the weight that is right for it."""
    edit_prototypes(module, data, PrototypeEdits(forget=frozenset({0})))
    module.reweight({1: 3.0})
    report = edit_prototypes(module, data, PrototypeEdits(forget=frozenset({0})))
    network = module.network
    scores, labels = read_similarities(network, data)
    wanted, _ = fit_last_layer(
        scores * network.factor, labels, network.initial_head(), network.own(), network.mask, ridge=0.1, tolerance=1e-2
    )
    torch.testing.assert_close(network.head.weight, wanted)
    assert report.kept == 5


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        (PrototypeEdits(), "nothing is to be forgotten"),
        (PrototypeEdits(forget=frozenset({6})), "no prototype 6: there are 6"),
        (PrototypeEdits(forget=frozenset({1}), keep=frozenset({1})), "prototype 1 is to be two of"),
        (
            PrototypeEdits(forget=frozenset({2, 3})),
            "class 'bee' would have no prototype left.*: keep or replace one of",
        ),
        (PrototypeEdits(replace={0: Patch(1, 0, 0)}), "prototype 0 is of class 'ant', and training image 1 of 'cow'"),
        (PrototypeEdits(replace={0: Patch(70, 0, 0)}), "no training image 70: there are 70"),
        (PrototypeEdits(replace={4: Patch(0, 4, 0)}), r"no position \(4, 0\): patches lie in 4 rows, 3 columns"),
    ],
)
def test_mistakes_change_nothing(module, data, edits, message):
    before = {name: value.clone() for name, value in module.network.state_dict().items()}
    with pytest.raises(ConfigError, match=message):
        edit_prototypes(module, data, edits)
    for name, value in module.network.state_dict().items():
        assert torch.equal(value.nan_to_num(-1), before[name].nan_to_num(-1)), name


def test_channels_are_forgotten_and_not_replaced():
    module, data = make_pipnet(), SquareData()
    weight = module.network.weight()
    report = edit_prototypes(module, data, PrototypeEdits(forget=frozenset({2})))
    weight[:, 2] = 0
    assert torch.equal(module.network.weight(), weight)
    assert report.solved == ""
    with pytest.raises(UnsupportedError, match="are channels, and cannot become a patch"):
        edit_prototypes(module, data, PrototypeEdits(replace={0: Patch(0, 0, 0)}))


def test_an_image_without_an_answer_is_not_right():
    module, data = make_pipnet(), SquareData(spec=make_pipnet().spec)
    module.network.head.weight.data.zero_()  # no evidence for any class
    assert not right_images(module, data).any()


def test_concepts_are_no_prototypes(data):
    with pytest.raises(UnsupportedError, match="has no prototypes to edit: its units are concepts"):
        edit_prototypes(make_bottleneck(), data, PrototypeEdits(forget=frozenset({2})))
