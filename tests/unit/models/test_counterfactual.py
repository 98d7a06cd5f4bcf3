"""Why not another class, in units: against enumeration of all changes, in closed form, by the rules of intervene."""

import dataclasses
import itertools
import shlex

import numpy as np
import pytest
import torch
from torch import nn

from ibd.app.terminal import edits, read_values
from ibd.errors import ConfigError, UnsupportedError
from ibd.models.counterfactual import Why, why
from ibd.models.counterfactual.options import switchable
from ibd.models.counterfactual.search import try_sets
from ibd.models.trained import TrainedModel
from ibd.types import DataSpec, Quantity, groups_of
from tests import model_makers as makers


def whitening(seed):
    """Return a whitened network that knows how far its axes go."""
    module = makers.make_whitening(seed=seed)
    module.network.low.fill_(-3.0)
    module.network.high.fill_(3.0)
    return module


MADE = {
    "cbm": lambda seed=0: makers.make_module(seed=seed),
    "logits": lambda seed=0: makers.make_module(bottleneck="logits", seed=seed),
    "hard": lambda seed=0: makers.make_module(bottleneck="hard", seed=seed),
    "softmax": lambda seed=0: makers.make_module(softmax_groups=["wing"], seed=seed),
    "cem": lambda seed=0: makers.make_embedding(seed=seed),
    "posthoc": lambda seed=0: makers.make_posthoc(seed=seed),
    "mlp": lambda seed=0: makers.make_module(head="mlp", seed=seed),
    "scbm": lambda seed=0: makers.make_stochastic_module(seed=seed),
    "activations": lambda seed=0: makers.make_posthoc(truth=False, rest=True, seed=seed),
    "protopnet": lambda seed=0: makers.make_prototypes(seed=seed),
    "pipnet": lambda seed=0: makers.make_pipnet(threshold=0.0, seed=seed),
    "concept_whitening": lambda seed=0: whitening(seed),
}
TRUTHS = ("cbm", "logits", "hard", "softmax", "cem", "posthoc", "mlp", "scbm")
LINEAR = ("cbm", "logits", "hard", "softmax", "cem", "posthoc")


def predicted(name, seed=0):
    module = MADE[name](seed)
    size = module.spec.image_size
    return module.predict(torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(seed + 5)))


def flips(prediction):
    """Return every way to turn concepts on or off that `intervene` allows, without two settings of one group."""
    network = prediction.network
    read = network.readable(prediction.units)[0]
    flip = {name: 0.0 if float(read[i]) > 0.5 else 1.0 for i, name in enumerate(network.unit_names)}
    for size in range(1, len(flip) + 1):
        for chosen in itertools.combinations(flip, size):
            groups = [[n for n in chosen if network.unit_names.index(n) in g] for g in network.exclusive_groups]
            if not any(len(g) > 1 and any(flip[n] == 1 for n in g) for g in groups):
                yield {name: flip[name] for name in chosen}


def amount(prediction, values):
    """Return how far concepts move by a change, those of a group that a 1 clears among them."""
    network = prediction.network
    read = network.readable(prediction.units)[0]
    total = 0.0
    for name, value in values.items():
        unit = network.unit_names.index(name)
        cleared = [k for g in network.exclusive_groups if unit in g and value == 1 for k in g if k != unit]
        total += abs(value - float(read[unit])) + sum(float(read[k]) for k in cleared)
    return total


@pytest.mark.parametrize("name", TRUTHS)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_change_that_is_smaller_does_it(name, seed):
    """Of all changes of six concepts; among those of as many concepts, none moves less where that is promised."""
    one = predicted(name, seed)
    label = int(one.labels[0])
    done = [values for values in flips(one) if int(one.intervene(values).labels[0]) != label]
    answer = why(one)
    assert bool(answer.values) == bool(done)
    if done:
        fewest = min(map(len, done))
        assert len(answer.values) == fewest
        assert answer.values in done
        assert answer.exact
        if name in LINEAR:
            least = min(amount(one, values) for values in done if len(values) == fewest)
            assert amount(one, answer.values) == pytest.approx(least, abs=1e-4)


