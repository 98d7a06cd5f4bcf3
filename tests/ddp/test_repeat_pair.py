"""`ibd repeat` of trainings in two processes each: Lightning starts the second by the command line of the training."""

import csv
import json

import pytest

from tests.command import SMALL, TINY, ibd_process


@pytest.mark.ddp
@pytest.mark.slow
def test_two_trainings_of_two_processes(tmp_path):
    pair = ("trainer.devices=2", "trainer.strategy=ddp", "trainer.max_epochs=1")
    answer = ibd_process("repeat", TINY, *SMALL, *pair, "--seeds", "2", cwd=tmp_path, timeout=600)
    assert answer.code == 0, answer.err
    (folder,) = tmp_path.glob("runs/toybirds-tiny/repeat-*")
    for seed in (0, 1):
        (session,) = json.loads((folder / f"seed_{seed}" / "training.json").read_text())["sessions"]
        assert session["processes"] == 2
    with (folder / "repeat.csv").open(newline="") as file:
        assert {row["trainings"] for row in csv.DictReader(file)} == {"2"}
    assert len(list(tmp_path.glob("runs/*/*"))) == 1  # no second folder by the other process
