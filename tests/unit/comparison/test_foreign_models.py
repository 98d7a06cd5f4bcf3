"""Networks of anybody's in a comparison: the figures are those of code that knows nothing of ibd."""

import copy
import functools
import logging

import pytest
import torch
from model_makers import TensorData, make_module
from torch import nn
from torch.utils.data import TensorDataset
from torchvision.models.resnet import BasicBlock, ResNet

import ibd
from ibd.comparison.foreign import answers, fingerprint
from ibd.comparison.probes.imputation import linear_imputation
from ibd.comparison.probes.randomize import random_network
from ibd.comparison.probes.robustness import noisy
from ibd.comparison.probes.seeding import seeded_normal
from ibd.errors import ConfigError
from ibd.explain.baselines import covered_with
from tests.reference import faithfulness as reference

CLASSES, SIZE, COUNT = 4, 32, 12
MEAN, STD = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.25]).view(3, 1, 1)
STATISTICS = {"mean": MEAN.flatten().tolist(), "std": STD.flatten().tolist()}


def make_resnet(seed=0):
    """Return a small ResNet of torchvision, its statistics those of some noise, so that it is no constant."""
    torch.manual_seed(seed)
    net = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=CLASSES)
    net(torch.randn(32, 3, SIZE, SIZE))
    net.fc.weight.data *= 10
    return net.eval()


def make_images():
    return torch.rand(COUNT, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(7))


def gradient_times_input(net, images, classes):
    """Return maps of the centered logit, in float64: the gradient by the pixels times the pixels."""
    x = images.double().requires_grad_()
    logits = net((x - MEAN) / STD)
    asked = logits.gather(1, classes.unsqueeze(1)).sum() - logits.mean(1).sum()
    return (torch.autograd.grad(asked, x)[0] * x).sum(1).detach()


@pytest.fixture(scope="module")
def net():
    return make_resnet()


@pytest.fixture(scope="module")
def report(net):
    data = TensorDataset(make_images(), torch.arange(COUNT) % CLASSES)
    return ibd.compare(
        models={"mine": net},
        data=data,
        preprocess=STATISTICS,
        explainers=["gradient_input"],
        metrics=["deletion", "insertion", "aopc_morf", "road", "max_sensitivity", "randomization"],
        images=COUNT,
        probe_images=4,
        shown=2,
        progress=False,
    )


@pytest.fixture(scope="module")
def by_hand(net, report):
    """The images in the order of the report, the network in float64, its classes and maps."""
    order = [int(name.split()[1]) for name in report.comparison.image_ids]
    images, double = make_images()[order], copy.deepcopy(net).double()
    with torch.no_grad():
        classes = double((images.double() - MEAN) / STD).argmax(1)
    return images, double, classes, gradient_times_input(double, images, classes)


def scores(report, metric):
    return torch.from_numpy(report.comparison.scores["mine", "gradient_input", metric])


def asked(double, label, kind):
    def score(image):
        with torch.no_grad():
            logits = double((image.double().unsqueeze(0) - MEAN) / STD)[0]
        return float(logits.softmax(0)[label]) if kind == "probability" else float(logits[label] - logits.mean())

    return score


def test_deletion_insertion_and_aopc(report, by_hand):
    images, double, classes, maps = by_hand
    covers = covered_with(images, "blur").clamp(0, 1)
    wanted = {"deletion": [], "insertion": [], "aopc_morf": []}
    pixels = torch.arange(SIZE * SIZE).view(SIZE, SIZE)
    for image, cover, label, heat in zip(images, covers, classes.tolist(), maps, strict=True):
        probability, centered = (asked(double, label, kind) for kind in ("probability", "centered"))
        order = reference.pixel_order(heat)
        wanted["deletion"].append(
            reference.trapezoid(*reversed(reference.removal(probability, image, cover, order, pixels, 16)))
        )
        put_in = reference.removal(probability, cover, image, order, pixels, 16)
        wanted["insertion"].append(reference.trapezoid(*reversed(put_in)))
        regions, numbers = reference.region_order(heat, 8)
        _, values = reference.removal(centered, image, cover, regions, numbers, 16)
        wanted["aopc_morf"].append(sum(values[0] - value for value in values) / len(values))
    for metric, values in wanted.items():
        expected = torch.tensor(values, dtype=torch.float64)
        torch.testing.assert_close(scores(report, metric), expected, rtol=2e-3, atol=2e-3, msg=metric)


