"""The post-hoc bottleneck on images whose colors are the features: what it must find is known."""

import dataclasses

import pytest
import torch
from torch import nn

import ibd
from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.explain.directions import Directions
from ibd.models.loading import load_network
from ibd.models.posthoc_cbm.concepts import calibrated
from ibd.models.posthoc_cbm.label_free import cubed_similarity
from ibd.models.posthoc_cbm.lightning import PosthocBottleneck
from ibd.types import DataSpec, groups_of
from tests.model_makers import PIXELS, SPEC, TensorData, make_posthoc

COLORS = ("red", "green", "blue")
NAMES = tuple(f"hue::{name}" for name in COLORS)


class Colored(TensorData):
    """Images of one color each; the class is which part of it is strongest, the concepts say which are above a half."""

    def __init__(self, sizes=(120, 60, 60), names=NAMES):
        spec = DataSpec(("warm", "leaf", "cold"), names, groups_of(names), image_size=(8, 8))
        super().__init__(sizes, spec=SPEC)
        self.spec = spec
        for seed, (split, size) in enumerate(zip(("train", "val", "test"), sizes, strict=True)):
            generator = torch.Generator().manual_seed(seed)
            color = torch.rand(size, 3, generator=generator)
            noise = torch.rand(size, 3, 8, 8, generator=generator)
            images = 0.9 * color[:, :, None, None] + 0.1 * noise
            concepts = (color > 0.5).float()[:, : len(names)]
            self.splits[split] = images, images.mean((2, 3)).argmax(1), concepts


def unit_vectors(path, reading="linear", names=COLORS, channels=3, layer=""):
    vectors = torch.eye(len(names), channels)
    details = {"active": len(names)} if reading == "topk" else {}
    return str(Directions(layer, vectors, torch.zeros(len(names)), tuple(names), "hand", reading, details).save(path))


def made(data, **options):
    module = PosthocBottleneck(data.spec, PIXELS, **options)
    module.make(data)
    return module.eval()


def stack(data, split="test"):
    return data.splits[split][:2]


@pytest.mark.parametrize("reading", ["relu", "topk", "nonnegative"])
@torch.no_grad()
def test_unit_vectors_make_the_scores_the_channels(reading, tmp_path):
    data = Colored()
    module = made(data, concepts=unit_vectors(tmp_path / "d.npz", reading))
    images, labels = stack(data)
    units = module(images).units
    assert torch.allclose(units.scores, images.mean((2, 3)), atol=1e-5)
    assert torch.allclose(units.maps, nn.AvgPool2d(4)(images), atol=1e-5)
    assert module.network.unit_names == list(COLORS)
    assert not module.network.truth_values
    assert float((module(images).logits.argmax(1) == labels).float().mean()) > 0.9


@torch.no_grad()
def test_a_linear_reading_counts_deviations_from_the_training_mean(tmp_path):
    data = Colored()
    module = made(data, concepts=unit_vectors(tmp_path / "d.npz"))
    color = data.splits["train"][0].mean((2, 3))
    wanted = (color - color.mean(0)) / color.std(0, correction=0)
    units = module(data.splits["train"][0]).units
    assert torch.allclose(units.scores, wanted, atol=1e-4)
    assert torch.allclose(units.maps.mean((2, 3)), units.scores, atol=1e-5)
    assert torch.allclose(module.network.deviation, torch.ones(3), atol=1e-4)


@torch.no_grad()
def test_the_head_uses_as_many_concepts_as_it_may(tmp_path):
    data = Colored()
    module = made(data, concepts=unit_vectors(tmp_path / "d.npz"), effective_concepts=1)
    weight = module.network.linear_weight()
    assert int((weight != 0).sum()) == 3
    assert weight.argmax(1).tolist() == [0, 1, 2]  # each class by its own color
    images, labels = stack(data)
    assert float((module(images).logits.argmax(1) == labels).float().mean()) > 0.8


@torch.no_grad()
def test_accuracy_with_few_concepts_is_of_as_many_as_it_says(tmp_path):
    # Of 3 classes one has no weight of a concept: no head has 5 of 5 a class, and none may pass for one that has.
    data = Colored()
    generator = torch.Generator().manual_seed(3)
    names = tuple(f"mix {number}" for number in range(8))
    mixed = Directions("", torch.randn(8, 3, generator=generator), torch.zeros(8), names, "hand", "relu")
    for count, budgets in ((8, [5]), (5, [])):
        some = Directions("", mixed.vectors[:count], mixed.offsets[:count], names[:count], "hand", "relu")
        module = made(data, concepts=str(some.save(tmp_path / f"{count}.npz")))
        weights = (module.network.few_weight != 0).sum((1, 2)).tolist()
        assert module.network.budgets == [weight / 3 for weight in weights] == budgets
        assert ("test_few" in module.metrics) == bool(budgets)


