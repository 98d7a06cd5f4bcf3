"""What a verdict says, and what it must not say: of noise, of networks at chance, of too few images, of many."""

import numpy as np
import pytest
import torch

from ibd.comparison.report.differences import differences
from ibd.comparison.report.outcomes import at_chance
from ibd.comparison.report.tables import make_table
from ibd.comparison.report.verdict import standing, verdicts
from ibd.comparison.report.wording import headline
from tests.score_makers import KINDS, made

NAN = float("nan")
PARTS = "part_spearman"
START = "In one training, the concept bottleneck's own map ranks the parts by importance"


def first(comparison, metric=PARTS):
    """Return the first sentence of a verdict."""
    return headline(comparison, make_table(comparison, "cbm"), verdicts(comparison, "cbm"), metric)


def outcomes(comparison, metric=PARTS):
    return {v.other: (v.outcome, v.reason) for v in verdicts(comparison, "cbm") if v.metric == metric}


def parts(**means):
    return {(name, PARTS): value for name, value in means.items()}


def test_verdicts_in_words():
    comparison = made(parts(intrinsic=0.3, gradcam=0.1, lrp=0.51, noise=0.0, oracle=0.9))
    found = verdicts(comparison, "cbm")
    assert [(v.other, v.outcome) for v in found if v.kind == "posthoc"] == [("gradcam", "better"), ("lrp", "worse")]
    start = "The concept bottleneck's own map ranks the parts by importance"
    assert found[0].sentence.startswith(f"{start} better than Grad-CAM: part importance 0.")
    assert " higher [0." in found[0].sentence
    assert found[1].sentence.startswith(f"{start} less well than LRP: part importance 0.")
    assert " lower [0." in found[1].sentence
    assert first(comparison) == f"{START} better than Grad-CAM; less well than LRP."
    told = standing(comparison, make_table(comparison, "cbm"), PARTS)
    assert "noise scores" in told
    assert "On the way from noise to the oracle that is 3" in told


def test_one_training_is_said_to_be_one():
    scores = parts(intrinsic=0.3, gradcam=0.1)
    assert first(made(scores)).startswith("In one training, the concept")
    assert first(made(scores, models=("m", "n", "o"))).startswith("The concept")


def test_lower_is_better_where_the_metric_says_so():
    scores = {("intrinsic", "deletion"): 0.3, ("gradcam", "deletion"): 0.1, ("lrp", "deletion"): 0.5}
    assert [v.outcome for v in verdicts(made(scores), "cbm")] == ["worse", "better"]


def test_a_difference_that_the_images_do_not_show_is_not_called_one():
    apart = np.tile([0.1, -0.1], 20) + 0.002
    scores = {("intrinsic", "abpc"): apart, ("gradcam", "abpc"): 0 * apart, ("lrp", "abpc"): np.full(40, NAN)}
    (verdict,) = verdicts(made(scores), "cbm")
    assert verdict.outcome == "no clear difference"
    assert verdict.interval.low < 0 < verdict.interval.high
    assert verdict.short.startswith("No clear difference from Grad-CAM: ")
    assert first(made(scores), "abpc").endswith("it shows no clear difference from Grad-CAM.")


def test_an_interval_that_excludes_zero_is_not_printed_as_if_it_ended_there():
    noise = np.random.default_rng(1).normal(size=40)
    noise = noise - noise.mean() + 2.1 * noise.std() / np.sqrt(40)
    scores = {("intrinsic", "abpc"): 100 * noise, ("gradcam", "abpc"): 0 * noise}
    (verdict,) = verdicts(made(scores), "cbm")
    assert verdict.outcome == "better"
    assert "[0," not in verdict.sentence
    assert "[0.0," not in verdict.sentence


@pytest.mark.parametrize("images", [1, 9])
def test_few_images_tell_nothing(images):
    scores = {key: np.full(images, value) for key, value in parts(intrinsic=0.9, gradcam=0.1, noise=0.0).items()}
    comparison = made(scores, images=images)
    assert outcomes(comparison)["gradcam"] == ("unknown", "images")
    some = "1 image is" if images == 1 else "9 images are"
    assert first(comparison).startswith(f"{some} too few to tell how well the concept bottleneck's own map")
    assert "at least 10 are needed" in verdicts(comparison, "cbm")[0].sentence
    enough = made({key: np.resize(value, 10) for key, value in scores.items()}, images=10)
    assert outcomes(enough)["gradcam"] == ("better", "")


