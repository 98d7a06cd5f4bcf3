"""`ibd compare` through the command line and from Python: real small models, killed and started again."""

import csv
import json
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

import ibd as package
from ibd.comparison.groups import GROUPS
from ibd.types import Painting
from tests.command import QUIET, ROOT, SMALL, TINY, fitted, ibd
from tests.data_makers import make_concept_folder

SMALL_ASKED = {
    "images": 8,
    "probe_images": 2,
    "shown": 3,
    "progress": False,
    "overrides": ["data.test_size=33"],
}
EXPLAINERS = ["intrinsic", "gradcam", {"name": "gradient_input", "label": "gxi"}]


@pytest.fixture(scope="module")
def report(trained, baseline):
    """Of a concept bottleneck and a plain network, by most of what is measured by default."""
    asked = [group for group in GROUPS if group not in ("road", "robustness", "dissection", "bim")]
    return package.compare([trained, baseline], EXPLAINERS, asked, **SMALL_ASKED)


def means(report, metric):
    return {
        (model, method): np.nanmean(values)
        for (model, method, name), values in report.comparison.scores.items()
        if name == metric
    }


@pytest.mark.slow
def test_what_is_written(report, tmp_path):
    made, folder = report, tmp_path / "report"
    made.save(folder)
    assert (folder / "index.html").stat().st_size > 100_000
    assert list((folder / "figures").glob("*.png"))
    summary = json.loads((folder / "summary.json").read_text())
    assert list(summary["families"]) == ["cbm", "baseline"]
    with (folder / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["model"] for row in rows} == {"cbm", "baseline"}
    assert {row["explainer"] for row in rows} >= {"intrinsic", "gradcam", "gxi", "noise", "oracle", "other_image"}
    assert made.comparison.costs["cbm", "gradcam"].forwards == 1
    assert [model.images for model in made.comparison.models] == [33, 33]  # of which the accuracy is
    assert {each["outcome"] for each in summary["verdicts"]} == {"unknown"}  # from 8 images
    for family in summary["families"].values():
        assert set(family["paintings"]) == set(get_args(Painting))
        own = family["scores"]["intrinsic"]["part_spearman"]["mean"]
        assert family["paintings"]["pooling"]["part_spearman"]["mean"] == pytest.approx(own)


def test_the_oracle_knows_the_parts_and_nulls_do_not(report):
    made = report
    spearman, sign, mass = (means(made, name) for name in ("part_spearman", "part_sign", "mass_accuracy"))
    for model in ("cbm", "baseline"):
        assert spearman[model, "oracle"] == pytest.approx(1)
        for name in ("part_spearman_mean", "part_spearman_sum", "object_spearman", "cell_spearman"):
            assert means(made, name)[model, "oracle"] == pytest.approx(1), name
            assert means(made, name)[model, "noise"] < 0.6, name
        assert means(made, "part_spearman_sum")[model, "oracle_sum"] > 0.99
        assert spearman[model, "oracle_sum"] > 0.5
        assert sign[model, "oracle"] == 1
        assert spearman[model, "constant"] == 0
        share = np.mean([each.masks.any(0).mean() for each in made.comparison.shown])
        assert mass[model, "noise"] == pytest.approx(share, abs=0.1)
    assert ("cbm", "intrinsic_units") in spearman
    assert ("baseline", "intrinsic_units") not in spearman
    assert any(each.explainer == "intrinsic_units" for each in made.comparison.skipped if each.model == "baseline")


def test_the_oracle_is_first_wherever_maps_are_looked_for(report):
    """And boxes are not hit by what knows nothing; every explainer has a verdict on both cascades."""
    made = report
    for metric in GROUPS["localization"].names[:-1]:
        found = means(made, metric)
        for model in ("cbm", "baseline"):
            others = [value for (name, row), value in found.items() if name == model and row != "oracle"]
            assert len(others) > 5
            assert found[model, "oracle"] > max(others) - 1e-9, metric
            if metric == "box_accuracy":
                assert max(found[model, row] for row in ("noise", "constant", "center", "edges")) < 0.3
    for checks in made.comparison.sanity.values():
        assert None not in (checks.passed["cascade_top_down"], checks.passed["cascade_bottom_up"])


