"""Options of the verb `compare`, from strings and from a file."""

import dataclasses
import inspect

import pytest

from ibd.app.compare import read_options
from ibd.comparison.compare import compare
from ibd.comparison.options import CompareOptions
from ibd.comparison.plan import expanded
from ibd.errors import ConfigError


def test_the_block_of_the_data_becomes_changes_to_it(tmp_path):
    (tmp_path / "own.yaml").write_text("runs: one\ndata: {root: /images, masks: null, augment: true, sizes: [1, 2]}\n")
    options = read_options([f"config={tmp_path / 'own.yaml'}", "data.seed=3", "explainers=lrp, gradcam"])
    assert (options.runs, options.explainers) == (["one"], ["lrp", "gradcam"])
    assert options.logger["mode"] == "disabled"
    assert options.overrides == [
        "data.root=/images",
        "data.masks=null",
        "data.augment=true",
        "data.sizes=[1, 2]",
        "data.seed=3",
    ]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("data=5", "compare: data: 5 given, a folder, a config file or a block of changes is needed"),
        ("logger=5", "logger: Value '5' of type 'int' given, a block with options is needed"),
        ("logger.mod=offline", r"logger\.mod: Key 'mod' not in 'LoggerSettings'\. Did you mean: 'mode'"),
        ("image=5", r"override 'image=5': image: Key 'image' not in 'CompareCommand'\. Did you mean: 'images'"),
        ("images=few", "images: Value 'few' of type 'str' could not be converted to Integer"),
        ("progress=maybe", "progress: Invalid value 'maybe', expected one of"),
        ("seed=1.5", "seed: Value '1.5' of type 'float' could not be converted to Integer"),
        ("metrics=5", "metrics: Value '5' of type 'int' given, 'Sequence.* | None' is needed"),
        ("overrides=[data.seed=1]", "Key 'overrides' not in 'CompareCommand'"),
    ],
)
def test_a_mistake_is_said_in_a_line(given, message):
    with pytest.raises(ConfigError, match=message):
        read_options([given])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "own.yaml: "),
        (b"\xff\xfe\xfd", "own.yaml: not UTF-8 text, which YAML needs"),
        (b"runs: " + b"[" * 2000 + b"]" * 2000, "own.yaml: lists or blocks are nested hundreds deep"),
        (b"- 1", "own.yaml: this is a list, but keys with values are needed"),
    ],
    ids=["PNG", "bytes", "nested", "list"],
)
def test_a_file_that_is_none_of_options(content, message, tmp_path):
    (tmp_path / "own.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_options([f"config={tmp_path / 'own.yaml'}"])


def test_a_seed_below_zero():
    with pytest.raises(ConfigError, match="compare: seed: -1 given, at least 0 is needed"):
        compare(["nowhere"], seed=-1)


def test_a_metric_that_is_given_twice():
    with pytest.raises(ConfigError, match="metrics: 'parts' is given twice"):
        expanded(["parts", "parts"])


def test_the_options_are_those_of_the_function():
    """Their names and defaults; the function alone takes word for word what may run code."""
    function = {name: each.default for name, each in inspect.signature(compare).parameters.items() if name != "trust"}
    made = {each.name: getattr(CompareOptions(), each.name) for each in dataclasses.fields(CompareOptions)}
    assert list(made) == list(function)
    assert {name: value for name, value in made.items() if name != "runs"} == {
        name: value for name, value in function.items() if name != "runs"
    }


def test_the_config_of_the_package_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_options(["config=compare.yaml"]) == read_options(["config=configs/compare.yaml"])