def test_no_better_than_noise_comes_first_and_then_nothing_is_better():
    rng = np.random.default_rng(0)
    own = rng.normal(size=40)
    own -= own.mean()
    wave = np.tile([0.01, -0.01], 20)
    scores = parts(intrinsic=own, gradcam=own - 0.1 + wave, lrp=own + 1 + wave, noise=np.roll(own, 7))
    comparison = made(scores)
    assert outcomes(comparison) == {
        "gradcam": ("no clear difference", "noise"),  # always worse by 0.1, but both are noise
        "lrp": ("worse", ""),
        "noise": ("no clear difference", ""),
    }
    assert first(comparison) == (
        f"{START} no better than noise, as far as these images show; less well than LRP; "
        "it shows no clear difference from Grad-CAM."
    )
    assert "shows no clear difference from noise" in verdicts(comparison, "cbm")[0].sentence


def test_worse_than_noise_is_said_and_a_post_hoc_map_of_noise_is_called_so():
    wave = np.tile([0.2, -0.2], 20)
    worse = made(parts(intrinsic=-0.5, gradcam=0.0, noise=0.0))
    assert first(worse).startswith(f"{START} less well than noise")
    assert outcomes(worse)["gradcam"] == ("no clear difference", "noise")  # better than one, but no better than noise
    beaten = made(parts(intrinsic=0.6, gradcam=0.0 + wave, noise=0.0))
    assert first(beaten) == f"{START} better than Grad-CAM, which shows no clear difference from noise."


def test_a_map_of_noise_may_be_better_where_noise_is_not_what_chance_scores():
    level = np.random.default_rng(0).normal(size=40)
    scores = {("intrinsic", "sparseness"): level + 1, ("gradcam", "sparseness"): level + 0.5}
    scores |= {("noise", "sparseness"): level + 3}
    assert outcomes(made(scores), "sparseness")["gradcam"] == ("better", "")


def test_a_network_at_chance_is_said_to_be_before_all_else():
    scores = parts(intrinsic=0.9, gradcam=0.1, noise=0.0, oracle=1.0)
    # 9 of 40 by chance 1 / 6 or more: p = 0.21.
    comparison = made(scores, accuracy=9 / 40, classes="abcdef", asked=40)
    assert first(comparison) == (
        "Explanations of a network at chance mean nothing: the concept bottleneck classifies 22.5 % of 40 images "
        "correctly, no more than chance with 6 classes."
    )
    assert {v.outcome for v in verdicts(comparison, "cbm")} == {"unknown"}
    assert not any(c.best or c.tied for row in make_table(comparison, "cbm").rows for c in row.cells.values())
    three = made(scores, accuracy=9 / 40, classes="abcdef", asked=40, models=("m", "n", "o"))
    assert "3 of the 3 trainings of the concept bottleneck classify no more" in first(three)


def test_naming_the_most_frequent_class_every_time_is_chance_too():
    scores = parts(intrinsic=0.9, gradcam=0.1, noise=0.0, oracle=1.0)
    always = made(scores, accuracy=0.9, classes="ab", asked=100, majority=0.9)
    assert first(always) == (
        "Explanations of a network at chance mean nothing: the concept bottleneck classifies 90.0 % of 100 images "
        "correctly, no more than naming the most frequent class every time, which is right for 90.0 %."
    )
    assert {v.outcome for v in verdicts(always, "cbm")} == {"unknown"}
    assert outcomes(made(scores, accuracy=0.97, classes="ab", asked=100, majority=0.9))["gradcam"] == ("better", "")


def test_what_is_above_chance_by_the_binomial_test():
    scores = parts(intrinsic=0.9, gradcam=0.1)
    # P(at least k of 10 with 1 / 2): 56 / 1024 = 0.055 for 8, 11 / 1024 for 9.
    tested = {k: made(scores, accuracy=k / 10, classes="ab", asked=10) for k in (8, 9)}
    assert [bool(at_chance(each, each.models)) for each in tested.values()] == [True, False]
    unknown = made(scores, accuracy=0.1, classes="ab", asked=0)
    assert at_chance(unknown, unknown.models) == []


def test_two_networks_at_chance_on_eight_images_cannot_be_told_anything():
    rng = np.random.default_rng(0)
    base = rng.normal(size=8)
    scores = {("intrinsic", "deletion"): base - 3e-5, ("gradcam", "deletion"): base, ("lrp", "deletion"): base + 3e-5}
    scores |= {("noise", "deletion"): base + 1e-5 * rng.normal(size=8)}
    for asked in (0, 8):
        comparison = made(scores, images=8, models=("m", "n"), accuracy=0.25, classes="abc", asked=asked)
        assert {v.outcome for v in verdicts(comparison, "cbm")} == {"unknown"}
        assert "better than" not in first(comparison, "deletion")
        assert not any(row.cells["deletion"].best for row in make_table(comparison, "cbm").rows)


