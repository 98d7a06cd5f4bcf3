"""`ibd repeat`: several trainings by one command, what is said of them, and going on after a kill."""

import csv
import json
import math
import signal
import subprocess
import sys
from typing import ClassVar

import pytest

from ibd.app.repeating import running
from ibd.app.repeating.plan import Plan
from ibd.io import load_run_data
from tests.command import QUIET, SMALL, TINY, answer_of, ibd, start, wait_for
from tests.data_makers import make_concept_folder

FAST = (*SMALL, "trainer.max_epochs=1")


class InThisProcess:
    """Stands for `subprocess.Popen`: the command runs here, which spares seven seconds."""

    commands: ClassVar = []

    def __init__(self, command, env):
        assert command[:3] == [sys.executable, "-m", "ibd"]
        self.commands.append(command[3:])
        with pytest.MonkeyPatch.context() as patch:
            if running.RUN_DIR in env:
                patch.setenv(running.RUN_DIR, env[running.RUN_DIR])
            self.answer = ibd(*command[3:])
        sys.stderr.write(self.answer.err)

    def wait(self):
        return self.answer.code


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(InThisProcess, "commands", [])
    monkeypatch.setattr(running.subprocess, "Popen", InThisProcess)
    return InThisProcess


def folder_of(answer):
    assert answer.code == 0, answer.err
    line = next(line for line in answer.out.splitlines() if line.startswith("written:") and line.endswith(".csv"))
    return line.removeprefix("written: ").removesuffix("/repeat.csv")


def test_two_seeds(here, tmp_path):
    answer = ibd("repeat", TINY, *FAST, "data.seed=0", "--seeds", "0,3")
    folder = tmp_path / folder_of(answer)
    assert folder.parent == tmp_path / "runs" / "toybirds-tiny"
    assert "2 trainings tested on the same 33 images: the interval holds for other trainings, on these" in answer.out
    with (folder / "repeat.csv").open(newline="") as file:
        rows = {row["figure"]: row for row in csv.DictReader(file)}
    tested = [json.loads((folder / f"seed_{seed}" / "test.json").read_text()) for seed in (0, 3)]
    row = rows["test/concept_auroc"]
    values = [own["test/concept_auroc"] for own in tested]
    assert values[0] != values[1]
    assert [float(row["seed_0"]), float(row["seed_3"])] == values
    assert float(row["mean"]) == pytest.approx(sum(values) / 2)
    sd = abs(values[0] - values[1]) / math.sqrt(2)
    assert float(row["sd"]) == pytest.approx(sd)
    assert float(row["high"]) == pytest.approx(sum(values) / 2 + 12.7062 * sd / math.sqrt(2), abs=1e-4)
    written = json.loads((folder / "repeat.json").read_text())
    assert written["figures"]["test/concept_auroc"]["values"] == {"seed_0": values[0], "seed_3": values[1]}
    assert (folder / "repeat.png").stat().st_size > 5000
    assert ibd("test", folder / "seed_3").code == 0  # a run as any other
    assert here.commands == [["fit", f"{folder_of(answer)}/seed_{seed}.yaml"] for seed in (0, 3)]
    again = ibd("repeat", f"resume={folder}")
    assert again.code == 0
    assert len(here.commands) == 2
    assert "seed_3 (2 of 2): trained before" in again.out
    assert again.out.count("tested before") == 2


def test_folds_of_a_folder_without_test_images(here, tmp_path):
    root = make_concept_folder(tmp_path / "pets", train=6, test=0, size=(32, 32))
    config = tmp_path / "pets.yaml"
    config.write_text(
        f"data: {{name: folder, root: {root}, image_size: 32, batch_size: 8}}\n"
        "model: {name: cbm, backbone: {name: small_cnn, width: 4, depth: 3}}\ntrainer: {max_epochs: 1}\n"
        "logger: {figures_every: 0}\n"
    )
    folder = folder_of(answer := ibd("repeat", config, *QUIET, "--folds", "3"))
    assert "18 images in all" in answer.out
    assert "tested / trained 1.00" in answer.out
    tested = []
    for fold in range(3):
        data = load_run_data(f"{folder}/fold_{fold}")
        tested += [data.dataset("test").sample_id(index) for index in range(6)]
    assert len(set(tested)) == 18
    with open(f"{folder}/repeat.csv", newline="") as file:  # noqa: PTH123
        row = next(row for row in csv.DictReader(file) if row["figure"] == "test/accuracy")
    half = 4.302653 * float(row["sd"]) * math.sqrt(1 / 3 + 1)
    assert float(row["high"]) - float(row["mean"]) == pytest.approx(half, abs=1e-6)
    missing = ibd("repeat", config, *QUIET, "--seeds", "2").mistake
    assert missing.endswith(f"put them in {root}/test, or let --folds 5 test on folds of the others")


