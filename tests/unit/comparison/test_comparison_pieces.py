"""What a comparison is made of: kept pieces, chosen images, names, plans."""

import sys
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch

from ibd.comparison import cache as kept, measuring
from ibd.comparison.asked import Asked, Case
from ibd.comparison.attributions import Attributions
from ibd.comparison.cache import Cache
from ibd.comparison.groups import GROUPS, METRICS, values as group_values
from ibd.comparison.groups.localization import measure as localization
from ibd.comparison.groups.parts import importance_of_parts
from ibd.comparison.groups.properties import measure as properties
from ibd.comparison.groups.record import Measured, Points
from ibd.comparison.images import ComparedImages, balanced, choose_images
from ibd.comparison.methods import DEFAULT, ORACLE, ORACLE_SUM, OTHER, UNITS, Method, choose_methods
from ibd.comparison.models import _by_backbone, _named
from ibd.comparison.plan import make_plan
from ibd.comparison.reference_maps import REFERENCE_MAPS
from ibd.comparison.report.names import family_title
from ibd.comparison.results import ExplainerInfo, Floats, ModelInfo
from ibd.errors import ConfigError, UnsupportedError


@dataclass(frozen=True)
class Inner:
    values: np.ndarray
    text: str


@dataclass(frozen=True)
class Kept:
    """A record of every kind of value there is."""

    inner: Inner
    by_name: dict[str, Floats]
    listed: list[Inner]
    curve: Points
    absent: Floats | None
    figures: dict[str, float]
    passed: dict[str, bool | None]


def record():
    inner = Inner(np.arange(3), "array 0")
    figures, passed = {"a": float("nan"), "b": 0.1}, {"a": None, "b": True}
    return Kept(inner, {"b": np.eye(2)}, [inner], Points(np.arange(2.0), np.eye(2)), None, figures, passed)


class Counted:
    def __init__(self):
        self.times = 0

    def __call__(self):
        self.times += 1
        return record()


def test_a_piece_is_computed_once(tmp_path):
    compute = Counted()
    for _ in range(2):
        found = Cache(tmp_path).get({"model": "a", "images": [1, 2]}, Kept, compute)
        assert repr(found) == repr(record())
        assert found.inner.values.dtype == np.int64
        assert isinstance(found.curve, Points)
    assert compute.times == 1
    Cache(tmp_path).get({"model": "b", "images": [1, 2]}, Kept, compute)
    assert compute.times == 2
    Cache(None).get({"model": "a", "images": [1, 2]}, Kept, compute)
    assert compute.times == 3
    assert not list(tmp_path.glob("*.tmp"))


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 cut short", None])
def test_a_damaged_piece_is_computed_again(tmp_path, damage):
    compute = Counted()
    Cache(tmp_path).get({"model": "a"}, Kept, compute)
    path = next(tmp_path.glob("*.npz"))
    path.write_bytes(path.read_bytes()[:-40] if damage is None else damage)
    Cache(tmp_path).get({"model": "a"}, Kept, compute)
    assert compute.times == 2
    Cache(tmp_path).get({"model": "a"}, Kept, compute)
    assert compute.times == 2


def test_pieces_of_other_code_are_computed_again(tmp_path, monkeypatch):
    compute = Counted()
    Cache(tmp_path).get({"model": "a"}, Kept, compute)
    monkeypatch.setattr(kept, "code_fingerprint", lambda: "changed")
    Cache(tmp_path).get({"model": "a"}, Kept, compute)
    assert compute.times == 2


def test_a_failure_leaves_nothing_behind(tmp_path):
    def fail():
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        Cache(tmp_path).get({"model": "a"}, Kept, fail)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_comparison_had_half_written_is_removed(tmp_path):
    kept, left = tmp_path / "0123.npz", tmp_path / "0123.4711.tmp"
    kept.touch()
    left.touch()
    Cache(tmp_path)
    assert list(tmp_path.iterdir()) == [kept]


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


def test_models_on_different_backbones_are_no_seeds_of_each_other():
    def info(family, backbone, seed):
        return ModelInfo(family, family, "run", seed, 0.5, "concept", backbone)

    given = [
        info("cbm", "small_cnn depth 4", 0), info("cbm", "bcos_small_cnn depth 4", 0),
        info("cbm", "small_cnn depth 4", 1), info("cbm", "small_cnn depth 5 field 15", 0),
        info("baseline", "small_cnn depth 4", 0),
    ]  # fmt: skip
    assert [each.name for each in _named(_by_backbone(given))] == [
        "cbm-small_cnn_depth_4 seed 0", "cbm-bcos_small_cnn", "cbm-small_cnn_depth_4 seed 1",
        "cbm-small_cnn_depth_5_field_15", "baseline",
    ]  # fmt: skip
    assert family_title("cbm-bcos_small_cnn") == "concept bottleneck on bcos_small_cnn"


