"""The verbs speak on screens and into pipes that have not our characters, as on Windows."""

import io
import sys

import pytest

from ibd.cli import main
from tests.command import TINY, ibd_process

VERBS = {
    "predict": ["predict", "RUN", "BIRD", "--top", "0"],
    "intervene": ["intervene", "RUN", "BIRD", "beak=cone"],
    "curve": ["curve", "RUN", "data.test_size=6", "--policies", "random", "--trials", "2", "--out", "."],
    "explain": ["explain", "RUN", "BIRD", "explainers=saliency", "--figure", "x.png"],
    "config": ["config", TINY],
    "list": ["list"],
    "help": [],
}


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize("arguments", VERBS.values(), ids=VERBS)
def test_every_verb_that_prints(arguments, encoding, trained, bird, monkeypatch):
    """`predict` died of its bars."""
    file = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(file, encoding=encoding))
    assert main([{"RUN": str(trained), "BIRD": str(bird)}.get(each, each) for each in arguments]) == 0
    text = file.getvalue().decode(encoding)
    assert text
    assert ("##" in text) == (arguments[:1] in (["predict"], ["intervene"]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "cp1252"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
    ids=str,
)
def test_bars_in_a_process_of_its_own(environment, trained, bird, tmp_path):
    answer = ibd_process("predict", trained, bird, cwd=tmp_path, **environment)
    assert answer.code == 0, answer.err
    assert "##" in answer.out
    assert answer.err == ""