def test_a_training_that_fails_and_one_that_never_began(here, tmp_path, monkeypatch):
    """What is trained is kept; what had no epoch yet begins anew in its place."""
    monkeypatch.setattr(here, "wait", lambda self: 1 if "seed_1" in self.commands[-1][-1] else self.answer.code)
    answer = ibd("repeat", TINY, *FAST, "--seeds", "2")
    assert answer.code == 2
    line = answer.err.splitlines()[-1]
    assert line.startswith("ibd: the training of seed_1 failed, as it says above; `ibd repeat resume=runs/")
    folder = tmp_path / line.split("resume=")[1].split("`")[0]
    assert json.loads((folder / "plan.json").read_text())["trained"] == ["seed_0"]
    (folder / "seed_1" / "checkpoints" / "last.ckpt").unlink()
    (folder / "seed_1" / "half").write_text("")
    monkeypatch.setattr(here, "wait", lambda self: self.answer.code)
    assert ibd("repeat", f"resume={folder}").code == 0
    assert here.commands[-1] == ["fit", str(folder / "seed_1.yaml")]
    assert not (folder / "seed_1" / "half").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((TINY,), "repeat: --seeds or --folds is needed, one of them, such as --seeds 5"),
        (
            (TINY, "--seeds", "2", "--folds", "2"),
            "repeat: --seeds or --folds is needed, one of them, such as --seeds 5",
        ),
        ((TINY, "--seeds", "1"), "--seeds: 1 training given, 2 or more are needed to say how sure a figure is"),
        (
            (TINY, "--seeds", "x"),
            "--seeds: 'x' given, a number of trainings such as 5 or a list such as 0,3,7 is needed",
        ),
        ((TINY, "--seeds", "0,3,0"), "--seeds: '0' is given twice"),
        ((TINY, "--seeds", "2", "seed=3"), "'seed=3': --seeds says that"),
        ((TINY, "--folds", "2", "data.fold=1"), "'data.fold=1': --folds says that"),
        (("a=1", "--seeds", "2"), "repeat: which config? (for example: ibd repeat toybirds/tiny --seeds 5)"),
        (("resume=nowhere",), "resume: 'nowhere' is no folder of ibd repeat: there is no plan.json in it"),
        (
            ("resume=nowhere", "--seeds", "2"),
            "repeat: resume=FOLDER goes on with what was begun, and takes nothing else",
        ),
        ((TINY, "--seeds", "2", "data.sise=3"), "data.sise: Key 'sise' not in"),
        (
            ("pasted/objects", "--folds", "2"),
            "--folds: the data 'pasted' cannot be cut into folds; folder and toybirds can",
        ),
    ],
)
def test_mistakes(words, message, tmp_path):
    assert message in ibd("repeat", *words).mistake
    assert not (tmp_path / "runs").exists()


def test_own_classes_need_a_word_to_go_on(tmp_path):
    """A folder of a stranger's may name any class; that of one's own says how to go on with it."""
    for seed in (0, 1):
        (tmp_path / f"seed_{seed}.yaml").write_text("model: {name: 'mine:Net'}\ndata: {name: toybirds}\n")
    plan = Plan(tmp_path, "seed", (0, 1), "mine.yaml")
    plan.save()
    assert plan.goes_on == f"ibd repeat resume={tmp_path} --trust"
    assert "mine:Net" in ibd("repeat", f"resume={tmp_path}").mistake


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert "repeat: started in 4 processes (WORLD_SIZE)" in ibd("repeat", TINY, "--seeds", "2").mistake


@pytest.mark.slow
def test_a_killed_repetition_goes_on(tmp_path):
    """Killed with its training amid epochs: the training is resumed to the numbers of an uninterrupted one."""
    words = ("repeat", TINY, *SMALL, "trainer.max_epochs=6", "data.cache=false", "--seeds", "2")
    process = start(*words, cwd=tmp_path)
    wait_for(lambda: list(tmp_path.glob("runs/*/repeat-*/seed_1/checkpoints/last.ckpt")), process)
    subprocess.os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    folder = next(tmp_path.glob("runs/*/repeat-*"))
    assert json.loads((folder / "plan.json").read_text())["trained"] == ["seed_0"]
    resumed = answer_of(start("repeat", f"resume={folder}", cwd=tmp_path))
    assert resumed.code == 0, resumed.err
    whole = answer_of(start(*words, cwd=tmp_path))
    other = tmp_path / folder_of(whole)
    for seed in (0, 1):
        first, second = ((place / f"seed_{seed}" / "test.json").read_text() for place in (folder, other))
        assert first == second


@pytest.mark.slow
def test_ctrl_c(tmp_path):
    process = start("repeat", TINY, *SMALL, "trainer.max_epochs=400", "--seeds", "2", cwd=tmp_path)
    wait_for(lambda: list(tmp_path.glob("runs/*/repeat-*/seed_0/checkpoints/last.ckpt")), process)
    subprocess.os.killpg(process.pid, signal.SIGINT)
    answer = answer_of(process)
    assert answer.code == 130
    line = answer.err.splitlines()[-1]
    assert line.startswith("ibd: interrupted: `ibd repeat resume=runs/toybirds-tiny/repeat-")
    assert line.endswith("` goes on with seed_0")
