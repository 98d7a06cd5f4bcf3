"""Classes and concepts of any names, from the folder to every picture."""

import csv

import pytest

from tests.command import QUIET, ibd
from tests.data_makers import make_concept_folder

CLASSES = ("$a_", "$b^{", "נשר\\" + "x" * 150)
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
    assert "$a_" in (tmp_path / "comparison" / "index.html").read_text("utf-8")
