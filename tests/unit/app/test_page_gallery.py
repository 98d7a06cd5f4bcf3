"""What the model mode of the page tells of units: how often they decide, what they count, and their names."""

import csv

import pytest
import torch

from ibd.app.page.gallery import framed_sources, strongest, usage_of
from ibd.app.page.head import head_weights, mean_contributions
from ibd.app.page.split_answers import read_answers
from ibd.app.unit_names import give_name, given_names, nameless, proposed_names, save_named_run
from ibd.config import save_config
from ibd.config.loading import load_config
from ibd.errors import CheckpointError, ConfigError, DataError, UnsupportedError
from ibd.io import find_run, load_model
from ibd.models.protopnet.push import push
from tests.axis_makers import AxisModule
from tests.model_makers import (
    TensorData,
    make_embedding,
    make_module,
    make_pipnet,
    make_posthoc,
    make_prototypes,
    make_stochastic_module,
)
from tests.unit.models.protopnet.makers import SquareData, make_module as make_protopnet

FAMILIES = {"cbm": make_module, "cem": make_embedding, "scbm": make_stochastic_module, "pipnet": make_pipnet,
            "posthoc_cbm": make_posthoc, "axes": AxisModule}  # fmt: skip


@pytest.fixture
def data():
    return TensorData((10, 9, 12))


def test_usage_by_a_loop():
    """Which prototype adds most to the predicted class of each image."""
    data = SquareData(sizes=(12, 10, 6))
    module = make_protopnet().eval()
    push(module.network, data)
    answers = read_answers(module, data, "val")
    usage = usage_of(module.network, answers)
    leads, adds = [0] * 6, [0.0] * 6
    for image in data.splits["val"][0]:
        prediction = module.predict(image)
        added = prediction.contributions[0, :, int(prediction.labels[0])]
        leads[int(added.argmax())] += 1
        adds = [total + float(value) / 10 for total, value in zip(adds, added, strict=True)]
    assert usage.images == 10
    assert usage.leads.tolist() == leads
    assert usage.adds.tolist() == pytest.approx(adds, abs=1e-4)


def test_an_absent_prototype_decides_nothing(data):
    module = make_pipnet()
    answers = read_answers(module, data, "val")
    usage = usage_of(module.network, answers)
    assert usage.present.tolist() == (answers.read.scores != 0).sum(0).tolist()
    assert int(usage.leads.sum()) == int((~answers.abstains).sum())
    assert usage_of(make_module().network, read_answers(make_module(), data, "val")) is None


def test_sources_are_framed_where_they_are_most_similar():
    """Every frame holds the middle of the patch that the prototype is."""
    data = SquareData(sizes=(20, 6, 6))
    module = make_protopnet().eval()
    push(module.network, data)
    found = framed_sources(module, data)
    assert sorted(found) == list(range(6))
    for source in module.sources():
        framed = found[source.prototype]
        assert (framed.image, framed.row, framed.column) == (source.index, source.row, source.column)
        top, left, bottom, right = framed.box
        y, x = (source.row + 0.5) / 4, (source.column + 0.5) / 3
        assert top <= y <= bottom
        assert left <= x <= right


def test_strongest_images(data):
    module = make_module()
    answers = read_answers(module, data, "train")
    scores = answers.read.scores
    for unit, images in enumerate(strongest(answers, 3).tolist()):
        assert images == sorted(range(10), key=lambda index: -float(scores[index, unit]))[:3]


@pytest.mark.parametrize("name", FAMILIES)
def test_mean_contributions_by_a_loop(name, data):
    module = FAMILIES[name]().eval()
    data = TensorData((10, 9, 12), spec=module.spec) if module.spec.image_size != data.spec.image_size else data
    mean, seen = mean_contributions(module, data, "val")
    images, labels, _ = data.splits["val"]
    assert seen.tolist() == torch.bincount(labels, minlength=3).tolist()
    for label in range(3):
        added = [module.predict(image[None]).contributions[0, :, label] for image in images[labels == label]]
        expected = torch.stack(added).mean(0) if added else torch.full_like(mean[label], torch.nan)
        torch.testing.assert_close(mean[label].float(), expected.float(), equal_nan=True, atol=1e-4, rtol=1e-4)


def test_weights_are_those_of_a_linear_head():
    network = make_module().network
    assert torch.equal(head_weights(network), network.head.weight.detach())
    assert head_weights(make_module(head="mlp").network) is None


# Names


def test_what_a_person_may_name():
    assert nameless(make_module().network) == []
    assert nameless(make_posthoc(truth=False).network) == list(make_posthoc().spec.concept_names)
    assert nameless(make_prototypes().network) == [f"prototype {index}" for index in range(6)]


