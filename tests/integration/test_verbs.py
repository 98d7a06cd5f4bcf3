"""Every verb, on a run that has learnt something."""

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ibd import registry
from ibd.cli import VERBS
from ibd.io import load_model
from tests.command import QUIET, ROOT, SMALL, TINY, checkpoint, ibd, ibd_process, rows
from tests.data_makers import make_concept_folder, write_image


def is_picture(path, least=200):
    with Image.open(path) as image:
        return min(image.size) >= least and len(np.unique(np.asarray(image.convert("L")))) > 8


def test_there_is_help_on_every_verb():
    assert all(re.search(rf"^ +{verb}\b", ibd().out, re.MULTILINE) for verb in VERBS)
    for verb in VERBS:
        answer = ibd(verb, "--help")
        assert answer.code == 0
        assert " ".join(VERBS[verb].__doc__.split()) in " ".join(answer.out.split())


def test_fit_says_where_the_run_is_and_how_good(tmp_path):
    answer = ibd("fit", TINY, *SMALL, "output=runs", "trainer.max_epochs=2")
    assert answer.code == 0
    assert re.fullmatch(r"runs/toybirds-tiny/\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", str(answer.run))
    assert re.search(r"val/accuracy 0\.\d{4}", answer.out)
    assert [line.split()[1] for line in answer.err.splitlines() if line.startswith("epoch ")] == ["1/2", "2/2"]


def test_the_run_has_learnt(trained):
    rows = list(csv.DictReader((trained / "metrics.csv").open()))
    assert float(rows[-1]["val/concept_auroc"]) > 0.95


def test_test(trained):
    answer = ibd("test", trained)
    assert answer.code == 0
    shown = answer.figures
    assert set(shown) >= {"test/accuracy", "test/concept_auroc", "test/loss"}
    written = json.loads((trained / "test.json").read_text())
    assert {name: f"{value:.4f}" for name, value in written.items()} == shown


def test_test_of_a_checkpoint_and_of_changed_data(trained):
    best = ibd("test", trained / "checkpoints" / "best.ckpt").out
    assert best == ibd("test", trained, "--which", "best").out
    fewer = ibd("test", trained, "data.test_size=12").out
    assert fewer != best
    accuracy = float(re.search(r"test/accuracy +(\S+)", fewer)[1])
    assert accuracy * 12 == pytest.approx(round(accuracy * 12), abs=1e-2)
    ibd("test", trained)  # leaves test.json of the whole


def test_predict(trained, bird):
    answer = ibd("predict", trained, bird, bird, "--figure", "out/two.png", "--top", 3)
    assert answer.code == 0
    tables = answer.out.split("\n\n")
    assert len(tables) == 2
    first = tables[0].splitlines()
    assert first[0].startswith(f"{bird}: ")
    assert first[-1].split()[:2] == ["=", "logit"]
    parts = [float(re.search(r"([+-]\d+\.\d\d)(?: |$)", line)[1]) for line in first[2:]]
    assert sum(parts[:-1]) == pytest.approx(parts[-1], abs=0.06)
    assert is_picture("out/two.png")


def test_predict_reads_images_of_any_size_and_mode(trained, tmp_path):
    write_image(tmp_path / "large.png", (90, 120, 30), (77, 50))
    image = Image.open(tmp_path / "large.png")
    image.convert("L").save(tmp_path / "gray.png")
    image.convert("RGBA").save(tmp_path / "alpha.png")
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16).save(tmp_path / "deep.png")
    files = ["large.png", "gray.png", "alpha.png", "deep.png"]
    answer = ibd("predict", trained, *files, "--top", 1)
    assert answer.code == 0
    assert [table.split(":")[0] for table in answer.out.split("\n\n")] == files


def test_predict_with_a_baseline_names_channels(baseline, bird):
    answer = ibd("predict", baseline, bird)
    assert answer.code == 0
    assert "channel " in answer.out


def test_intervene(trained, bird):
    name = load_model(trained).network.unit_names[2]
    answer = ibd("intervene", trained, bird, f"{name}=1", "--figure", "edit.png", "--top", 0)
    assert answer.code == 0
    before, after = answer.out.split("\n\n")
    row = next(line for line in after.splitlines() if line.strip().startswith(name))
    assert "1.00*" in row
    assert "*" not in next(line for line in before.splitlines() if line.strip().startswith(name))
    siblings = load_model(trained).network.unit_groups[name.split("::")[0]]
    assert sum("0.00*" in line for line in after.splitlines()) == len(siblings) - 1
    assert is_picture("edit.png")


def test_intervene_by_group_and_member(trained, bird):
    group, member = load_model(trained).network.unit_names[2].split("::")
    short = ibd("intervene", trained, bird, f"{group}={member}").out.split("\n\n")[1].splitlines()[1:]
    long = ibd("intervene", trained, bird, f"{group}::{member}=1").out.split("\n\n")[1].splitlines()[1:]
    assert short == long


