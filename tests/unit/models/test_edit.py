"""Setting units by hand: what values mean, which go together, and what is refused."""

import numpy as np
import pytest
import torch
from torch import nn

from ibd.app.terminal import read_values
from ibd.backbones.base import Backbone
from ibd.errors import ConfigError, UnsupportedError
from ibd.models.baseline.network import BaselineNetwork
from ibd.models.cbm.groups import CERTAIN
from ibd.models.cbm.network import ConceptBottleneckNetwork
from ibd.models.concept_whitening.network import ConceptWhiteningNetwork
from ibd.models.values import Scale
from ibd.types import DataSpec, Units, groups_of
from tests.model_makers import SPEC, CountingBackbone, make_network, make_prototypes

SCORES = torch.randn(4, 6, generator=torch.Generator().manual_seed(3))


def edit(network, values, scores=SCORES):
    return network.edit(Units(scores, torch.zeros(*scores.shape, 2, 2)), values).scores


def probabilities(values, scores=SCORES, **options):
    network = make_network(**options)
    return network.probabilities(edit(network, values, scores))


@pytest.mark.parametrize("bottleneck", ["probabilities", "hard"])
def test_truth_becomes_certain(bottleneck):
    found = probabilities({"flies": 1, "size::big": 0, "size::loud": 0.3}, bottleneck=bottleneck)
    assert (found[:, 5] == 1).all()  # exactly, in float32
    assert (found[:, 3] < 1e-12).all()
    torch.testing.assert_close(found[:, 4], torch.full((4,), 0.3))
    assert torch.equal(found[:, :3], SCORES[:, :3].sigmoid())  # the rest stays


def test_logits_become_training_percentiles():
    network = make_network(bottleneck="logits")
    found = edit(network, {"flies": 1, "size::big": 0, "size::loud": 0.25})
    assert (found[:, 5] == network.high[5]).all()
    assert (found[:, 3] == network.low[3]).all()
    torch.testing.assert_close(found[:, 4], (0.75 * network.low[4] + 0.25 * network.high[4]).expand(4))
    assert torch.equal(found[:, :3], SCORES[:, :3])


def test_without_percentiles_it_says_what_to_do():
    network = make_network(bottleneck="logits")
    network.low.fill_(torch.nan)
    with pytest.raises(UnsupportedError, match=r"no training percentiles.*ibd fit resume=RUN"):
        edit(network, {"flies": 1})


@pytest.mark.parametrize("softmax", [[], ["wing"]])
def test_a_one_clears_its_exclusive_siblings_only(softmax):
    found = probabilities({"wing::blue": 1}, softmax_groups=softmax)
    assert (found[:, 1] == 1).all()
    assert (found[:, [0, 2]] < 1e-12).all()
    assert torch.equal(found[:, 3:], SCORES[:, 3:].sigmoid())
    size = probabilities({"size::big": 1}, softmax_groups=softmax)
    assert torch.equal(size[:, 4], SCORES[:, 4].sigmoid())  # no exclusive group


def test_exclusive_siblings_get_the_low_percentile():
    network = make_network(bottleneck="logits")
    found = edit(network, {"wing::blue": 1})
    assert torch.equal(found[:, :3], torch.stack([network.low[0], network.high[1], network.low[2]]).expand(4, 3))


def test_group_and_member_is_short_for_one():
    network = make_network()
    assert torch.equal(edit(network, {"wing": "green"}), edit(network, {"wing::green": 1}))
    assert torch.equal(edit(network, {np.int64(2): True}), edit(network, {2: 1.0}))


class Whole(Backbone):
    """The image itself, whitened."""

    out_channels = 3

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, image):
        return self.norm(image)


def test_a_string_names_a_member_whatever_it_looks_like():
    """Also one that could be taken for a factor, or for a number."""
    names = ("zoom::x2", "zoom::2", "flies")
    spec = DataSpec(class_names=("ant", "bee"), concept_names=names, concept_groups=groups_of(names))
    image = torch.rand(2, 3, 8, 8)
    for network in (ConceptBottleneckNetwork(CountingBackbone(), spec), ConceptWhiteningNetwork(Whole(), "ab", names)):
        units = network.eval().encode(image)
        for member in ("x2", "2"):
            found, wanted = (network.edit(units, each) for each in ({"zoom": member}, {f"zoom::{member}": 1}))
            torch.testing.assert_close(found.scores, wanted.scores)
            assert read_values({"zoom": member}, network) == {"zoom": member}
        with pytest.raises(ConfigError, match="'flies=x2': a number is needed"):
            network.edit(units, {"flies": "x2"})


def test_words_of_the_command_line():
    told = {"wing": "green", "flies": "0.5", "size::big": "x0.25", "size::loud": "xs", "nothing": "1e-1"}
    wanted = {"wing": "green", "flies": 0.5, "size::big": Scale(0.25), "size::loud": "xs", "nothing": 0.1}
    assert read_values(told, make_network()) == wanted


@torch.no_grad()
def test_a_factor_scales_what_is_set_to_a_value_and_nothing_else():
    image = torch.rand(2, 3, 32, 32)
    network = BaselineNetwork(CountingBackbone(), SPEC.class_names)
    units = network.encode(image)
    factors = torch.tensor([0.5, -1.0])
    found = network.edit(units, {"channel 1": Scale(factors), 2: Scale(3)})
    torch.testing.assert_close(
        found.scores[:, 1:3], units.scores[:, 1:3] * torch.stack([factors, torch.full((2,), 3)], 1)
    )
    assert torch.equal(found.scores[:, [0, 3]], units.scores[:, [0, 3]])
    for kind, other in (("concept", make_network()), ("prototype", make_prototypes().network)):
        with pytest.raises(ConfigError, match=f"^a {kind} cannot be scaled by a factor: a number is needed$"):
            other.edit(other.encode(image), {0: Scale(0.5)})


