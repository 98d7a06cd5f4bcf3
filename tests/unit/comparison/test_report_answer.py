"""What a report opens with, its figures of honesty, its tabs and its words."""

import re
from dataclasses import fields, replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from ibd.comparison.report.answer import best_of, make_answer
from ibd.comparison.report.honesty import judged_figures
from ibd.comparison.report.page import family_views, render
from ibd.comparison.report.pictures import side_for
from ibd.comparison.report.side_tables import sanity_rows
from ibd.comparison.report.slider_data import rows_with_sliders
from ibd.comparison.report.tables import make_table
from ibd.comparison.report.units import varied
from ibd.comparison.report.verdict import verdicts
from ibd.comparison.results import (
    Comparison,
    ExplainerInfo,
    ModelInfo,
    Sanity,
    SelfConsistency,
    ShownImage,
)
from ibd.models.sliders import value_sliders
from tests.report_makers import make_comparison

N = 40
KINDS = {"intrinsic": "intrinsic", "lrp": "posthoc", "gradcam": "posthoc", "noise": "reference"}


def made(own, lrp, metric="part_spearman", family="cbm", images=N, **more):
    """Return a comparison in which the own map and LRP score as said, Grad-CAM and noise nothing."""
    rng = np.random.default_rng(0)
    means = {"intrinsic": own, "lrp": lrp, "gradcam": 0.05, "noise": 0.0}
    scores = {("m", name, metric): mean + 0.1 * rng.normal(size=images) for name, mean in means.items()}
    return Comparison(
        settings={"probe_images": 8},
        class_names=["a", "b"],
        part_names=[],
        models=[ModelInfo("m", family, "run", 0, 0.9, "concept", images=500)],
        explainers=[ExplainerInfo(name, kind) for name, kind in KINDS.items()],
        metrics=[metric],
        image_ids=[str(i) for i in range(images)],
        labels=np.zeros(images, dtype=np.int64),
        scores=scores,
        **more,
    )


def said(comparison, metrics=("part_spearman",), family="cbm"):
    table = make_table(comparison, family)
    return make_answer(comparison, table, verdicts(comparison, family), list(metrics))


USES, BEST, LEAST = "points to what the model uses", "the best post-hoc explainer here, LRP", r"\[.+, .+\]\."
SENTENCES = [
    (0.9, 0.5, rf"{USES}, and better than {BEST}: part importance 0\.\d+ higher {LEAST}"),
    (0.3, 0.7, rf"{USES}, but less well than {BEST}: part importance 0\.\d+ lower {LEAST}"),
    (0.5, 0.5, rf"{USES}\. Whether better or worse than {BEST}, cannot be told: part importance differs by .+ {LEAST}"),
    (
        0.0,
        0.5,
        rf"{USES} no better than noise, as far as .+; {BEST}, does better: part importance 0\.\d+ lower {LEAST}",
    ),
]


@pytest.mark.parametrize(("own", "lrp", "sentence"), SENTENCES)
def test_one_sentence_says_how_it_stands(own, lrp, sentence):
    found = said(made(own, lrp)).sentence
    assert re.fullmatch(f"In one training, the concept bottleneck's own map {sentence}", found), found


def test_the_best_is_the_lowest_where_lower_is_better():
    comparison = made(0.3, 0.7, metric="deletion")
    assert best_of(make_table(comparison, "cbm"), "deletion") == "gradcam"
    assert best_of(make_table(made(0.3, 0.7), "cbm"), "part_spearman") == "lrp"


def test_few_images_and_metrics_that_disagree_are_said_to_tell_nothing():
    few = said(made(0.9, 0.1, images=5)).sentence
    assert few == (
        "Whether the concept bottleneck's own map points to what the model uses cannot be told from 5 images: "
        "at least 10 are needed."
    )
    comparison = made(0.9, 0.1, metric="insertion")
    rng = np.random.default_rng(1)
    for name in KINDS:  # by insertion the own map is better, by deletion Grad-CAM
        lower = {"gradcam": -2.0, "noise": 1.0}.get(name, 0.0)
        comparison.scores["m", name, "deletion"] = lower + 0.1 * rng.normal(size=N)
    comparison.metrics.append("deletion")
    both = said(comparison, ("deletion", "insertion")).sentence
    assert both == (
        "In one training, the concept bottleneck's own map points to what the model uses. Whether better or worse than "
        "the best post-hoc explainer here, Grad-CAM by Deletion and LRP by Insertion, cannot be told: "
        "by Deletion it is worse; by Insertion it is better."
    )


