"""Data as strangers bring it, from the files to the trained run, through the command line."""

import os
from pathlib import Path

import pytest

from ibd.errors import DataError
from ibd.io import load_model
from tests.command import QUIET, ROOT, checkpoint, ibd, rows
from tests.data_makers import make_cub

pytestmark = pytest.mark.slow
FAST = (*QUIET, "trainer.max_epochs=1", "data.min_classes=1", "data.image_size=32", "data.batch_size=4")
SMALL = ("model.backbone=small_cnn", "logger.figures_every=0", "data.num_workers=0")


def _cub(tmp_path, **options):
    return f"data.root={make_cub(tmp_path / 'data', **options)}"


def _without_training_images(root, image_class, each=7):
    """Let all images of a class, counted from 0, be test images."""
    path = Path(root.removeprefix("data.root=")) / "train_test_split.txt"
    lines = path.read_text().splitlines()
    for index in range(image_class * each, (image_class + 1) * each):
        lines[index] = f"{index + 1} 0"
    path.write_text("\n".join(lines))


def test_a_class_without_training_images(tmp_path, caplog):
    root = _cub(tmp_path)
    _without_training_images(root, 3)
    answer = ibd("fit", ROOT / "configs/cub/cbm.yaml", *FAST, *SMALL, root)
    assert answer.code == 0, answer.err
    assert "no training image of class 'Bird_4'" in caplog.text
    assert ibd("test", answer.run).code == 0
    message = ibd("fit", ROOT / "configs/cub/protopnet.yaml", *FAST, *SMALL, root).mistake
    assert message == "there is no training image of class 'Bird_4', so its prototypes cannot be patches of one"


def test_soft_annotations(tmp_path, caplog):
    """Annotators guess of the first attribute (0.5), are sure of the second: only that one counts."""
    labels = {(image, 1): (image % 2, 2) for image in range(1, 29)}
    change = ("data.concepts=image", "data.uncertainty=soft", "data.attributes=all", "model.imbalance=concept")
    answer = ibd("fit", ROOT / "configs/cub/cbm.yaml", *FAST, *SMALL, *change, _cub(tmp_path, labels=labels))
    assert answer.code == 0, answer.err
    assert "never known: 'has_bill_shape::hooked'" in caplog.text
    assert checkpoint(answer.run)["state_dict"]["ratio"].tolist() == [1, 1, 1, 1, 1]  # two classes of four have each
    (row,) = rows(answer.run)
    assert 0 <= float(row["val/concept_auroc"]) <= 1
    # Four validation images with four decided annotations each.
    assert float(row["val/concept_accuracy"]) * 16 == pytest.approx(round(float(row["val/concept_accuracy"]) * 16))


def test_a_pipe_to_predict(tmp_path):
    run = ibd("fit", ROOT / "configs/cub/cbm.yaml", *FAST, *SMALL, _cub(tmp_path)).run
    os.mkfifo(tmp_path / "pipe.png")
    assert ibd("predict", run, tmp_path / "pipe.png").mistake.endswith("it is a pipe or a device, a file is needed")
    with pytest.raises(DataError, match="is a pipe or a device"):
        load_model(run).predict(tmp_path / "pipe.png")