def chosen(masks=True, scenes=True):
    one = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    image = torch.zeros(1, 3, 4, 4)
    given = (one, one.any(1)) if masks else (None, None)
    return ComparedImages(
        "test", torch.tensor([0]), ["0"], image, torch.tensor([0]), *given, ["a", "b"], [object()] * scenes
    )


def test_maps_should_lie_on_what_decides_in_this_model_where_that_is_known():
    masks = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    masks[0, 0, 0], masks[0, 1, 3] = True, True
    asked = replace(chosen(), masks=masks, truth=masks.any(1))
    case = partial(Case, None, asked, torch.zeros(1).long(), kept=None, cache=None, probe_images=1, seed=0)
    second = torch.tensor([[0.0, -1, 2, 1]], dtype=torch.float64)  # without parts, with the first, the second, both
    assert torch.equal(case(parts=second).truth, masks[:, 1])
    assert torch.equal(case(parts=None).truth, masks.any(1))
    assert case(parts=second * 0).truth.sum() == 0


def test_thresholds_are_not_chosen_on_the_images_that_are_measured():
    """The box of two maps is hit at one threshold, which validation chooses; where it cannot, nothing is said."""
    truth = torch.zeros(2, 8, 8, dtype=torch.bool)
    truth[:, 2:6, 2:6] = True
    low, high = truth.float(), 0.3 + 0.7 * truth  # hit at every threshold; only from 0.5 on

    def measured(maps, others):
        case = SimpleNamespace(truth=truth, images=SimpleNamespace(masks=truth.unsqueeze(1)))
        asked = SimpleNamespace(case=case, maps=maps, validation=others, method=SimpleNamespace(name="x"))
        return localization(asked).scores

    assert measured(high, (low, truth))["box_accuracy"].tolist() == [0, 0]  # lowest of several: 0.1
    assert measured(high, (high, truth))["box_accuracy"].tolist() == [1, 1]
    assert measured(high, (high, truth))["iou_best"].tolist() == [1, 1]
    blank = measured(high, (-high, truth))
    assert np.isnan(blank["iou_best"]).all()
    assert np.isnan(blank["box_accuracy"]).all()
    assert "box_accuracy" not in measured(high, None)
    on_validation = make_plan(["localization"], replace(chosen(), split="val"), True)
    assert [each.metric for each in on_validation.skipped] == ["iou_best", "box_accuracy"]


def test_maps_of_many_images_are_measured_a_few_at_a_time(monkeypatch):
    maps, masks = torch.randn(5, 8, 8), torch.rand(5, 2, 8, 8) > 0.6
    case = SimpleNamespace(truth=masks.any(1), images=SimpleNamespace(masks=masks))
    attributions = SimpleNamespace(value=torch.full((5,), torch.nan))
    asked = SimpleNamespace(
        case=case, maps=maps, validation=None, attributions=attributions, method=SimpleNamespace(name="x")
    )

    def found():
        scores = [measure(asked).scores for measure in (localization, properties)]
        return [*scores, {"parts": importance_of_parts(asked).numpy()}]

    whole = found()
    monkeypatch.setattr(group_values, "_FEW", 2)
    for one, other in zip(whole, found(), strict=True):
        for name, values in one.items():
            np.testing.assert_array_equal(values, other[name])


def test_the_mass_of_a_pixel_that_parts_share_counts_for_each():
    maps, masks = torch.zeros(1, 2, 2), torch.zeros(1, 2, 2, 2, dtype=torch.bool)
    maps[0, 0], maps[0, 1, 0] = 1.0, 2.0
    masks[0, 0, 0], masks[0, 1, :, 0] = True, True  # they share the first pixel
    case = SimpleNamespace(images=SimpleNamespace(masks=masks), truth=masks.any(1))
    found = localization(SimpleNamespace(case=case, maps=maps, validation=None, method=SimpleNamespace(name="x")))
    assert found.curves["energy"].values.tolist() == [[0.5, 0.75, 0.0]]


def asked_of(tmp_path, **changes):
    case = SimpleNamespace(
        model=SimpleNamespace(fingerprint="m", info=SimpleNamespace(name="m")),
        images=chosen(),
        classes=torch.tensor([0]),
        seed=0,
        probe_images=1,
        cache=Cache(tmp_path),
    )
    method = choose_methods(["gradcam"], oracle=True)[-2]
    attributions = Attributions(torch.zeros(1, 4, 4), torch.zeros(1), changes.pop("units", None), None)
    return Asked(case, method, attributions, **changes)