def test_road(report, by_hand):
    images, double, classes, maps = by_hand
    fractions = (0.1, 0.3, 0.5, 0.7, 0.9)
    pixels = SIZE * SIZE
    wanted = []
    for i, (image, label, heat) in enumerate(zip(images, classes.tolist(), maps, strict=True)):
        kept = {True: [], False: []}
        order = torch.tensor(reference.pixel_order(heat))
        for highest in (True, False):
            for j, fraction in enumerate(fractions):
                gone = torch.zeros(pixels, dtype=torch.bool)
                gone[(order if highest else order.flip(0))[: round(fraction * pixels)]] = True
                gone = gone.view(1, SIZE, SIZE)
                column = j if highest else len(fractions) + j
                noise = seeded_normal((3, SIZE, SIZE), [report.comparison.image_ids[i]], 0, "road", column)
                filled = linear_imputation(image.unsqueeze(0), ~gone) + 0.01 * noise * gone.unsqueeze(1)
                with torch.no_grad():
                    logits = double((filled.double() - MEAN) / STD)[0]
                kept[highest].append(float(int(logits.argmax()) == label))
        areas = {highest: reference.trapezoid(values, fractions) for highest, values in kept.items()}
        wanted.append((areas[False] - areas[True]) / 2)
    equal = (scores(report, "road") - torch.tensor(wanted, dtype=torch.float64)).abs() < 1e-6
    assert int(equal.sum()) >= COUNT - 1  # a prediction that hangs by rounding may fall either way


def test_robustness(report, by_hand):
    images, double, classes, maps = by_hand
    changed = noisy(images[:4], report.comparison.image_ids[:4])
    for i, versions in enumerate(changed):
        with torch.no_grad():
            valid = double((versions.double() - MEAN) / STD).argmax(1) == classes[i]
        others = gradient_times_input(double, versions[valid], classes[i].repeat(int(valid.sum())))
        if len(others):
            wanted = reference.max_sensitivity(maps[i], others)
            assert float(scores(report, "max_sensitivity")[i]) == pytest.approx(wanted, rel=1e-3)


def test_sanity(net, report, by_hand):
    """At the end of the cascade all is random, but for what is done to the pixels before the network."""
    images, _, classes, maps = by_hand
    wrapped = ibd.ForeignModel(net, STATISTICS)
    randomized = random_network(wrapped).model.double()
    others = gradient_times_input(randomized, images[:4], classes[:4])
    wanted = [reference.spearman(a.abs(), b.abs()) for a, b in zip(maps[:4], others, strict=True)]
    found = report.comparison.sanity["mine", "gradient_input"].similarity[-1]
    assert found == pytest.approx(sum(wanted) / 4, abs=2e-3)


def test_the_report_says_that_there_is_no_account_of_its_own(report, tmp_path):
    report.save(tmp_path)
    page = (tmp_path / "index.html").read_text()
    assert "gives no account of itself" in page
    assert "none known" in page
    assert not any(explainer.kind == "intrinsic" for explainer in report.comparison.explainers)
    assert any(entry.explainer == "intrinsic" for entry in report.comparison.skipped)


def test_beside_our_own():
    """A network of anybody's beside one of ours, on the same data: ours alone has rows of its own account."""
    data, ours = TensorData(), make_module()
    small = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    report = ibd.compare(
        models={"ours": ours, "theirs": [small, copy.deepcopy(small)]},
        data=data,
        preprocess="unit",
        explainers=["intrinsic", "gradient_input"],
        metrics=["deletion"],
        images=4,
        progress=False,
    )
    rows = {(model, explainer) for model, explainer, _ in report.comparison.scores}
    assert ("ours", "intrinsic") in rows
    assert ("theirs seed 1", "gradient_input") in rows
    assert ("theirs seed 1", "intrinsic") not in rows