@torch.no_grad()
def test_concepts_that_are_never_active_leave_fewer_that_may_be(tmp_path):
    vectors = torch.cat([torch.eye(2, 3), -torch.eye(2, 3)])  # no color is negative
    names = ("red", "green", "no red", "no green")
    found = Directions("", vectors, torch.zeros(4), names, "hand", "topk", {"active": 3})
    data = Colored()
    module = made(data, concepts=str(found.save(tmp_path / "d.npz")))
    images = stack(data)[0]
    assert module.network.unit_names == ["red", "green"]
    assert torch.allclose(module(images).units.scores, images.mean((2, 3))[:, :2], atol=1e-5)


@torch.no_grad()
def test_labelled_concepts_are_calibrated_planes():
    data = Colored()
    module = made(data, classifier="logistic")
    images, concepts = data.splits["test"][0], data.splits["test"][2]
    network = module.network
    units = module(images).units
    assert network.truth_values
    assert network.unit_groups == {"hue": [0, 1, 2]}
    found = network.readable(units)
    assert float(((found > 0.5) == (concepts > 0.5)).float().mean()) > 0.9
    normal = network.concepts.weight.flatten(1)
    assert (normal / normal.norm(dim=1, keepdim=True)).diagonal().min() > 0.95  # a color's plane is across its axis
    edited = network.edit(units, {"hue::red": 1.0})
    assert torch.allclose(edited.scores[:, 0], network.high[0].expand(len(images)))
    curve = ibd.intervention_curve(module, data, policies=["random"], trials=1)
    assert curve.group_names == ["hue"]
    assert curve.known == 1.0


def test_a_calibration_is_the_log_odds():
    # Of images at distance +1 three in four hold, at -1 one in four: log odds of +-log 3.
    distance = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat_interleave(400)
    truth = torch.tensor([1.0, 1.0, 1.0, 0.0]).repeat(100).repeat(2)
    truth[400:] = 1 - truth[400:]
    slope, shift = calibrated(distance, truth)
    assert slope == pytest.approx(1.0986, abs=0.01)
    assert shift == pytest.approx(0.0, abs=0.01)
    assert calibrated(-distance, truth)[0] > 0  # a plane that is wrong tells nothing, and is not turned over


@torch.no_grad()
def test_a_rest_says_what_the_concepts_do_not(tmp_path):
    data = Colored()
    path = unit_vectors(tmp_path / "d.npz", names=("red",))
    without, with_rest = made(data, concepts=path), made(data, concepts=path, rest=True)
    images, labels = stack(data)
    right = [float((module(images).logits.argmax(1) == labels).float().mean()) for module in (without, with_rest)]
    assert right[0] < 0.75 < 0.9 < right[1]
    network = with_rest.network
    assert network.unit_names == ["red", "rest of warm", "rest of leaf", "rest of cold"]
    assert network.named_units().tolist() == [True, False, False, False]
    assert torch.equal(network.linear_weight()[:, 1:], torch.eye(3))
    assert torch.equal(network.linear_weight()[:, :1], without.network.linear_weight())
    units = with_rest(images).units
    off = (~network.named_units()).expand(len(images), -1)
    assert torch.allclose(network.decode_without(units, off), without(images).logits, atol=1e-5)
    assert torch.allclose(units.maps.mean((2, 3)), units.scores, atol=1e-5)


@torch.no_grad()
def test_edits_are_on_the_scale_of_the_unit():
    network = make_posthoc(truth=True, rest=True).network
    units = network.encode(torch.rand(4, 3, 16, 16))
    edited = network.edit(units, {"flies": 1.0, "rest of ant": 2.5, "rest of bee": ibd.models.values.Scale(0.0)})
    assert torch.allclose(edited.scores[:, 5], network.high[5].expand(4))
    assert edited.scores[:, 6].tolist() == [2.5] * 4
    assert edited.scores[:, 7].abs().max() == 0
    assert torch.equal(network.rounded(units).scores[:, 6:], units.scores[:, 6:])
    assert edited.scores.isnan().sum() == 0
    with pytest.raises(ConfigError, match="a truth value from 0 to 1"):
        network.edit(units, {"flies": 2.0})
    free = make_posthoc(truth=False).network
    assert free.edit(units, {"flies": 2.0}).scores[:, 5].tolist() == [2.0] * 4
    with pytest.raises(UnsupportedError, match="not true or false"):
        free.rounded(units)
    with pytest.raises(UnsupportedError, match="its concepts were found, and not labelled"):
        ibd.intervention_curve(make_posthoc(truth=False), TensorData())