def test_the_best_explainer_of_each_metric_is_named():
    comparison = two_metrics(own=(-3.0, 0.9), gradcam=(-2.0, 0.1), lrp=(0.0, 0.5))
    found = said(comparison, ("deletion", "insertion")).sentence
    assert f"{USES}, and better than the best post-hoc explainer here, Grad-CAM by Deletion and LRP by Ins" in found
    assert "the deletion area 1.0" in found
    assert "the insertion area 0.4" in found


def test_noise_must_be_beaten_by_every_metric_to_say_that_the_map_points_to_anything():
    comparison = two_metrics(own=(-3.0, 0.0), gradcam=(-2.0, 0.1), lrp=(0.0, 0.5))  # by insertion it is but noise
    found = said(comparison, ("deletion", "insertion")).sentence
    assert found.startswith("In one training, it cannot be told whether the concept bottleneck's own map points to")
    assert found.endswith("By Deletion it is better; by Insertion it is worse.")


def two_metrics(own, gradcam, lrp):
    """Return a comparison by deletion and insertion, of these means by each, where noise has 0."""
    comparison, rng = made(0, 0, metric="insertion"), np.random.default_rng(1)
    for name, means in {"intrinsic": own, "gradcam": gradcam, "lrp": lrp, "noise": (0.0, 0.0)}.items():
        for metric, mean in zip(("deletion", "insertion"), means, strict=True):
            comparison.scores["m", name, metric] = mean + 0.1 * rng.normal(size=N)
    comparison.metrics.append("deletion")
    return comparison


def test_ways_of_scoring_that_disagree_are_counted_and_not_listed():
    comparison = made(0.3, 0.7)
    for metric, lrp in (("part_spearman_mean", 0.0), ("part_spearman_sum", 0.7)):
        more = made(0.3, lrp, metric=metric)
        comparison.metrics.append(metric)
        comparison.scores.update(more.scores)
    found = said(comparison).sentence
    end = "that depends on how a part is scored (worse in 2 of 3 ways, better in 1 of 3 ways)."
    assert found.lower().endswith(end)
    assert len(found.split()) < 50
    assert found.count(". ") == 1
    told = next(verdict.short for verdict in verdicts(comparison, "cbm") if verdict.other == "lrp")
    assert told.endswith("scored: worse by Part Spearman; better by Part Spearman, mean; worse by Part Spearman, sum.")


def foreign(*explainers):
    """Return a comparison of a network without an own map."""
    comparison = made(0.0, 0.6, family="net")
    comparison.explainers[:] = [each for each in comparison.explainers if each.name in (*explainers, "noise")]
    comparison.scores = {key: values for key, values in comparison.scores.items() if key[1] in (*explainers, "noise")}
    comparison.models[:] = [replace(comparison.models[0], unit_kind="")]
    return comparison


def test_of_a_network_without_a_map_of_its_own_the_explainers_stand_beside_noise():
    one = said(foreign("lrp"), family="net").sentence
    assert re.fullmatch(r"By Part Spearman, LRP scores 0\.\d+ \[.+\]\. It is better than noise\.", one), one
    two = said(foreign("lrp", "gradcam"), family="net").sentence
    assert re.fullmatch(
        r"By Part Spearman, LRP is best with 0\.\d+ \[.+\], ahead of Grad-CAM\. (Better|All|None).+\.", two
    ), two
    none = foreign("lrp")
    none.scores = {("other", *key[1:]): values for key, values in none.scores.items()}
    assert said(none, family="net").sentence == "No explainer of the net was measured by Part Spearman."


