"""The command of the full comparison: what it trains, takes up again, shares out, and writes."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import comparison
from benchmarks.comparison_settings import read_studies
from benchmarks.comparison_tables import accuracies, difference_table, findings, metric_table
from ibd.comparison.report.page import family_views
from ibd.errors import ConfigError
from tests.report_makers import make_comparison, small_report

FILE = Path(comparison.__file__).with_suffix(".yaml")
ROOT = FILE.parents[1]
SMALL = """
birds:
  configs: configs/toybirds/
  models: [baseline, cbm, protopnet]
  seeds: 2
  overrides: [model.backbone.depth=3, trainer.max_epochs=1]
  compare: {images: 4, data: {seed: 0, distractors: 1}}
  explainers: [gradcam, {name: smoothgrad, n: 2}]
  tables: [part_spearman, road]
"""


@pytest.fixture
def called(monkeypatch, tmp_path):
    """What was trained and compared, by functions that only write it down."""
    calls = SimpleNamespace(trained=[], compared=[], interrupted=False)

    def fit(config, *changes):
        name = Path(config).stem
        calls.trained.append((name, changes))
        folder = tmp_path / f"run {name} {dict(c.split('=', 1) for c in changes)['seed']}"
        return SimpleNamespace(folder=folder, interrupted=calls.interrupted)

    def compare(runs, **options):
        calls.compared.append((list(runs), options))
        return small_report()

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(comparison, "fit", fit)
    monkeypatch.setattr(comparison, "evaluate", lambda run: {"test/accuracy": 0.75})
    monkeypatch.setattr(comparison, "compare", compare)
    (tmp_path / "small.yaml").write_text(SMALL)
    return calls


def run(tmp_path, *words):
    comparison.run_studies([str(tmp_path / "small.yaml"), str(tmp_path / "out"), *words])


def test_it_trains_what_is_not_there_and_compares_all(called, tmp_path):
    run(tmp_path)
    assert [name for name, _ in called.trained] == ["baseline"] * 2 + ["cbm"] * 2 + ["protopnet"] * 2
    changes = dict(called.trained[5:])["protopnet"]
    assert f"model.backbone.init_from={tmp_path / 'run baseline 1'}" in changes
    assert {"seed=1", "model.backbone.depth=3", f"output={tmp_path / 'out/birds/runs'}"} <= set(changes)
    assert "trainer.max_epochs=1" not in changes  # its phases say how long
    assert "trainer.max_epochs=1" in dict(called.trained)["cbm"]
    ((runs, options),) = called.compared
    assert runs == [
        str(tmp_path / f"run {name} {seed}") for name in ("baseline", "cbm", "protopnet") for seed in (0, 1)
    ]
    assert options["overrides"] == ["data.seed=0", "data.distractors=1"]
    assert (options["images"], options["output"]) == (4, tmp_path / "out/birds/report")
    assert options["explainers"][1] == {"name": "smoothgrad", "n": 2}
    assert set(options) == {"images", "overrides", "explainers", "output"}
    text = (tmp_path / "out/birds/tables.md").read_text()
    assert text.startswith("## birds\n\n4 trainings, 12 images.")
    assert "| concept bottleneck | 2 | 75.0 ± 0.0 |" in text


def test_models_on_other_backbones_start_from_the_baseline_on_theirs(called, tmp_path):
    text = SMALL.replace("toybirds/", "folder/blood_cells_").replace("baseline, cbm, ", "bcos_baseline, bcos_")
    (tmp_path / "small.yaml").write_text(text)
    run(tmp_path)
    trained = ["blood_cells_bcos_baseline"] * 2 + ["blood_cells_bcos_protopnet"] * 2
    assert [name for name, _ in called.trained] == trained
    changes = called.trained[3][1]
    assert f"model.backbone.init_from={tmp_path / 'run blood_cells_bcos_baseline 1'}" in changes
    assert "trainer.max_epochs=1" not in changes


def test_a_model_without_the_baseline_that_it_starts_from_is_found_at_once(called, tmp_path):
    text = SMALL.replace("configs/toybirds/", f"{tmp_path}/").replace("[baseline, cbm, protopnet]", "[new_protopnet]")
    (tmp_path / "small.yaml").write_text(text)
    (tmp_path / "new_protopnet.yaml").touch()
    with pytest.raises(ConfigError, match=r"new_protopnet starts from '.*new_baseline\.yaml', which is not there"):
        run(tmp_path)


def test_what_is_done_is_taken_up(called, tmp_path):
    run(tmp_path)
    folder = tmp_path / "out/birds"
    (folder / "protopnet_1.json").unlink()  # as if it had been killed before the end of this training
    written = folder / "baseline_1.json"
    written.write_text(json.dumps({"run": "elsewhere", "wall_s": 1.0, "test/accuracy": 0.5}))
    called.trained.clear()
    run(tmp_path)
    ((name, changes),) = called.trained
    assert name == "protopnet"
    assert "model.backbone.init_from=elsewhere" in changes
    assert called.compared[1][0][1] == "elsewhere"
    assert not list(folder.glob("*.tmp"))


def test_a_training_that_was_interrupted_is_none(called, tmp_path):
    called.interrupted = True
    with pytest.raises(SystemExit, match="birds: baseline, seed 0: interrupted"):
        run(tmp_path)
    assert not list((tmp_path / "out" / "birds").glob("*.json"))
    called.interrupted = False
    run(tmp_path)
    assert len(called.trained) == 1 + 6


def test_parts_share_trainings_and_runs(called, tmp_path):
    run(tmp_path, "--part", "1/2")
    assert {dict(c.split("=", 1) for c in changes)["seed"] for _, changes in called.trained} == {"1"}
    # of its half, the runs of seed 0 are not there yet: left to the last call
    assert called.compared.pop()[0] == [str(tmp_path / f"run {name} 1") for name in ("baseline", "protopnet")]
    run(tmp_path, "--part", "0/2")
    run(tmp_path, "--part", "1/2")
    shares = [set(runs) for runs, _ in called.compared]
    assert [len(share) for share in shares] == [3, 3]
    assert len(called.trained) == 6
    assert not (tmp_path / "out/birds/tables.md").exists()
    run(tmp_path)
    assert set(called.compared[-1][0]) == shares[0] | shares[1]
    assert len({str(options) for _, options in called.compared}) == 1  # the same cells, in the same folder
    assert (tmp_path / "out/birds/tables.md").exists()
    with pytest.raises(SystemExit):
        run(tmp_path, "--part", "2/2")


def test_the_command_line_changes_the_file(called, tmp_path):
    run(tmp_path, "birds.seeds=1", "birds", "birds.models=[baseline]", "birds.root=here", "birds.compare.images=9")
    ((name, changes),) = called.trained
    assert (name, changes[0]) == ("baseline", "data.root=here")
    assert called.compared[0][1]["images"] == 9


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["bird"], r"'bird': there is no such data set in .*small.yaml'\. Did you mean 'birds'\?"),
        (["bird.seeds=1"], r"'bird.seeds=1': there is no data set 'bird' in .*Did you mean 'birds'\?"),
        (["birds.seed=1"], r"birds: Key 'seed' not in 'Study'.*Did you mean"),
        (["birds.seeds=few"], "birds: Value 'few'"),
        (["birds.seeds=0"], "birds.seeds: 0 given, at least 1 is needed"),
        (["birds.root=???"], r"birds.root is missing: give birds.root=FOLDER$"),
        (["birds.models=[bcm]"], "birds.models: there is no file 'configs/toybirds/bcm.yaml'"),
        (["birds.tables=[part_spaerman]"], r"birds.tables: unknown metric 'part_spaerman'\. Did you mean"),
        (["birds.explainers=[gradcma]"], r"unknown explainer 'gradcma'\. Did you mean"),
        (["birds.compare.image=1"], r"birds.compare: there is no option 'image'\. Did you mean 'images'\?"),
        (["birds=1"], r"birds: the options of a data set are needed"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(called, tmp_path, words, message):
    with pytest.raises(ConfigError, match=message) as caught:
        run(tmp_path, *words)
    assert "\n" not in str(caught.value)
    assert not called.trained


def test_the_file_of_the_project(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ConfigError, match=r"cifar10.root is missing: give cifar10.root=FOLDER; or name .* toybirds$"):
        read_studies(FILE, [])
    studies = read_studies(FILE, ["cifar10.root=a", "blood_cells.root=b"])
    assert [(name, len(each.models), each.seeds, each.root) for name, each in studies.items()] == [
        ("toybirds", 5, 5, None),
        ("cifar10", 2, 1, "a"),
        ("blood_cells", 4, 3, "b"),
    ]
    assert {len(set(each.explainers)) for each in studies.values()} == {10}
    assert studies["toybirds"].options["overrides"] == ["data.seed=0"]
    assert list(read_studies(FILE, ["toybirds"])) == ["toybirds"]


def test_a_table_holds_the_figures_of_the_report():
    report = small_report()
    tables = [view.table for view in report.views]
    lines = metric_table(tables, "part_spearman").splitlines()
    assert lines[0] == "**Part Spearman** (`part_spearman`, higher is better)"
    assert lines[2] == "| | concept bottleneck | prototype network |"
    cells = {line.split(" | ")[0][2:]: line[:-2].split(" | ")[1:] for line in lines[4:]}
    assert list(cells)[:3] == ["Own map", "Grad-CAM", "LRP"]
    assert list(cells)[-1] == "Oracle"
    assert "Constant" not in cells  # it is undefined there
    interval = report.summary()["families"]["cbm"]["scores"]["gradcam"]["part_spearman"]
    shown = cells["Grad-CAM"][0].replace("*", "").replace("−", "-").replace("[", "").replace("]", "").replace(",", "")  # noqa: RUF001
    assert [float(each) for each in shown.split()] == pytest.approx(
        [interval["mean"], interval["low"], interval["high"]], abs=0.006
    )
    assert not any("**" in row[0] for row in cells.values())  # of two trainings and 12 images none is told to be best
    assert metric_table(tables, "road").endswith(": not measured on this data.")


def test_the_best_of_one_training_is_bold():
    comparison = make_comparison(images=96, shown=0)
    comparison.models = comparison.models[:1]
    comparison.curves.clear()
    (view,) = family_views(comparison)
    rows = metric_table([view.table], "part_spearman").splitlines()[4:]
    assert [row.split(" | ")[0][2:] for row in rows if "**" in row] == ["Occlusion"]  # it is made so


def test_a_single_training_has_no_deviation():
    lines = accuracies({"cbm": [{"test/accuracy": 0.5, "wall_s": 90.0}]}).splitlines()
    assert lines[2] == "| concept bottleneck | 1 | 50.0 | 1.5 |"
    several = accuracies({"cbm": [{"test/accuracy": each, "wall_s": 60.0} for each in (0.5, 0.7)]})
    assert several.endswith("| concept bottleneck | 2 | 60.0 ± 14.1 | 1.0 |")  # by hand: 10 * sqrt(2)


def test_differences_are_of_the_own_map_and_paired():
    report = small_report()
    lines = difference_table(report, "deletion").splitlines()
    families = [view.table.family for view in report.views]
    assert lines[2].count("|") == len(families) + 2
    row = next(line for line in lines if line.startswith("| Grad-CAM |"))
    values = report.comparison.scores
    for family, cell in zip(families, row.split(" | ")[1:], strict=True):
        models = [model.name for model in report.comparison.models if model.family == family]
        gaps = [values[name, "intrinsic", "deletion"] - values[name, "gradcam", "deletion"] for name in models]
        assert float(cell.split()[0].replace("\u2212", "-")) == pytest.approx(float(np.mean(gaps)), abs=0.006)
    assert difference_table(report, "csdc").endswith("not measured on this data.")


def test_the_verdicts_stand_below_the_tables():
    report = small_report()
    text = findings(report, ["deletion"], {})
    assert all(verdict.headline in text for view in report.views for verdict in view.views)


@pytest.mark.slow
def test_birds_from_nothing_to_tables(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    few = ["data.preset=tiny", "data.train_size=64", "data.val_size=24", "data.test_size=24", "trainer.max_epochs=1"]
    text = SMALL.replace("[model.backbone.depth=3, trainer.max_epochs=1]", f"[{', '.join(few)}]")
    text = text.replace("protopnet", "concept_whitening").replace("distractors: 1", "batch_size: 8")
    (tmp_path / "small.yaml").write_text(text)
    words = ["birds.compare.metrics=[part_spearman]", "birds.compare.progress=false"]
    for part in (["--part", "0/2"], ["--part", "1/2"], []):
        run(tmp_path, *words, *part)
    folder = tmp_path / "out/birds"
    assert len(list(folder.glob("*_[01].json"))) == 6
    assert "| Grad-CAM | " in (folder / "tables.md").read_text()
    assert len(json.loads((folder / "report/summary.json").read_text())["models"]) == 6
