"""Concept activation vectors: planted planes, balanced choices, and what is refused."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.explain.cav import Fit, choose_examples, concept_vectors, fit_directions, fit_vector
from ibd.explain.directions import Directions
from ibd.types import Batch

CLASSIFIERS = ("svm", "ridge", "logistic")


def planted(count=400, size=6, noise=0.3, seed=0):
    """Features of which the first two are concepts of their own, at +-1."""
    generator = torch.Generator().manual_seed(seed)
    concepts = (torch.rand(count, 2, generator=generator) > 0.5).float()
    features = torch.randn(count, size, generator=generator) * noise
    features[:, :2] += 2 * concepts - 1
    return features, concepts


class Brightness(nn.Module):
    """A layer whose channels are the colors of 2 x 2 cells, and a head on their means."""

    def __init__(self):
        super().__init__()
        self.layer = nn.AvgPool2d(2)

    def forward(self, image):
        return self.layer(image).mean((2, 3))


def batches(count=64, size=4, seed=0):
    """Images of noise; the first concept is that they are red."""
    generator = torch.Generator().manual_seed(seed)
    concepts = (torch.rand(count, 2, generator=generator) > 0.5).float()
    images = torch.rand(count, 3, size, size, generator=generator) * 0.5
    images[:, 0] += 0.5 * concepts[:, :1, None]
    labels = concepts[:, 0].long()
    every = Batch(images, labels, concepts, torch.arange(count))
    return [every.select(torch.arange(count) % 4 == part) for part in range(4)]


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_two_points_have_the_plane_half_way_between_them(classifier):
    low, high = torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 6.0]])
    vector, offset = fit_vector(high, low, Fit(classifier), "concept")
    assert torch.allclose(vector, torch.tensor([0.6, 0.8], dtype=torch.float64), atol=1e-6)
    middle = torch.tensor([2.5, 4.0], dtype=torch.float64)
    assert float(vector @ middle) + offset == pytest.approx(0, abs=1e-4)


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_planted_axes_are_found_whatever_the_scale_and_the_origin(classifier):
    features, concepts = planted()
    found = fit_directions(features, concepts, ("a", "b"), Fit(classifier))
    assert isinstance(found, Directions)
    assert found.reading == "linear"
    assert F.cosine_similarity(found.vectors, torch.eye(6)[:2]).min() > 0.95
    assert min(found.details["auroc"]) > 0.99
    moved = fit_directions(1000 * features + 50, concepts, ("a", "b"), Fit(classifier))
    assert torch.allclose(moved.vectors, found.vectors, atol=1e-3)
    assert torch.allclose(moved.read(1000 * features + 50) / 1000, found.read(features), atol=1e-2)


def test_scores_come_from_images_that_were_not_fitted_on_and_are_even_for_chance():
    features, concepts = torch.randn(300, 200, generator=torch.Generator().manual_seed(1)), planted(300)[1]
    found = fit_directions(features, concepts, ("a", "b"), Fit(examples=50))
    assert found.details["examples"] == [50, 50]
    assert all(0.3 < auroc < 0.7 for auroc in found.details["auroc"])  # of more features than images all fit
    assert found.details["held_out"][0] == 50


def test_choices_are_balanced_apart_and_of_known_images_alone():
    holds = torch.tensor([1.0] * 30 + [0.0] * 200 + [math.nan] * 50 + [0.5] * 20)
    chosen = choose_examples(holds, "c", 100, 0)
    assert [len(part) for part in chosen] == [24, 24, 6, 6]
    assert len(torch.cat(chosen).unique()) == 60
    assert int(torch.cat([chosen.positives, chosen.held_positives]).max()) < 30
    assert int(torch.cat([chosen.negatives, chosen.held_negatives]).max()) < 230
    assert not torch.equal(chosen.negatives, choose_examples(holds, "c", 100, 1).negatives)


def test_a_concept_is_fitted_alike_whatever_other_concepts_there_are():
    features, concepts = planted()
    both, alone = fit_directions(features, concepts, ("a", "b")), fit_directions(features, concepts[:, 1:], ("b",))
    assert torch.equal(both.vectors[1], alone.vectors[0])


def test_any_layer_of_a_model_is_read_over_its_cells():
    model = Brightness().train()
    found = concept_vectors(model, batches(), ("group::red", "other"), "layer", ["group"])
    assert found.names == ("group::red",)
    assert found.layer == "layer"
    assert found.details["shape"] == [3, 2, 2]
    assert float(found.vectors[0, 0]) > 0.98
    flat = concept_vectors(model, batches(), ("group::red", "other"), "layer", ["group::red"], pooling="flat")
    assert flat.vectors.shape == (1, 12)
    assert float(flat.vectors[0, :4].min()) > 0.3  # of 4 cells alike each has a half
    assert model.training


def test_directions_are_kept_in_a_file(tmp_path):
    found = fit_directions(*planted(), ("a", "b"))
    again = Directions.load(found.save(tmp_path / "cav.npz"))
    assert torch.equal(found.vectors, again.vectors)
    assert again.details == found.details


def test_what_cannot_be_is_one_line():
    features, concepts = planted(40)
    with pytest.raises(DataError, match="concept 'a': 3 images are known to have it and 37 not to: at least 8"):
        fit_directions(features, torch.cat([torch.ones(3, 1), torch.zeros(37, 1)]), ("a",))
    with pytest.raises(UnsupportedError, match="concept 'a': the layer puts out the same for all images"):
        fit_directions(torch.ones(40, 5), concepts[:, :1], ("a",))
    with pytest.raises(DataError, match="the features of layer 'x' are not all finite"):
        fit_directions(features.fill_(math.nan), concepts, ("a", "b"), layer="x")
    with pytest.raises(ConfigError, match="classifier: 'tree' is not one of svm, ridge, logistic"):
        Fit("tree")
    with pytest.raises(ConfigError, match="there is no concept 'rde'"):
        concept_vectors(Brightness(), batches(), ("red", "other"), "layer", ["rde"])
    with pytest.raises(ConfigError, match="Brightness has no 'backbone': name a layer"):
        concept_vectors(Brightness(), batches(), ("red", "other"))
    with pytest.raises(ConfigError, match="the data has no concept labels"):
        concept_vectors(Brightness(), batches(), (), "layer")
