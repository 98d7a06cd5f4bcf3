"""The catalogue names functions that exist and say the same of themselves."""

import importlib
import math
import re

import pytest
import torch

from ibd.errors import ConfigError
from ibd.metrics import catalogue
from ibd.metrics.functional.localization import localize

ENTRIES = list(catalogue.CATALOGUE.values())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_metric_is_computed_somewhere_and_is_told_in_full(entry):
    module, name = entry.function.split(":")
    text = getattr(importlib.import_module(module), name).__doc__
    assert entry.low < entry.high
    assert entry.needs <= {"map", "units", "unit_maps", "masks", "concepts", "scene", "model", "explainer"}
    assert entry.needs
    assert entry.definition.endswith(".")
    assert "\n" not in entry.definition
    assert entry.source
    directions = re.findall(r"([+-]) (?:a )?(?:higher|lower|more)", text)
    if entry.higher_is_better is not None and name != "randomisation_verdict":
        assert ("+" if entry.higher_is_better else "-") in directions, text
    years = re.findall(r"\d{4}", entry.source)
    assert all(year in text + importlib.import_module(module).__doc__ for year in years)
    if entry.chance is not None and not isinstance(entry.chance, float):
        assert entry.chance_level() is None
        assert 0 < entry.chance_level(0.1) <= 0.1
    elif entry.chance is not None:
        assert entry.low <= entry.chance_level() <= entry.high


def test_names_are_found_and_near_ones_suggested():
    assert catalogue.entry("mass_accuracy").arrow == "↑"
    assert len(catalogue.CATALOGUE) == len(ENTRIES) == len(catalogue.names())
    with pytest.raises(ConfigError, match=r"unknown metric 'mass_acuracy'\. Did you mean one of: 'mass_accuracy'"):
        catalogue.entry("mass_acuracy")


def test_what_can_be_measured_follows_from_what_is_there():
    found = catalogue.names("map", "masks")
    assert {"mass_accuracy", "roc_auc", "sparseness", "agreement_ssim"} <= set(found)
    assert not {"deletion", "part_spearman", "ctl"} & set(found)
    assert "deletion" in catalogue.names("map", "model")


def test_chance_of_localisation_is_what_a_constant_map_scores():
    mask = torch.zeros(1, 10, 12, dtype=torch.bool)
    mask[:, 2:5, 3:7] = True
    for name, value in localize(torch.ones(1, 10, 12), mask, box_thresholds=()).items():
        if name != "iou_curve":
            assert math.isclose(float(value), catalogue.entry(name).chance_level(0.1), rel_tol=1e-9), name