def test_own_units_and_self_consistency(report):
    made = report
    assert means(made, "unit_completeness")["cbm", "intrinsic"] < 1e-4
    assert {name for name, about in made.comparison.shown_models.items() if about.sliders} == {"cbm", "baseline"}
    figures = made.comparison.self_consistency["cbm"].figures
    assert 0 < figures["locality"] <= 1
    assert made.comparison.self_consistency["cbm"].matrix.shape == (5, 5)
    checks = made.comparison.sanity["cbm", "edges"]
    assert checks.passed["cascade_top_down"] is False
    assert checks.passed["other_target"] is False


def test_agreement_is_that_of_the_maps(report):
    made = report
    names = made.comparison.agreement_names["baseline"]
    matrix = made.comparison.agreement["baseline", "agreement_spearman"]
    assert names[0] == "intrinsic"
    np.testing.assert_allclose(matrix, matrix.T)
    np.testing.assert_allclose(
        matrix[0, names.index("gradcam")], means(made, "agreement_spearman")["baseline", "gradcam"]
    )


@pytest.mark.slow
def test_killed_and_started_again(report, trained, baseline, tmp_path, monkeypatch):
    """Finished pieces are found, the others computed, and the end is the same as without the interruption."""
    computed = []
    asked = {**SMALL_ASKED, "metrics": ["properties", "localization", "units"]}
    whole = package.compare([trained, baseline], EXPLAINERS, output=tmp_path / "whole", **asked)
    count = GROUPS["properties"].measure

    def killed(case):
        if len(computed) == 3:
            raise KeyboardInterrupt
        computed.append(case.method.name)
        return count(case)

    monkeypatch.setitem(GROUPS, "properties", replace(GROUPS["properties"], measure=killed))
    with pytest.raises(KeyboardInterrupt):
        package.compare([trained, baseline], EXPLAINERS, output=tmp_path / "killed", **asked)
    assert not list((tmp_path / "killed" / "cache").glob("*.tmp"))
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "killed" / "cache").iterdir()}
    assert len(before) > 6
    found = []
    again = replace(GROUPS["properties"], measure=lambda case: (found.append(case.method.name), count(case))[1])
    monkeypatch.setitem(GROUPS, "properties", again)
    again = package.compare([trained, baseline], EXPLAINERS, output=tmp_path / "killed", **asked)
    assert len(found) == len(again.comparison.explainers) * 2 - 2 - 3  # one has no map, of two models; three were there
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "killed" / "cache").iterdir()}
    assert before.items() <= after.items()
    assert whole.comparison.scores.keys() == again.comparison.scores.keys()
    for key, values in whole.comparison.scores.items():
        np.testing.assert_array_equal(values, again.comparison.scores[key])
    read = [(tmp_path / name / "scores.csv").read_text() for name in ("whole", "killed")]
    assert read[0] == read[1]


@pytest.mark.slow
def test_one_model_does_not_depend_on_the_others(report, baseline):
    made = report
    alone = package.compare([baseline], ["gradcam"], ["localization", "pixels"], **SMALL_ASKED)
    for (model, method, metric), values in alone.comparison.scores.items():
        if method in ("gradcam", "noise", "oracle"):
            np.testing.assert_allclose(values, made.comparison.scores[model, method, metric], atol=1e-6)