TEXTS = ["red", "green", "blue", "nothing there"]


def scorer(images, texts):
    """Read colors off the images; what is no color is noise of the pixels that no mean color tells."""
    mean = images.mean((2, 3))
    noise = 1000 * (images[:, 0, 0, 0] - images[:, 0, 0, 1])
    by_name = {**dict(zip(COLORS, mean.unbind(1), strict=True)), "constant": torch.ones(len(images))}
    return torch.stack([by_name.get(text, noise) for text in texts], 1)


def wrong_shape(images, texts):
    return scorer(images, texts).t()


def one_is_nan(images, texts):
    return scorer(images, texts).masked_fill(torch.arange(len(texts)) == 0, torch.nan)


def texts(tmp_path, names=TEXTS):
    (tmp_path / "texts.txt").write_text("\n".join(names) + "\n\n")
    return str(tmp_path / "texts.txt")


PLACE = f"{__name__}:scorer"


@torch.no_grad()
def test_concepts_from_texts_and_a_scorer(tmp_path, caplog):
    data = Colored()
    module = made(data, concepts=texts(tmp_path), scorer=PLACE)
    assert module.network.unit_names == list(COLORS)  # what the features do not tell is left out
    assert "without texts that are told from the features with a similarity of at most 0.45: 'nothing there'" in (
        caplog.text
    )
    images, labels = stack(data)
    scores = module(images).units.scores
    color = images.mean((2, 3))
    for k in range(3):
        assert torch.corrcoef(torch.stack([scores[:, k], color[:, k]]))[0, 1] > 0.99
    assert float((module(images).logits.argmax(1) == labels).float().mean()) > 0.9
    assert "test" not in {split for split, _ in data.asked}


def test_a_text_that_is_seen_nowhere_is_left_out(tmp_path, caplog):
    module = made(Colored(), concepts=texts(tmp_path, [*COLORS, "constant"]), scorer=PLACE, cutoff=0.5)
    assert module.network.unit_names == list(COLORS)
    assert "without texts that score the same on all training images: 'constant'" in caplog.text


def test_the_similarity_is_the_cosine_of_cubes():
    one = torch.tensor([[0.0], [1.0], [2.0], [5.0]], dtype=torch.float64)
    centered = [-2.0, -1.0, 0.0, 3.0]
    cubes = torch.tensor([value**3 for value in centered], dtype=torch.float64)
    assert cubed_similarity(one, 7 * one + 3).item() == pytest.approx(1.0)
    assert cubed_similarity(one, -one).item() == pytest.approx(-1.0)
    other = torch.tensor([[1.0], [-1.0], [0.0], [0.0]], dtype=torch.float64)
    wanted = (cubes[0] - cubes[1]) / (cubes.norm() * 2**0.5)
    assert cubed_similarity(one, other).item() == pytest.approx(wanted.item())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": "stage2"}, r"are of layer 'stage2', and a bottleneck reads the backbone's features"),
        ({"channels": 5}, r"are of 5 channels, the backbone has 3: they were found on another network"),
    ],
)
def test_directions_that_do_not_fit(change, message, tmp_path):
    with pytest.raises(ConfigError, match=f"^model.concepts: .*{message}"):
        PosthocBottleneck(Colored().spec, PIXELS, concepts=unit_vectors(tmp_path / "d.npz", **change))


