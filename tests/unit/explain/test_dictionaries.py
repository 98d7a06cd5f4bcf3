"""Concepts of features that are made of known parts: found, found again, and counted."""

import numpy as np
import pytest
import torch

from ibd.errors import ConfigError, DataError, IbdError, UnsupportedError
from ibd.explain.directions import Directions
from ibd.explain.discovery.dictionaries import Search, find_directions
from ibd.explain.discovery.sparse_autoencoder import SparseAutoencoder, Training, largest
from ibd.explain.discovery.stability import matched, most_stable, rebuilt, search_again


def planted(parts, count=1500, seed=0, noise=0.02):
    """Return (N, D) features, sums of a few parts each, and the parts as directions."""
    generator = np.random.default_rng(seed)
    parts = parts / np.linalg.norm(parts, axis=1, keepdims=True)
    codes = generator.gamma(2.0, 1.0, (count, len(parts))) * (generator.random((count, len(parts))) < 0.2)
    rows = codes @ parts + noise * generator.standard_normal((count, parts.shape[1]))
    vectors = torch.from_numpy(parts.astype(np.float32))
    names = tuple(f"part {number}" for number in range(len(parts)))
    return rows.astype(np.float32), Directions("", vectors, torch.zeros(len(parts)), names, "true", "nonnegative")


def positive(count=6, channels=24, seed=0):
    generator = np.random.default_rng(seed)
    return generator.random((count, channels)) * (generator.random((count, channels)) < 0.3)


def signed(count=6, channels=24, seed=0):
    return np.random.default_rng(seed).standard_normal((count, channels))


@pytest.mark.parametrize("seed", [0, 1])
def test_factorization_finds_planted_parts_and_how_many_there_are(seed):
    rows, truth = planted(positive(seed=seed), seed=seed)
    rows, image = rows.clip(0), np.arange(len(rows)) // 10
    tried = [search_again(rows, image, Search("nmf", k, seed), again=2) for k in (4, 6, 8)]
    chosen = most_stable(tried)
    assert chosen.k == 6
    assert float(matched(truth, chosen.directions)[1].mean()) > 0.95
    assert chosen.stability > 0.95 > tried[2].stability
    assert chosen.explained > 0.98
    assert chosen.unseen > 0.98


@pytest.mark.parametrize("active", [None, 2])
def test_autoencoder_finds_planted_parts_of_any_sign(active):
    rows, truth = planted(signed())
    found = find_directions(rows + 3, Search("sae", 6, training=Training(active, steps=250)))
    assert float(matched(truth, found)[1].mean()) > 0.95
    explained, at_a_place = rebuilt(found, rows + 3)
    assert explained > 0.9
    assert at_a_place < 3


def test_autoencoder_reads_as_it_was_trained():
    """What `Directions` read, on features as they are, is what the network says of them, scaled."""
    generator = torch.Generator().manual_seed(0)
    network = SparseAutoencoder(torch.randn(5, 7, generator=generator), torch.randn(7, generator=generator), active=2)
    rows = torch.randn(9, 7, generator=generator)
    weight, parts, center = network.weight.detach(), network.parts.detach(), network.center.detach()
    names = tuple("abcde")
    found = Directions("", weight, -weight @ center, names, "sae", "topk", {"active": 2}, parts, center)
    activations = network.keep(network.raw(rows)).detach()
    assert torch.allclose(found.read(rows), activations, atol=1e-5)
    assert torch.allclose(found.write(activations), network.decode(activations).detach(), atol=1e-5)
    assert int((activations > 0).sum(1).max()) <= 2


def test_largest_keeps_the_largest_positive_ones():
    assert largest(torch.tensor([[3.0, 1.0, 2.0], [-1.0, -2.0, 5.0]]), 2).tolist() == [[3, 0, 2], [0, 0, 5]]