@pytest.mark.slow
def test_data_without_masks_and_scenes(tmp_path):
    make_concept_folder(tmp_path / "data", train=8, val=2, test=4)
    options = [f"data.root={tmp_path / 'data'}", *QUIET, f"output={tmp_path / 'runs'}", "trainer.max_epochs=1"]
    small = [
        "data.image_size=32",
        "model.backbone.name=small_cnn",
        "model.backbone.weights=null",
        "logger.figures_every=0",
    ]
    answer = ibd("fit", ROOT / "configs/folder/cbm.yaml", *options, *small)
    assert answer.code == 0, answer.err
    asked = [
        "explainers=intrinsic,gradcam",
        "images=2",
        "probe_images=1",
        "progress=false",
        "--out",
        tmp_path / "report",
    ]
    found = ibd("compare", answer.run, *asked)
    assert found.code == 0, found.err
    assert f"report:  {tmp_path / 'report' / 'index.html'}" in found.out
    page = (tmp_path / "report" / "index.html").read_text()
    assert "the data has no masks of parts" in page
    assert "deletion" in json.dumps(json.loads((tmp_path / "report" / "summary.json").read_text()))
    refused = ibd("compare", answer.run, "metrics=localization", *asked)
    assert "'mass_accuracy' cannot be measured: the data has no masks of parts" in refused.mistake


def test_a_shortcut_has_a_page_of_its_own(baseline, tmp_path):
    """The same network, asked about birds with tags."""
    tags = ["data.tag=patch", "data.test_size=33"]
    asked = ["explainers=intrinsic", "metrics=properties", "images=4", "progress=false", "--out", tmp_path / "r"]
    answer = ibd("compare", baseline, *tags, *asked)
    assert answer.code == 0, answer.err
    found = json.loads((tmp_path / "r" / "summary.json").read_text())
    assert {"accuracy_aligned", "accuracy_absent"} <= set(found["shortcut"]["baseline"])
    assert {"intrinsic", "noise"} <= set(found["shortcut_breakdown"]["baseline"]["energy_on_tag"])
    assert "hortcut" in (tmp_path / "r" / "index.html").read_text()