def test_intervening_with_the_truth_brings_the_class(trained):
    """A wrong prediction of the run, or at least a doubtful one, becomes certain."""
    from ibd.io import load_run

    model, data = load_run(trained)
    batch = next(iter(data.test_dataloader()))
    doubt = model.predict(batch.image)
    worst = int(doubt.probabilities.gather(1, batch.label[:, None]).argmin())
    truth = dict(zip(model.network.unit_names, batch.concepts[worst].tolist(), strict=True))
    told = doubt[worst].intervene(truth)
    right = int(batch.label[worst])
    assert told.probabilities[0, right] > doubt.probabilities[worst, right]
    assert told.labels.tolist() == [right]


def test_intervene_on_a_baseline(baseline, bird):
    answer = ibd("intervene", baseline, bird, "channel 3=0")
    assert answer.code == 0
    assert re.search(r"channel 3 +0\.00\*", answer.out)


def test_curve(trained, tmp_path):
    answer = ibd("curve", trained, "--out", tmp_path / "curve", "--trials", 2)
    assert answer.code == 0
    table = list(csv.DictReader((tmp_path / "curve" / "intervention_curve.csv").open()))
    groups = len(load_model(trained).network.unit_groups)
    policies = ["random", "uncertainty", "expected_change", "learned"]
    assert [(row["policy"], int(row["groups_corrected"])) for row in table] == [
        (policy, n) for policy in policies for n in range(groups + 1)
    ]
    assert {row["images"] for row in table} == {"60"}
    assert {row["trials"] for row in table if row["policy"] == "random"} == {"2"}
    accuracy = {(row["policy"], int(row["groups_corrected"])): float(row["accuracy"]) for row in table}
    assert all(0 <= value <= 1 for value in accuracy.values())
    for end in (0, groups):  # where nothing, and where everything is corrected, the order says nothing
        assert len({accuracy[policy, end] for policy in policies}) == 1
    assert accuracy["random", groups] >= accuracy["random", 0]
    assert f"{100 * accuracy['random', 0]:.2f}" in answer.out
    assert is_picture(tmp_path / "curve" / "intervention_curve.png")


def test_curve_goes_into_the_run_by_default(trained):
    answer = ibd("curve", trained, "data.test_size=24", "--policies", "random", "--trials", 1)
    assert answer.code == 0
    assert (trained / "figures" / "intervention_curve.csv").is_file()
    assert "(24 test images)" in answer.out or "24 test images" in answer.out


def test_curve_of_whoever_errs(trained, tmp_path):
    few = ["data.test_size=24", "--policies", "uncertainty", "--trials", 2, "--out", tmp_path]
    answer = ibd("curve", trained, "noise.wing=0.5", "unknown=0.1", *few)
    assert answer.code == 0
    assert "whoever corrects errs 50 % (wing) and does not know 10 % of the time (seed 0)" in answer.out
    table = list(csv.DictReader((tmp_path / "intervention_curve.csv").open()))
    assert {row["trials"] for row in table} == {"2"}
    assert "there is no group 'wings'" in ibd("curve", trained, "noise.wings=0.5", *few).mistake


def test_covariance(trained, bird, tmp_path):
    new = tmp_path / "new"
    answer = ibd("covariance", trained, "--method", "empirical", "--rank", 3, "--out", new)
    assert answer.code == 0
    assert "val images: covariance of their predicted logits" in answer.out
    before, after = (ibd("test", run).figures for run in (trained, new))
    assert all(value == after[name] for name, value in before.items() if "accuracy" in name)
    assert ibd("predict", new, bird).out == ibd("predict", trained, bird).out
    moved = ibd("intervene", new, bird, "tail=green_spike")
    assert "~ moved with what was set" in moved.out
    assert ibd("curve", new, "data.test_size=24", "--policies", "variance", "--out", tmp_path).code == 0
    assert f"'{new}' is a run already" in ibd("covariance", trained, "--out", new).mistake
    assert "has a covariance already" in ibd("covariance", new, "--out", tmp_path / "twice").mistake
    assert "the concepts of this model have no covariance" in ibd("curve", trained, "--policies", "variance").mistake
    config = ibd("config", new / "config.yaml").out
    assert "fitted_on: " in config
    assert "was fitted on a trained bottleneck" in ibd("fit", new / "config.yaml").mistake


def test_config_prints_every_option_and_can_be_used_again():
    answer = ibd("config", TINY, "trainer.max_epochs=3")
    assert answer.code == 0
    assert re.search(r"max_epochs: 3 +#", answer.out)
    assert re.search(r"concept_weight: 1.0 +# .+", answer.out)
    Path("again.yaml").write_text(answer.out)
    again = ibd("config", "again.yaml")
    assert again.code == 0
    assert again.out == answer.out


