"""What a person is told to type next works as it is printed."""

import shlex

import pytest

from ibd.training.hints import command


@pytest.mark.parametrize(
    ("config", "options"),
    [
        ("name: a:b\nmodel: {name: cbm, backbone: {name: small_cnn}}\nlogger: {explainers: [lrp]}", []),
        ("model: {name: 'mine:Mine', backbone: {name: small_cnn}}", ["--trust"]),
        ("model: {name: cbm, backbone: {name: 'mine:Mine'}}", ["--trust"]),
        ("data: {name: 'mine:Mine'}", ["--trust"]),
        ("logger: {explainers: [lrp, 'mine:Mine']}", ["--trust"]),
        ("logger: {explainers: null}", []),
        ("[no config", []),
    ],
)
def test_a_run_of_ones_own_classes_is_to_be_trusted(tmp_path, config, options):
    run = tmp_path / "my runs"
    run.mkdir()
    (run / "config.yaml").write_text(config)
    assert shlex.split(command("test", run)) == ["ibd", "test", str(run), *options]
    assert shlex.split(command("fit", run)) == ["ibd", "fit", f"resume={run}", *options]
