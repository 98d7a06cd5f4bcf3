"""Concepts that teach nothing are named before training, images that a backbone cannot take before a run is made."""

import pytest

from tests.command import QUIET, ibd
from tests.data_makers import make_concept_folder, write_rows

HEADER = ["class", "legs", "wings", "fur"]


@pytest.fixture
def fit(tmp_path, monkeypatch):
    """A function that trains on three animals with some concepts."""
    monkeypatch.chdir(tmp_path)
    make_concept_folder("animals", train=2, val=1, test=0)
    (tmp_path / "animals.yaml").write_text(
        "model: {name: cbm, backbone: {name: small_cnn, width: 4, depth: 3}}\n"
        "data: {name: folder, root: animals, image_size: 16, batch_size: 4}\n"
        "trainer: {max_epochs: 1}\n"
    )

    def run(*changes, cat=(0, 1, 1), dog=(0, 0, 1), owl=(1, 0, 1)):
        write_rows("animals/concepts.csv", [HEADER, ["cat", *cat], ["dog", *dog], ["owl", *owl]])
        return ibd("fit", "animals.yaml", *QUIET, "logger.figures_every=0", *changes)

    return run


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([("", "", "")] * 3, "never known: 'legs', 'wings', 'fur'"),
        ([(1, "", 0), ("", "", 0), (1, "", "")], "never known: 'wings'; never present: 'fur'; never absent: 'legs'"),
    ],
)
def test_nothing_to_learn(fit, tmp_path, rows, said):
    answer = fit(cat=rows[0], dog=rows[1], owl=rows[2])
    assert answer.mistake == f"the concepts of the training images teach nothing: {said}"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("model", ["cbm", "concept_whitening"])
def test_some_teach_nothing(fit, caplog, model):
    assert fit(f"model.name={model}", cat=(0, "", 1), dog=(0, "", 1), owl=(1, "", 1)).code == 0
    assert "teach nothing about these concepts: never known: 'wings'; never absent: 'fur'" in caplog.text


def test_none_differs_in_validation(fit, tmp_path, caplog):
    for name in ("dog", "owl"):
        (tmp_path / f"animals/val/{name}/000.png").unlink()
        (tmp_path / f"animals/val/{name}").rmdir()
    assert fit().code == 0
    assert "no concept differs between the validation images: val/concept_auroc is not a number" in caplog.text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.image_size=1"], "data.image_size: 1 given, a number or [height, width] is needed, at least 2"),
        (["data.batch_size=1", "data.image_size=8"], "data.batch_size: 1 given, at least 2 is needed: batch norm"),
        (
            ["model.backbone.name=vgg11", "model.backbone.width=null", "model.backbone.depth=null"],
            "data.image_size: 16 x 16 given, which is too small for the backbone vgg11; 32 x 32 would do",
        ),
        pytest.param(
            ["model.backbone=densenet121"],
            "data.image_size: 16 x 16 given, which is too small for the backbone densenet121; 32 x 32 would do",
            marks=pytest.mark.slow,
        ),
        (["trainer.precision=transformer-engine"], "trainer: Requirement 'transformer_engine"),
        (["model.backbone.name=resnet18", "model.backbone.width=8"], "model.backbone.width"),
        (["model.backbone.weights=IMAGENET1K_V1"], "model.backbone.weights: SmallCNN has no published weights"),
        (["model.backbone.depth=2"], "model.backbone.depth: 2 given, at least 3 is needed"),
        (["model.backbone.depth=50", "model.backbone.width=100000000"], "model.backbone.depth: 50 given with width"),
        (
            ["model.head=mlp", "model.hidden_units=1000000000000"],
            "model.hidden_units: 1000000000000 given, which makes 10^13 weights or more, too many for memory",
        ),
        (["model.name=pipnet", "model.prototypes=1000000000000"], "model.prototypes: 1000000000000 given, which makes"),
        (
            ["model.name=protopnet", "model.per_class=1000000000000"],
            "model.per_class: 1000000000000 given, which makes",
        ),
        (["data.image_size=1000000"], "data.image_size: 1000000 x 1000000 given, which does not fit into memory"),
        (["data.num_workers=1000000000"], "data.num_workers: 1000000000 given, at most 1024 processes are allowed"),
        (['data.root="a\\0b"'], "a path cannot hold the character NUL"),
    ],
)
def test_found_before_a_run_is_made(fit, tmp_path, changes, message):
    assert message in fit(*changes).mistake
    assert not (tmp_path / "runs").exists()


def test_what_is_left_out_is_said_once_by_each_command(fit, caplog):
    line = "model.backbone.depth is left out: 'BagNet' has no such option"
    for _ in range(2):
        caplog.clear()
        assert fit("model.backbone=bagnet9", "model.backbone.blocks=[1,1,1,1]").code == 0
        assert caplog.messages.count(line) == 1


def test_one_image_at_a_time_where_that_can_be(fit):
    assert fit("data.batch_size=1", "model.backbone.norm=group", "data.image_size=8").code == 0
