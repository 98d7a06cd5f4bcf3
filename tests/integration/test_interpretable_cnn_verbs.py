"""An interpretable CNN through the command line: trained, asked, edited, measured as filters of parts, compared."""

import csv
import re

import pytest

from ibd.io import load_model, load_run
from tests.command import QUIET, fitted, ibd
from tests.integration.test_verbs import is_picture

CONFIG = """
name: filters
model: {name: interpretable_cnn, filters: 6, filter_weight: 0.01, backbone: {name: small_cnn, width: 4, depth: 3}}
data: {name: toybirds, preset: tiny, train_size: 96, val_size: 33, test_size: 33, batch_size: 32}
trainer: {max_epochs: 1}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An interpretable CNN that has learnt next to nothing."""
    config = tmp_path_factory.mktemp("config") / "filters.yaml"
    config.write_text(CONFIG)
    return fitted(config, *QUIET, "logger.figures_every=0", f"output={tmp_path_factory.mktemp('runs')}")


def test_filters(run, tmp_path):
    answer = ibd("filters", run, "data.test_size=40", "--top", 2, "--out", tmp_path)
    assert answer.code == 0, answer.err
    figures = {name: float(value) for name, value in re.findall(r"^(\w+) +(\S+)$", answer.out, re.MULTILINE)}
    assert figures["filters"] == 6
    assert {"location_instability", "part_interpretability", "purity", "classes"} <= set(figures)
    assert is_picture(tmp_path / "filters.png")
    with (tmp_path / "filters.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["filter"] for row in rows] == load_model(run).network.unit_names
    assert {"class", "purity wing", "instability tail"} <= set(rows[0])


def test_filters_of_another_family(baseline, tmp_path):
    answer = ibd("filters", baseline, "--top", 0, "--out", tmp_path)
    assert answer.code == 0, answer.err
    assert "location_instability" in answer.out
    assert not (tmp_path / "filters.png").exists()


def test_a_filter_is_read_and_switched_off(run, tmp_path):
    from torchvision.utils import save_image

    save_image(load_run(run)[1].dataset("test")[3].image, tmp_path / "bird.png")
    answer = ibd("predict", run, tmp_path / "bird.png", "--figure", tmp_path / "bird_explained.png")
    assert answer.code == 0, answer.err
    name = load_model(run).network.unit_names[2]
    assert name in ibd("predict", run, tmp_path / "bird.png", "--top", 0).out
    assert is_picture(tmp_path / "bird_explained.png")
    answer = ibd("intervene", run, tmp_path / "bird.png", f"{name}=0", "--top", 0)
    assert answer.code == 0, answer.err
    assert re.search(re.escape(name) + r" +0.00\*", answer.out)


@pytest.mark.slow
def test_compare(run, baseline, tmp_path):
    answer = ibd("compare", run, baseline, "explainers=[intrinsic,gradcam]", "images=8", f"output={tmp_path}")
    assert answer.code == 0, answer.err
    assert (tmp_path / "index.html").is_file()