@pytest.mark.parametrize(
    ("own", "others", "sentence"),
    [
        (0.5, ["noise"], f"the concept bottleneck's own map {USES} better than noise."),
        (0.0, ["noise"], f"the concept bottleneck's own map {USES} no better than noise, as far as these images show."),
        (0.5, [], f"it cannot be told whether the concept bottleneck's own map {USES}: neither noise nor "),
    ],
)
def test_an_own_map_that_stands_alone_is_held_against_noise(own, others, sentence):
    comparison = made(own, 0.0)
    there = {"intrinsic", *others}
    comparison.explainers[:] = [each for each in comparison.explainers if each.name in there]
    comparison.scores = {key: values for key, values in comparison.scores.items() if key[1] in there}
    assert said(comparison).sentence.startswith(f"In one training, {sentence}")


def test_without_a_metric_that_judges_nothing_is_said():
    comparison = made(0.5, 0.5, metric="sparseness")
    assert said(comparison, ()).sentence == "Nothing was measured that tells which explanation is better."
    assert "concept bottleneck, asked why it predicts" in render(comparison, family_views(comparison))


def test_the_picture_is_of_the_image_whose_difference_is_the_mean():
    comparison = made(0.9, 0.5)
    difference = np.full(N, 0.4)
    difference[[0, 1, 2]] = [1.5, 0.41, -0.7]  # the mean is that of image 1
    comparison.scores["m", "intrinsic", "part_spearman"] = comparison.scores["m", "lrp", "part_spearman"] + difference
    maps = {"m": {name: np.eye(8, dtype=np.float32) for name in ("intrinsic", "lrp")}}
    for i in range(3):
        picture = np.full((8, 8, 3), 0.1 * (i + 1), dtype=np.float32)
        comparison.shown.append(ShownImage(i, picture, "a", None, maps, {"m": "b"}))
    answer = said(comparison)
    assert [tile.title for tile in answer.tiles] == ["The image", "The model's own map", "The best post-hoc map, LRP"]
    value = comparison.scores["m", "lrp", "part_spearman"][1]
    assert answer.tiles[2].score == f"part importance {value:.2f}"
    assert answer.caption.endswith("the model takes it for b, wrongly: it is a.")


FIGURES = {
    "locality": 0.9, "accuracy_whole": 0.9, "accuracy_without_named": 0.5, "leakage_gap": 0.1, "named_share": 1.0,
    "intervention_consistency": 0.6, "intervention_consistency_unchanged": 0.4, "completeness_error": 1e-6,
}  # fmt: skip


def judged(figures, passed=(True, True), probes=8):
    comparison = made(0.9, 0.5)
    comparison.settings["probe_images"] = probes
    comparison.models += [ModelInfo("m 2", "cbm", "run", 1, 0.9, "concept", images=500)]
    for name, own in zip(("m", "m 2"), figures, strict=True):
        comparison.self_consistency[name] = SelfConsistency(own)
    nothing = np.zeros(0)
    for name, fine in zip(("m", "m 2"), passed, strict=True):
        checks = {"cascade_top_down": fine, "other_target": True, "input_shift": None}
        comparison.sanity[name, "intrinsic"] = Sanity([], nothing, nothing, nothing, 0.1, checks, {})
    table = make_table(comparison, "cbm")
    return {row.title: row for row in judged_figures(comparison, table, sanity_rows(comparison, table)[0])}


def test_five_figures_have_a_verdict_by_a_stated_criterion():
    found = judged([FIGURES, FIGURES])
    told = {title: (row.told, row.value) for title, row in found.items()}
    assert told == {
        "Do its units see their own part?": ("good", "0.90"),
        "Does anything pass the names by?": ("good", "0.0 %"),  # chance is 50 %
        "Do classes rest on what concepts say?": ("bad", "10.0 %"),
        "Is a concept a handle on the picture?": ("cannot be told", "0.33"),
        "Does its map depend on the model?": ("good", "2 of 2"),
    }
    criterion = found["Do classes rest on what concepts say?"].criterion
    assert criterion.startswith("Accuracy lost by rounding: good at 2.0 % or less, bad at 5.0 % or more; between them")


def test_what_trainings_do_not_share_cannot_be_told():
    found = judged([FIGURES, FIGURES | {"locality": 0.5}], passed=(True, False))
    assert found["Do its units see their own part?"].told == "cannot be told"
    assert found["Does its map depend on the model?"].sentence.endswith("in some trainings: cascade, top down.")
    assert found["Does its map depend on the model?"].told == "cannot be told"
    failed = judged([FIGURES, FIGURES], passed=(False, False))["Does its map depend on the model?"]
    assert (failed.told, failed.value) == ("bad", "1 of 2")
    assert judged([FIGURES] * 2, (False, False), probes=4)["Does its map depend on the model?"].told == "cannot be told"


