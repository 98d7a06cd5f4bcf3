"""What a prediction shows, and how it changes when units are set."""

import textwrap

import pytest
import torch

from ibd.errors import ConfigError
from ibd.models.baseline.network import BaselineNetwork
from ibd.models.cbm.network import ConceptBottleneckNetwork
from ibd.models.prediction import Prediction
from ibd.types import DataSpec, Units
from tests.model_makers import SPEC, CountingBackbone, make_network

IMAGES = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def predict(network, images=IMAGES, names=()):
    with torch.no_grad():
        logits, units = network(images)
    return Prediction(network, units, logits, torch.zeros_like(units.scores, dtype=torch.bool), list(names))


def by_hand():
    """A network whose numbers one can do in the head: two classes, four concepts, one image."""
    names = ("wing::red", "wing::blue", "size::big", "flies")
    groups = {"wing": (0, 1), "size": (2,), "flies": (3,)}
    spec = DataSpec(("cow", "bee"), names, groups, ("wing",), image_size=(16, 16))
    network = ConceptBottleneckNetwork(CountingBackbone(), spec)
    with torch.no_grad():
        network.head.weight.copy_(torch.tensor([[0.0, 0.0, 4.0, -1.0], [2.0, -2.0, 0.0, 1.0]]))
        network.head.bias.copy_(torch.tensor([-0.5, 0.25]))
    scores = torch.tensor([[0.75, 0.25, 0.5, 0.88]]).logit()
    units = Units(scores, torch.zeros(1, 4, 2, 2))
    return Prediction(network, units, network.decode(units).detach(), torch.zeros(1, 4, dtype=torch.bool), ["a.png"])


def text(block):
    return textwrap.dedent(block).strip("\n")


def test_table():
    assert str(by_hand()) == text("""
        a.png: bee 81.9 %, cow 18.1 %
          concept      value   adds to the logit of bee
          wing::red     0.75     +1.50  ████████████████████
          flies         0.88     +0.88  ████████████
          wing::blue    0.25     -0.50  ░░░░░░░
          size::big     0.50     +0.00
          bias                   +0.25
          = logit                +2.13
    """)


def test_table_after_an_intervention_is_cut_but_shows_what_was_set_and_counts_what_it_cleared():
    after = by_hand().intervene({"wing::blue": 1})
    assert after.table(top=1, classes=1) == text("""
        a.png: cow 81.6 %
          concept      value   adds to the logit of cow
          size::big     0.50     +2.00  ████████████████████
          wing::blue    1.00*    +0.00
          2 others               -0.88
          bias                   -0.50
          = logit                +0.62
          * set by hand, or following from that (and 1 more, set to 0)
    """)


def test_table_of_a_head_that_does_not_add_up():
    lines = predict(make_network(head="mlp"))[2].table(top=2).splitlines()
    assert len(lines) == 5
    assert lines[-1] == "  each is the logit lost without that unit alone; they do not add up"


def test_table_of_a_baseline():
    torch.manual_seed(0)
    found = predict(BaselineNetwork(CountingBackbone(), SPEC.class_names)).intervene({"channel 3": 0}).table(1)
    assert found.startswith("image 1: ")
    assert "  channel 3    0.00*    +0.00\n" in found


def test_table_shows_what_was_set_to_0_by_name():
    assert "  wing::red    0.00*" in by_hand().intervene({"wing::red": 0}).table(top=1)


def test_few_images_are_tables_and_many_are_lines():
    prediction = predict(make_network())
    assert str(prediction[:4]).count("= logit") == 4
    lines = str(prediction).splitlines()
    assert len(lines) == 5
    top = prediction.probabilities.max(1).values
    assert lines[3] == f"image 3: {prediction.classes[3]} {100 * top[3]:.1f} %"


def test_values_are_readable():
    prediction = predict(make_network())
    torch.testing.assert_close(prediction.unit_values, prediction.units.scores.sigmoid())
    torch.testing.assert_close(prediction.probabilities.sum(1), torch.ones(5))
    assert prediction.classes == [SPEC.class_names[i] for i in prediction.logits.argmax(1)]
    assert prediction.contributions.shape == (5, 6, 3)
    assert not prediction.contributions.requires_grad


def test_intervening_decodes_again_without_the_backbone():
    network = make_network()
    before = predict(network)
    scores, logits = before.units.scores.clone(), before.logits.clone()
    after = before.intervene({"wing": "red"}).intervene({"flies": torch.tensor([0, 1, 0, 1, 0])})
    assert network.backbone.passes == 1
    reads = before.units.scores.sigmoid()
    reads[:, :3], reads[:, 5] = torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 1, 0, 1, 0])
    torch.testing.assert_close(after.logits, network.head(reads).detach())
    assert torch.equal(before.units.scores, scores)  # the first stays as it was
    assert torch.equal(before.logits, logits)
    assert not before.edited.any()
    assert after.edited.tolist() == [[True, True, True, False, False, True]] * 5
    assert after.units.maps is before.units.maps


def test_interventions_add_up_and_the_last_word_counts():
    first = predict(make_network()).intervene({"wing::red": 1, "size::big": 0})
    second = first.intervene({"wing::blue": 1})
    assert second.unit_values[:, [0, 1, 3]].round().tolist() == [[0, 1, 0]] * 5
    both = predict(make_network()).intervene({"wing::blue": 1, "size::big": 0})
    torch.testing.assert_close(second.logits, both.logits)


def test_setting_what_is_so_already_is_marked():
    edited = by_hand().intervene({"flies": 0.88}).edited
    assert edited.tolist() == [[False, False, False, True]]


def test_unknown_names_are_suggested():
    with pytest.raises(ConfigError, match=r"unknown concept 'fies'\. Did you mean 'flies'\?"):
        by_hand().intervene({"fies": 1})


def test_indexing_and_iterating():
    prediction = predict(make_network(), names="abcde")
    assert [len(prediction), len(prediction[1:3]), len(prediction[-1])] == [5, 2, 1]
    assert prediction[-1].names == ["e"]
    assert torch.equal(prediction[1:3].logits, prediction.logits[1:3])
    assert torch.equal(prediction[3].units.maps[0], prediction.units.maps[3])
    assert [each.names for each in prediction] == [["a"], ["b"], ["c"], ["d"], ["e"]]
    for index in (5, -6):
        with pytest.raises(IndexError):
            prediction[index]
        with pytest.raises(IndexError):
            prediction.table(index)


def test_joining():
    network = make_network()
    named, nameless = predict(network, IMAGES[:2], names="ab"), predict(network, IMAGES[2:])
    both = named.join(nameless.intervene({"flies": 1}))
    assert both.names == ["a", "b", "image 0", "image 1", "image 2"]
    assert torch.equal(both.logits[:2], named.logits)
    assert both.edited.any(1).tolist() == [False, False, True, True, True]
    assert nameless.join(nameless).names == []
    assert len(str(both).splitlines()) == 5
    with pytest.raises(ConfigError, match="two networks"):
        named.join(predict(make_network()))


def test_works_on_what_inference_mode_made():
    with torch.inference_mode():
        before = predict(make_network())
    after = before.intervene({"flies": 0.5})
    assert "flies" in after.table(0, top=0)
    assert not torch.equal(after.logits, before.logits)
