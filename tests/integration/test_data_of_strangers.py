"""Data as strangers bring it, from the files to the trained run, through the command line."""

import os
import shutil
from pathlib import Path

import pytest

from ibd.errors import DataError
from ibd.io import load_model
from tests.command import QUIET, ROOT, checkpoint, ibd, rows
from tests.data_makers import make_concept_folder, make_cub

pytestmark = pytest.mark.slow
FAST = (*QUIET, "trainer.max_epochs=1", "data.min_classes=1", "data.image_size=32", "data.batch_size=4")
SMALL = ("model.backbone=small_cnn", "model.backbone.weights=null", "logger.figures_every=0", "data.num_workers=0")


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


def test_validation_that_says_little(tmp_path):
    """Few images, and none of one class: said at the start; what is a mean over classes is over those with images."""
    root = make_concept_folder(tmp_path / "data", train=6, val=3, test=3)
    shutil.rmtree(root / "val" / "owl")
    shutil.rmtree(root / "test" / "owl")
    shutil.rmtree(root / "test" / "dog")
    few = ("data.image_size=32", "model.backbone=small_cnn", "model.backbone.weights=null", "trainer.max_epochs=1")
    answer = ibd("fit", ROOT / "configs/folder/cbm.yaml", *QUIET, *few, *SMALL[1:], f"data.root={root}")
    assert answer.code == 0, answer.err
    assert "only 6 validation images: an accuracy of them has an interval of +-31 points" in answer.err
    assert "no validation image is of class 'owl': no validation figure says anything about that" in answer.err
    said = ibd("test", answer.run).figures
    assert said["test/balanced_accuracy"] == said["test/accuracy"]  # one class is there


def test_a_table_of_fifty_megabytes(tmp_path):
    """Concepts of half a million images, none of which is there: a line, soon."""
    root = make_concept_folder(tmp_path / "data")
    row = ",0,1" * 20
    with (root / "concepts.csv").open("w") as file:
        file.write("image," + ",".join(f"g{i}::v" for i in range(40)) + "\n")
        file.writelines(f"train/cat/{number:09d}.jpg{row}\n" for number in range(500_000))
    message = ibd("data", "folder", tmp_path / "x.png", f"root={root}", "image_size=32").mistake
    assert "concepts.csv" in message
    assert len(message) < 500
