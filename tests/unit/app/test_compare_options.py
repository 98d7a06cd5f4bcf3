"""Options of the verb `compare`, from strings and from a file."""

import pytest

from ibd.app.compare import read_options
from ibd.errors import ConfigError


def test_the_block_of_the_data_becomes_changes_to_it(tmp_path):
    (tmp_path / "own.yaml").write_text("runs: one\ndata: {root: /images, masks: null, augment: true, sizes: [1, 2]}\n")
    options, data = read_options([f"config={tmp_path / 'own.yaml'}", "data.seed=3", "explainers=lrp, gradcam"])
    assert options == {"runs": ["one"], "explainers": ["lrp", "gradcam"]}
    assert data == ["data.root=/images", "data.masks=null", "data.augment=true", "data.sizes=[1, 2]", "data.seed=3"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("data=5", r"compare: data: a block is needed, such as data\.seed=0"),
        ("logger=5", r"compare: logger: a block is needed, such as logger\.mode=offline"),
        ("image=5", r"compare: there is no option 'image'\. Did you mean.*'images'"),
        ("images=few", "compare: images: 'few' given, a whole number is needed"),
        ("metrics=5", "compare: metrics: 5 given, a list is needed"),
    ],
)
def test_a_mistake_is_said_in_a_line(given, message):
    with pytest.raises(ConfigError, match=message):
        read_options([given])
