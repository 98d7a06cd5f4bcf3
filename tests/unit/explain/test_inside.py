"""Filters, activation grids, dictionaries, groups, sparsity: exact where they can be."""

import pytest
import torch
from torch import nn

from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.explain.attribution import layer_attribution
from ibd.explain.factorization import factorize, neuron_groups
from ibd.explain.inside import activation_grid, first_layer_filters, semantic_dictionary, sparsity_by_depth
from ibd.explain.inside_figures import (
    activation_grid_figure,
    attribution_figure,
    dictionary_figure,
    filters_figure,
    groups_figure,
    patches_figure,
    sparsity_figure,
)
from ibd.explain.patches import maximally_activating_patches
from ibd.explain.targets import Target
from tests.model_makers import make_module, make_whitening

IMAGE = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(0))
QUICK = {"steps": 4, "size": 12, "progress": False}


def net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(6, 2),
    )  # fmt: skip


def untouched(model, call):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    model.train()
    found = call()
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(module.training and not module._forward_hooks for module in model.modules())
    return found


def test_filters_are_the_weights():
    model = net()
    shown = first_layer_filters(model)
    weight = model[0].weight.detach()
    assert shown.shape == (4, 3, 3, 3)
    torch.testing.assert_close((shown - 0.5).flatten(1).abs().amax(1), torch.full((4,), 0.5))
    torch.testing.assert_close((shown[2] - 0.5) * 2 * weight[2].abs().max(), weight[2])
    shared = first_layer_filters(model, "shared")
    torch.testing.assert_close((shared - 0.5) * 2 * weight.abs().max(), weight)
    assert len(filters_figure(shown).axes) == 4
    assert first_layer_filters(make_whitening()).shape[1] == 3
    with pytest.raises(UnsupportedError, match="no convolution of three channels"):
        first_layer_filters(nn.Linear(3, 3))
    with pytest.raises(ConfigError, match="normalization: 'min'"):
        first_layer_filters(model, "min")


