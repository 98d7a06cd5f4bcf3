"""The folder that a report is: what stands in its page, its table, its summary and its pictures."""

import csv
import json
import math
import re
import tomllib
from fnmatch import fnmatch
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

from ibd.comparison.methods import ORACLE, ORACLE_SUM
from ibd.comparison.report import Report
from ibd.comparison.report.charts import styles
from ibd.comparison.report.curves import family_charts
from ibd.comparison.report.page import _json
from ibd.comparison.report.side_tables import shortcut_rows
from ibd.comparison.report.tables import make_table
from ibd.comparison.results import Comparison, Curve, ExplainerInfo, ModelInfo
from ibd.metrics.functional.random_effects import two_level, two_level_interval
from tests.report_makers import KINDS, METRICS, MODELS, NASTY, make_comparison, small_report

ROOT = Path(__file__).parents[3]
IMAGES, SHOWN = 20, 4


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, and texts."""

    def __init__(self, html):
        super().__init__()
        self.html, self.elements, self.scripts, self.texts, self._open = html, [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data):
        if self._open and self._open[-1] == "script":
            self.scripts[-1] += data
        else:
            self.texts.append(data)

    def attributes(self, name):
        return [attrs[name] or "" for _, attrs in self.elements if name in attrs]


@pytest.fixture(scope="module")
def comparison():
    found = make_comparison(IMAGES, SHOWN)
    found.curves = {key: curve for key, curve in found.curves.items() if key[2] == "deletion"}
    for name in ("protopnet <i>", "protopnet 2"):
        del found.agreement[name, "spearman"]
    found.scores["cbm", "lrp", "unique_detectors"] = np.array([0.25])
    found.metrics.append("unique_detectors")
    return found


@pytest.fixture(scope="module")
def folder(comparison, tmp_path_factory):
    return Report(comparison).save(tmp_path_factory.mktemp("report") / "new" / "folder").parent


@pytest.fixture(scope="module")
def page(folder):
    return Page((folder / "index.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def summary(folder):
    return json.loads((folder / "summary.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)


def test_the_page_has_its_sections_in_order(page):
    assert "to the oracle (1)" in page.html
    ids = [attrs["id"] for tag, attrs in page.elements if tag == "section"]
    wanted = [
        "answer",
        "verdict",
        "scores",
        "curves",
        "agreement",
        "images",
        "units",
        "self_consistency",
        "places",
        "sanity",
        "shortcut",
        "cost",
        "compared",
    ]
    assert ids == [*wanted, "reading"]
    assert [attrs["href"] for tag, attrs in page.elements if tag == "a" and attrs["href"][1:] in ids] == [
        f"#{each}" for each in ids
    ]


def test_the_page_needs_no_other_file(page, folder):
    linked = page.attributes("src") + page.attributes("href")
    assert len(linked) > 100
    assert {each.split(",")[0].split(";")[0] for each in linked if not each.startswith("#")} <= {
        "data:image/jpeg",
        "data:",
    }
    ids = page.attributes("id")
    assert {each[1:] for each in linked if each.startswith("#")} <= set(ids)
    assert len(ids) == len(set(ids))
    html = (folder / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\((?!#)", html)


def test_names_with_html_are_shown_as_they_are(page, folder):
    html = (folder / "index.html").read_text(encoding="utf-8")
    assert "<b>Wren" not in html
    assert "<u>green" not in html
    assert "protopnet <i>" not in html
    assert any(NASTY in text for text in page.texts)
    assert f"an image of {NASTY}" in page.attributes("alt")
    assert not any("alert(1)" in text for text in page.scripts if not text.startswith("{"))
    heads = [json.loads(text) for text in page.scripts if text.startswith('{"classes"')]
    assert len(heads) == 1
    assert heads[0]["classes"][0] == NASTY


def test_json_within_a_script_cannot_end_it():
    text = _json({"<": "</script><!-- \u2028 &amp;"})
    assert not set(text) & set("<>&\u2028")
    assert json.loads(text) == {"<": "</script><!-- \u2028 &amp;"}


def test_every_score_is_a_line_of_the_table(comparison, folder):
    with (folder / "scores.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(each) for each in comparison.scores.values())
    place = {image: i for i, image in enumerate(comparison.image_ids)}
    for row in rows:
        values = comparison.scores[row["model"], row["explainer"], row["metric"]]
        value = values[place[row["image"]] if row["image"] else 0]
        assert row["value"] == "" if math.isnan(value) else float(row["value"]) == value
        if row["image"]:
            assert row["label"] == comparison.class_names[comparison.labels[place[row["image"]]]]
    assert [row["image"] for row in rows if row["metric"] == "unique_detectors"] == [""]
    assert {(row["model"], row["family"], row["seed"]) for row in rows} == {
        (m.name, m.family, str(m.seed)) for m in MODELS
    }
    assert {(row["explainer"], row["kind"]) for row in rows} == set(KINDS.items())


def test_the_summary_holds_the_means_and_intervals_of_every_model(comparison, summary):
    for key in (
        ("cbm", "intrinsic", "part_spearman"),
        ("protopnet 2", "lrp", "deletion"),
        ("cbm", "lrp", "unique_detectors"),
    ):
        values = torch.from_numpy(comparison.scores[key])
        found = summary["scores"][key[0]][key[1]][key[2]]
        wanted = two_level_interval(values.unsqueeze(0))
        assert found["mean"] == pytest.approx(wanted.mean, abs=1e-12)
        assert (found["n"], found["n_nan"]) == (wanted.n, wanted.n_nan)
        if wanted.n > 1:
            assert found["low"] == pytest.approx(max(wanted.low, -1 if "part" in key[2] else 0), abs=1e-9)
        else:
            assert found["low"] is None
    assert summary["scores"]["cbm"]["constant"]["part_spearman"]["mean"] is None
    assert "unit_ablation" not in summary["scores"]["cbm"]["lrp"]
    assert set(summary["metrics"]) == {*METRICS, "unique_detectors"}


def test_the_seeds_of_a_family_are_pooled_and_put_between_noise_and_oracle(comparison, summary):
    def pooled(explainer, metric):
        return two_level_interval(
            torch.stack([torch.from_numpy(comparison.scores[name, explainer, metric]) for name in ("cbm", "cbm 2")])
        )

    rows = summary["families"]["cbm"]["scores"]
    for explainer in ("intrinsic", "noise", "oracle"):
        for metric in ("part_spearman", "deletion"):
            wanted, found = pooled(explainer, metric), rows[explainer][metric]
            ends = (pooled("noise", metric).mean, pooled("oracle", metric).mean)
            assert [found[key] for key in ("mean", "low", "high")] == pytest.approx(
                [wanted.mean, max(wanted.low, -1 if metric == "part_spearman" else 0), min(wanted.high, 1)], abs=1e-9
            )  # within what the metric can be
            assert (found["n"], found["n_nan"]) == (wanted.n, wanted.n_nan)
            assert found["normalized"] == pytest.approx((wanted.mean - ends[0]) / (ends[1] - ends[0]))
    assert "part_spearman" not in rows["constant"]


def test_the_verdicts_are_paired_differences(comparison, summary):
    found = {(v["family"], v["metric"], v["other"]): v for v in summary["verdicts"]}
    assert {v["intrinsic"] for v in found.values()} == {"intrinsic"}
    for other, metric in (("lrp", "part_spearman"), ("occlusion", "deletion"), ("noise", "deletion")):
        a, b = (
            torch.stack([torch.from_numpy(comparison.scores[name, each, metric]) for name in ("cbm", "cbm 2")])
            for each in ("intrinsic", other)
        )
        wanted, verdict = two_level_interval(a - b), found["cbm", metric, other]
        assert [verdict["difference"][key] for key in ("mean", "low", "high")] == pytest.approx(
            [wanted.mean, wanted.low, wanted.high], abs=1e-9
        )
        assert verdict["p"] >= two_level((a - b).unsqueeze(0)).p_values()[0]  # corrected
        assert (verdict["outcome"] == "no clear difference") == (verdict["p"] >= 0.05)
    assert found["protopnet", "deletion", "oracle"]["outcome"] == "worse"
    assert found["cbm", "own_metric", "lrp"]["outcome"] == "unknown"


def test_what_was_skipped_and_what_it_cost_is_in_the_summary_and_the_page(comparison, summary, page):
    assert len(summary["skipped"]) == len(comparison.skipped)
    assert summary["costs"]["cbm"]["occlusion"]["forwards"] == 65
    assert summary["sanity"]["cbm"]["gradcam"]["passed"]["cascade_top_down"] is False
    assert summary["sanity"]["cbm"]["gradcam"]["passed"]["input_shift"] is None
    assert summary["self_consistency"]["protopnet 2"]["interconcept_leakage"] is None
    text = "".join(page.texts)
    assert "Unit ablation, all explainers, cbm and cbm 2:" in text
    assert "needs units <named>" in text
    assert "captum is not installed" in text
    assert "inputs pass below 0.9, a shift above 0.99" in " ".join(text.split())


def test_every_chart_is_a_picture_of_its_own(folder):
    files = {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}
    kinds = ("deletion", "cascade", "own_unit_ablation", "verdict_part_spearman", "coherency")
    assert set(files) == {f"{family}_{kind}.png" for family in ("cbm", "protopnet") for kind in kinds} | {
        "cbm_agreement.png",
        "cbm_locality.png",
        "cbm_places.png",
    }
    assert all(content.startswith(b"\x89PNG") and len(content) > 5000 for content in files.values())


def test_charts_follow_the_colors_of_the_page(folder):
    html = (folder / "index.html").read_text(encoding="utf-8")
    charts = re.findall(r'<svg role="img".*?</svg>', html, flags=re.DOTALL)
    charts = [chart for chart in charts if "laid out by t-SNE" not in chart]  # in the colors of classes
    assert len(charts) == 8
    for chart in charts:
        assert "currentColor" in chart
        assert "var(--line)" in chart
        assert not re.search(r"(?:fill|stroke): #(?!f{6})", chart)


def test_sliders_begin_at_the_prediction(comparison, page):
    panels = [json.loads(text) for text in page.scripts if text.startswith('{"values"')]
    (rules,) = (json.loads(text) for text in page.scripts if text.startswith('{"classes"'))
    shown = {tuple(unit.value for unit in image.units["cbm"]) for image in comparison.shown}
    assert len(panels) == SHOWN
    for panel in panels:
        assert any(np.allclose(sorted(panel["values"]), sorted(values), atol=1e-5) for values in shown)
        logits = np.array(panel["reads"]) @ np.array(rules["weights"]) + rules["bias"]
        assert logits.argmax() == panel["explained"]
    assert rules["asked"] == ["value"] * 15
    assert "No sliders: layers &lt;follow&gt; the units." in page.html


def test_a_report_of_almost_nothing(tmp_path):
    tiny = Comparison(
        settings={},
        class_names=["a", "b"],
        part_names=[],
        models=[ModelInfo("own", "my_model", "run", 0, 0.5, "channel")],
        explainers=[ExplainerInfo("gradcam", "posthoc")],
        metrics=["deletion"],
        image_ids=["x"],
        labels=np.array([1]),
        scores={("own", "gradcam", "deletion"): np.array([0.5])},
    )
    html = Report(tiny).save(tmp_path).read_text(encoding="utf-8")
    page = Page(html)
    assert [attrs["id"] for tag, attrs in page.elements if tag == "section"] == [
        "answer",
        "verdict",
        "scores",
        "compared",
        "reading",
    ]
    assert "This model has no map of its own" in html
    assert "to the oracle (1)" not in html  # a switch to a scale that these images do not have
    assert json.loads((tmp_path / "summary.json").read_text())["verdicts"] == []
    assert (tmp_path / "scores.csv").read_text().splitlines()[1] == "x,b,own,my_model,0,gradcam,posthoc,deletion,0.5"


def test_the_places_of_a_chart_by_part_have_their_names():
    found = make_comparison(2, 0)
    name = found.models[0].name
    values = np.full((2, len(found.part_names) + 1), 0.2)
    found.curves = {(name, "lrp", "energy"): Curve(np.arange(values.shape[1]), values, "region", "share")}
    (chart,) = (one for one in family_charts(found, make_table(found, found.models[0].family)) if one.title == "Energy")
    assert all(part in chart.svg for part in (*found.part_names, "no part"))


def test_bands_of_probabilities_end_at_0_and_1():
    """Two trainings that differ have intervals as wide as that of Student's t with one degree of freedom."""
    found = make_comparison(4, 0)
    members = [model for model in found.models if model.family == found.models[0].family]
    found.curves = {
        (model.name, "lrp", "deletion"): Curve(np.arange(3), np.full((4, 3), share), "share", "probability")
        for model, share in zip(members, (0.2, 0.9), strict=False)
    }
    assert len(found.curves) == 2
    (chart,) = (one for one in family_charts(found, make_table(found, members[0].family)) if "Deletion" in one.title)
    low, high = chart.figure.axes[0].dataLim.intervaly
    assert 0 <= low < 0.2
    assert 0.9 < high <= 1