def test_a_piece_depends_on_validation_and_units(tmp_path):
    computed = []
    group = replace(GROUPS["localization"], measure=lambda asked: (computed.append(1), Measured())[1])
    maps = torch.zeros(1, 4, 4)
    for changes in ({}, {"validation": (maps, maps > 0)}, {"validation": (maps + 1, maps > 0)}, {"units": maps[0]}):
        for _ in range(2):
            measuring.measured(group, asked_of(tmp_path, **changes))
    assert len(computed) == 4


def test_that_an_explainer_cannot_do_something_is_found_once(tmp_path):
    asked_for = []

    def refuses(asked):
        asked_for.append(asked)
        raise UnsupportedError("no graph")

    for _ in range(2):
        with pytest.raises(UnsupportedError, match="no graph"):
            measuring.measured(replace(GROUPS["sanity"], measure=refuses), asked_of(tmp_path))
    assert len(asked_for) == 1


def test_masks_and_code_elsewhere_are_part_of_a_key(tmp_path, monkeypatch):
    class Data:
        spec = SimpleNamespace(part_names=["a"])

        def __init__(self, mask):
            self.mask, self.labels = mask, torch.tensor([0])

        def dataset(self, split):
            return self

        def __len__(self):
            return 1

        def __getitem__(self, index):
            return SimpleNamespace(image=torch.zeros(3, 4, 4), label=0, masks=self.mask)

        def deciding_mask(self, index):
            return None

        def sample_id(self, index):
            return "0"

    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    prints = {choose_images(Data(each), "test", 1, 0).fingerprint for each in (mask, ~mask, None)}
    assert len(prints) == 3
    module = ModuleType("elsewhere")
    module.__file__ = str(tmp_path / "elsewhere.py")
    monkeypatch.setitem(sys.modules, "elsewhere", module)
    mine = type("Mine", (), {"__module__": "elsewhere"})
    keys = []
    for source in ("a = 1", "a = 2"):
        (tmp_path / "elsewhere.py").write_text(source)
        keys.append(Method(ExplainerInfo("mine", "posthoc"), mine()).key)
    assert keys[0] != keys[1]


def test_code_is_read_wherever_it_lies(tmp_path, monkeypatch):
    folder = tmp_path / "report" / "ibd" / "comparison"
    folder.mkdir(parents=True)
    prints = []
    monkeypatch.setattr(kept, "__file__", str(folder / "cells.py"))
    for source in ("a = 1", "a = 2"):
        (folder / "cells.py").write_text(source)
        prints.append(kept.code_fingerprint.__wrapped__())
    assert prints[0] != prints[1]


def test_scores_of_the_first_images_are_filled_up():
    np.testing.assert_array_equal(measuring.padded(np.ones(1), 3), [1, np.nan, np.nan])


def test_every_metric_is_in_one_group():
    listed = [name for group in GROUPS.values() for name in group.names]
    assert len(listed) == len(set(listed)) == len(METRICS)


def test_what_the_data_does_not_allow_is_skipped_or_refused():
    whole = make_plan(None, chosen(), concepts=True)
    assert not whole.skipped
    assert set(whole.groups()) == {name for name, group in GROUPS.items() if group.by_default}
    assert set(make_plan(["all"], chosen(), concepts=True).groups()) == set(GROUPS)
    bare = make_plan(None, chosen(masks=False, scenes=False), concepts=False)
    left_out = {"mass_accuracy", "part_spearman", "concept_task_leakage", "unique_detectors"}
    assert left_out <= {each.metric for each in bare.skipped}
    assert not {"localization", "parts", "dissection"} & set(bare.groups())
    assert make_plan(["pixels", "csdc"], chosen(), True).metrics == [
        "deletion", "insertion", "aopc_morf", "aopc_lerf", "abpc", "selectivity", "csdc",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="'part_spearman' cannot be measured: the images cannot be drawn again"):
        make_plan(["parts"], chosen(scenes=False), True)
    with pytest.raises(ConfigError, match=r"unknown metric 'deletoin'. Did you mean"):
        make_plan(["deletoin"], chosen(), True)
    with pytest.raises(ConfigError, match=r"metrics: at least one is needed"):
        make_plan([], chosen(), True)


def test_rows_of_the_tables():
    names = [method.name for method in choose_methods(None, oracle=True)]
    assert names == ["intrinsic", UNITS, *DEFAULT[1:], *REFERENCE_MAPS, OTHER, ORACLE, ORACLE_SUM]
    without = choose_methods(["gradcam", {"name": "lrp", "composite": "epsilon", "label": "lrp-0"}], oracle=False)
    assert [method.name for method in without] == ["gradcam", "lrp-0", *REFERENCE_MAPS, OTHER]
    assert without[1].options == {"composite": "epsilon"}
    assert without[1].key != choose_methods(["gradcam", "lrp"], oracle=False)[1].key
