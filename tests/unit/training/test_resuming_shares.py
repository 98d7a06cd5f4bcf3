"""How many processes go on with a run: any number, if a step still has as many images in all."""

import pytest

from ibd.config import load_config, save_config
from ibd.errors import ConfigError
from ibd.training.resuming import check_unchanged
from tests.command import TINY


def config(*changes):
    return load_config(TINY, "trainer.devices=1", "trainer.num_nodes=2", "data.batch_size=8", *changes)


@pytest.fixture
def run(tmp_path):
    save_config(config(), tmp_path / "config.yaml")
    return tmp_path


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ("trainer.num_nodes=1", "data.batch_size=16"),
        ("trainer.num_nodes=1", "trainer.devices=2"),
        ("trainer.num_nodes=4", "data.batch_size=4"),
    ],
)
def test_the_same_images_in_a_step(run, changes):
    check_unchanged(run, config(*changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("trainer.num_nodes=1",), r"trainer\.num_nodes is 2 in .*x trainer\.num_nodes must stay 16\.$"),
        (
            ("data.batch_size=16",),
            r"data\.batch_size is 8 in .*data\.batch_size x trainer\.devices x .* must stay 16\.$",
        ),
        (("trainer.num_nodes=1", "data.batch_size=16", "seed=7"), r"seed is 0 in .*init_from=\S+$"),
        (("trainer.devices=auto",), r"trainer\.devices is 1 in .*must stay 16\.$"),
    ],
)
def test_others_are_another_run(run, changes, message):
    with pytest.raises(ConfigError, match=message):
        check_unchanged(run, config(*changes))
