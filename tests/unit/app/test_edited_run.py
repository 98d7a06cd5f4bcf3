"""An edited model becomes a run of its own: the one that it was made of stays as it is, bit by bit."""

import json

import pytest
import torch

from ibd.app.edited_run import edit_prototypes_of
from ibd.errors import ConfigError
from ibd.io import load_model, load_run
from ibd.models.protopnet.editing import PrototypeEdits
from tests.command import QUIET, fitted

CONFIG = """
name: protos
model: {name: protopnet, per_class: 2, dimension: 8, distance: cosine, activation: linear,
        backbone: {name: small_cnn, width: 4, depth: 3}, warm: {epochs: 1}, joint: {epochs: 1}}
data: {name: toybirds, preset: tiny, train_size: 96, val_size: 33, test_size: 33, batch_size: 32}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = tmp_path_factory.mktemp("config") / "protos.yaml"
    config.write_text(CONFIG)
    return fitted(config, *QUIET, "logger.figures_every=0", f"output={tmp_path_factory.mktemp('runs')}")


def files_of(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_new_run_beside_the_old_one(run):
    before = files_of(run)
    made = edit_prototypes_of(run, PrototypeEdits(forget=frozenset({1})))
    assert files_of(run) == before
    assert made.folder.parent == run.parent.with_name("protos-edited")
    model, data = load_run(made.folder)
    assert model.network.mask.tolist() == [unit != 1 for unit in range(12)]
    assert not model.network.weight()[:, 1].any()
    told = json.loads((made.folder / "edited.json").read_text())
    assert told["forget"] == [1]
    assert told["made_of"] == str(run / "checkpoints" / "best.ckpt")
    right = int(
        (
            model.predict(torch.stack([data.dataset("val")[i].image for i in range(33)])).labels
            == data.dataset("val").labels
        ).sum()
    )
    assert told["right_after"] == right == int(made.report.after.sum())
    sources = json.loads((made.folder / "checkpoints" / "best.prototypes.json").read_text())
    assert sources == [source.to_dict() for source in load_model(run).sources()]
    again = edit_prototypes_of(made.folder, PrototypeEdits(keep=frozenset({1})))
    assert again.folder.parent == made.folder.parent  # and no -edited-edited
    assert again.folder != made.folder
    assert load_model(again.folder).network.mask.all()


@pytest.mark.slow
def test_a_mistake_leaves_no_run_behind(run):
    with pytest.raises(ConfigError, match="would have no prototype left"):
        edit_prototypes_of(run, PrototypeEdits(forget=frozenset({0, 1})))
    folder = run.parent.with_name("protos-edited")
    assert not folder.exists() or all((one / "checkpoints" / "best.ckpt").exists() for one in folder.iterdir())