def test_what_is_wrong_with_a_configuration(tmp_path):
    spec = Colored().spec
    bare = dataclasses.replace(spec, concept_names=(), concept_groups={})
    wrong = {
        "model.concepts: 'labels' given, and this data has none": (bare, {}),
        "model.concepts: 'x.txt' given: 'labels', a file of directions": (spec, {"concepts": "x.txt"}),
        "model.scorer: it goes with model.concepts=FILE": (spec, {"scorer": PLACE}),
        "model.share: 0 given, more than 0 is needed": (spec, {"share": 0}),
        "model.effective_concepts: 9 given, there are 3": (spec, {"effective_concepts": 9}),
        "no file of texts 'gone.txt'": (spec, {"concepts": "gone.txt", "scorer": PLACE}),
        "has 'red' twice": (spec, {"concepts": texts(tmp_path, ["red", "red"]), "scorer": PLACE}),
        "no file of directions 'gone.npz'": (spec, {"concepts": "gone.npz"}),
    }
    for message, (about, options) in wrong.items():
        with pytest.raises((ConfigError, DataError)) as caught:
            PosthocBottleneck(about, PIXELS, **options)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_what_is_wrong_with_a_scorer(tmp_path):
    data, path = Colored((30, 10, 10)), texts(tmp_path)
    wrong = {
        r"it returns \(4, 16\) for 16 images and 4 texts: \(16, 4\) numbers are needed": "wrong_shape",
        "it returns values that are not finite numbers": "one_is_nan",
        "has no 'scorrer'. Did you mean 'scorer'": "scorrer",
    }
    for message, name in wrong.items():
        with pytest.raises((ConfigError, DataError), match=message):
            made(data, concepts=path, scorer=f"{__name__}:{name}")
    with pytest.raises(ConfigError, match=r"package\.module:NAME is needed"):
        made(data, concepts=path, scorer="scorer")


def test_too_few_examples_and_constant_concepts(tmp_path, caplog):
    few = Colored((2, 10, 10))
    with pytest.raises(DataError, match=r"^there are 2 training images for 3 concepts: at least as many"):
        PosthocBottleneck(few.spec, PIXELS).check_data(few)
    with pytest.raises(DataError, match=r"^model\.concepts: no concept has 8 training images with it and as many"):
        made(Colored((10, 10, 10)))
    vectors = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    path = tmp_path / "d.npz"
    Directions("", vectors, torch.tensor([0.0, 2.0]), ("red", "always"), "hand").save(path)
    module = made(Colored(), concepts=str(path))
    assert module.network.unit_names == ["red"]
    assert "without concepts that are the same for all training images: 'always'" in caplog.text
    Directions("", vectors[1:], torch.tensor([2.0]), ("always",), "hand").save(path)
    with pytest.raises(DataError, match=r"^model\.concepts: every concept is the same for all training images: "):
        made(Colored(), concepts=str(path))


@pytest.mark.slow
def test_a_run_is_made_loaded_and_goes_on(tmp_path):
    config = {
        "name": "posthoc",
        "output": str(tmp_path / "runs"),
        "model": {
            "name": "posthoc_cbm",
            "rest": True,
            "backbone": {"name": "small_cnn", "width": 4, "depth": 3, "cache": str(tmp_path / "cache")},
        },
        "data": {"name": "toybirds", "preset": "tiny", "train_size": 80, "val_size": 20, "test_size": 20},
        "trainer": {"accelerator": "cpu", "enable_progress_bar": False},
        "logger": {"mode": "off", "figures_every": 0},
    }
    run = ibd.fit(config)
    assert {"val/accuracy", "val/accuracy_nec5", "val/anec", "val/concept_auroc"} <= set(run.metrics)
    module = ibd.load_model(run)
    assert module.frozen
    assert 0 < module.network.concept_count < len(module.spec.concept_names)  # rare concepts have too few examples here
    images = torch.rand(3, 3, 32, 32)
    logits = module.predict(images).logits
    assert torch.allclose(load_network(run).predict(images).logits, logits, atol=1e-5)
    again = ibd.fit(run.folder / "config.yaml", resume=run)  # there is nothing left to do
    assert torch.equal(ibd.load_model(again).predict(images).logits, logits)
    module.save(tmp_path / "saved.ckpt")
    assert torch.equal(ibd.load_model(tmp_path / "saved.ckpt").predict(images).logits, logits)


def test_a_stranger_cannot_name_what_there_is_not():
    wrong = {
        "a list of names of concepts is needed": {"names": []},
        "names: one is given twice": {"names": ["flies", "flies"]},
        "the data has no concept 'swims'": {"names": ["swims"], "truth": True},
        "reading: 'cubic' is not one of": {"names": ["a"], "reading": "cubic"},
        "active: 3 given, 1 to the number": {"names": ["a"], "reading": "topk", "active": 3},
    }
    for message, units in wrong.items():
        with pytest.raises(ConfigError, match=message):
            PosthocBottleneck(SPEC, PIXELS, units=units)
