"""Model cards: numbers of a run written by hand, what is stale, what is missing, and what a person has written."""

import re

import pytest
import torch

from ibd.app.card import eu, layout
from ibd.app.card.pieces import number
from ibd.app.card.rendering import code, plain
from ibd.models.thresholds import CONFIDENCE
from tests.card_makers import (
    EVIL,
    add_calibration,
    add_curve,
    add_teaching,
    add_test,
    digest_of,
    interval,
    make_card_run,
    make_report,
    write_json,
)
from tests.command import ibd


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "insects" / "2026-11-30_01-00-00"
    make_card_run(folder)
    return folder


def card_of(run, *words):
    answer = ibd("card", run, *words)
    assert answer.code == 0, answer.err
    return (run / "card.md").read_text(encoding="utf-8"), (run / "card.html").read_text(encoding="utf-8"), answer.out


def section(text, title):
    """Return what stands below a heading of the Markdown."""
    return re.split(r"^#+ ", text.split(f" {title}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]


def test_a_card_has_the_numbers_of_its_files(run):
    digest = digest_of(run)
    add_test(run)
    text, page, said = card_of(run)
    details = section(text, "Model Details")
    assert "| name | insects |" in details
    assert "| family | concept bottleneck (cbm) |" in details
    assert f"| SHA-256 | {digest} |" in details
    assert "| epoch | 5 |" in details
    assert "| numbers in its weights and statistics | 8 |" in details  # a 2 x 3 matrix and 2 biases
    assert "12.500 | cpu (x86\\_64)" in section(text, "Training")
    assert "| training images | 48 |" in section(text, "Training Data")
    assert "| ant | 31 | 11 |" in section(text, "Training Data")
    accuracy = section(text, "All images")
    assert "| accuracy, test images | 0.800 \\[0.652, 0.895\\] |" in accuracy
    assert "<sub>from `tested/test/summary.json`</sub>" in accuracy
    assert "| ant | 25 | 0.880 \\[0.680, 0.980\\] |" in section(text, "Unitary results: by class")
    assert "<sub>from `tested/test/classes.csv`</sub>" in section(text, "Unitary results: by class")
    assert "| leg::six | 21 | 19 | 0.950 \\[0.830, 0.990\\] | 0.525 | 1.000 |" in section(
        text, "Concepts: how well each is predicted"
    )
    assert "p = 0.0042" in section(text, "Unitary results: by group")
    assert "p = 0.5000" in section(text, "Intersectional results")
    assert "| accuracy without the named units, test images | 0.812 |" in section(text, "What by-passes the concepts")
    assert "0.123 |" in section(text, "Calibration")
    assert "the worst is" in section(text, "Caveats and Recommendations")
    assert "still 0.812 (chance 0.625)" in section(text, "Caveats and Recommendations")  # 25 of 40 images are ants
    for shown in ("0.800 [0.652, 0.895]", "0.880 [0.680, 0.980]", digest):
        assert shown in page
    assert "written:" in said


def test_what_is_not_quite_perfect_is_not_called_so():
    said = [number(value) for value in (1, 1.0, 0.99953, "0.9999", 0.9994, 0.0, 0.00049, -0.9999, 12.0)]
    assert said == ["1", "1.000", "0.999", "0.999", "0.999", "0.000", "4.9e-04", "-1.000", "12.000"]


def test_names_are_texts(run):
    """A class that is HTML, in a table, a caption and a sentence."""
    add_test(run)
    text, page, _ = card_of(run)
    assert "<img src=" not in page
    assert EVIL.split('"', maxsplit=1)[0] not in page
    assert "&lt;img src=&#34;http://stranger.example/x.png&#34; onerror=" in page
    assert "<img" not in text.replace("\\<", "")
    assert plain("a|b <i>\n*c*") == r"a\|b \<i\> \*c\*"
    assert code("a `b` c") == "`` a `b` c ``"


def test_what_was_not_measured_is_said_with_its_command(run):
    text, page, said = card_of(run)
    missing = re.findall(r"\*Not measured:\* .*", text)
    assert f"`ibd test {run}` measures it." in section(text, "All images")
    assert any(f"`ibd curve {run}` measures it." in line for line in missing)
    assert any(f"`ibd compare {run} --out REPORT; ibd card {run} --compare REPORT`" in line for line in missing)
    assert any("`ibd repeat CONFIG --seeds 5` measures it." in line for line in missing)
    assert f"not measured: {len(missing)}; left for a person to write: " in said
    assert page.count("Not measured:</strong>") == len(missing)
    figures = section(text, "Quantitative Analyses")
    assert "0." not in figures


def test_a_run_whose_name_has_a_blank(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_card_run(tmp_path / "my ants" / "1")
    answer = ibd("card", "my ants/1")
    assert answer.code == 0, answer.err
    assert "`ibd test 'my ants/1'` measures it." in (tmp_path / "my ants" / "1" / "card.md").read_text()


def test_stale_figures_are_not_used(run):
    """A test, a curve and a session of other weights, and a report of another checkpoint."""
    add_test(run, digest="0" * 64)
    add_curve(run, weights=1)
    add_teaching(run, weights=1)
    make_report(run.parent / "report", run, digest="e" * 64)
    text, page, said = card_of(run, "--compare", run.parent / "report")
    for hidden in ("0.652", "0.975", "0.198", "0.515"):
        assert hidden not in text
        assert hidden not in page
    assert said.count("stale, not used: ") == text.count("*Stale, not used:*") >= 9
    assert "of another checkpoint (its SHA-256 begins with 00000000" in section(text, "All images")
    assert f"`ibd curve {run}` measures it anew." in section(text, "Interventions tried")


def test_a_curve_and_a_session(run):
    weights = make_card_run(run.parent / "same")  # the same weights
    add_curve(run, weights)
    add_teaching(run, weights)
    text, _, _ = card_of(run)
    curve = section(text, "Interventions tried")
    assert "| groups corrected | 0 | 1 |" in curve
    assert "| random | 0.800 | 0.975 |" in curve
    assert "noise=0.1" in curve
    taught = section(text, "Corrections by a person")
    assert "| images corrected | 2 |" in taught  # the third is not finished
    assert "| accuracy before | 0.000 \\[0.000, 0.658\\] |" in taught
    assert "| accuracy after | 0.500 \\[0.095, 0.905\\] |" in taught


@pytest.mark.parametrize(("truth", "corrected"), [(True, True), (None, False)], ids=["labelled", "found"])
def test_a_bottleneck_made_afterwards_is_corrected_where_its_concepts_are_labelled(run, truth, corrected):
    path = run / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    content["ibd_model"] = "posthoc_cbm"
    content["hyper_parameters"]["units"] = {"names": ["leg::six"], "truth": truth}
    torch.save(content, path)
    text = card_of(run)[0]
    for title, command in (("Interventions tried", "ibd curve"), ("Corrections by a person", "ibd serve")):
        said = section(text, title)
        assert (f"`{command} {run}`" in said) == corrected
        assert ("no labelled concepts to correct" in said) != corrected


def test_a_calibration_and_thresholds(run):
    weights = make_card_run(run.parent / "same")
    assert f"Probabilities were not calibrated. `ibd calibrate {run}` measures it." in card_of(run)[0]
    add_test(run)
    add_calibration(run, weights)
    text = card_of(run)[0]
    said, set_by = section(text, "Calibration"), section(text, "Decision thresholds")
    assert "*Stale, not used:* The test of test images" in said  # its probabilities were others
    assert "| scale of classes | temperature, on 20 images |" in said
    assert "| abstains | below 0.625, for an accuracy of 0.95: 15 of 16 answers right, on 20 images |" in said
    assert "| leg::six | 0.710 | 0.875 \\[0.529, 0.978\\] | 7 of 8 |" in set_by
    add_calibration(run, weights, of_thresholds=5)
    set_by = section(card_of(run)[0], "Decision thresholds")
    assert "0.710" not in set_by  # they are of probabilities that are no longer said
    assert "(`thresholds.json`) is of probabilities before the last calibration" in set_by
    add_calibration(run, weights=1)
    text = card_of(run)[0]
    assert "temperature" not in section(text, "Calibration")
    assert "0.710" not in section(text, "Decision thresholds")
    assert "*Stale, not used:* Thresholds (`thresholds.json`)" in text


def test_figures_of_a_calibrated_model_say_of_which_probabilities_they_are(run):
    """A test gives some of the classes and concepts as trained; calibrated by a vector, the classes may be others."""
    metrics = {"accuracy": {"value": 0.775}, "concept_accuracy": {"value": 0.9125}, "ece": {"value": 0.31}}
    add_test(run, calibrated=True, metrics=metrics | {"ece_calibrated": {"value": 0.1234}})
    text = card_of(run)[0]
    figures = section(text, "All images")
    assert "| accuracy, test images | 0.800" in figures
    assert "| mean accuracy of concepts before calibration, test images | 0.912 |" in figures
    assert "| calibration error before calibration, test images | 0.310 |" in figures
    assert "| calibration error after calibration, test images | 0.123 |" in figures
    assert "| calibration error after calibration | 0.123 |" in section(text, "In short")
    bypass = section(text, "What by-passes the concepts")
    assert "| accuracy, test images | 0.775 (before calibration) |" in bypass  # like the one below it
    assert "| accuracy without the named units, test images | 0.812 |" in bypass


def test_a_test_of_changed_images_is_not_taken_for_one_of_the_data(run):
    add_test(run, changes=["data.tag_test=absent", "data.seed=3"])
    text = card_of(run)[0]
    changed = "changed by data.tag\\_test=absent, data.seed=3"
    assert f"| accuracy, 40 test images {changed} | 0.800" in section(text, "In short")
    assert f"is of images {changed}, not of those of the config." in section(text, "Caveats and Recommendations")
    said = "These test images are changed ones, by data.tag\\_test=absent, data.seed=3."
    for title in ("All images", "Unitary results: by class", "Unitary results: by group", "Calibration"):
        assert said in section(text, title)
    add_test(run)
    assert "data.tag" not in card_of(run)[0]


def test_how_many_images_are_answered_is_of_the_threshold_that_is_set(run):
    weights = make_card_run(run.parent / "same")
    row = "| images on which it abstains | 3 |"
    add_test(run, abstains=3)  # by its calibration
    assert row in card_of(run)[0]
    add_test(run, abstains=3, confidence=0.8)  # by a threshold that is none any more
    assert row not in card_of(run)[0]
    confidence = {"value": 0.8, "images": 20, "true": 9, "called": 8, "right": 7, "wanted": None}
    own = {"split": "val", "weights": weights, "calibration": 0, "confidence": confidence, "concepts": {}}
    write_json(run / "thresholds.json", {"best.ckpt": own})
    assert row in card_of(run)[0]
    write_json(run / "thresholds.json", {"best.ckpt": own | {"confidence": {**confidence, "value": 0.9}}})
    assert row not in card_of(run)[0]


def test_thresholds_on_test_images_are_of_those_that_are_set(run):
    weights = make_card_run(run.parent / "same")
    threshold = {"value": 0.71, "images": 20, "true": 9, "called": 8, "right": 7, "wanted": 0.85}
    concepts = {"leg::six": threshold, "eye": {**threshold, "value": 0.5}}
    own = {"split": "val", "weights": weights, "calibration": 0, "confidence": threshold, "concepts": concepts}
    write_json(run / "thresholds.json", {"best.ckpt": own})
    tested = {
        "wanted": 0.85,
        "called_true": 10,
        "precision": interval(0.7, 0.4, 0.89),
        "recall": interval(0.5, 0.2, 0.8),
    }
    here = [
        {"of": name, "from": value, **tested}
        for name, value in ((CONFIDENCE, 0.71), ("leg::six", 0.71), ("eye", 0.4))  # the last was set again since
    ]
    add_test(run)
    missing = f"What these thresholds come to on other images was not measured. `ibd test {run}` measures it."
    assert missing in section(card_of(run)[0], "Decision thresholds")
    add_test(run, thresholds=here)
    set_by = section(card_of(run)[0], "Decision thresholds")
    assert missing not in set_by
    tail = "| 0.700 \\[0.400, 0.890\\] | 0.500 \\[0.200, 0.800\\] | 10 |"
    assert f"| an answer {tail}" in set_by
    assert f"| leg::six {tail}" in set_by
    assert f"| eye {tail}" not in set_by


def test_a_report(run):
    make_report(run.parent / "report", run, digest_of(run))
    text, _, _ = card_of(run, "--compare", run.parent / "report")
    account = section(text, "What its own account is worth")
    assert "| Own map | 0.198 \\[0.065, 0.330\\] |" in account
    assert "Its own map ranks parts less well than LRP." in account
    assert "Of another model." not in text
    assert "of another model" not in text
    failing = section(text, "Where explanations fail")
    assert "failed (0.340) | passed (-0.030) |" in failing
    meaning = section(text, "Whether its units mean what they say")
    assert "| leakage gap | 0.013 | Accuracy lost when concepts are rounded." in meaning
    assert "| units | 26 |" in meaning
    assert "locality" not in meaning
    assert "the best post-hoc explainer, LRP: Part Spearman | 0.618" in section(text, "In short")


def test_a_report_of_other_runs(run):
    make_report(run.parent / "report", "elsewhere/cbm/2")
    message = ibd("card", run, "--compare", run.parent / "report").mistake
    assert "it compares elsewhere/cbm/2, elsewhere/baseline/1" in message
    assert "there is no report in 'nowhere'" in ibd("card", run, "--compare", "nowhere").mistake
    write_json(run.parent / "report" / "summary.json", {"models": 3})
    assert "is no summary of ibd compare" in ibd("card", run, "--compare", run.parent / "report").mistake


def test_a_repetition(run):
    figure = {"mean": 0.8125, "sd": 0.0125, "low": 0.7814, "high": 0.8436, "n": 3, "values": {}}
    plain = {"runs": {run.name: str(run), "b": "b", "c": "c"}, "holds": "3 trainings tested on the same 40 images"}
    repeat = run.parent / "repeat.json"
    write_json(repeat, plain | {"checkpoints": {run.name: digest_of(run)}, "figures": {"test/accuracy": figure}})
    text, _, _ = card_of(run)
    assert "| test/accuracy | 0.812 | 0.013 | \\[0.781, 0.844\\] |" in section(text, "Variation over trainings")
    assert "All figures are of one training" not in text
    write_json(repeat, plain | {"checkpoints": {run.name: "0" * 64}, "figures": {"test/accuracy": figure}})
    assert "0.781" not in card_of(run)[0]


def test_what_a_person_has_written_stays(run):
    text, _, said = card_of(run)
    assert "card.yaml (new)" in said
    assert text.count("*To be filled in by a person:*") == len(layout.PROMPTS)
    file = run / "card.yaml"
    own = file.read_text().replace("primary_uses:\n", "primary_uses: |\n  Sorting <b>ants</b>.\n\n  Not wasps.\n")
    file.write_text("# mine\n" + own)
    text, page, _ = card_of(run)
    assert file.read_text() == "# mine\n" + own
    assert "Sorting <b>ants</b>.\n\nNot wasps." in section(text, "Intended Use")
    assert "Sorting &lt;b&gt;ants&lt;/b&gt;." in page
    assert text.count("*To be filled in by a person:*") == len(layout.PROMPTS) - 1
    text, _, _ = card_of(run, "--eu")  # adds what it asks for at the end
    assert file.read_text().startswith("# mine\n" + own.rstrip("\n"))
    assert "\niv_5:\n" in file.read_text()
    assert "Sorting <b>ants</b>." in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("primary_use: x\n", "there is no text 'primary_use' in a card. Did you mean one of: 'primary_uses'"),
        ("license: [a, b]\n", "license: a text is needed, not a list"),
        ("license: {\n", "card.yaml"),
    ],
)
def test_a_wrong_text(run, content, message):
    (run / "card.yaml").write_text(content)
    assert message in ibd("card", run).mistake
    assert not (run / "card.md").exists()


def test_damaged_files(run):
    assert "no run 'nowhere'" in ibd("card", "nowhere").mistake
    path = run / "tested" / "test" / "summary.json"
    write_json(path, {})
    path.write_text("{")
    assert "summary.json' cannot be read (JSONDecodeError); delete it, or write it anew" in ibd("card", run).mistake


def test_the_act(run):
    """Each point of Annex IV and of Article 13(3) has a heading; what it links to is there."""
    add_test(run)
    text, page, _ = card_of(run, "--eu")
    points = [heading.point for heading in eu.ANNEX_IV]
    assert points == [
        *(f"1({letter})" for letter in "abcdefgh"), *(f"2({letter})" for letter in "abcdefgh"), *"3456789"
    ]  # fmt: skip
    of_b = [f"(b)({number})" for number in ("i", "ii", "iii", "iv", "v", "vi", "vii")]
    assert [heading.point for heading in eu.ARTICLE_13] == ["(a)", *of_b, "(c)", "(d)", "(e)", "(f)"]
    assert "*To be filled in by a person:* Article 13(3)(b)(ii): level of accuracy" in text
    assert "*To be filled in by a person:* Annex IV 2(g): validation and testing" in text
    for key in re.findall(r"\]\(#([^)]+)\)", text):
        assert f'<a id="{key}"></a>' in text
        assert f'id="{key}"' in page
    for heading in (*eu.ANNEX_IV, *eu.ARTICLE_13):
        assert f"(`card.yaml`: `{heading.key}`)" in text
    assert "no legal advice" in text


def test_another_folder(run, tmp_path):
    assert ibd("card", run, "-o", "documents/model").code == 0
    assert (tmp_path / "documents" / "model" / "card.html").exists()
    assert not (run / "card.md").exists()
    assert (run / "card.yaml").exists()
    (tmp_path / "file").write_text("")
    assert "'file' is not a folder" in ibd("card", run, "-o", "file").mistake
