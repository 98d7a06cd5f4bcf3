"""The verb `prototypes`, and what predictions of a prototype network look like, on a real run."""

import csv
import json
import re
from pathlib import Path

import pytest

from ibd.io import load_model, load_run
from tests.command import QUIET, fitted, ibd
from tests.integration.test_verbs import is_picture

CONFIG = """
name: protos
model: {name: protopnet, per_class: 2, dimension: 8, distance: cosine, activation: linear,
        backbone: {name: small_cnn, width: 4, depth: 3}, warm: {epochs: 1}, joint: {epochs: 1}, prune: {}}
data: {name: toybirds, preset: tiny, train_size: 96, val_size: 33, test_size: 33, batch_size: 32}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A prototype network that has learnt next to nothing, its prototypes projected."""
    config = tmp_path_factory.mktemp("config") / "protos.yaml"
    config.write_text(CONFIG)
    return fitted(config, *QUIET, "logger.figures_every=0", f"output={tmp_path_factory.mktemp('runs')}")


@pytest.fixture
def bird(run, tmp_path):
    from torchvision.utils import save_image

    save_image(load_run(run)[1].dataset("test")[3].image, tmp_path / "bird.png")
    return tmp_path / "bird.png"


@pytest.mark.slow
def test_prototypes(run):
    answer = ibd("prototypes", run, "data.test_size=20", "--images", 2, "--top", 3, "--pages", 1)
    assert answer.code == 0, answer.err
    figures = dict(re.findall(r"^(\w+) +(\S+)$", answer.out, re.MULTILINE))
    assert set(figures) >= {"kept", "consistency", "stability", "purity", "pointing", "max_projection_distance"}
    folder = run / "figures" / "prototypes"
    assert sorted(path.name for path in folder.glob("*.png")) == sorted(
        Path(line.split()[1]).name for line in answer.out.splitlines() if line.startswith("figure:")
    )
    assert any(is_picture(path) for path in folder.glob("global*.png"))
    assert all(is_picture(folder / f"local_test_{i}.png") for i in range(2))
    sources = json.loads((folder / "prototypes.json").read_text())
    assert sources == [source.to_dict() for source in load_model(run).sources()]
    with (folder / "local.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20 * 3
    assert {row["image"] for row in rows} == {f"toybirds/test/{i}" for i in range(20)}


def test_sources_lie_beside_each_finished_checkpoint(run):
    for which in ("last", "best"):
        written = json.loads((run / "checkpoints" / f"{which}.prototypes.json").read_text())
        assert written == [source.to_dict() for source in load_model(run, which).sources()]
        assert len(written) == 12
    assert not list((run / "checkpoints").glob("*.tmp"))


@pytest.mark.slow
def test_predict_and_intervene_draw_the_sources(run, bird):
    answer = ibd("predict", run, bird, "--figure", "one.png", "--top", 3)
    assert answer.code == 0, answer.err
    assert "similarity" in answer.out
    shown = re.findall(r"prototype (\d+) .* x ([+-]\d+\.\d\d)  (\w+) +(toybirds/train/\d+) \((\d), (\d)\)", answer.out)
    sources = load_model(run).sources()
    assert len(shown) == 3
    for unit, _, owner, sample, row, column in shown:
        source = sources[int(unit)]
        assert (owner, sample, int(row), int(column)) == (source.class_name, source.sample, source.row, source.column)
    assert "bias" not in answer.out
    assert is_picture("one.png")
    unit = shown[0][0]
    answer = ibd("intervene", run, bird, f"prototype {unit}=0", "--figure", "two.png")
    assert answer.code == 0, answer.err
    assert re.search(rf"prototype {unit} +-?0\.00\* +\+0\.00 ", answer.out.split("after")[1])
    assert is_picture("two.png")


@pytest.mark.slow
def test_without_its_data_a_prediction_is_drawn_without_sources(run, bird):
    alone = Path("alone.ckpt")
    alone.write_bytes((run / "checkpoints" / "best.ckpt").read_bytes())
    assert ibd("predict", alone, bird, "--figure", "out/one.png").code == 0
    assert is_picture("out/one.png")


def test_a_model_without_prototypes(baseline):
    answer = ibd("prototypes", baseline)
    assert (
        answer.mistake
        == "a Baseline has no prototypes that are training patches (its units are channels); a ProtoPNet has"
    )
