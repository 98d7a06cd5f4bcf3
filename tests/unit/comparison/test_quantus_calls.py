"""Our measures under the call of Quantus: cases whose answer is known, and the figures of a comparison."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

import ibd
from ibd.comparison.probes.robustness import noisy
from ibd.comparison.quantus import MEASURES
from ibd.errors import ConfigError, DataError
from ibd.explain import GradCAM, quantus_explain
from ibd.metrics import quantus_metric as of_maps
from tests.explainer_makers import images, make

SIZE, COUNT = 8, 6


class OnePixel(nn.Module):
    """Class 1 where the red of the pixel (2, 3) is above a half."""

    def __init__(self, height=0.5):
        super().__init__()
        self.height = height

    def forward(self, image):
        logit = 1000 * (image[:, 0, 2, 3] - self.height)
        return torch.stack([-logit, logit], 1)


class Weighted(nn.Module):
    """Two classes by a weighted sum of the pixels."""

    def __init__(self):
        super().__init__()
        weight = torch.randn(3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
        self.weight = nn.Parameter(weight)

    def forward(self, image):
        value = (image * self.weight).flatten(1).sum(1)
        return torch.stack([-value, value], 1)


def one_bright():
    image = np.zeros((2, 3, SIZE, SIZE), dtype=np.float32)
    image[:, :, 2, 3] = 1
    best, worst = np.zeros((2, 2, 1, SIZE, SIZE), dtype=np.float32)
    best[:, :, 2, 3], worst[:, :, 2, 3] = 1, -1
    return image, np.ones(2, dtype=np.int64), np.stack([best[0], worst[0]])


def pixels(model, inputs, targets, **_):
    return inputs


def weights(model, inputs, targets, **_):
    """The weights of the network, whatever the image."""
    return model.weight.detach().expand(len(inputs), -1, -1, -1).numpy()


def test_deletion_and_insertion_of_one_pixel():
    """In four steps: the pixel goes in the first one, or in the last."""
    image, labels, maps = one_bright()
    call = {"model": OnePixel(), "x_batch": image, "y_batch": labels, "a_batch": maps}
    assert ibd.quantus_metric("deletion", steps=4)(**call) == pytest.approx([1 / 8, 7 / 8])
    assert ibd.quantus_metric("insertion", steps=4)(**call) == pytest.approx([7 / 8, 1 / 8])
    call["y_batch"] = 0 * labels
    assert ibd.quantus_metric("deletion", steps=4)(**call) == pytest.approx([7 / 8, 1 / 8])


def test_sensitivity_of_the_pixels_themselves():
    """The map is the image: what it moves is the noise, over the image's own size."""
    image = torch.rand(COUNT, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    call = {"model": OnePixel(-9.0), "x_batch": image.numpy(), "y_batch": np.ones(COUNT, int), "explain_func": pixels}
    found = ibd.quantus_metric("max_sensitivity", draws=3, sigma=0.1, seed=5)(**call)
    changed, own = noisy(image, range(COUNT), 3, 0.1, 5).sum(2), image.sum(1)
    moved = (changed - own.unsqueeze(1)).flatten(2).norm(dim=2) / own.flatten(1).norm(dim=1, keepdim=True)
    np.testing.assert_allclose(found, moved.amax(1), rtol=1e-5)
    given = ibd.quantus_metric("max_sensitivity", draws=3, sigma=0.1, seed=5)(**call, a_batch=2 * image.numpy())
    assert found != pytest.approx(given)  # what is given is what the others are compared with


class OneShade(OnePixel):
    """Class 1 where that red is a half, and no other shade."""

    def forward(self, image):
        logit = 1000 * (1e-5 - (image[:, 0, 2, 3] - 0.5).abs())
        return torch.stack([-logit, logit], 1)


def test_sensitivity_counts_where_the_prediction_stays():
    """Whatever class is explained: of the second image no draw keeps the prediction."""
    image, labels, _ = one_bright()
    image[1, :, 2, 3] = 0.5
    call = {"x_batch": image, "y_batch": 0 * labels, "explain_func": pixels}
    assert np.isfinite(ibd.quantus_metric("max_sensitivity")(OneShade(), **call)).tolist() == [True, False]


def test_randomization_of_maps_with_and_without_the_network():
    image = np.random.default_rng(0).random((4, 3, SIZE, SIZE), dtype=np.float32)
    call = {"model": Weighted(), "x_batch": image, "y_batch": np.array([0, 1, 1, 0])}
    assert ibd.quantus_metric("randomization")(**call, explain_func=pixels) == [1.0] * 4
    forgot = ibd.quantus_metric("randomization")(**call, explain_func=weights)
    assert len(set(forgot)) == 1
    assert abs(forgot[0]) < 0.4
    other = ibd.quantus_metric("randomization", draw=1)(**call, explain_func=weights)
    assert other != forgot


def small_net():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 3),
    )  # fmt: skip
    net[-1].weight.data *= 20
    return net.eval()


