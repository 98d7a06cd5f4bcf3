"""Every YAML in configs/ that names a model can be read, described, and trained from the command line."""

import pytest
import torch
from omegaconf import OmegaConf

from ibd.config import load_config
from ibd.config.sources import read_sources
from ibd.explain.directions import Directions
from ibd.io import load_model
from tests.command import ROOT, TINY, checkpoint, ibd, ibd_process, rows
from tests.data_makers import make_concept_folder, make_cub

FILES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*.yaml"))
CONFIGS = [file for file in FILES if "name" in read_sources(ROOT / file, ()).merged.get("model", {})]
QUICK = (
    "configs/folder/cifar10_concept_whitening.yaml",
    "configs/toybirds/baseline.yaml",
    "configs/toybirds/tiny.yaml",
)
"""Each family once, and birds and folders: the other files differ in numbers."""
FEW = (
    "logger.mode=disabled",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=1",
    "trainer.limit_train_batches=2",
    "trainer.limit_val_batches=2",
    "data.batch_size=4",
    "data.num_workers=0",
)


def folder(root, data):
    """Small images; with the classes and masks that a config says decide these."""
    deciding = data.get("deciding", {})
    parts = sorted({part for each in deciding.values() for part in each})
    named = {"classes": sorted(deciding), "masks": parts} if deciding else {}
    return [f"data.root={make_concept_folder(root, train=4, val=2, **named)}", "data.image_size=32"]


DATA = {
    "folder": folder,
    "cub": lambda root, data: [f"data.root={make_cub(root)}", "data.min_classes=1", "data.image_size=64"],
    "pasted": lambda root, data: ["data.train_size=40", "data.val_size=8", "data.test_size=8"],
    "toybirds": lambda root, data: ["data.train_size=40", "data.val_size=8", "data.test_size=8"],
}


@pytest.fixture
def changes(file, tmp_path, monkeypatch):
    """What makes a config fast: few images, made here, and no download."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # of a frozen backbone
    merged = read_sources(ROOT / file, ()).merged
    weights = ["model.backbone.weights=null"] if "weights" in merged["model"]["backbone"] else []
    return [
        *FEW,
        *DATA[merged["data"]["name"]](tmp_path / "data", merged["data"]),
        *weights,
        *asked(merged["model"], tmp_path),
    ]


def asked(model, folder):
    """What a config leaves to its user: a run of theirs, and concepts that were found on its network."""
    run = ["model.backbone.init_from=null"] if model["backbone"].get("init_from") == "???" else []
    if model.get("concepts") != "???":
        return run
    found = Directions("", torch.eye(4, 320), torch.zeros(4), tuple("abcd"), "hand").save(folder / "found.npz")
    return [*run, f"model.concepts={found}"]


def test_there_are_configs():
    assert len(CONFIGS) >= 8
    others = ("base.yaml", "compare.yaml")  # the second is read by tests/unit/test_docs.py
    assert {file for file in FILES if not file.endswith(others)} == set(CONFIGS)


@pytest.mark.parametrize(
    "file",
    [file if file in QUICK else pytest.param(file, marks=pytest.mark.slow) for file in CONFIGS],
)
def test_trains(file, changes, tmp_path):
    if "pretrained" in file:
        pytest.importorskip("timm")
    drawn = "tiny" in file  # a picture takes longer than the training
    answer = ibd("fit", ROOT / file, *changes, f"output={tmp_path / 'runs'}", f"logger.figures_every={int(drawn)}")
    assert answer.code == 0, answer.err
    assert answer.run.parent.name == read_sources(ROOT / file, ()).merged.get("name", file.rpartition("/")[2][:-5])
    assert (answer.run / "figures" / "validation_epoch_000.png").is_file() is drawn
    assert len([row for row in rows(answer.run) if row["train/loss"]]) == 1
    trained = load_model(answer.run)
    assert all(bool(p.isfinite().all()) for p in trained.parameters())
    assert checkpoint(answer.run)["global_step"] == 2
    size = trained.spec.image_size
    assert trained.predict(torch.rand(2, 3, *size)).logits.shape == (2, len(trained.spec.class_names))


@pytest.mark.parametrize("file", CONFIGS)
def test_is_described(file, changes):
    answer = ibd("config", ROOT / file, *changes)
    assert answer.code == 0
    lines = [line for line in answer.out.splitlines() if ":" in line and not line.lstrip().startswith("#")]
    assert {line.split(":")[0].strip() for line in lines} >= {"model", "backbone", "optimizer", "max_epochs", "logger"}
    undocumented = [
        line
        for previous, line in zip(["", *answer.out.splitlines()], answer.out.splitlines(), strict=False)
        if ":" in line and "#" not in line and not previous.lstrip().startswith("#")
    ]
    assert not undocumented


@pytest.mark.parametrize("file", ["configs/toybirds/cbm.yaml"])
@pytest.mark.slow
def test_trains_in_a_process_of_its_own(file, changes, tmp_path):
    answer = ibd_process("fit", ROOT / file, *changes, "output=runs", cwd=tmp_path)
    assert answer.code == 0, answer.err
    assert answer.out.startswith("done: runs/toybirds-cbm/")
    assert (tmp_path / answer.run / "checkpoints" / "best.ckpt").is_file()


def test_a_changed_configuration_leaves_the_next_one_alone():
    """What is made once, of the options of a class, is not what a configuration holds."""
    config = load_config(TINY)
    before = OmegaConf.to_yaml(config)
    config.logger.explainers.append("lrp")
    config.model.backbone.width = 99
    assert OmegaConf.to_yaml(load_config(TINY)) == before
