"""What a run says of its own training: images of each class, epochs, time, versions; also of a resumed one."""

import json

from ibd import __version__
from ibd.io import load_run_data
from tests.command import SMALL, TINY, fitted


def test_a_training_and_its_continuation():
    run = fitted(TINY, *SMALL, "trainer.max_epochs=1")
    record = json.loads((run / "training.json").read_text())
    labels = load_run_data(run).dataset("val").labels.tolist()
    names = load_run_data(run).spec.class_names
    assert record["images"]["val"] == {name: labels.count(number) for number, name in enumerate(names)}
    assert sum(record["images"]["train"].values()) == 64
    (session,) = record["sessions"]
    assert (session["first_epoch"], session["epochs"], session["interrupted"]) == (1, 1, False)
    assert session["seconds"] > 0
    assert session["versions"]["ibd"] == __version__
    fitted(f"resume={run}", "trainer.max_epochs=3")
    sessions = json.loads((run / "training.json").read_text())["sessions"]
    assert sessions[0] == session
    assert (sessions[1]["first_epoch"], sessions[1]["epochs"]) == (2, 3)