@pytest.mark.slow
def test_options_from_a_file(trained, tmp_path):
    file = tmp_path / "compare.yaml"
    file.write_text(
        f"runs: ['{trained}']\nexplainers: [{{name: gradcam, label: late}}]\nmetrics: [properties]\n"
        f"images: 4\nprogress: false\noutput: {tmp_path / 'there'}\nlogger: {{mode: offline}}\n"
    )
    answer = ibd("compare", f"config={file}", "images=3")
    assert answer.code == 0, answer.err
    assert "W&B: " in answer.out
    with (tmp_path / "there" / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert "late" in {row["explainer"] for row in rows}
    assert len({row["image"] for row in rows}) == 3


MISTAKES = {
    "no runs": (["images=4"], "compare: at least one run is needed"),
    "no such run": (["RUN", "nowhere"], "no run 'nowhere'"),
    "twice": (["RUN", "RUN"], "is given twice"),
    "option": (["RUN", "explainer=gradcam"], "Key 'explainer' not in 'CompareCommand'. Did you mean: 'explainers'"),
    "explainer": (["RUN", "explainers=gradcm"], "unknown explainer 'gradcm'. Did you mean"),
    "no explainer": (["RUN", "explainers=[]"], "explainers: at least one is needed"),
    "explainer twice": (["RUN", "explainers=lrp,lrp"], "'lrp' is given twice; give one of them another `label`"),
    "null's name": (["RUN", "explainers=[{name: lrp, label: noise}]"], "'noise' is the name of a row"),
    "explainer's option": (["RUN", "explainers=[{name: lrp, epsilom: 1}]"], "explainers: lrp: "),
    "metric": (["RUN", "metrics=delition"], "unknown metric 'delition'. Did you mean"),
    "images": (["RUN", "images=0"], "compare: images: 0 given, at least 1 is needed"),
    "not a number": (["RUN", "images=some"], "images: Value 'some' of type 'str' could not be converted to Integer"),
    "logger": (["RUN", "logger.mod=offline"], "logger.mod: Key 'mod' not in 'LoggerSettings'. Did you mean: 'mode'"),
    "device": (["RUN", "device=gpu"], "compare: device: 'gpu' cannot be used: "),
    "seed": (["RUN", "seed=-1"], "compare: seed: -1 given, at least 0 is needed"),
    "progress": (["RUN", "progress=maybe"], "progress: Invalid value 'maybe', expected one of"),
    "metric twice": (["RUN", "metrics=parts,parts"], "metrics: 'parts' is given twice"),
    "split": (["RUN", "split=tset"], "split: 'tset' is not one of train, val, test"),
    "other data": (["RUN", "OTHER"], "runs on different data cannot be compared: "),
    "file": (["config=nowhere.yaml"], "no config file 'nowhere.yaml'"),
    "output": (["RUN", "output=/dev/null/x"], "compare: cannot write to '/dev/null/x"),
}


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """A run on images that are drawn by another seed."""
    folder = tmp_path_factory.mktemp("other")
    return fitted(TINY, *SMALL, f"output={folder}", "trainer.max_epochs=1", "seed=3")


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(arguments, message, trained, other):
    given = [{"RUN": trained, "OTHER": other}.get(each, each) for each in arguments]
    assert message in ibd("compare", *given).mistake


@pytest.mark.parametrize("case", ["explainer", "explainer's option", "metric"])
def test_what_is_misspelt_is_found_before_a_model_is_read(case, trained, monkeypatch):
    """Of many runs the reading takes minutes."""
    monkeypatch.setattr("ibd.comparison.models.load_run", None)
    arguments, message = MISTAKES[case]
    assert message in ibd("compare", trained, *arguments[1:]).mistake


def test_runs_of_other_data_are_found_before_a_model_is_read(trained, other, monkeypatch):
    """As `ibd compare runs/toybirds-*/*` does; all were read first, and no option was named."""
    monkeypatch.setattr("ibd.comparison.models.load_run", None)
    said = ibd("compare", trained, other, "images=3").mistake
    assert f"'{trained}'; '{other}'. They have 60 or 33 test images: " in said
    assert "data.train_size is " in said
    assert said.endswith("or give all of them the same images by a change to the data, such as data.seed=0")


@pytest.mark.slow
def test_what_a_killed_comparison_left_is_cleared_away(baseline, tmp_path):
    """Of a process that is no more, amid a piece; and a file of options that is none is a line."""
    cells = tmp_path / "report" / "cache"
    cells.mkdir(parents=True)
    (cells / "piece.4194999.tmp").write_bytes(b"half a piece")
    asked = ["explainers=saliency", "metrics=properties", "data.test_size=6", "images=2", "progress=false"]
    answer = ibd("compare", baseline, *asked, "--out", tmp_path / "report")
    assert answer.code == 0, answer.err
    assert not list(cells.glob("*.tmp"))
    (tmp_path / "options.yaml").write_bytes(bytes(range(128, 256)))
    assert "options.yaml: not UTF-8 text" in ibd("compare", baseline, f"config={tmp_path / 'options.yaml'}").mistake


def test_more_images_than_there_are(baseline, tmp_path):
    asked = ["explainers=saliency", "metrics=properties", "data.test_size=6", "progress=false", "--out", tmp_path / "r"]
    answer = ibd("compare", baseline, "images=1000000000", *asked)
    assert answer.code == 0, answer.err
    assert "images:  1000000000 asked for, the test split has 6" in answer.out.splitlines()


@pytest.mark.slow
def test_the_same_images_for_runs_of_several_seeds(trained, other, tmp_path):
    asked = ["explainers=intrinsic", "metrics=parts", "images=3", "progress=false", "--out", tmp_path / "r"]
    answer = ibd("compare", trained, other, "data.seed=5", "data.test_size=33", *asked)
    assert answer.code == 0, answer.err
    summary = (tmp_path / "r" / "summary.json").read_text()
    assert "cbm seed 0" in summary
    assert "cbm seed 3" in summary
