"""What can be wrong with a user's own images: one line that names the file, before the training or in its middle."""

import os
import shutil

import pytest
from PIL import Image

from tests.command import QUIET, ibd
from tests.data_makers import make_concept_folder, write_rows


@pytest.fixture
def animals(tmp_path):
    """A folder of images with a config; a test spoils something in it."""
    make_concept_folder(tmp_path / "animals", train=4, val=2)
    (tmp_path / "animals.yaml").write_text(
        "model: {name: cbm, backbone: {name: small_cnn, width: 4, depth: 3}}\n"
        "data: {name: folder, root: animals, image_size: 32, batch_size: 4}\n"
        "trainer: {max_epochs: 1}\n"
    )
    return tmp_path / "animals"


def _fit_animals(*changes):
    return ibd("fit", "animals.yaml", *QUIET, "logger.figures_every=0", *changes)


def test_the_animals_are_fine(animals):
    assert _fit_animals().code == 0


def test_damaged_image(animals, tmp_path):
    path = animals / "train" / "cat" / "002.png"
    path.write_bytes(path.read_bytes()[:100])
    assert _fit_animals().mistake.startswith("animals/train/cat/002.png: cannot be read: ")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_damage_that_only_decoding_finds(animals, workers):
    """First and last bytes are right: it is found in the middle of the training, also by a loader process."""
    path = animals / "train" / "cat" / "002.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:300] + whole[-20:])
    message = _fit_animals(f"data.num_workers={workers}").late_mistake
    assert message.startswith("animals/train/cat/002.png: cannot be read: ")
    assert len(message) < 200


def test_a_pipe_among_the_images(animals, tmp_path):
    """Nobody writes to it: reading it would wait for ever."""
    os.mkfifo(animals / "train" / "cat" / "pipe.png")
    assert _fit_animals().mistake == (
        "animals/train/cat/pipe.png: cannot be read: it is a pipe or a device, a file is needed"
    )
    assert not (tmp_path / "runs").exists()


def test_folder_that_is_missing(animals):
    assert _fit_animals("data.root=animalz").mistake == "animalz: there is no such folder. Did you mean 'animals'?"


def test_concept_value(animals):
    write_rows(animals / "concepts.csv", [["class", "legs::two"], ["cat", 0], ["dog", "maybe"], ["owl", 1]])
    message = _fit_animals().mistake
    assert message.startswith("animals/concepts.csv:3: ")
    assert "maybe" in message


def test_class_without_concepts(animals):
    write_rows(animals / "concepts.csv", [["class", "legs::two"], ["cat", 0], ["dog", 0]])
    message = _fit_animals().mistake
    assert message.startswith("animals/concepts.csv")
    assert "owl" in message


def test_bottleneck_without_concepts(animals):
    (animals / "concepts.csv").unlink()
    assert _fit_animals().mistake == "a concept bottleneck needs concepts, and this data has none (no concepts.csv?)"


def test_no_test_images(animals):
    run = _fit_animals().run
    shutil.rmtree(animals / "test")
    assert ibd("test", run).mistake == "animals: there are no images for 'test'; put them in animals/test"


def test_images_too_small_for_nothing(animals):
    """Whatever their size, images are brought to the training size."""
    Image.new("RGB", (1, 1)).save(animals / "train" / "cat" / "000.png")
    assert _fit_animals().code == 0