@pytest.mark.parametrize(
    "arguments",
    [
        ["toybirds", "sheet.png", "preset=tiny", "train_size=64"],
        pytest.param([TINY, "sheet.png", "data.train_size=64"], marks=pytest.mark.slow),
    ],
)
def test_data_draws_toybirds(arguments):
    answer = ibd("data", *arguments)
    assert answer.code == 0, answer.err
    assert answer.out == "picture: sheet.png\n"
    assert is_picture("sheet.png")


def test_data_draws_a_folder(tmp_path):
    make_concept_folder(tmp_path / "animals")
    answer = ibd("data", "folder", "new/sheet.png", f"root={tmp_path / 'animals'}", "image_size=32")
    assert answer.code == 0, answer.err
    assert is_picture("new/sheet.png")


def test_list():
    answer = ibd("list")
    assert answer.code == 0
    for kind, known in registry.REGISTRY.items():
        assert f"{kind}:\n" in answer.out
        assert all(f"  {name}\n" in answer.out for name in known)
    assert re.search(r"^  parts\n    part_spearman  .+, higher is better$", answer.out, re.MULTILINE)
    assert ibd("list", "models").out == "models:\n  " + "\n  ".join(registry.REGISTRY["models"]) + "\n"


@pytest.mark.slow
def test_train_py_is_fit(tmp_path):
    script = (sys.executable, str(ROOT / "train.py"))
    answer = ibd_process(TINY, *SMALL, "trainer.max_epochs=1", cwd=tmp_path, command=script)
    assert answer.code == 0, answer.err
    assert (tmp_path / answer.run / "config.yaml").is_file()


OWN_MODEL = """
from ibd.models.baseline.lightning import Baseline

class Mine(Baseline):
    '''My own model.

    Args:
        sharpness: Factor on the loss.
    '''

    def __init__(self, spec, backbone, sharpness: float = 1.0, optimizer=None):
        super().__init__(spec, backbone, optimizer=optimizer)
        self.sharpness = sharpness
        self.save_plain(backbone=backbone, sharpness=sharpness, optimizer=optimizer)

    def losses(self, output, batch):
        return {name: value * self.sharpness for name, value in super().losses(output, batch).items()}
"""


@pytest.mark.slow
def test_a_model_of_the_users_own_from_the_console_script(tmp_path):
    """`model.name=module:Class`, found in the folder in which the command is run; its run is read with ``--trust``."""
    (tmp_path / "mine.py").write_text(OWN_MODEL)
    (tmp_path / "mine.yaml").write_text(
        "model: {name: 'mine:Mine', sharpness: 3, backbone: {name: small_cnn, width: 4, depth: 3}}\n"
        "data: {name: toybirds, preset: tiny, batch_size: 32}\n"
    )
    script = (str(Path(sys.executable).parent / "ibd"),)
    answer = ibd_process("fit", "mine.yaml", *SMALL, "trainer.max_epochs=1", cwd=tmp_path, command=script)
    assert answer.code == 0, answer.err
    run = tmp_path / answer.run
    assert float(rows(run)[-1]["train/loss"]) > 3
    assert checkpoint(run)["ibd_model"] == "mine:Mine"
    assert "'mine:Mine' is none of ibd's own" in ibd_process("test", run, cwd=tmp_path, command=script).mistake
    answer = ibd_process("test", run, "--trust", cwd=tmp_path, command=script)
    assert answer.code == 0, answer.err
    assert "test/accuracy" in answer.out


@pytest.mark.slow
def test_demo(tmp_path):
    small = ("trainer.max_epochs=1", "data.train_size=64", "data.val_size=40", "data.test_size=40")
    answer = ibd("demo", "shown", *small, *QUIET)
    assert answer.code == 0, answer.err
    for picture in ("data.png", "prediction.png", "intervention_curve.png"):
        assert f"shown/{picture}" in answer.out
        assert is_picture(tmp_path / "shown" / picture)
    found = re.search(r"after (\d+) s \(training (\d+), intervening (\d+), curve (\d+), comparing (\d+)\):", answer.out)
    whole, *stages = map(int, found.groups())
    assert abs(sum(stages) - whole) <= 3  # each is rounded
    command = re.search(r"the same by hand: ibd (.+)", answer.out)
    if command:
        assert ibd(*command[1].split()).code == 0


def test_config_shows_what_must_still_be_given():
    """A shipped config without a data.root can be looked at before there is any data."""
    answer = ibd("config", ROOT / "configs/folder/cbm.yaml")
    assert answer.code == 0, answer.err
    assert "root: ???" in answer.out
    assert ibd("fit", ROOT / "configs/folder/cbm.yaml").mistake.endswith(
        "data.root: missing, 'ConceptFolder' needs it ('str')"
    )


def test_fit_draws_the_validation_curve(trained):
    assert {"intervention_curve_val.png", "intervention_curve_val.csv"} <= {
        path.name for path in (trained / "figures").iterdir()
    }