def test_an_activation_grid_shows_every_cell_as_strong_as_it_is():
    model = net()
    found = untouched(model, lambda: activation_grid(model, IMAGE, "3", cells=3, batch_size=4, **QUICK))
    with torch.no_grad():
        pooled = nn.functional.adaptive_avg_pool2d(model[:4](IMAGE), 3)[0]
    torch.testing.assert_close(found.magnitude, pooled.norm(dim=0))
    assert found.images.shape == (3, 3, 3, 12, 12)
    again = activation_grid(model, IMAGE, "3", cells=3, batch_size=9, **QUICK)
    assert torch.equal(again.magnitude, found.magnitude)
    assert found.layer == "3"
    figure = activation_grid_figure(IMAGE[0], found)
    drawn = [picture.get_extent() for picture in figure.axes[1].images[1:]]  # after the faded image
    side = (found.magnitude / found.magnitude.max()).sqrt() * 0.96
    for (left, right, bottom, top), expected, place in zip(drawn, side.flatten().tolist(), range(9), strict=True):
        assert (right - left, bottom - top) == pytest.approx((expected, expected))
        assert ((left + right) / 2, (top + bottom) / 2) == pytest.approx((place % 3 + 0.5, place // 3 + 0.5))
    whole = activation_grid(model, IMAGE[0], "3", cells=100, **QUICK)
    assert whole.magnitude.shape == (7, 9)


def test_a_dictionary_has_the_strongest_channels():
    model = net()
    found = untouched(model, lambda: semantic_dictionary(model, IMAGE, "3", (2, 5), top=3, **QUICK))
    with torch.no_grad():
        values = model[:4](IMAGE)[0, :, 2, 5]
    assert found.channels == values.topk(3).indices.tolist()
    torch.testing.assert_close(found.activations, values.topk(3).values)
    assert found.images.shape == (3, 3, 12, 12)
    assert found.share == pytest.approx(float(values.topk(3).values.square().sum() / values.square().sum()))
    figure = dictionary_figure(IMAGE[0], found)
    assert [axis.get_title().split("\n")[0] for axis in figure.axes[1:]] == [f"channel {k}" for k in found.channels]
    assert figure.axes[0].lines[0].get_xydata().min(0).tolist() == [5, 2]
    with pytest.raises(ConfigError, match="no cell 7, 0 in '3' of 7 x 9"):
        semantic_dictionary(model, IMAGE, "3", (7, 0))
    with pytest.raises(DataError, match="2 images given"):
        semantic_dictionary(model, IMAGE.repeat(2, 1, 1, 1), "3", (0, 0))


def test_groups_are_the_planted_ones():
    generator = torch.Generator().manual_seed(1)
    weights = torch.rand(3, 12, generator=generator) * (torch.arange(12) // 4 == torch.arange(3)[:, None])
    maps = torch.rand(2, 3, 5, 6, generator=generator).clamp(min=0.4) - 0.4
    maps *= torch.tensor([1.0, 4.0, 2.0]).view(1, 3, 1, 1)
    data = torch.einsum("bghw,gd->bdhw", maps, weights)
    random = torch.get_rng_state()
    found = factorize(data, 3, steps=3000, seed=2)
    assert torch.equal(torch.get_rng_state(), random)
    assert found.error < 0.01
    assert bool((found.maps >= 0).all() & (found.weights >= 0).all())
    torch.testing.assert_close(found.weights.norm(dim=1), torch.ones(3))
    lengths = (maps * weights.norm(dim=1).view(1, 3, 1, 1)).permute(1, 0, 2, 3).flatten(1).norm(dim=1)
    order = lengths.argsort(descending=True)
    cosine = found.weights @ nn.functional.normalize(weights[order], dim=1).t()
    assert float(cosine.diagonal().min()) > 0.95
    back = torch.einsum("bghw,gd->bdhw", found.maps, found.weights)
    assert float((back - data).norm() / data.norm()) == pytest.approx(found.error, abs=1e-4)
    errors = [factorize(data, 2, steps=steps).error for steps in (1, 5, 20, 100)]
    assert errors == sorted(errors, reverse=True)
    assert torch.equal(factorize(data, 2, 10).maps, factorize(data, 2, 10).maps)
    assert not torch.equal(factorize(data, 2, 10, seed=1).maps, factorize(data, 2, 10).maps)


def test_groups_of_a_layer():
    model = net()
    found = untouched(model, lambda: neuron_groups(model, IMAGE, "3", groups=2))
    assert found.maps.shape == (1, 2, 7, 9)
    assert found.weights.shape == (2, 6)
    with torch.no_grad():
        torch.testing.assert_close(found.maps, factorize(model[:4](IMAGE), 2).maps)
    figure = groups_figure(IMAGE, found, top=2)
    assert len(figure.axes) == 3
    assert figure.axes[2].get_title().endswith(", ".join(map(str, found.weights[1].topk(2).indices.tolist())))
    with pytest.raises(ConfigError, match="groups: 7 of 6 channels at 63 positions"):
        neuron_groups(model, IMAGE, "3", groups=7)
    with pytest.raises(DataError, match="nothing is active"):
        factorize(-torch.ones(1, 3, 2, 2), 1)
    with pytest.raises(UnsupportedError, match="layer '6' returns 2 numbers"):
        neuron_groups(model, IMAGE, "6")


def test_sparsity_counts_zeros():
    model = net()
    images = torch.rand(7, 3, 20, 24, generator=torch.Generator().manual_seed(2))
    found = untouched(model, lambda: sparsity_by_depth(model, images))
    assert list(found) == [str(number) for number in range(7)]
    with torch.no_grad():
        for end in range(1, 8):
            assert found[str(end - 1)] == pytest.approx(float((model[:end](images) == 0).float().mean()))
    assert 0 < found["1"] < 1
    bars = sparsity_figure(found).axes[0].patches
    assert [bar.get_width() for bar in bars] == pytest.approx([100 * share for share in found.values()])
    with pytest.raises(DataError, match="no layers"):
        sparsity_figure({})
    assert sparsity_by_depth(model, [images[:2], (images[2:], None)]) == pytest.approx(found)
    module = make_module()
    assert set(sparsity_by_depth(module, torch.rand(2, 3, 16, 16))) <= {n for n, _ in module.network.named_modules()}
    with pytest.raises(DataError, match="no images"):
        sparsity_by_depth(model, [])


def test_a_layer_that_runs_twice_is_counted_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.relu, self.bias = nn.ReLU(), nn.Identity()

        def forward(self, image):
            return self.relu(self.bias(self.relu(image - 0.5)) - 10)

    image = torch.rand(2, 3, 4, 4)
    found = sparsity_by_depth(Twice(), image)
    first = float((image <= 0.5).float().mean())
    assert found == pytest.approx({"bias": first, "relu": (first + 1) / 2})
    assert list(found) == ["bias", "relu"]


def test_figures_of_patches_and_of_attribution():
    model = net()
    images = torch.rand(3, 3, 20, 24, generator=torch.Generator().manual_seed(3))
    patches = maximally_activating_patches(model, [images], "3", channels=[4, 0], k=4)
    figure = patches_figure(patches, images, size=12)
    assert [axis.get_title() for axis in figure.axes[:4]] == [
        *(f"{float(x):.2f}" for x in patches.score[0, :3]),
        "none",
    ]
    found = layer_attribution(model, images, "3", 1)
    figure = attribution_figure(images, found, top=2)
    bars = [bar.get_width() for bar in figure.axes[5].patches]
    order = found.channels[1].abs().topk(2).indices
    assert bars == pytest.approx(found.channels[1][order].tolist())
    with pytest.raises(DataError, match="one score"):
        attribution_figure(images, layer_attribution(model, images, "3", Target.classes([0, 1])))
