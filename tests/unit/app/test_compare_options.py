"""Options of the verb `compare`, from strings and from a file."""

import pytest

from ibd.app.compare import read_options
from ibd.comparison.compare import compare
from ibd.comparison.plan import expanded
from ibd.errors import ConfigError


def test_the_block_of_the_data_becomes_changes_to_it(tmp_path):
    (tmp_path / "own.yaml").write_text("runs: one\ndata: {root: /images, masks: null, augment: true, sizes: [1, 2]}\n")
    options, data = read_options([f"config={tmp_path / 'own.yaml'}", "data.seed=3", "explainers=lrp, gradcam"])
    assert options == {"runs": ["one"], "explainers": ["lrp", "gradcam"]}
    assert data == ["data.root=/images", "data.masks=null", "data.augment=true", "data.sizes=[1, 2]", "data.seed=3"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("data=5", r"compare: data: 5 given, a block is needed, such as data\.seed=0"),
        ("logger=5", r"compare: logger: 5 given, a block is needed, such as logger\.mode=offline"),
        ("image=5", r"compare: there is no option 'image'\. Did you mean.*'images'"),
        ("images=few", "compare: images: 'few' given, a whole number is needed"),
        ("progress=maybe", "compare: progress: 'maybe' given, true or false is needed"),
        ("seed=1.5", "compare: seed: 1.5 given, a whole number is needed"),
        ("device=0", "compare: device: 0 given, a name is needed"),
        ("metrics=5", "compare: metrics: 5 given, a list is needed"),
    ],
)
def test_a_mistake_is_said_in_a_line(given, message):
    with pytest.raises(ConfigError, match=message):
        read_options([given])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "own.yaml: "),
        (b"\xff\xfe\xfd", "own.yaml: no text in UTF-8, as YAML is"),
        (b"runs: " + b"[" * 2000 + b"]" * 2000, "own.yaml: lists or blocks stand in one another"),
        (b"- 1", "own.yaml: a list, where keys with values are needed"),
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
