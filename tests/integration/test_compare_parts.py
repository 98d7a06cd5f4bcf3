"""A comparison whose work several processes share: what they leave is what one would have made."""

import csv
import subprocess
import sys

import pytest

from ibd.comparison.compare import compare_part
from ibd.errors import ConfigError
from ibd.lock import LOCK
from tests.command import ROOT, ibd

ASKED = (
    *("explainers=intrinsic,gradcam,gradient_input,saliency", "metrics=parts,pixels,localization,properties,agreement"),
    *("images=6", "probe_images=2", "shown=2", "progress=false", "data.test_size=33"),
)


def scores(folder):
    with (folder / "scores.csv").open(encoding="utf-8") as file:
        return list(csv.reader(file))


@pytest.mark.slow
def test_two_processes_at_once_and_one_that_puts_their_pieces_together(trained, baseline, tmp_path):
    runs = (str(trained), str(baseline))
    command = [sys.executable, "-m", "ibd.cli", "compare", *runs, *ASKED, "--out", str(tmp_path / "parts")]
    started = [subprocess.Popen([*command, f"part={i}/2"], cwd=ROOT, stdout=subprocess.PIPE, text=True) for i in (0, 1)]
    said = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert all(f"part {i} of 2: 4 of 8 explanations of models" in text for i, text in enumerate(said))
    assert not (tmp_path / "parts" / "scores.csv").exists()
    pieces = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts" / "cache").glob("*.npz")}
    for folder in ("parts", "alone"):
        answer = ibd("compare", *runs, *ASKED, "--out", str(tmp_path / folder))
        assert answer.code == 0, answer.err
    assert scores(tmp_path / "parts") == scores(tmp_path / "alone")  # to the last digit
    assert all(path.stat().st_mtime_ns == written for path, written in pieces.items())  # nothing was computed again
    assert {path.name for path in pieces} <= {path.name for path in (tmp_path / "alone" / "cache").glob("*.npz")}


@pytest.mark.parametrize("part", ["2/2", "1", "a/b", "-1/2", "0/0"])
def test_parts_that_there_are_not(trained, part):
    answer = ibd("compare", str(trained), *ASKED, f"part={part}")
    assert answer.mistake == f"compare: part: '{part}' given, i/n is needed: 0/2 and 1/2 are the two halves"


def test_a_part_needs_a_folder(trained):
    with pytest.raises(ConfigError, match="a folder for the finished pieces is needed"):
        compare_part("0/2", runs=[trained])


def test_the_report_waits_for_parts_that_are_measured_elsewhere(trained, tmp_path):
    place = tmp_path / "report" / "parts" / "0_of_2"
    place.mkdir(parents=True)
    (place / LOCK).write_text("1 1 another-computer", encoding="utf-8")
    answer = ibd("compare", str(trained), *ASKED, "--out", str(tmp_path / "report"))
    assert "a part of this comparison" in answer.mistake