@pytest.mark.parametrize("name", LINEAR)
def test_the_smallest_change_to_a_given_class(name):
    one = predicted(name)
    for wanted in {0, 1, 2} - {int(one.labels[0])}:
        done = [values for values in flips(one) if int(one.intervene(values).labels[0]) == wanted]
        answer = why(one, is_class=wanted)
        assert len(answer.values) == min(map(len, done), default=0)
        if done:
            assert int(answer.after.labels[0]) == wanted


@pytest.mark.parametrize("name", TRUTHS)
def test_what_is_enough_is_enough_and_no_less_is(name):
    """Of all sets of groups that are kept while all else is set to false."""
    one = predicted(name)
    network, label = one.network, int(one.labels[0])
    parts = [["wing::red", "wing::blue", "wing::green"], ["size::big"], ["size::loud"], ["flies"]]
    enough = []
    for kept in itertools.product((False, True), repeat=4):
        off = {name: 0.0 for part, keep in zip(parts, kept, strict=True) if not keep for name in part}
        after = one.intervene(off) if off else one
        if int(after.labels[0]) == label:
            enough.append(sum(kept))
    answer = why(one)
    assert int(answer.alone.labels[0]) == label
    assert len(answer.kept) == min(enough) if answer.kept_exact else len(answer.kept) >= min(enough)
    assert answer.kept_exact or name in ("mlp", "scbm")
    assert set(answer.kept) <= {"wing", *network.unit_names}


@pytest.mark.parametrize("name", MADE)
def test_the_command_does_what_is_said(name):
    """As `ibd intervene` reads it."""
    one = predicted(name)
    answer = why(one)
    for values, said in ((answer.values, answer.after), (answer.others, answer.alone)):
        if values:
            words = shlex.split(answer.command("RUN", "IMAGE", values))
            assert words[:4] == ["ibd", "intervene", "RUN", "IMAGE"]
            again = one.intervene(read_values(edits(words[4:]), one.network))
            assert again.classes == said.classes
            torch.testing.assert_close(again.logits, said.logits)
    assert int(answer.after.labels[0]) != int(one.labels[0])
    assert int(answer.alone.labels[0]) == int(one.labels[0])
    text = str(answer)
    assert answer.command("RUN", "IMAGE") in text
    assert one.classes[0] in text
    assert repr(answer).startswith("Why(not ")


class Fixed(nn.Module):
    """A network of two classes and given concepts: logits (0, w . c + b)."""

    def __new__(cls, weights, bias, concepts, quantities=None):
        names = tuple(f"c{i}" for i in range(len(weights)))
        spec = DataSpec(("no", "yes"), names, groups_of(names), image_size=(16, 16), quantities=quantities or {})
        module = makers.make_module(spec)
        with torch.no_grad():
            network = module.network
            network.concepts.weight.zero_()
            network.concepts.bias.copy_(torch.tensor(concepts))
            network.head.weight.zero_()
            network.head.bias.copy_(torch.tensor([0.0, bias]))
            network.head.weight[1] = torch.tensor(weights)
        return TrainedModel(module.spec, network)


def test_the_least_amount_is_the_greedy_one_by_what_a_step_gains():
    """Fractional knapsack: 3 is missing, the steepest concept gives 2 of 4 (it is half there), the next the rest."""
    model = Fixed([4.0, 2.0, 1.0], -5.0, [0.0, -30.0, -30.0])  # probabilities 1/2, 0, 0
    answer = why(model.predict(torch.rand(3, 16, 16)), smallest="amount")
    assert answer.values == pytest.approx({"c0": 1.0, "c1": 0.5}, abs=1e-3)
    assert answer.size == pytest.approx(1.0, abs=1e-3)
    assert answer.after.classes == ["yes"]
    further = why(model.predict(torch.rand(3, 16, 16)), smallest="amount", margin=0.5)
    assert further.values == pytest.approx({"c0": 1.0, "c1": 0.75}, abs=1e-3)


