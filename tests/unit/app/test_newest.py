"""Which run a folder of runs means, and that it is said."""

import pytest

from ibd.app.terminal import newest
from ibd.errors import CheckpointError
from ibd.io import find_run, load_model
from tests.command import ibd


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with two runs of one name, and one of another."""
    for run in ("birds/2026-01-01", "birds/2026-01-02", "cells/2026-01-03"):
        (tmp_path / run / "checkpoints").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("given", "taken", "said"),
    [
        ("birds", "birds/2026-01-02", "'birds' holds 2 runs; using the newest: birds/2026-01-02\n"),
        ("birds/2026-01-01", "birds/2026-01-01", ""),
        ("cells", "cells", ""),  # there is but one
    ],
)
def test_of_several_runs_it_is_said_which_is_taken(here, capsys, given, taken, said):
    assert newest(given) == taken
    assert capsys.readouterr().err == said


def test_the_current_folder(here, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path / "birds")
    assert newest(".") == "2026-01-02"
    assert capsys.readouterr().err == "'.' holds 2 runs; using the newest: 2026-01-02\n"


def test_runs_of_several_names(here):
    with pytest.raises(CheckpointError, match=r"'\.' holds runs of several names; which one\? Known: birds, cells\."):
        newest(".")


EMPTY = "is a variable of the shell not set?"


@pytest.mark.parametrize(
    "arguments",
    [
        ["fit", "resume="],
        ["fit", ""],
        ["test", ""],
        ["predict", "", "x.png"],
        ["predict", "birds", ""],
        ["axes", "birds", "--baseline", ""],
        ["curve", "birds", "--out", ""],
        ["compare", "birds", ""],
    ],
    ids=" ".join,
)
def test_an_empty_value_is_a_mistake(here, arguments):
    """It silently went on with the newest run below the current folder."""
    assert EMPTY in ibd(*arguments).mistake


def test_an_empty_name_from_python():
    with pytest.raises(CheckpointError, match="the name is empty"):
        find_run("")
    with pytest.raises(CheckpointError, match="the name is empty"):
        load_model("")
    with pytest.raises(CheckpointError, match="a NoneType is not a run"):
        load_model(None)