def test_prototypes_which_are_shown_are_not_judged_by_their_names():
    comparison = made(0.9, 0.5, family="protopnet")
    comparison.self_consistency["m"] = SelfConsistency({"named_share": 1.0, "completeness_error": 1e-6})
    titles = ["Do units with a name carry the class?", "Does its account leave nothing out?"]
    for kind, asked in (("concept", titles), ("prototype", titles[1:])):
        comparison.models[:] = [replace(comparison.models[0], unit_kind=kind)]
        found = judged_figures(comparison, make_table(comparison, "protopnet"), None)
        assert [row.title for row in found] == asked


def test_of_the_images_half_are_ones_that_the_model_gets_wrong():
    images = [ShownImage(i, None, "a", None, {}, {"m": "b" if i in (4, 5, 6) else "a"}) for i in range(8)]
    assert [image.position for image in varied(images, "m", 4)] == [0, 1, 4, 5]
    assert [image.position for image in varied(images[:5], "m", 4)] == [0, 1, 2, 4]
    assert [image.position for image in varied(images[4:7], "m", 4)] == [4, 5, 6]


def test_many_pictures_are_smaller():
    assert (side_for(1), side_for(400), side_for(10**6)) == (256, 256, 144)
    assert 400 * 256**2 * 0.99 < 800 * side_for(800) ** 2 < 400 * 256**2 * 1.01


def test_a_page_holds_so_many_numbers_and_no_more():
    few, many = (
        value_sliders(
            [f"unit {u}" for u in range(units)],
            ["a"] * classes,
            {},
            torch.ones(3, units),
            torch.ones(classes, units),
            torch.zeros(classes),
        )
        for units, classes in ((100, 20), (2000, 200))
    )
    assert rows_with_sliders(few) > 100
    assert rows_with_sliders(many) == 0
    own = replace(
        few, weights=np.ones((3, 100, 200)), bias=np.zeros((3, 200))
    )  # each image has its own: 20,200 numbers
    assert rows_with_sliders(own) == 7


class Words(HTMLParser):
    """The words of a page that a reader sees, without code, and what else speaks to a reader."""

    def __init__(self, html):
        super().__init__()
        self.words, self.open = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag not in ("br", "img", "input", "meta", "link", "line", "path", "use"):
            self.open.append((tag, dict(attrs).get("class") or ""))
        self.words += [text for name, text in attrs if name in ("alt", "title", "aria-label", "data-title") and text]

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        if not any(tag in ("code", "script", "style") or css == "path" for tag, css in self.open):
            self.words.append(data)


def test_the_page_has_the_vocabulary_of_the_readme():
    comparison = make_comparison(images=12, shown=4)
    comparison.curves.clear()
    comparison.own_curves.clear()
    renamed = {"cbm": "cbm", "cbm 2": "cbm 2", "protopnet <i>": "baseline", "protopnet 2": "baseline 2"}
    comparison = _renamed(comparison, renamed)  # the second family is the plain CNN
    text = " ".join(Words(render(comparison, family_views(comparison))).words)
    assert "Plain CNN" in text
    assert "the plain CNN's own map" in text
    for word in ("baseline", "intrinsic", "seeds", "heatmap", "saliency map"):
        assert not re.search(word, text, re.IGNORECASE), word


def _renamed(comparison, names):
    models = [
        replace(model, name=names[model.name], family=names[model.name].split()[0], run="somewhere")
        for model in comparison.models
    ]

    def again(value):
        if isinstance(value, dict):
            return {
                (names.get(key, key) if not isinstance(key, tuple) else (names.get(key[0], key[0]), *key[1:])): again(
                    each
                )
                for key, each in value.items()
            }
        return value

    kept = {field.name: again(getattr(comparison, field.name)) for field in fields(comparison)}
    kept["models"] = models
    kept["shown"] = [
        replace(image, maps=again(image.maps), predicted=again(image.predicted), units=again(image.units))
        for image in comparison.shown
    ]
    kept["skipped"] = []
    return Comparison(**kept)
