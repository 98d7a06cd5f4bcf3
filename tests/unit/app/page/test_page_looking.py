"""What the page shows of one image: maps of units and of explainers, examples, and what would change the answer."""

import dataclasses
import threading

import numpy as np
import pytest
import torch

from ibd.app.page.changes import as_one, merged, unit_changes, why_in_words
from ibd.app.page.examples import unit_examples
from ibd.app.page.explaining import OWN, cost_in_words, explained, fitting, on_scale
from ibd.app.page.long_work import Stopped, Work
from ibd.app.page.maps import gray, in_shares, png, unit_look
from ibd.app.page.results import lay_over
from ibd.app.page.split_answers import read_answers
from ibd.errors import UnsupportedError
from ibd.explain.render import overlay
from ibd.explain.targets import Target
from ibd.models.counterfactual import why
from tests.axis_makers import AxisModule
from tests.model_makers import (
    LARGE,
    TensorData,
    make_embedding,
    make_module,
    make_pipnet,
    make_prototypes,
    make_stochastic_module,
)

FAMILIES = {
    "concepts": make_module,
    "embeddings": make_embedding,
    "stochastic": make_stochastic_module,
    "parts": make_pipnet,
    "prototypes": make_prototypes,
    "axes": AxisModule,
}


def image_of(model, seed=0):
    return torch.rand(1, 3, *model.spec.image_size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES)
def test_a_unit_of_every_family_has_a_picture_and_a_caption(make):
    model = make().eval()
    image = image_of(model)
    look = unit_look(model, model.predict(image), image, 1)
    assert look.picture.shape == (*model.spec.image_size, 3)
    assert 0 <= look.picture.min() <= look.picture.max() <= 1
    assert look.note.startswith("Red")
    assert png(look.picture).startswith(b"\x89PNG")


def test_the_map_is_the_units_own_and_where_it_is():
    model = make_module()
    image = image_of(model)
    prediction = model.predict(image)
    maps = torch.zeros_like(prediction.units.maps)
    maps[0, 2, 0, -1] = 3.0  # top right, for
    maps[0, 2, -1, 0] = -3.0  # bottom left, against
    planted = dataclasses.replace(prediction, units=dataclasses.replace(prediction.units, maps=maps))
    picture = unit_look(model, planted, image, 2).picture - gray(image[0])
    red, blue = picture[..., 0] - picture[..., 2], picture[..., 2] - picture[..., 0]
    row, column = np.unravel_index(red.argmax(), red.shape)
    assert row < 8 <= column
    row, column = np.unravel_index(blue.argmax(), blue.shape)
    assert column < 8 <= row
    assert np.abs(unit_look(model, planted, image, 3).picture - gray(image[0])).max() == 0  # of another unit: nothing


def test_an_opacity_of_the_page_is_a_strength_of_the_library():
    image, heat = torch.rand(3, 8, 8), torch.randn(8, 8)
    shown = lay_over(gray(image), overlay(image, heat, strength=1.0), 0.6)
    np.testing.assert_allclose(shown, overlay(image, heat, strength=0.6), atol=1e-6)


def test_a_frame_is_told_in_shares_of_the_image():
    assert in_shares((-2, 4, 8, 40), (16, 32)) == [0, 0.125, 0.5, 1]
    assert in_shares(None, (16, 32)) is None


def test_the_examples_of_a_unit_are_the_training_images_in_which_it_is_highest():
    model, data = make_module(), TensorData()
    answers = read_answers(model, data, "train")
    scores = torch.zeros(40, 6)
    scores[[7, 31, 5], 1] = torch.tensor([5.0, 9.0, 9.0])
    planted = dataclasses.replace(answers, read=answers.read._replace(scores=scores))
    found = unit_examples(model, data, planted, 1, count=3)
    assert [example.index for example in found] == [5, 31, 7]
    assert [example.name for example in found] == ["tensor 5", "tensor 31", "tensor 7"]
    images, labels, concepts = data.splits["train"]
    for example in found:
        assert example.class_name == data.spec.class_names[labels[example.index]]
        assert torch.equal(example.image, images[example.index])
        assert example.value == f"{float(model.predict(images[[example.index]]).unit_values[0, 1]):.2f}"
        known = float(concepts[example.index, 1])
        assert example.truth == (None if known != known else f"{known:.2f}")


def test_a_prototype_begins_with_the_patch_that_it_is():
    data = TensorData(spec=LARGE)
    model = make_prototypes(data)
    answers = read_answers(model, data, "train")
    source = model.sources()[3]
    first, *others = unit_examples(model, data, answers, 3, count=4)
    assert (first.index, first.is_source) == (source.index, True)
    assert [example.is_source for example in others] == [False] * 4
    assert source.index not in [example.index for example in others]
    assert first.look.box is not None


