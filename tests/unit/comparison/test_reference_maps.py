"""Maps that know nothing of the model."""

import math

import pytest
import torch

from ibd.comparison.reference_maps import (
    REFERENCE_MAPS,
    ReferenceExplainer,
    edges,
    other_image,
    partners,
    reference_maps,
)
from ibd.errors import ConfigError
from ibd.explain.targets import Target
from ibd.metrics.functional.localization import mass_accuracy
from tests.explainer_makers import images, make
from tests.model_state import check_untouched, snapshot


@pytest.mark.parametrize("name", REFERENCE_MAPS)
def test_a_map_depends_on_its_image_and_id_alone(name):
    image, ids = images(4, (12, 9)), ["a", "b", "c", "d"]
    maps = reference_maps(name, image, ids)
    assert maps.shape == (4, 12, 9)
    assert maps.dtype == torch.float32
    torch.testing.assert_close(reference_maps(name, image[[2, 1]], ["c", "b"]), maps[[2, 1]])
    assert torch.equal(reference_maps(name, image, ids, seed=1), maps) == (name != "noise")


def test_what_they_are():
    image = images(2, (8, 10))
    noise = reference_maps("noise", images(300, (8, 10)), range(300))
    assert abs(float(noise.mean())) < 0.03
    assert abs(float(noise.std()) - 1) < 0.03
    assert reference_maps("constant", image, [0, 1]).unique().tolist() == [1.0]
    torch.testing.assert_close(reference_maps("intensity", image, [0, 1]), image.mean(1))
    center = reference_maps("center", image, [0, 1])[0]
    expected = [[math.exp(-8 * (((y + 0.5) / 8 - 0.5) ** 2 + ((x + 0.5) / 10 - 0.5) ** 2)) for x in range(10)]
                for y in range(8)]  # fmt: skip
    torch.testing.assert_close(center, torch.tensor(expected))
    ramp = torch.arange(10.0).expand(1, 3, 8, 10)  # rises by 1 a pixel
    torch.testing.assert_close(edges(ramp)[0, :, 1:-1], torch.ones(8, 8))
    torch.testing.assert_close(edges(ramp.transpose(2, 3)), edges(ramp).transpose(1, 2))


def test_noise_is_at_chance():
    maps = reference_maps("noise", torch.zeros(400, 3, 16, 16), range(400))
    mask = torch.zeros(400, 16, 16, dtype=torch.bool)
    mask[:, :4, :8] = True
    assert abs(float(mass_accuracy(maps, mask).mean()) - 1 / 8) < 0.01


def test_partners_are_the_next_of_another_class():
    labels = torch.tensor([0, 0, 1, 1, 2, 0, 0])
    assert partners(labels).tolist() == [2, 2, 4, 4, 5, 2, 2]
    maps = torch.arange(7.0).view(7, 1, 1)
    assert other_image(maps, labels).flatten().tolist() == [2, 2, 4, 4, 5, 2, 2]
    generator = torch.Generator().manual_seed(0)
    many = torch.randint(3, (50,), generator=generator)
    found = partners(many)
    for i, j in enumerate(found.tolist()):
        assert many[i] != many[j]
        assert all(many[(i + step) % 50] == many[i] for step in range(1, (j - i) % 50))


@pytest.mark.parametrize("name", REFERENCE_MAPS)
def test_as_an_explainer(name):
    model, image = make("baseline"), images(3, (32, 32))
    before = snapshot(model)
    found = ReferenceExplainer(name)(model, image, Target.classes([0, 2]))
    check_untouched(model, before)
    assert (found.kind, found.method, found.map.shape) == ("reference", name, (3, 2, 32, 32))
    single = ReferenceExplainer(name)(model, image[1:2])
    torch.testing.assert_close(single.map[0], found.map[1, 0])


def test_mistakes():
    with pytest.raises(ConfigError, match=r"unknown null 'edge'.*edges"):
        reference_maps("edge", images(1), [0])
    with pytest.raises(ConfigError, match="unknown null"):
        ReferenceExplainer("nothing")
    with pytest.raises(ConfigError, match="1 ids given for 2 images"):
        reference_maps("noise", images(2), [0])
    with pytest.raises(ConfigError, match="one class"):
        partners(torch.tensor([1, 1]))
