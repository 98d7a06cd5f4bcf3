"""DeepDream, octaves and feature inversion: closed forms, and what they leave alone."""

import pytest
import torch
from torch import nn

from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.feature_visualization import (
    L2,
    Colors,
    Objective,
    Pixels,
    deep_dream,
    invert_features,
    maximize_in_octaves,
)
from ibd.explain.feature_visualization.dream import _sizes


def small_net():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip


def test_a_step_of_a_dream_by_hand():
    """The gradient of the mean square of a 1 x 1 convolution, over its mean absolute value."""
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten())
    image = 0.3 + 0.4 * torch.rand(1, 3, 20, 18, generator=torch.Generator().manual_seed(0))
    made = deep_dream(model, image, Objective.layer("0"), octaves=1, steps=1, lr=0.02)
    weight, bias = model[0].weight[:, :, 0, 0], model[0].bias
    output = torch.einsum("dc,bchw->bdhw", weight, image) + bias.view(-1, 1, 1)
    gradient = torch.einsum("dc,bdhw->bchw", weight, output)
    torch.testing.assert_close(made.image, (image + 0.02 * gradient / gradient.abs().mean()).clamp(0, 1).detach())
    torch.testing.assert_close(made.trace[0], output.square().mean((1, 2, 3)).detach())


def test_a_dream_raises_its_objective_and_keeps_the_image():
    model, image = small_net().train(), torch.rand(2, 3, 40, 32, generator=torch.Generator().manual_seed(0))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    with torch.inference_mode():
        made = deep_dream(model, image, Objective.layer("2"), octaves=3, steps=5)
    assert made.image.shape == image.shape
    assert made.trace.shape == (15, 2)
    assert made.settings["octaves"] == 3
    model.eval()
    before = nn.Sequential(*list(model)[:3])(image).square().mean((1, 2, 3))
    assert bool((made.value > 1.2 * before).all())
    assert 0.01 < float((made.image - image).abs().mean()) < 0.2
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())


def test_the_sizes_of_octaves():
    assert _sizes((100, 50), 3, 2.0) == [(50, 25), (100, 50)]  # the smallest would be 12 pixels wide
    assert _sizes((64, 64), 3, 1.5) == [(28, 28), (43, 43), (64, 64)]
    assert _sizes((8, 8), 4, 1.4) == [(8, 8)]


def test_a_dream_of_a_model_of_one_size():
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    image = torch.rand(1, 3, 32, 32)
    with pytest.raises(UnsupportedError, match="octaves: the model does not take images of 23 x 23: octaves=1"):
        deep_dream(model, image, Objective.cls(0), octaves=2)
    made = deep_dream(model, image, Objective.cls(0), octaves=1, steps=3, jitter=0.0)
    assert float(made.value) > float(made.trace[0])
    assert 0 <= float(made.probability) <= 1
    with pytest.raises(ConfigError, match=r"scale: 1\.0 given"):
        deep_dream(model, image, Objective.cls(0), scale=1.0)


def test_octaves_end_at_the_size_that_is_asked_for():
    made = maximize_in_octaves(small_net(), Objective.channel("2", [1, 4]), (40, 36), octaves=3, steps=8, seed=1)
    assert made.image.shape == (2, 3, 40, 36)
    assert float(made.value.mean()) > float(made.trace[0].mean())
    with pytest.raises(ConfigError, match="octaves start from noise"):
        maximize_in_octaves(small_net(), Objective.cls(0), 32, start=torch.rand(3, 32, 32))


def test_the_inversion_of_a_linear_layer_is_ridge_regression():
    """``|W x - W x0|^2 / |W x0|^2 + weight * mean (x - gray)^2`` has one answer, by a linear system."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 10, bias=False))
    image, strength = 0.3 + 0.4 * torch.rand(1, 3, 4, 4), 0.5
    made = invert_features(
        model,
        image,
        "1",
        steps=300,
        lr=0.03,
        penalties=[L2(weight=strength)],
        parametrization=Pixels(Colors.independent(), spread=0.0),
    )
    matrix = model[1].weight.detach().double()
    wanted = matrix @ image.double().flatten()
    square = wanted.square().sum()
    left = matrix.t() @ matrix / square + strength / 48 * torch.eye(48, dtype=torch.float64)
    right = matrix.t() @ (wanted - matrix @ torch.full((48,), 0.5).double()) / square
    expected = 0.5 + torch.linalg.solve(left, right)
    torch.testing.assert_close(made.image.double().flatten(), expected, atol=2e-3, rtol=0)
    missed = (matrix @ expected - wanted).square().sum() / square
    assert -float(made.value) == pytest.approx(float(missed), abs=1e-4)


def test_what_a_layer_loses_is_free():
    """A layer that sees brightness alone gives it back, and says nothing of the colors."""
    gray = nn.Conv2d(3, 1, 1, bias=False)
    gray.weight.data = torch.full((1, 3, 1, 1), 1 / 3)
    model = nn.Sequential(gray, nn.Flatten())
    image = 0.2 + 0.6 * torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    made = invert_features(model, image, "0", steps=200, penalties=[])
    assert bool((-made.value < 1e-3).all())
    torch.testing.assert_close(made.image.mean(1), image.mean(1), atol=0.05, rtol=0)
    assert float((made.image - image).abs().mean()) > 0.05


def test_inversion_of_several_layers_and_mistakes():
    model, image = small_net(), torch.rand(3, 12, 12)
    early, late = (float(invert_features(model, image, layer, steps=60).value) for layer in ("0", "3"))
    assert -1 < early <= 0
    assert -1 < late <= 0
    with pytest.raises(ConfigError, match="no layer '33'"):
        invert_features(model, image, "33")
    nn.init.zeros_(model[2].weight)
    nn.init.constant_(model[2].bias, -1.0)
    with pytest.raises(ConfigError, match="inversion: '3' puts out zeros alone"):
        invert_features(model, image, "3")


def test_ctrl_c_leaves_what_was_dreamed():
    """In the second of three octaves: at the size of the image, with the steps that were made."""
    model, image = small_net(), torch.rand(1, 3, 40, 32, generator=torch.Generator().manual_seed(0))
    passes = []

    def press(module, given, output):
        passes.append(given[0].shape)
        if len(passes) == 8:
            raise KeyboardInterrupt

    handle = model[0].register_forward_hook(press)
    made = deep_dream(model, image, Objective.layer("2"), octaves=3, steps=5)
    handle.remove()
    assert not made.complete
    assert made.image.shape == image.shape
    assert 0 < len(made.trace) < 15
    assert float((made.image - image).abs().mean()) > 0.01
    assert deep_dream(model, image, Objective.layer("2"), octaves=1, steps=1).complete
    handle = model[0].register_forward_pre_hook(lambda module, given: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        deep_dream(model, image, Objective.layer("2"), octaves=1, steps=5)
    handle.remove()