def test_a_quantity_moves_as_far_as_it_must_and_no_further_than_three_deviations():
    """c0 is a length of 10 mm, deviation 2, as the image has it: 2 deviations more are needed."""
    length = {"c0": Quantity("mm", 10.0, 2.0)}
    model = Fixed([1.0, 0.0], -2.0, [0.0, -30.0], length)
    answer = why(model.predict(torch.rand(3, 16, 16)))
    assert answer.values == pytest.approx({"c0": 14.0}, abs=1e-3)
    assert "c0  10.00 mm -> 14.00 mm" in str(answer)
    far = why(Fixed([1.0, 0.0], -4.0, [0.0, -30.0], length).predict(torch.rand(3, 16, 16)))
    assert far.after is None
    both = why(Fixed([1.0, 5.0], -6.0, [0.0, -30.0], length).predict(torch.rand(3, 16, 16)))
    assert both.values == pytest.approx({"c0": 12.0, "c1": 1.0}, abs=1e-3)  # one on or off, one by an amount


def test_concepts_of_a_group_that_are_set_by_amounts_exclude_each_other():
    one = predicted("cbm")
    answer = why(one, smallest="amount")
    wing = [answer.values.get(name, 0.0) for name in makers.CONCEPTS[:3]]
    assert sum(wing) <= 1 + 1e-6
    best, now = why(one, smallest="count"), answer.after.unit_values[0] - one.unit_values[0]
    assert answer.size == pytest.approx(float(now.abs().sum()), abs=1e-3)
    assert answer.size <= amount(one, best.values) + 1e-4


@pytest.mark.parametrize("name", ["logits", "hard", "softmax", "mlp", "scbm", "concept_whitening"])
def test_amounts_where_the_classes_are_no_sum_over_them(name):
    with pytest.raises(UnsupportedError, match="ask for smallest=count"):
        why(predicted(name), smallest="amount")


def test_units_without_a_name_stay():
    one = predicted("activations")
    answer = why(one)
    assert not any(name.startswith("rest of") for name in [*answer.values, *answer.others])
    assert isinstance(answer, Why)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"is_class": "cow"}, "it is taken for 'cow' already: ask not=cow"),
        ({"not_class": "ant"}, "it is taken for 'cow', and not for 'ant': ask is=ant"),
        ({"is_class": "be"}, "there is no class 'be'. Did you mean 'bee'?"),
        ({"is_class": 7}, "there is no class '7'. There are 3, counted from 0"),
        ({"is_class": 0, "not_class": 2}, "give one of both"),
        ({"smallest": "least"}, "smallest: 'least' is not one of count, amount"),
        ({"margin": -1}, "margin: -1 given, at least 0 is needed"),
    ],
)
def test_what_cannot_be_asked(options, message):
    one = predicted("cbm")
    assert one.classes == ["cow"]
    with pytest.raises(ConfigError, match=message):
        why(one, **options)


def test_a_wall_of_settings_is_no_command():
    """A network of hundreds of channels keeps one of them."""
    answer = why(predicted("cbm"))
    many = dataclasses.replace(answer, others={f"channel {i}": 0.0 for i in range(31)})
    assert sum(line.startswith("  ibd intervene") for line in answer.lines()) == 2
    assert sum(line.startswith("  ibd intervene") for line in many.lines()) == 1


@pytest.mark.parametrize(("name", "exact"), [("scbm", True), ("concept_whitening", False)])
def test_of_numbers_that_are_tried_at_a_few_values_nothing_is_proven(name, exact):
    one = predicted(name)
    options = switchable(one)

    def lead(numbers):  # only two switches together reach it: there are fewer single ones
        return np.full(len(numbers), 1.0 if len(numbers) > len(options.switches) else -1.0)

    found = try_sets(one, options, lead, 0.5)
    assert len(found.chosen) == 2
    assert found.exact == exact


def test_a_switch_that_does_nothing_alone_is_tried_beside_others():
    one = predicted("scbm")
    with torch.no_grad():
        one.network.head.weight.zero_()
    assert len(switchable(one).switches) == len(one.network.unit_names)
