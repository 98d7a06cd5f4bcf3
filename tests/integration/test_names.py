"""Classes and concepts of any names, from the folder to every picture."""

import csv

import pytest

from tests.command import QUIET, ibd
from tests.data_makers import make_concept_folder, write_rows

CLASSES = ("$a_", "$b^{\x1b[31m\u202e", "נשר\\" + "x" * 150)
"""Two dollars in one text were read as mathematics, which killed the training at its first figure."""


@pytest.mark.slow
@pytest.mark.parametrize("model", ["cbm", "baseline", "protopnet"])
def test_from_training_to_the_report(model, tmp_path):
    root = make_concept_folder(tmp_path / "data", train=8, val=4, test=4, size=(32, 32), classes=CLASSES)
    with (root / "concepts.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.reader(file))
    table[0] = ["class", "$legs_{::$two", "$legs_{::$four", "$sound$::\\loud", "$sound$::^soft", "fl$ies_$"]
    with (root / "concepts.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(table)
    (tmp_path / "own.yaml").write_text(
        f"model: {{name: {model}, backbone: {{name: small_cnn, width: 4, depth: 3}}}}\n"
        f"data: {{name: folder, root: '{root}', image_size: 32, batch_size: 8}}\n"
        f"logger: {{figures_every: 1, explainers: [saliency]}}\n"
    )
    answer = ibd("fit", "own.yaml", *QUIET, "trainer.max_epochs=2")
    assert answer.code == 0, answer.err
    image = next((root / "test" / CLASSES[0]).iterdir())
    for command in (
        ["predict", answer.run, image, "--figure", "p.png"],
        ["explain", answer.run, image, "explainers=intrinsic,saliency", "--figure", "e.png"],
        ["data", "own.yaml", "d.png"],
        ["compare", answer.run, "images=3", "explainers=intrinsic,saliency", "metrics=properties", "progress=false"],
    ):
        found = ibd(*command)
        assert found.code == 0, (command, found.err)
        assert harmless(found), command
    assert "$a_" in (tmp_path / "comparison" / "index.html").read_text("utf-8")


OBEYED = ("\x1b[31mcat\x9b2J", "dog\r\u202eowl", "fox\ndone: runs")
"""Names that would color a terminal, overwrite its line, turn it round, say something as if we did."""


def harmless(answer):
    return not [c for c in answer.out + answer.err if (not c.isprintable() and c != "\n") or c == "\u202e"]


@pytest.mark.slow
def test_what_is_printed_of_names_is_harmless(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = make_concept_folder(tmp_path / "data", train=4, val=2, test=1, classes=OBEYED)
    rows = [
        ["class", "tail\u202e::on", "tail\u202e::off"],
        *([name, i % 2, 1 - i % 2] for i, name in enumerate(OBEYED)),
    ]
    write_rows(root / "concepts.csv", rows)
    (tmp_path / "own.yaml").write_text(
        "model: {name: cbm, backbone: {name: small_cnn, width: 4, depth: 3}}\n"
        "data: {name: folder, root: data, image_size: 32, batch_size: 4}\n"
        "logger: {figures_every: 0}\n"
    )
    answer = ibd("fit", "own.yaml", *QUIET, "trainer.max_epochs=1")
    assert answer.code == 0, answer.err
    assert harmless(answer)
    image = next((root / "test" / OBEYED[2]).iterdir())
    answer = ibd("predict", answer.run, image, "--top", "0")
    assert "tail\\u202e::on" in answer.out
    assert "/fox\\ndone: runs/000.png: " in answer.out
    assert harmless(answer)
    for command in (
        ["intervene", "runs/own", image, "tail=1"],
        ["intervene", "runs/own", image, "tail\u202e::on=1"],
        ["explain", "runs/own", image, "explainers=saliency"],
        ["explain", "runs/own", image, "target=\x1b[31mcat", "explainers=saliency"],
        ["predict", "runs/own", "no\x1b[31m.png"],
        ["fit", "no\x1b[31m.yaml"],
        ["fit", "own.yaml", "model.\x1b[31m=1"],
        ["data", "own.yaml", "d\x1b.png"],
    ):
        assert harmless(ibd(*command)), command
