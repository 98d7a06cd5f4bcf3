"""Whoever corrects errs, or does not know, as often as is said."""

import pytest
import torch

from ibd.app.curve import take_rates
from ibd.errors import ConfigError
from ibd.models.cbm.annotators import Annotator
from ibd.models.cbm.intervention import intervention_curve
from tests.model_makers import SPEC, TensorData, make_module

GROUPS = SPEC.concept_groups  # wing: 0 1 2, exclusive; size: 3 4; flies: 5


def answers(truth, count=4000, seed=0, **rates):
    told = Annotator.of(GROUPS, **rates).answers(torch.tensor([truth]).expand(count, 6), [[0, 1, 2]], seed)
    return told, torch.tensor(truth)


def test_rates_are_frequencies():
    told, truth = answers([0.0, 1, 0, 1, 0, 1], noise={"wing": 0.3, "flies": 0.1}, unknown={"size": 0.5})
    wing = told[:, :3]
    assert torch.equal(wing.sum(1), torch.ones(4000))
    assert wing.mean(0).tolist() == pytest.approx([0.15, 0.7, 0.15], abs=0.03)  # each of the others as likely
    silent = told[:, 3:5].isnan()
    assert torch.equal(silent[:, 0], silent[:, 1])  # the whole group, or none of it
    assert float(silent.float().mean()) == pytest.approx(0.5, abs=0.03)
    assert torch.equal(told[~silent.any(1)][:, 3:5], truth[3:5].expand(int((~silent.any(1)).sum()), 2))
    assert float((told[:, 5] == 0).float().mean()) == pytest.approx(0.1, abs=0.02)


def test_who_always_errs_never_says_the_truth():
    told, _ = answers([0.0, 1, 0, 1, 0, 1], noise=1.0)
    assert float(told[:, 1].max()) == 0
    assert told[:, 3:].unique(dim=0).tolist() == [[0, 1, 0]]
    told, _ = answers([0.0, 0, 0, 1, 0, 1], noise={"wing": 1.0})
    assert told[:, :3].mean(0).tolist() == pytest.approx([1 / 3] * 3, abs=0.03)  # none holds: any may be named


def test_what_nobody_knows_stays_unknown():
    nan = torch.nan
    told, _ = answers([0.0, nan, 0, nan, 1, nan], noise=1.0)
    assert told[0].nan_to_num(7.0).tolist() == [0, 7, 0, 7, 0, 7]
    told, _ = answers([1.0, nan, nan, 0, 0, 0], noise={"wing": 1.0})
    assert float(told[:, 0].max()) == 0
    assert torch.equal(told[:, 1:3].sum(1), torch.ones(4000))


def test_seeds_differ_and_can_be_repeated():
    first, second, again = (answers([0.0, 1, 0, 1, 0, 1], noise=0.5, seed=s)[0] for s in (0, 1, 0))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_words():
    assert Annotator.of(GROUPS).words(3) == ""
    assert Annotator.of(GROUPS, 0.1, {"size": 0.25}).words(3) == (
        "errs 10 % and does not know 25 % (size) of the time (seed 3)"
    )


def test_a_person_who_errs_makes_a_lower_curve_and_one_who_knows_nothing_a_flat_one():
    module, data = make_module(), TensorData(unknown=0.0)
    images, _, concepts = data.splits["test"]
    with torch.no_grad():  # the class is what the head makes of the true concepts
        data.splits["test"] = images, module.network.classify(concepts).argmax(1), concepts
    curves = [
        intervention_curve(module, data, ["random", "uncertainty"], trials=8, **options)
        for options in ({}, {"noise": 0.0}, {"noise": 0.4}, {"unknown": 1.0})
    ]
    sure, same, noisy, silent = (curve.mean("random") for curve in curves)
    assert torch.equal(sure, same)
    assert float(sure[-1]) == 1
    assert 0.1 < float(noisy[-1]) < 0.9
    assert silent.unique().numel() == 1
    assert (curves[0].known, curves[3].known) == (1, 0)
    assert curves[2].accuracy["uncertainty"].shape == (8, 4)  # an answer of its own for each trial
    assert "whoever corrects errs 40 % of the time (seed 0)" in str(curves[2])


def test_a_rate_in_between_is_what_a_reference_says():
    """One group asked, wrong at rate e: accuracy is a mixture of right and wrong answers."""
    module, data = make_module(), TensorData(unknown=0.0)
    curve = intervention_curve(module, data, ["uncertainty"], trials=3, noise={"flies": 1.0})
    _, labels, concepts = data.splits["test"]
    flipped = concepts.clone()
    flipped[:, 5] = 1 - flipped[:, 5]
    with torch.no_grad():
        right = module.network.classify(flipped).argmax(1) == labels
    assert float(curve.mean("uncertainty")[-1]) == pytest.approx(float(right.double().mean()))


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"noise": 1.5}, "noise: 1.5 given for 'wing', a rate from 0 to 1 is needed"),
        ({"unknown": {"wings": 0.1}}, "unknown: there is no group 'wings'. Did you mean 'wing'?"),
        ({"noise": {"wing": "much"}}, "noise: 'much' given for 'wing'"),
        ({"noise": float("nan")}, "noise: nan given"),
    ],
)
def test_rates_that_are_none(rates, message):
    with pytest.raises(ConfigError) as caught:
        Annotator.of(GROUPS, **rates)
    assert message in str(caught.value)


def test_rates_on_the_command_line(tmp_path):
    file = tmp_path / "rates.yaml"
    file.write_text("wing: 0.2\nflies: 0\n")
    given = ["data.root=x", f"unknown={file}", "noise.wing=0.1", "noise.size=0.3"]
    rates, rest = take_rates(given)
    assert rates == {"unknown": {"wing": 0.2, "flies": 0.0}, "noise": {"wing": 0.1, "size": 0.3}}
    assert rest == ["data.root=x"]
    assert take_rates(["noise=0.1"]) == ({"noise": 0.1}, [])
    file.write_text("wing: often\n")
    for words, message in (
        (["noise=often"], "'noise=often': a rate from 0 to 1 is needed"),
        (["noise=0.1", "noise.wing=0.2"], "noise is given twice"),
        (["noise.wing=0.1", "noise=0.2"], "noise is given twice"),
        ([f"noise={file}"], "wing: 'often' given, a rate from 0 to 1 is needed for noise"),
        (["noise=none.yaml"], "none.yaml"),
    ):
        with pytest.raises(ConfigError) as caught:
            take_rates(words)
        assert message in str(caught.value)
