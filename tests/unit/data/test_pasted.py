"""Birds on places: the same pictures under both labels, and what is known of each."""

import pytest
import torch

from ibd.data.pasted import PastedScenes
from ibd.errors import ConfigError


@pytest.fixture(scope="module")
def data():
    return PastedScenes("object", image_size=32, train_size=60, val_size=4, test_size=12)


def test_labels_alone_differ(data):
    twin = data.relabeled("scene")
    mine, other = data.dataset("train"), twin.dataset("train")
    assert all(torch.equal(mine[i].image, other[i].image) for i in (0, 7, 59))
    assert torch.equal(mine.labels, mine.objects)
    assert torch.equal(other.labels, mine.scenes)
    assert twin.spec.class_names == ("sea", "forest", "dunes", "hills", "city", "meadow")
    assert torch.equal(mine.deciding_mask(3), ~other.deciding_mask(3))
    counts = mine.objects.bincount()
    assert counts.min() == counts.max()
    assert len(set(mine.scenes.tolist())) == 6


def test_the_object_is_all_that_is_pasted(data):
    """Beyond the mask the picture is the bare place."""
    dataset = data.dataset("test")
    for index in range(12):
        mask = dataset.masks(index)
        image, bare = dataset[index].image, dataset.bare(index)
        assert torch.equal(image[:, ~mask[0]], bare[:, ~mask[0]])
        assert (image - bare).abs()[:, mask[0]].mean() > 0.1
        assert 0.05 < mask.float().mean() < 0.6


def test_pictures_depend_on_seed_split_and_number_alone(data):
    longer = PastedScenes("scene", image_size=32, train_size=60, val_size=4, test_size=12, seed=0, masks=True)
    sample = longer.dataset("test")[5]
    assert torch.equal(sample.image, data.dataset("test")[5].image)
    assert torch.equal(sample.masks, data.dataset("test").masks(5))
    assert not torch.equal(data.dataset("train")[5].image, sample.image)
    with pytest.raises(ConfigError, match=r"data.labels: 'place' given, one of object, scene is needed"):
        PastedScenes("place")