def test_what_is_too_small_to_matter_is_not_better_however_sure():
    base = np.random.default_rng(0).normal(size=40)
    scores = {("intrinsic", "abpc"): base + 3e-5, ("gradcam", "abpc"): base, ("lrp", "abpc"): base + 0.1}
    scores |= {("noise", "abpc"): base - 3}
    found = outcomes(made(scores), "abpc")
    assert found["gradcam"] == ("no clear difference", "small")
    assert found["lrp"] == ("worse", "")
    rows = {row.explainer.name: row.cells["abpc"] for row in make_table(made(scores), "cbm").rows}
    assert rows["lrp"].best
    assert not rows["gradcam"].best


def test_many_comparisons_are_corrected():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=40)
    noise -= noise.mean()
    shift = 2.3 * noise.std(ddof=1) / np.sqrt(40)  # t of 2.3 with 39 degrees of freedom: p = 0.027
    others = [f"other {i}" for i in range(8)]
    kinds = {"intrinsic": "intrinsic"} | dict.fromkeys(others, "posthoc")
    scores = {("intrinsic", "abpc"): noise + shift} | {(name, "abpc"): 0 * noise for name in others}
    alone = {key: scores[key] for key in list(scores)[:2]}
    assert outcomes(made(alone, kinds), "abpc")["other 0"] == ("better", "")
    found = verdicts(made(scores, kinds), "cbm")
    assert {(v.outcome, v.reason) for v in found} == {("no clear difference", "many")}
    assert found[0].interval.excludes_zero
    assert "among 8 comparisons, chance explains a difference this large" in found[0].sentence
    assert not any(row.cells["abpc"].best for row in make_table(made(scores, kinds), "cbm").rows)


def test_the_best_is_corrected_for_all_that_it_was_picked_from():
    values = torch.randn(1, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pairs = [(values + 0.5, 0 * values), (values, 0 * values)]
    few, many = (differences(pairs, ["m", "m"], {"m": total}) for total in (2, 10))
    assert many[0].p == pytest.approx(5 * few[0].p)
    assert [each.compared for each in many] == [10, 10]


@pytest.mark.parametrize(
    ("mean", "total", "outcome"),
    [(0.5, 0.5, "better"), (0.5, -0.5, "depends"), (0.5, 0.0, "depends"), (-0.5, -0.5, "depends")],
)
def test_better_is_said_only_where_all_ways_of_scoring_a_part_agree(mean, total, outcome):
    wave = np.tile([0.2, -0.2], 20)
    own = {PARTS: 0.5, "part_spearman_mean": mean, "part_spearman_sum": total}
    scores = {("intrinsic", name): value + 2 for name, value in own.items()}
    scores |= {("gradcam", name): 2 + wave for name in own} | {("noise", name): wave - 3 for name in own}
    comparison = made(scores)
    found = {v.metric: v for v in verdicts(comparison, "cbm") if v.other == "gradcam"}
    assert found[PARTS].outcome == outcome
    assert list(found[PARTS].ways) == list(own)
    assert {found[name].outcome for name in own} == {outcome}
    words = "depends on how a part is scored"
    assert (words in found[PARTS].sentence) == (words in first(comparison)) == (outcome == "depends")
    assert ("better than Grad-CAM." in first(comparison)) == (outcome == "better")


def test_where_no_other_way_was_measured_one_is_enough():
    assert outcomes(made(parts(intrinsic=0.5, gradcam=0.1), KINDS))["gradcam"] == ("better", "")


def test_nothing_is_marked_where_the_best_is_no_better_than_noise():
    level = np.random.default_rng(0).normal(size=40)
    wave = np.tile([0.01, -0.01], 20)
    scores = {("intrinsic", PARTS): level, ("gradcam", PARTS): level - 0.5 + wave}  # always worse
    marked = []
    for noise in (level + 0.1 + wave, level - 1 + wave):
        rows = make_table(made(scores | {("noise", PARTS): noise}), "cbm").rows
        marked.append([(row.cells[PARTS].best, row.cells[PARTS].tied) for row in rows])
    assert marked == [[(False, False)] * 2, [(True, False), (False, False)]]


def test_the_best_of_many_is_held_against_all_pairs_of_them():
    noise = np.random.default_rng(0).normal(size=40)
    noise -= noise.mean()
    # t of 2.8 with 39 degrees of freedom: p = 0.008, times 4 others 0.03, times 10 pairs of 5 explainers 0.08.
    shift = 2.8 * noise.std(ddof=1) / np.sqrt(40)
    others = [f"other {i}" for i in range(4)]
    kinds = {"intrinsic": "intrinsic"} | dict.fromkeys(others, "posthoc")
    scores = {("intrinsic", "abpc"): noise + shift} | {(name, "abpc"): 0 * noise for name in others}
    assert {v.outcome for v in verdicts(made(scores, kinds), "cbm")} == {"better"}
    cells = [row.cells["abpc"] for row in make_table(made(scores, kinds), "cbm").rows]
    assert not any(cell.best for cell in cells)
    assert all(cell.tied for cell in cells)