class Color(nn.Module):
    """Tells red from green images, if it is fed with pixels from -1 to 1."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0]]))

    def forward(self, x):
        color = x.mean((2, 3))
        return torch.einsum("cd,bd->bc", self.weight, color) + torch.stack([color[:, 0] * 0, color.sum(1) - 0.2], 1)


def colors():
    images = torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.2 + 0.35
    images[:20, 0] += 0.1
    images[20:, 1] += 0.1
    return TensorDataset(images, torch.arange(40) // 20)


def test_a_wrong_preprocess_is_noticed(caplog):
    options = {"data": colors(), "explainers": ["gradient_input"], "metrics": ["deletion"], "progress": False}
    with caplog.at_level(logging.WARNING):
        right = ibd.compare(models={"color": Color()}, preprocess="half", images=4, **options)
    assert not caplog.records
    assert "right for 40 of 40" in right.comparison.models[0].run
    with caplog.at_level(logging.WARNING):
        wrong = ibd.compare(models={"color": Color()}, preprocess="unit", images=4, **options)
    assert "is its preprocess" in caplog.text
    assert "it would be for 40" in wrong.comparison.models[0].run


def test_it_goes_on_where_it_was(tmp_path, net):
    """Nothing is computed again, until a weight or a line of the network changes."""
    options = {"data": colors(), "explainers": ["gradient_input"], "metrics": ["deletion"], "progress": False}
    options |= {"preprocess": "half", "images": 4, "output": tmp_path}
    ibd.compare(models={"color": Color()}, **options)
    pieces = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*") if path.is_file()}
    ibd.compare(models={"color": Color()}, **options)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*") if path.is_file()} == pieces
    changed = Color()
    changed.weight.data[0, 0] = 1.01
    ibd.compare(models={"color": changed}, **options)
    assert len([path for path in (tmp_path / "cache").rglob("*") if path.is_file()]) > len(pieces)


class Scaled(Color):
    """With a number that is no weight."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, x):
        return self.scale * super().forward(x)


def scaling(scale):
    return lambda output: scale * output


def test_what_is_no_weight_is_remembered_too():
    images = colors().tensors[0]

    def of(model):
        return fingerprint(model, answers(model, images))

    assert of(ibd.ForeignModel(Scaled(1.0), "half")) == of(ibd.ForeignModel(Scaled(1.0), "half"))
    assert of(ibd.ForeignModel(Scaled(1.0), "half")) != of(ibd.ForeignModel(Scaled(4.0), "half"))
    one, other = (ibd.ForeignModel(Color(), "half", output=scaling(s) if s else (lambda o: o.flip(1))) for s in (1, 0))
    assert of(one) != of(other)
    brighter = [ibd.ForeignModel(Color(), functools.partial(torch.add, other=bright)) for bright in (0.0, 0.3)]
    assert of(brighter[0]) != of(brighter[1])


MISTAKES = {
    "no networks": ({"models": {"a": []}, "data": colors()}, "'a' is an empty list"),
    "said twice": (
        {"models": {"a": ibd.ForeignModel(Color(), "half")}, "data": colors(), "preprocess": "unit"},
        "say themselves how they are fed",
    ),
    "a network as a run": ({"runs": [Color()]}, r"compare\(models=\{'mine': network\}"),
    "nothing": ({}, "at least one run"),
    "no data": ({"models": {"a": Color()}}, "data: images that the models are asked about"),
    "no preprocess": ({"models": {"a": Color()}, "data": colors()}, "how is 'a' fed"),
    "no mapping": ({"models": [Color()], "data": colors()}, "names and networks are needed"),
    "no network": ({"models": {"a": 3}, "data": colors(), "preprocess": "unit"}, "'a' is a int"),
    "no name": ({"models": {"": Color()}, "data": colors()}, "a name is needed"),
    "changes": ({"models": {"a": Color()}, "data": colors(), "overrides": ["data.seed=1"]}, "takes no changes"),
    "units": (
        {"models": {"a": Color()}, "data": colors(), "preprocess": "half", "metrics": ["unit_ablation"]},
        "no model here has units",
    ),
    "a threshold": (
        {"models": {"a": Color()}, "data": colors(), "preprocess": "half", "metrics": ["iou_best"]},
        "no masks",
    ),
}


@pytest.mark.parametrize(("options", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line(options, message):
    with pytest.raises(ConfigError, match=message) as raised:
        ibd.compare(**options, progress=False)
    assert "\n" not in str(raised.value)
