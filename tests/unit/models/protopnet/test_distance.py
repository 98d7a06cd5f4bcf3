"""The operation that finds the nearest patches, against loops in float64."""

import numpy as np
import pytest
import torch

from ibd.models.protopnet import distance as op
from ibd.models.protopnet.distance import all_distances, nearest_patches, patches_of
from ibd.models.protopnet.similarity import activate
from tests.reference import prototypes as reference
from tests.unit.models.protopnet.makers import make_network

MANY = op._MANY_POSITIONS


def tensors(images=3, length=6, count=5, dim=4, dtype=torch.float64, seed=0, grad=False):
    generator = torch.Generator().manual_seed(seed)
    z = torch.rand(images, length, dim, generator=generator, dtype=dtype, requires_grad=grad)
    p = torch.rand(count, dim, generator=generator, dtype=dtype, requires_grad=grad)
    return z, p


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_forward_is_the_formula(k, dtype):
    z, p = tensors(dtype=dtype)
    found = nearest_patches(z, p, k)
    for image in range(3):
        for j in range(5):
            expected = sorted((reference.distance(patch, p[j]), i) for i, patch in enumerate(z[image]))[:k]
            assert found.distance[image, j].tolist() == pytest.approx([d for d, _ in expected], rel=1e-5)
            assert found.position[image, j].tolist() == [i for _, i in expected]