def test_a_value_for_each_image():
    values = torch.tensor([1, 0, 0.5, 1], dtype=torch.float64)
    found = probabilities({"wing::red": values})
    torch.testing.assert_close(found[:, 0], values.float())
    assert (found[[0, 3], 1:3] < 1e-12).all()  # where red is certain
    assert torch.equal(found[1:3, 1:3], SCORES[1:3, 1:3].sigmoid())


def test_softmax_group_shares_what_is_left_as_predicted():
    before = make_network(softmax_groups=["wing"]).probabilities(SCORES)
    found = probabilities({"wing::red": 0.6}, softmax_groups=["wing"])
    torch.testing.assert_close(found[:, 0], torch.full((4,), 0.6))
    torch.testing.assert_close(found[:, 1] / found[:, 2], before[:, 1] / before[:, 2])
    none = 1 - before[:, :3].sum(1)
    torch.testing.assert_close((1 - found[:, :3].sum(1)) / found[:, 1], none / before[:, 1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("told", [(0, 0, 0), (1, 0, 0), (0.7, 0.3, 0), (0.5, 0.2, 0.1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_softmax_group_can_say_anything_up_to_one(told, dtype):
    values = dict(zip(("wing::red", "wing::blue", "wing::green"), told, strict=True))
    found = probabilities(values, SCORES.to(dtype) * 20, softmax_groups=["wing"])
    torch.testing.assert_close(found[:, :3], torch.tensor(told, dtype=dtype).expand(4, 3), rtol=0, atol=1e-6)


def test_certainty_is_one_in_float32_and_nearly_in_float64():
    assert torch.tensor(CERTAIN).sigmoid() == 1
    assert 0 < 1 - torch.tensor(CERTAIN, dtype=torch.float64).sigmoid() < 1e-12


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"wing::rde": 1}, "unknown concept 'wing::rde'. Did you mean one of: 'wing::red', "),
        ({"red": 1}, "unknown concept 'red'. Did you mean 'wing::red'?"),
        ({6: 1}, "no concept 6: there are 6, counted from 0"),
        ({-1: 1}, "no concept -1: there are 6, counted from 0"),
        ({"flies": 1.5}, "concept 'flies' is set to 1.5: a truth value from 0 to 1 is needed"),
        ({"flies": -0.1}, "concept 'flies' is set to -0.1: a truth value"),
        ({"flies": float("nan")}, "a concept is set to nan: a finite number is needed"),
        ({"flies": torch.tensor([1, 0, 2, 0.0])}, "concept 'flies' is set to 2: a truth value"),
        ({"flies": torch.ones(3)}, "a tensor of shape (3,): one value, or one for each of the 4 images is needed"),
        ({"flies": None}, "concept 'flies' is set to None, which is not a number"),
        ({"wing": "purple"}, "unknown concept 'wing::purple'. Did you mean"),
        ({"wigns": "red"}, "'wigns=red': a number is needed, or a group and its member. Did you mean 'wing'?"),
        ({"flies": 1, 5: 1}, "concept 'flies' is given twice"),
        ({"wing": "red", "wing::red": 1}, "concept 'wing::red' is given twice"),
        ({"wing::red": 1, "wing::blue": 1}, "wing::red=1 and wing::blue=1 exclude each other"),
        ({"wing::red": 0.7, "wing::blue": 0.6}, "wing::red=0.7 and wing::blue=0.6 exclude each other"),
    ],
)
def test_what_is_refused(values, message):
    with pytest.raises(ConfigError) as caught:
        edit(make_network(), values)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_and_zero_of_an_exclusive_group_agree():
    found = probabilities({"wing::red": 1, "wing::blue": 0})
    torch.testing.assert_close(found[:, :3], torch.eye(3)[:1].expand(4, 3))


def test_channels_take_any_number():
    network = BaselineNetwork(CountingBackbone(), SPEC.class_names)
    units = network.encode(torch.rand(2, 3, 16, 16))
    found = network.edit(units, {"channel 3": -2.5, 0: torch.tensor([1.0, 7.0])})
    assert found.scores[:, 3].tolist() == [-2.5, -2.5]
    assert found.scores[:, 0].tolist() == [1, 7]
    assert torch.equal(found.scores[:, 1:3], units.scores[:, 1:3])
    with pytest.raises(ConfigError, match=r"unknown channel 'chanel 3'\. Did you mean"):
        network.edit(units, {"chanel 3": 1})
    with pytest.raises(ConfigError, match="finite"):
        network.edit(units, {"channel 3": float("inf")})


@pytest.mark.parametrize("values", ["flies=1", "flies", ["flies"], [("flies", 1)], None, 5])
def test_values_that_are_no_mapping(values):
    with pytest.raises(ConfigError, match=r"^values by concept are needed, such as \{'wing::red': 1\}, not "):
        edit(make_network(), values)


@pytest.mark.parametrize("key", [1.5, ("flies",), None])
def test_a_unit_that_is_neither_name_nor_number(key):
    with pytest.raises(ConfigError, match=r"^a concept is given by name or number, not "):
        edit(make_network(), {key: 1})
