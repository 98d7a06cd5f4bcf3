"""Means over noisy images."""

import gc

import pytest
import torch

from ibd.errors import ConfigError
from ibd.explain.base import Explainer
from ibd.explain.cam import GradCAM
from ibd.explain.gradients import GradientTimesInput, Saliency
from ibd.explain.smoothgrad import SmoothGrad
from ibd.explain.targets import Target
from tests.explainer_makers import Functional, images


def model():
    torch.manual_seed(0)
    return Functional().eval()


@pytest.mark.parametrize("base", [Saliency(), GradientTimesInput("second"), GradCAM()])
def test_without_noise_it_is_the_base(base):
    network, image = model(), images()
    found = SmoothGrad(base, n=3, noise=0)(network, image, 1)
    torch.testing.assert_close(found.map, base(network, image, 1).map)
    assert found.method == "smoothgrad"
    squared = SmoothGrad(Saliency(reduce="sum"), n=3, noise=0, kind="squared")(network, image, 1).map
    torch.testing.assert_close(squared, _gradient(network, image, 1).square().sum(1))
    variance = SmoothGrad(Saliency(reduce="sum"), n=3, noise=0, kind="variance")(network, image, 1).map
    assert variance.abs().max() < 1e-10


def _gradient(network, image, k):
    leaf = image.clone().requires_grad_()
    return torch.autograd.grad(network(leaf)[:, k].sum(), leaf)[0]


@pytest.mark.parametrize("kind", ["mean", "squared", "variance"])
@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_against_a_loop(kind, chunk):
    network, image = model(), images()
    found = SmoothGrad(Saliency(reduce="sum"), n=7, noise=0.2, kind=kind, seed=4, chunk=chunk)(network, image, 1).map
    generator = torch.Generator().manual_seed(4)
    spread = image.flatten(1).amax(1) - image.flatten(1).amin(1)
    samples = torch.stack(
        [
            _gradient(network, image + 0.2 * spread.view(-1, 1, 1, 1) * torch.randn(3, 33, 38, generator=generator), 1)
            for _ in range(7)
        ]
    )
    expected = {
        "mean": samples.mean(0),
        "squared": samples.square().mean(0),
        "variance": samples.var(0, unbiased=False),
    }[kind]
    torch.testing.assert_close(found, expected.sum(1), rtol=1e-4, atol=1e-8)


def test_the_seed_decides():
    network, image = model(), images()
    one, same, other = (SmoothGrad(n=2, seed=seed)(network, image, 1).map for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_prediction_is_that_of_the_clean_image():
    network, image = model(), images(6)
    best = network(image).argmax(1)
    noisy = {"n": 4, "noise": 3.0}
    found = SmoothGrad(**noisy)(network, image)
    torch.testing.assert_close(found.map, SmoothGrad(**noisy)(network, image, Target.cls(best)).map)
    torch.testing.assert_close(found.value, network(image).amax(1).detach())


class Counting(Explainer):
    """Counts how many images are alive when it is called."""

    name = "counting"

    def __init__(self):
        self.most = self.calls = 0

    def explain(self, call, image):
        alive = [
            x for x in gc.get_objects() if isinstance(x, torch.Tensor) and x.dim() >= 4 and x.shape[-2:] == (29, 31)
        ]
        self.most, self.calls = max(self.most, sum(x.numel() for x in alive)), self.calls + 1
        return self.answer(call, image.sum(1, keepdim=True), call.scores(image).detach())


@pytest.mark.slow
def test_memory_does_not_depend_on_n():
    network, image, most = model(), images(2, (29, 31)), {}
    for n in (2, 9):
        base = Counting()
        SmoothGrad(base, n=n)(network, image, 1)
        most[n] = base.most
        assert base.calls == n
    assert most[9] <= most[2] + image.numel()


def test_names_and_options():
    network, image = model(), images()
    torch.testing.assert_close(
        SmoothGrad({"name": "saliency", "reduce": "sum"}, n=2)(network, image, 1).map,
        SmoothGrad(Saliency(reduce="sum"), n=2)(network, image, 1).map,
    )
    for wrong in ({"kind": "median"}, {"n": 0}, {"n": 1, "kind": "variance"}, {"noise": -1}, {"base": "salience"}):
        with pytest.raises(ConfigError):
            SmoothGrad(**wrong)
