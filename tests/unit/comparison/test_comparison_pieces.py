"""What a comparison is made of: kept pieces, chosen images, names, plans."""

import numpy as np
import pytest
import torch

from ibd.comparison import cells as kept
from ibd.comparison.cells import Cells
from ibd.comparison.methods import DEFAULT, ORACLE, OTHER, UNITS, choose_methods
from ibd.comparison.nulls import NULLS
from ibd.comparison.plan import GROUPS, LEFT_OUT, make_plan
from ibd.comparison.questions import Questions, balanced
from ibd.comparison.results import ModelInfo
from ibd.comparison.subjects import _named
from ibd.errors import ConfigError
from ibd.metrics.catalogue import CATALOGUE


class Counted:
    def __init__(self):
        self.times = 0

    def __call__(self):
        self.times += 1
        return {"values": np.arange(3.0), "text": np.array("what was said")}


def test_a_piece_is_computed_once(tmp_path):
    compute = Counted()
    for _ in range(2):
        found = Cells(tmp_path).get({"model": "a", "images": [1, 2]}, compute)
        np.testing.assert_array_equal(found["values"], [0, 1, 2])
        assert str(found["text"]) == "what was said"
    assert compute.times == 1
    Cells(tmp_path).get({"model": "b", "images": [1, 2]}, compute)
    assert compute.times == 2
    Cells(None).get({"model": "a", "images": [1, 2]}, compute)
    assert compute.times == 3
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut short", None])
def test_a_damaged_piece_is_computed_again(tmp_path, damage):
    compute = Counted()
    Cells(tmp_path).get({"model": "a"}, compute)
    path = next(tmp_path.glob("*.npz"))
    path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    Cells(tmp_path).get({"model": "a"}, compute)
    assert compute.times == 2
    Cells(tmp_path).get({"model": "a"}, compute)
    assert compute.times == 2


def test_pieces_of_other_code_are_computed_again(tmp_path, monkeypatch):
    compute = Counted()
    Cells(tmp_path).get({"model": "a"}, compute)
    monkeypatch.setattr(kept, "code_fingerprint", lambda: "changed")
    Cells(tmp_path).get({"model": "a"}, compute)
    assert compute.times == 2


def test_a_failure_leaves_nothing_behind(tmp_path):
    def fail():
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        Cells(tmp_path).get({"model": "a"}, fail)
    assert not list(tmp_path.iterdir())


def test_as_many_of_each_class_as_can_be():
    labels = torch.tensor([0] * 10 + [1] * 3 + [2] * 7)
    chosen = balanced(labels, 9, seed=0)
    assert sorted(labels[chosen].tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert sorted(labels[balanced(labels, 3, seed=1)].tolist()) == [0, 1, 2]
    assert sorted(balanced(labels, 100, seed=0)) == list(range(20))
    assert balanced(labels, 9, seed=0) == chosen
    assert balanced(labels, 9, seed=1) != chosen
    assert balanced(labels, 12, seed=0)[:9] == chosen  # more images are the same ones and more


def test_seeds_of_a_family_have_names_of_their_own():
    def info(family, seed):
        return ModelInfo(family, family, "run", seed, 0.5, "concept")

    given = [info("cbm", 0), info("baseline", 0), info("cbm", 1), info("pipnet", 4), info("pipnet", 4)]
    assert [each.name for each in _named(given)] == ["cbm seed 0", "baseline", "cbm seed 1", "pipnet 1", "pipnet 2"]


def questions(masks=True, scenes=True):
    one = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    image = torch.zeros(1, 3, 4, 4)
    given = (one, one.any(1)) if masks else (None, None)
    return Questions(
        "test", torch.tensor([0]), ["0"], image, torch.tensor([0]), *given, ["a", "b"], [object()] * scenes
    )


def test_every_metric_is_in_one_group():
    listed = [name for members in GROUPS.values() for name in members]
    assert sorted(listed) == sorted(CATALOGUE)


def test_what_the_data_does_not_allow_is_skipped_or_refused():
    whole = make_plan(None, questions(), concepts=True)
    assert not whole.skipped
    assert set(whole.groups()) == set(GROUPS) - set(LEFT_OUT)
    assert set(make_plan(["all"], questions(), concepts=True).groups()) == set(GROUPS)
    bare = make_plan(None, questions(masks=False, scenes=False), concepts=False)
    assert {each.metric for each in bare.skipped} >= {"mass_accuracy", "part_spearman", "ctl", "dissection"}
    assert not {"localization", "parts", "dissection"} & set(bare.groups())
    assert make_plan(["pixels", "csdc"], questions(), True).metrics == [
        "deletion", "insertion", "aopc_morf", "aopc_lerf", "abpc", "selectivity", "csdc",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="'part_spearman' cannot be measured: the images cannot be drawn anew"):
        make_plan(["parts"], questions(scenes=False), True)
    with pytest.raises(ConfigError, match=r"unknown metric 'deletoin'. Did you mean"):
        make_plan(["deletoin"], questions(), True)
    with pytest.raises(ConfigError, match=r"metrics: at least one is needed"):
        make_plan([], questions(), True)


def test_rows_of_the_tables():
    names = [method.name for method in choose_methods(None, oracle=True)]
    assert names == ["intrinsic", UNITS, *DEFAULT[1:], *NULLS, OTHER, ORACLE]
    without = choose_methods(["gradcam", {"name": "lrp", "composite": "epsilon", "label": "lrp-0"}], oracle=False)
    assert [method.name for method in without] == ["gradcam", "lrp-0", *NULLS, OTHER]
    assert without[1].options == {"composite": "epsilon"}
    assert without[1].key != choose_methods(["gradcam", "lrp"], oracle=False)[1].key