def test_names_are_kept_with_the_run(tmp_path):
    network = make_prototypes().network
    assert given_names(tmp_path, network) == {}
    give_name(tmp_path, network, "prototype 2", "  red\n wing ")
    assert give_name(tmp_path, network, "prototype 3", "beak") == {"prototype 2": "red wing", "prototype 3": "beak"}
    assert give_name(tmp_path, network, "prototype 3", "") == {"prototype 2": "red wing"}
    assert given_names(tmp_path, network) == {"prototype 2": "red wing"}
    with (tmp_path / "names.csv").open() as file:
        rows = {row["concept"]: row["name"] for row in csv.DictReader(file)}
    assert rows == {f"prototype {index}": "red wing" if index == 2 else "" for index in range(6)}


@pytest.mark.parametrize(
    ("unit", "name", "message"),
    [
        ("prototype 9", "x", "no prototype 'prototype 9' to be named"),
        ("prototype 1", "wing", "'wing' is what another prototype is called"),
        ("prototype 1", "prototype 2", "'prototype 2' is what another prototype is called"),
        ("prototype 1", "x" * 81, "a name of 81 characters"),
    ],
)
def test_names_that_cannot_be(unit, name, message, tmp_path):
    network = make_prototypes().network
    give_name(tmp_path, network, "prototype 0", "wing")
    with pytest.raises(ConfigError, match=message):
        give_name(tmp_path, network, unit, name)
    assert given_names(tmp_path, network) == {"prototype 0": "wing"}


def test_a_damaged_file_of_names_is_not_written_over(tmp_path):
    network = make_prototypes().network
    (tmp_path / "names.csv").write_text("concept,name\nprototype 77,wing\n")
    with pytest.raises(DataError, match="no concept 'prototype 77'"):
        give_name(tmp_path, network, "prototype 0", "wing")
    assert "prototype 77" in (tmp_path / "names.csv").read_text()


def test_a_label_that_a_score_tells_is_proposed():
    network = make_posthoc(truth=False).network
    concepts = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, torch.nan], [0.0, 0.0]])
    scores = torch.zeros(4, 6)
    scores[:, 2] = torch.tensor([0.9, 0.1, 0.8, 0.2])
    found = proposed_names(network, scores, concepts, ["red", "blue"])
    assert {unit: (one.name, one.because) for unit, one in found.items()} == {"wing::green": ("red", "AUROC 1.00")}
    assert proposed_names(network, scores, concepts[:, :0], []) == {}


def found_run(folder):
    module = make_posthoc(truth=False)
    module.save(folder / "checkpoints" / "best.ckpt")
    save_config(load_config("toybirds/tiny"), folder / "config.yaml")
    return module


def test_named_concepts_become_a_run(tmp_path):

    run = tmp_path / "found" / "2026-01-01_00-00-00"
    module = found_run(run)
    expected = module.predict(torch.full((1, 3, 16, 16), 0.5)).logits
    folder = save_named_run(run, module, {"wing::red": "scarlet"})
    assert folder.parent == tmp_path / "found-edited"
    named = load_model(folder)
    assert named.network.unit_names[:2] == ["scarlet", "wing::blue"]
    assert load_model(run).network.unit_names[0] == "wing::red"
    prediction = named.predict(torch.full((1, 3, 16, 16), 0.5))
    torch.testing.assert_close(prediction.logits, expected)
    assert bool(prediction.intervene({"scarlet": 1.0}).edited[0, 0])
    with pytest.raises(ConfigError, match="no concept has a name"):
        save_named_run(run, module, {})
    with pytest.raises(UnsupportedError, match="are numbered, not named"):
        save_named_run(run, make_prototypes(), {"prototype 1": "x"})


def test_a_run_of_which_the_saving_was_interrupted_is_none(tmp_path, monkeypatch):
    module = found_run(tmp_path / "found" / "2026-01-01_00-00-00")
    whole = save_named_run(tmp_path / "found", module, {"wing::red": "scarlet"})
    save = type(module).save

    def killed(self, path):
        save(self, path)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(module), "save", killed)
    with pytest.raises(KeyboardInterrupt):
        save_named_run(tmp_path / "found", module, {"scarlet": "ruby"})
    assert len(list((tmp_path / "found-edited").iterdir())) == 2
    assert find_run(tmp_path / "found-edited") == whole


def test_a_run_that_was_moved_out_of_its_folder(tmp_path):
    """Else it would be named for whatever it lies in, and of a run at the root there would be no name at all."""
    module = found_run(tmp_path / "mine")
    folder = save_named_run(tmp_path / "mine", module, {"wing::red": "scarlet"})
    assert folder.parent == tmp_path / "mine-edited"
    assert save_named_run(folder, module, {"scarlet": "ruby"}).parent == tmp_path / "mine-edited"


def test_a_folder_of_found_concepts_says_where_these_are_named(tmp_path):
    (tmp_path / "directions.npz").touch()
    with pytest.raises(CheckpointError, match=r"found, and no model.*name them in .*names.csv"):
        find_run(tmp_path)
