"""A user says which masks decide which class: what is read of it, what is refused, and that it reaches a comparison."""

import numpy as np
import pytest
import torch
from PIL import Image

from ibd.comparison.images import choose_images
from ibd.data import ToyBirds
from ibd.data.folder import ConceptFolder
from ibd.errors import ConfigError
from tests.data_makers import make_concept_folder

DECIDING = {"cat": ["left"], "dog": ["left", "right"], "owl": []}


@pytest.fixture
def root(tmp_path):
    """Images of 24 x 32 pixels of three classes; in each, `left` and `right` are the outer quarters."""
    root = make_concept_folder(tmp_path, masks=("left", "gap", "void", "right"))
    for file in [*(root / "masks/gap").rglob("*.png"), *(root / "masks/void").rglob("*.png")]:
        Image.fromarray(np.zeros((24, 32), np.uint8)).save(file)
    return root


def open_folder(root, **kwargs):
    options = {"image_size": [24, 32], "masks": "masks", "deciding": DECIDING, "augment": "none"}
    return ConceptFolder(str(root), **{**options, **kwargs})


def expected():
    """The deciding pixels of a cat, a dog and an owl, by hand."""
    cat, dog, owl = torch.zeros(3, 24, 32, dtype=torch.bool)
    cat[:, :8] = True
    dog[:, :8] = dog[:, 24:] = True
    return torch.stack([cat, dog, owl])


def test_the_masks_that_decide_the_class(root):
    data = open_folder(root, deciding={**DECIDING, "owl": ["void"]})
    for split in ("train", "val", "test"):
        dataset = data.dataset(split)
        for index, label in enumerate(dataset.labels.tolist()):
            assert torch.equal(dataset.deciding_mask(index), expected()[label])


@pytest.mark.parametrize("cache", [True, False])
def test_they_are_the_truth_of_a_comparison(root, cache):
    chosen = choose_images(open_folder(root, cache=cache), "test", 6, seed=0)
    assert sorted(chosen.labels.tolist()) == [0, 0, 1, 1, 2, 2]
    assert torch.equal(chosen.truth, expected()[chosen.labels])
    assert torch.equal(chosen.masks.any(1), expected()[[1] * 6])  # all parts, whatever decides
    whole = choose_images(open_folder(root, deciding=None), "test", 6, seed=0)
    assert torch.equal(whole.truth, whole.masks.any(1))
    assert whole.fingerprint != chosen.fingerprint


def test_without_a_word_nobody_knows(root):
    assert open_folder(root, deciding=None).dataset("test").deciding_mask(0) is None
    assert open_folder(root, masks=None, deciding=None).dataset("test").deciding_mask(0) is None


def test_the_truth_of_toy_birds_is_that_of_their_classes():
    data = ToyBirds(preset="tiny", train_size=12, val_size=12, test_size=12, structure="single")
    chosen, dataset = choose_images(data, "test", 4, seed=0), data.dataset("test")
    for row, index in enumerate(chosen.index.tolist()):
        assert torch.equal(chosen.truth[row], dataset.truth(index).disc_mask)
    assert not torch.equal(chosen.truth, chosen.masks.any(1))


@pytest.mark.parametrize(
    ("deciding", "message"),
    [
        ({**DECIDING, "owll": []}, "data.deciding: there is no class 'owll'. Did you mean 'owl'?"),
        ({"cat": [], "dog": []}, "data.deciding: class 'owl' is missing; [] says that no part decides it"),
        ({**DECIDING, "owl": ["rihgt"]}, "data.deciding.owl: there is no part 'rihgt'. Did you mean 'right'?"),
        ({**DECIDING, "owl": "left"}, "data.deciding.owl: 'left' given, a list of parts is needed"),
        ({**DECIDING, "owl": None}, "data.deciding.owl: None given, a list of parts is needed"),
        (["left"], "data.deciding: ['left'] given, parts by class are needed, such as {cat: [whiskers], dog: [nose, t"),
    ],
)
def test_mistakes(root, deciding, message):
    with pytest.raises(ConfigError) as caught:
        open_folder(root, deciding=deciding)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_it_needs_masks(root):
    with pytest.raises(ConfigError, match=r"^data\.deciding: there are no masks of parts; data\.masks says where"):
        open_folder(root, masks=None)