def test_what_refuses_a_model_says_why_before_it_is_asked():
    model = make_module()
    found = {fit.name: fit for fit in fitting(model, image_of(model))}
    assert found[OWN].why_not is None
    assert found["rise"].why_not is None  # not run to its end for that
    assert "attention" in found["attention_rollout"].why_not
    assert "\n" not in found["attention_rollout"].why_not
    assert not model.network._forward_pre_hooks


def test_an_explainer_tells_its_passes_and_can_be_stopped():
    model, said = make_module(), []
    image = image_of(model)
    found = explained(model, image, "occlusion", Target.cls(1), lambda *step: said.append(step))
    assert said[0] == (0, 0)
    assert sum(step[0] for step in said[-1:]) > 1
    assert found.map.shape == (1, 16, 16)
    assert f"{found.cost.forwards:g} passes" in cost_in_words(found)

    ready, go = threading.Event(), threading.Event()

    def run(told):
        def wait(done, total):
            ready.set()
            go.wait(10)
            told(done, total)

        return explained(model, image, "rise", Target.cls(1), wait)

    work = Work(run, "rise")
    assert ready.wait(10)
    work.stop()
    go.set()
    assert work.wait(10)
    assert work.state()["stopped"]
    assert work.done == 0
    assert not model.network._forward_pre_hooks


def test_one_scale_makes_the_numbers_of_methods_alike_and_keeps_how_sharp_they_are():
    image = torch.full((3, 4, 4), 0.5)
    sharp, wide = torch.zeros(4, 4), torch.full((4, 4), 1000.0)
    sharp[0, 0] = 1e-6
    base = gray(image)

    def strength(picture):
        return np.abs(picture - base).max() / np.abs(overlay(image, torch.ones(4, 4), strength=1.0) - base).max()

    shown = on_scale(image, {"sharp": sharp, "wide": wide})
    assert strength(shown["sharp"]) == pytest.approx(1, abs=1e-5)
    assert strength(shown["wide"]) == pytest.approx(1 / 4, abs=1e-5)  # shares 1 and 1/16, whose middle is 1/4
    own = on_scale(image, {"sharp": sharp, "wide": wide}, "own")
    assert strength(own["wide"]) == pytest.approx(1, abs=1e-5)
    nothing = on_scale(image, {"nothing": torch.zeros(4, 4)})
    assert strength(nothing["nothing"]) == 0


def test_corrections_one_after_the_other_are_made_as_one():
    bottleneck, prototypes = make_module().network, make_prototypes().network
    assert merged(prototypes, {"prototype 1": 0.5}, {"prototype 1": 4.0, "prototype 2": 0.0}) == {
        "prototype 1": 2.0,
        "prototype 2": 0.0,
    }
    assert merged(bottleneck, {"wing::blue": 0.4, "flies": 1.0}, {"wing::red": 1.0}) == {
        "flies": 1.0,
        "wing::red": 1.0,
    }
    assert merged(bottleneck, {"wing::blue": 0.4}, {"wing::blue": 0.0}) == {"wing::blue": 0.0}


@pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES)
def test_what_changes_the_answer_is_made_at_once_also_beside_other_corrections(make):
    model = make().eval()
    plain = model.predict(image_of(model))
    names = model.network.unit_names
    for edits in ({}, {names[0]: 0.5}):
        start = plain.intervene(edits) if edits else plain
        found = why(start, 0)
        if found.after is None:
            assert "no change" in why_in_words(found)
            continue
        both = as_one(plain, edits, found.values, found.after)
        assert plain.intervene(both).classes == found.after.classes != start.classes
        rows = unit_changes(plain, edits, found)
        assert [row.name for row in rows] == list(found.values)
        kept = {name: value for name, value in edits.items() if not any(name in row.clears for row in rows)}
        assert both == kept | {row.name: row.value for row in rows}


def test_what_cannot_be_made_at_once_is_refused():
    model = make_module()
    plain = model.predict(image_of(model))
    with pytest.raises(UnsupportedError, match="reset first"):
        as_one(plain, {"wing::red": 0.7}, {"wing::blue": 0.7}, plain)
    with pytest.raises(UnsupportedError, match="reset first"):
        as_one(plain, {}, {"flies": 1.0}, plain)


def test_work_that_was_stopped_is_no_error():
    def stop(told):
        raise Stopped

    work = Work(stop, "nothing")
    assert work.wait(5)
    assert work.error is None