def test_the_templates_are_installed_with_the_package():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    package = ROOT / "ibd" / "comparison" / "report"
    files = [p.relative_to(package).as_posix() for p in (package / "templates").rglob("*") if p.is_file()]
    assert len(files) > 10
    for file in files:
        assert any(
            fnmatch(file, each) and file.count("/") == each.count("/") for each in patterns["ibd.comparison.report"]
        )


def test_figures_of_a_part_or_method_stand_beside_those_of_the_model():
    rows = dict(shortcut_rows(small_report().comparison))
    assert set(rows) == {"Accuracy absent", "Energy on tag: Grad-CAM"}
    assert rows["Energy on tag: Grad-CAM"] == ["0.41", "0.41"]


def test_lines_of_all_kinds_can_be_told_apart_in_the_legend():
    names = [
        ("intrinsic", "intrinsic"),
        ("lrp", "posthoc"),
        ("noise", "reference"),
        (ORACLE, "oracle"),
        (ORACLE_SUM, "oracle"),
    ]
    drawn = styles(names)
    looks = {name: (style.variable, style.dasharray) for name, style in drawn.items()}
    assert len(set(looks.values())) == len(names)
    assert looks["intrinsic"][1] == ""


def test_the_page_shows_where_the_images_lie(folder):
    """Of the family whose model has such a map; its thumbnails are in the page, which loads nothing."""
    section = (folder / "index.html").read_text(encoding="utf-8").split('id="places"')[1].split("</section>")[0]
    assert section.count('class="chart"') == 1
    assert section.count("data:image/png;base64,") == 1  # all in one
    assert f"{IMAGES} images by &#39;backbone&#39; of cbm, laid out by t-SNE" in section
    assert "of an image by the layer 80.0 % are its nearest on the map as well." in section
    assert "90.0 % are of its class. 0.0 % of the images are predicted wrongly." in section
    assert (folder / "figures" / "cbm_places.png").stat().st_size > 10_000
