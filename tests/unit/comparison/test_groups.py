"""The records of metrics say what their functions say of themselves."""

import math
import re
import sys
from types import SimpleNamespace
from typing import get_args

import pytest
import torch

from ibd.comparison import groups
from ibd.comparison.groups.record import Need, Question
from ibd.comparison.methods import UNITS, Method
from ibd.comparison.results import ExplainerInfo
from ibd.errors import ConfigError
from ibd.metrics.functional.localization import localize

ENTRIES = list(groups.METRICS.values())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_metric_is_computed_somewhere_and_is_told_in_full(entry):
    module, name, text = sys.modules[entry.function.__module__], entry.function.__name__, entry.function.__doc__
    low, high = entry.range
    assert low < high
    assert set(entry.needs.split()) <= set(get_args(Need))
    assert entry.needs
    assert groups.question_of(entry.name) in get_args(Question)
    assert entry.definition.endswith(".")
    assert "\n" not in entry.definition
    assert entry.source
    directions = re.findall(r"([+-]) (?:a )?(?:higher|lower|more)", text)
    if entry.higher_is_better is not None and name != "randomization_verdict":
        assert ("+" if entry.higher_is_better else "-") in directions, text
    years = re.findall(r"\d{4}", entry.source)
    assert all(year in text + module.__doc__ for year in years)
    if isinstance(entry.chance, float):
        assert low <= entry.chance <= high
    assert entry.by_chance.endswith("by chance" if entry.chance is not None else "")


def test_names_are_found_and_near_ones_suggested():
    assert groups.metric("mass_accuracy").arrow == "↑"
    with pytest.raises(ConfigError, match=r"unknown metric 'mass_acuracy'\. Did you mean one of: 'mass_accuracy'"):
        groups.metric("mass_acuracy")


def test_everything_that_refers_to_a_metric_names_one_of_its_group():
    for group in groups.GROUPS.values():
        assert {name for choice in group.main for name in choice} <= set(group.names)
        assert set(group.variants.metrics if group.variants else ()) <= set(group.names)
        assert len({curve.name for curve in group.curves}) == len(group.curves)
    assert groups.group_of("unit_ablation").name == "units"
    assert groups.question_of("unit_ablation") == "Faithfulness"
    assert groups.question_of("unit_completeness") == "Units"


def test_chance_of_localization_is_what_a_constant_map_scores():
    mask = torch.zeros(1, 10, 12, dtype=torch.bool)
    mask[:, 2:5, 3:7] = True
    for name, value in localize(torch.ones(1, 10, 12), mask, box_thresholds=()).items():
        if name != "iou_curve":
            chance = groups.metric(name).chance
            wanted = {"mask_share": 0.1, "mask_share_iou": 0.1 / 1.9}.get(chance, chance)
            assert math.isclose(float(value), wanted, rel_tol=1e-9), name


def test_a_row_without_a_map_is_left_out_of_the_parts_but_for_units():
    def asked(name, maps):
        return SimpleNamespace(
            case=SimpleNamespace(parts=torch.ones(1)), method=Method(ExplainerInfo(name, "posthoc")),
            attributions=SimpleNamespace(maps=maps),
        )  # fmt: skip

    why_not = groups.GROUPS["parts"].why_not
    assert why_not(asked("own", None)) == ""
    assert why_not(asked("own", torch.ones(1, 2, 2))) is None
    assert why_not(asked(UNITS, None)) is None