def test_chunks_change_nothing(monkeypatch):
    z, p = tensors(images=7)
    whole = nearest_patches(z, p, 2)
    monkeypatch.setitem(op._CHUNK_BYTES, "cpu", 1)
    for one, other in zip(whole, nearest_patches(z, p, 2), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("many", [1, MANY])
@pytest.mark.parametrize("needed", ["both", "patches", "prototypes"])
def test_gradcheck(k, many, needed, monkeypatch):
    """Over both ways back: the map that is nearly all zeros, and from `many` positions on the gathered patches."""
    monkeypatch.setattr(op, "_MANY_POSITIONS", many)
    z, p = tensors(2, 6, 3, 2)
    z.requires_grad_(needed != "prototypes")
    p.requires_grad_(needed != "patches")
    assert torch.autograd.gradcheck(lambda a, b: nearest_patches(a, b, k).distance, (z, p))


@pytest.mark.parametrize("length", [6, MANY])
def test_both_ways_back_agree_with_autograd(length):
    z, p = tensors(4, length, 7, 3, grad=True)
    weight = torch.rand(4, 7, 1, dtype=torch.float64)
    found = torch.autograd.grad((nearest_patches(z, p).distance * weight).sum(), (z, p))
    slow = (z.unsqueeze(1) - p.view(1, 7, 1, 3)).square().sum(3).min(2, keepdim=True).values
    for one, other in zip(found, torch.autograd.grad((slow * weight).sum(), (z, p)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("length", [6, MANY])
def test_of_equal_patches_the_first_gets_the_gradient(length):
    patch = torch.tensor([0.25, 0.5, 0.75, 1.0])
    z = patch.repeat(2, length, 1)
    z[:, 0] += 3  # the others tie
    z.requires_grad_()
    p = torch.zeros(3, 4, requires_grad=True)
    found = nearest_patches(z, p, first=True)
    assert (found.position == 1).all()
    found.distance.sum().backward()
    assert z.grad[:, 1].ne(0).all()
    assert not z.grad[:, 2:].any()
    assert not z.grad[:, 0].any()
    torch.testing.assert_close(z.grad.sum(1), (2 * 3 * patch).expand(2, 4))
    torch.testing.assert_close(p.grad, (-2 * 2 * patch).expand(3, 4))


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("seed", range(5))
def test_of_patches_that_rounding_tells_apart_the_first_is_taken(k, seed):
    """Patches 2 and 4 to 9 are one in another order of adding up; the others are farther by more than that."""
    generator = torch.Generator().manual_seed(seed)
    p, step = torch.randn(6, 8, generator=generator), torch.zeros(8)
    step[0] = 0.5
    z = (p[3] + step).repeat(2, 10, 1)
    z[:, [0, 1, 3]] += 2e-3 * step  # 2e-3 is 16,000 units of rounding
    z *= 1 + 1e-7 * torch.randn(z.shape, generator=generator)
    taken = nearest_patches(z, p, k, first=True).position[:, 3]
    assert taken.sort(dim=1).values.tolist() == [[2, 4, 5][:k]] * 2  # in which order rounding may say


def test_what_is_nearer_by_more_than_rounding_is_no_tie():
    """A prototype that is a patch is at 0, though its score differs from that of a patch before it by 4e-6 of 25."""
    p = torch.tensor([[3.0, 4.0, 0.0], [-3.0, -4.0, 0.0]])  # their mean is 0, and all products are exact
    z = p[:1].repeat(1, 4, 1)
    z[:, :2, 2] = 2e-3
    found = nearest_patches(z, p, first=True)
    assert found.position[0, 0].item() == 2
    assert found.distance[0, 0].item() == 0


@pytest.mark.parametrize("top_k", [1, 3])
def test_the_places_of_an_explanation_do_not_hang_on_rounding(top_k):
    """Where the add-on's ReLU is shut, all cells are one; in training nobody asks for places."""
    network = make_network(distance="cosine", top_k=top_k)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(4, 8, 5, 5, generator=generator)
    features[:, :, ::2] = features[:, :, :1, :1]  # 15 equal cells in each image
    with torch.no_grad():
        network.prototypes.copy_(features[:, :, 0, 0].repeat(len(network.prototypes), 1)[: len(network.prototypes)])
        network.prototypes += 0.1
    found = []
    for _ in range(5):
        noisy = features * (1 + 1e-7 * torch.randn(features.shape, generator=generator))
        found.append(network.match(noisy).position.sort(dim=2).values)
    assert all(torch.equal(each, found[0]) for each in found)
    for image in range(4):
        assert found[0][image, image].tolist() == list(range(top_k))


@pytest.mark.parametrize("length", [49, 196])
@pytest.mark.parametrize("features", [torch.float32, torch.bfloat16])
def test_a_prototype_that_is_a_patch_is_at_distance_zero(length, features):
    """As after a projection, also where features are bfloat16 and the search happens under autocast."""
    z, _ = tensors(8, length, 1, 128, torch.float32)
    z = z.to(features)
    p = torch.stack([z[i % 8, (7 * i) % length] for i in range(40)]).float()
    with torch.autocast("cpu", torch.bfloat16, enabled=features == torch.bfloat16):
        found = nearest_patches(z, p)
        similarity = activate(found.distance, "log", "l2")
    own = torch.stack([found.distance[i % 8, i, 0] for i in range(40)])
    assert torch.equal(own, torch.zeros(40))
    assert found.distance.dtype == torch.float32
    best = torch.stack([similarity[i % 8, i, 0] for i in range(40)])
    assert best.tolist() == pytest.approx([np.log(1e4)] * 40, abs=1e-4)
    assert round(float(best[0]), 4) == 9.2103


def saved_bytes(function, *inputs):
    """How much autograd keeps for the way back, the inputs themselves left out."""
    known, total = {each.untyped_storage().data_ptr() for each in inputs}, 0

    def pack(tensor):
        nonlocal total
        if tensor.untyped_storage().data_ptr() not in known:
            total += tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function(*inputs)
    assert result.requires_grad
    return total


def test_no_map_of_distances_is_kept():
    z, p = tensors(8, 196, 300, 16, torch.float32, grad=True)
    kept = saved_bytes(lambda a, b: nearest_patches(a, b).distance, z, p)
    assert kept == 8 * 300 * 8  # the positions
    published = saved_bytes(
        lambda a, b: (
            (a.square().sum(2)[:, None] - 2 * b @ a.transpose(1, 2) + b.square().sum(1)[:, None]).relu().amin(2)
        ),
        z,
        p,
    )
    assert published >= 15 * kept


def test_the_whole_network_keeps_no_map_while_it_trains():
    """A map of distances has B * P * L numbers; what is kept is features, and a few numbers per prototype."""
    network = make_network(per_class=200)
    features = torch.rand(4, 8, 14, 14).requires_grad_()
    network.train()
    kept = saved_bytes(lambda f: network.score(network.match(f, maps=False).distance), features)
    assert kept < 0.25 * 4 * 600 * 196 * 4


@pytest.mark.parametrize("extent", [1, 2, 3])
def test_patches_of_any_extent(extent):
    features = torch.rand(2, 3, 5, 4)
    patches, grid = patches_of(features, (extent, extent))
    assert grid == (6 - extent, 5 - extent)
    for image in range(2):
        np.testing.assert_allclose(patches[image], np.stack(reference.patches(features[image], extent)), rtol=1e-6)


@pytest.mark.parametrize("kind", ["l2", "cosine"])
@pytest.mark.parametrize("activation", ["log", "linear", "exponential"])
@pytest.mark.parametrize(("extent", "top_k"), [(1, 1), (2, 1), (1, 3)])
def test_scores_and_maps_of_the_network(kind, activation, extent, top_k):
    network = make_network(distance=kind, activation=activation, extent=extent, top_k=top_k)
    images = torch.rand(3, 3, 32, 24)
    with torch.no_grad():
        features, units = network.features(images), network.encode(images)
    for image in range(3):
        for j, prototype in enumerate(network.prototypes.detach()):
            everywhere = [
                reference.similarity(reference.distance(z, prototype, kind), activation, kind)
                for z in reference.patches(features[image], extent)
            ]
            assert units.maps[image, j].flatten().tolist() == pytest.approx(everywhere, abs=2e-5)
            best = sorted(everywhere)[::-1][:top_k]
            assert float(units.scores[image, j]) == pytest.approx(sum(best) / top_k, abs=2e-5)
            assert float(units.state[0][image, j]) == pytest.approx(
                reference.nearest(features[image], prototype, kind, extent)[0][0], abs=1e-5
            )
    if top_k == 1:
        assert torch.equal(units.maps.amax((2, 3)), units.scores)


def test_the_largest_of_a_map_is_the_score_where_rounding_is_worst():
    """Of many patches next to a prototype the map must not put one above the nearest."""
    z = torch.rand(2, 1, 64) * 0.001 + 0.9 + torch.rand(2, 50, 64) * 1e-4
    p = z[:, 7].clone()
    nearest = nearest_patches(z, p)
    distances = all_distances(z, p, nearest)
    assert torch.equal(distances.amin(2), nearest.distance[..., 0])


def test_training_makes_no_maps():
    network = make_network()
    network.train()
    assert network.encode(torch.rand(2, 3, 32, 24)).maps.shape == (2, 6, 0, 0)


def test_error_8_epsilon_is_one_constant():
    """Peers have 1e-14 here and 1e-4 there, and their similarities cannot be compared."""
    from ibd.models.protopnet import similarity

    assert similarity.EPSILON == reference.EPSILON == 1e-4
    for kind in ("l2", "cosine"):
        top = float(activate(torch.zeros(1), "log", kind))
        assert top == pytest.approx(-np.log(similarity.EPSILON), abs=1e-4)