def test_figures_of_a_comparison():
    """Of the same images, classes and maps; a class is asked about by its centered logit there."""
    net, given = small_net(), torch.rand(COUNT, 3, 16, 16, generator=torch.Generator().manual_seed(7))
    names = ["deletion", "insertion", "randomization"]
    report = ibd.compare(
        models={"mine": net},
        data=TensorDataset(given, torch.arange(COUNT) % 3),
        preprocess="half",
        explainers=["gradcam"],
        metrics=names,
        images=COUNT,
        probe_images=COUNT,
        shown=2,
        progress=False,
    )
    found = report.comparison
    image = given[[int(name.split()[1]) for name in found.image_ids]]
    model = ibd.ForeignModel(net, "half").eval()
    asked = {"method": "gradcam", "scalar": "centered_logit"}
    call = {"model": model, "x_batch": image.numpy(), "y_batch": model(image).argmax(1).numpy()}
    call |= {"explain_func": quantus_explain, "explain_func_kwargs": asked}
    for name in ("deletion", "insertion"):
        np.testing.assert_allclose(
            ibd.quantus_metric(name)(**call), found.scores["mine", "gradcam", name], atol=1e-5, err_msg=name
        )
    forgot = found.sanity["mine", "gradcam"].values["cascade_top_down"]
    assert np.mean(ibd.quantus_metric("randomization")(**call)) == pytest.approx(forgot, abs=1e-3)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_model_of_ours(measure):
    """By its logits, and by itself; maps given first are those that are asked for. It is left as it was."""
    model, image = make("cbm").eval(), images(3, (16, 16))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    asked = {"explain_func": quantus_explain, "explain_func_kwargs": {"method": "gradient_input"}}
    call = {"x_batch": image.numpy(), "y_batch": np.array([0, 2, 1])}
    maps = quantus_explain(model, image.numpy(), call["y_batch"], "gradient_input")
    found = ibd.quantus_metric(measure)(model.logits, **call, **asked)
    assert found == pytest.approx(ibd.quantus_metric(measure)(model, **call, **asked, a_batch=maps), nan_ok=True)
    assert np.isfinite(found).any()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_others_explain_of_ours_is_asked_for_logits():
    def gradient(model, inputs, targets, **_):
        x = torch.from_numpy(inputs).requires_grad_()
        (found,) = torch.autograd.grad(model(x).gather(1, torch.from_numpy(targets).unsqueeze(1)).sum(), x)
        return (found * x).detach().numpy()

    model, image = make("cbm").eval(), images(3, (16, 16))
    call = {"model": model.logits, "x_batch": image.numpy(), "y_batch": np.array([0, 2, 1])}
    own = {"explain_func": quantus_explain, "explain_func_kwargs": {"method": "gradient_input"}}
    found = ibd.quantus_metric("randomization")(**call, explain_func=gradient)
    assert found == pytest.approx(ibd.quantus_metric("randomization")(**call, **own), abs=1e-3)


def test_rectified_maps_are_checked_before_they_are_rectified():
    model, image = make("baseline").eval(), images(3, (16, 16))
    call = {"model": model.logits, "x_batch": image.numpy(), "y_batch": np.array([0, 2, 1])}
    call["explain_func"] = quantus_explain
    found, signed = (
        ibd.quantus_metric("randomization")(
            **call,
            a_batch=quantus_explain(model, image.numpy(), call["y_batch"], method="gradcam", **options),
            explain_func_kwargs=kwargs,
        )
        for options, kwargs in (({}, {"method": "gradcam"}), ({"relu": False}, {"method": GradCAM(relu=False)}))
    )
    assert found == signed


def test_measures_of_maps_alone():
    maps = np.random.default_rng(0).random((2, 1, SIZE, SIZE))
    assert ibd.quantus_metric("sparseness")(a_batch=maps) == of_maps("sparseness")(a_batch=maps)


@pytest.mark.parametrize(
    ("measure", "options", "change", "error", "message"),
    [
        ("deltion", {}, {}, ConfigError, "no measure 'deltion'. Did you mean one of: 'deletion'"),
        ("deletion", {"step": 3}, {}, ConfigError, "deletion: there is no option 'step': its options are steps, base"),
        ("sparseness", {"steps": 3}, {}, ConfigError, "sparseness: there is no option 'steps': it has no options."),
        ("deletion", {"baseline": "grey"}, {}, ConfigError, "unknown baseline 'grey'"),
        ("deletion", {}, {"a_batch": None}, ConfigError, "deletion: explanations (a_batch) or an explain_func"),
        ("max_sensitivity", {}, {}, ConfigError, "max_sensitivity: an explain_func is needed"),
        ("randomization", {}, {}, ConfigError, "randomization: an explain_func is needed"),
        ("deletion", {}, {"x_batch": np.full((2, 3, SIZE, SIZE), 1.5)}, DataError, "x_batch ranges from 1.5 to 1.5"),
        ("deletion", {}, {"a_batch": np.zeros((2, 1, 4, 4))}, DataError, "maps of shape (2, 4, 4) given for images"),
        ("deletion", {}, {"y_batch": np.zeros(3, int)}, DataError, "the numbers of classes of 2 images are needed"),
        ("deletion", {}, {"y_batch": np.zeros(2)}, DataError, "not (2,) of float64"),
        ("deletion", {}, {"channel_first": False}, ConfigError, "channel_first=False"),
        ("deletion", {}, {"device": "cuda"}, ConfigError, "the model is on cpu: move it there"),
    ],
)
def test_mistakes(measure, options, change, error, message):
    image, labels, maps = one_bright()
    call = {"model": Weighted(), "x_batch": image, "y_batch": labels, "a_batch": maps} | change
    with pytest.raises(error) as caught:
        ibd.quantus_metric(measure, **options)(**call)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
