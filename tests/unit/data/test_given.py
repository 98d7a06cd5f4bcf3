"""Data sets of anybody's as a source of images."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import TensorDataset

from ibd.data import GivenImages
from ibd.errors import ConfigError, DataError

PIXELS = torch.rand(6, 3, 4, 5, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 0, 1, 2])


def test_pairs_of_tensors():
    data = GivenImages(TensorDataset(PIXELS, LABELS))
    assert data.spec.class_names == ("0", "1", "2")
    assert data.spec.image_size == (4, 5)
    batch = next(iter(data.loader("test")))
    assert torch.equal(batch.image, PIXELS)
    assert torch.equal(batch.label, LABELS)


def test_pictures_and_bytes_are_scaled():
    array = (PIXELS[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    pairs = [(Image.fromarray(array), 1), (torch.from_numpy(array).permute(2, 0, 1), 0)]
    dataset = GivenImages(pairs, class_names=["a", "b"]).dataset("test")
    wanted = torch.from_numpy(array).permute(2, 0, 1) / 255
    for index in (0, 1):
        torch.testing.assert_close(dataset[index].image, wanted)


class Known:
    """As torchvision's data sets are: labels and names are there without reading images."""

    targets, classes = (1, 0), ("cat", "dog")
    samples = (("x/1.png", 1), ("x/2.png", 0))
    reads = 0

    def __len__(self):
        return 2

    def __getitem__(self, index):
        self.reads += 1
        return PIXELS[index], self.targets[index]


def test_labels_are_taken_where_they_are_known():
    source = Known()
    data = GivenImages({"val": source})
    assert data.spec.class_names == ("cat", "dog")
    assert data.dataset("val").labels.tolist() == [1, 0]
    assert data.dataset("val").sample_id(1) == "x/2.png"
    assert source.reads == 1  # the first image alone, for its size
    with pytest.raises(DataError, match="no images for 'test', but for val"):
        data.dataset("test")


def test_masks_of_parts():
    masks = torch.zeros(2, 2, 4, 5)
    masks[0, 1, :2] = 0.3
    data = GivenImages([(PIXELS[0], 0, masks[0]), (PIXELS[1], 1, masks[1])], part_names=["beak", "wing"])
    assert data.spec.part_names == ("beak", "wing")
    assert data.dataset("test")[0].masks.flatten(1).sum(1).tolist() == [0, 10]
    single = GivenImages([(PIXELS[0], 0, masks[0, 1]), (PIXELS[1], 1, masks[1, 1])])
    assert single.spec.part_names == ("part 0",)


def test_one_of_several_labels():
    several = torch.tensor([[0, 1, 1], [1, 0, 1]])
    data = GivenImages(list(zip(PIXELS, several, strict=False)), ["edema", "nodule", "mass"], label="nodule")
    assert data.spec.class_names == ("no nodule", "nodule")
    assert data.dataset("test").labels.tolist() == [1, 0]


MISTAKES = {
    "normalized": (lambda: GivenImages([(PIXELS[0] * 4 - 2, 0)]), DataError, "leave what normalizes them"),
    "sizes": (lambda: list(GivenImages([(PIXELS[0], 0), (PIXELS[0, :, 1:], 1)]).loader("test")), DataError, "resize"),
    "gray": (lambda: GivenImages([(PIXELS[0, :1], 0)]), DataError, r"\(3, H, W\) tensor"),
    "several labels": (lambda: GivenImages([(PIXELS[0], torch.tensor([0, 1]))]), DataError, "`label` says which"),
    "negative": (lambda: GivenImages([(PIXELS[0], -1)]), DataError, "a number from 0"),
    "no pair": (lambda: GivenImages([PIXELS[0]]), DataError, r"\(image, label\)"),
    "empty": (lambda: GivenImages([]), DataError, "no image"),
    "a generator": (lambda: GivenImages(x for x in ()), DataError, "not a generator"),
    "split": (lambda: GivenImages({"tests": [(PIXELS[0], 0)]}), ConfigError, "Did you mean 'test'"),
    "names": (lambda: GivenImages([(PIXELS[0], 2)], class_names=["a"]), DataError, "label 2 is there, and 1 class"),
    "no such label": (lambda: GivenImages([(PIXELS[0], [1])], ["a"], label="b"), ConfigError, "there is no 'b'"),
    "mask": (lambda: GivenImages([(PIXELS[0], 0, torch.zeros(2, 2))]), DataError, "masks of"),
}


@pytest.mark.parametrize(("make", "kind", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line(make, kind, message):
    with pytest.raises(kind, match=message) as raised:
        make()
    assert "\n" not in str(raised.value)


def test_labels_that_disagree():
    class Shifted(Known):
        def __getitem__(self, index):
            return PIXELS[index], 1 - self.targets[index]

    with pytest.raises(DataError, match="its label is 0, and 1 in the data set's targets"):
        GivenImages(Shifted())
    Shifted.target_transform = staticmethod(lambda label: 1 - label)
    assert GivenImages(Shifted()).dataset("test").labels.tolist() == [0, 1]


@pytest.mark.parametrize("label", ["cat", float("nan"), None])
def test_labels_are_numbers(label):
    with pytest.raises(DataError, match="number"):
        GivenImages([(PIXELS[0], label)])