def test_dead_units_come_to_life():
    """Rows of one direction leave four of five units without work; then another direction shows up."""
    rows, _ = planted(signed(count=4), count=600)
    far = np.array(signed(count=1, seed=9), np.float32).repeat(4, 0)
    start = torch.from_numpy(far)
    from ibd.explain.discovery import sparse_autoencoder as module

    network = SparseAutoencoder(start, torch.zeros(24), None)
    with torch.no_grad():
        network.bias[:] = -50.0  # active nowhere
    revived = module._descend(network, rows, 1.0, Training(steps=320), np.random.default_rng(0))
    assert revived >= 4
    assert bool((network.keep(network.raw(torch.from_numpy(rows))) > 0).any(0).all())


def test_components_are_those_of_the_covariance():
    rows, _ = planted(signed(), count=400)
    found = find_directions(rows, Search("pca", 3))
    vectors = np.linalg.svd(rows - rows.mean(0), full_matrices=False)[2][:3]
    assert np.allclose(np.abs((found.vectors.numpy() * vectors).sum(1)), 1, atol=1e-4)
    read = found.read(torch.from_numpy(rows))
    assert torch.allclose(read.mean(0), torch.zeros(3), atol=1e-3)
    assert rebuilt(found, rows)[0] == pytest.approx(
        float(read.square().sum() / np.square(rows - rows.mean(0)).sum()), abs=1e-4
    )


def test_clusters_are_directions_and_one_is_active_at_a_place():
    rows = np.array([[2, 0], [1, 0.1], [0, 3], [0.1, 1], [5, 0]], np.float32)
    found = find_directions(rows, Search("kmeans", 2))
    read = found.read(torch.from_numpy(rows))
    assert (read > 0).sum(1).tolist() == [1] * 5
    across = read.argmax(1).tolist()
    assert across[0] == across[1] == across[4] != across[2] == across[3]


def test_what_carries_most_comes_first():
    parts = np.eye(3, 8)
    generator = np.random.default_rng(0)
    rows = (generator.random((300, 3)) * [1, 9, 3] @ parts).astype(np.float32)
    found = find_directions(rows, Search("nmf", 3))
    assert found.vectors.argmax(1).tolist() == [1, 2, 0]
    assert found.names == ("concept 1", "concept 2", "concept 3")


def test_parts_that_are_as_strong_as_each_other_are_told_apart():
    rows = np.repeat(np.eye(2, 4, dtype=np.float32), 14, 0)
    vectors = find_directions(rows, Search("nmf", 3)).vectors
    assert sorted(vectors.argmax(1).tolist())[0] == 0
    assert vectors[:, :2].amax(0).tolist() == pytest.approx([1, 1], abs=1e-3)


def test_same_seed_finds_the_same():
    rows, _ = planted(signed(), count=300)
    search = Search("sae", 4, seed=3, training=Training(steps=20))
    assert torch.equal(find_directions(rows, search).vectors, find_directions(rows, search).vectors)


@pytest.mark.parametrize(
    ("rows", "search", "error", "message"),
    [
        (np.ones((30, 4)), Search("nmf", 5), ConfigError, "k: 5 given, layer 'x' has 4 channels"),
        (np.eye(9)[:3], Search("kmeans", 5), DataError, "5 concepts cannot be learned from 3 places"),
        (np.ones((30, 9)), Search("sae", 5), DataError, "puts out 1 everywhere"),
        (np.full((30, 9), np.nan), Search("pca", 5), DataError, "not finite"),
        (np.linspace(-2, 1, 90).reshape(30, 3), Search("nmf", 2), UnsupportedError, r"down to -2, .* method=sae"),
        (np.eye(9)[:5] - np.eye(9)[:5], Search("kmeans", 2), DataError, "puts out 0 everywhere"),
    ],
)
def test_bad_input_is_one_line(rows, search, error, message):
    with pytest.raises(error, match=message) as caught:
        find_directions(rows.astype(np.float32), search, "x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"method": "ica"}, {"k": 0}, {"method": "sae", "k": 2, "training": Training(2)}])
def test_bad_searches_are_refused(options):
    with pytest.raises(IbdError):
        Search(**options)


def test_too_few_places_to_search_again_are_said():
    rows = np.eye(8, dtype=np.float32)
    with pytest.raises(DataError, match="again=0"):
        search_again(rows, np.arange(8), Search("kmeans", 6))
