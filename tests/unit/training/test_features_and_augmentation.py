"""Features that are computed once know no augmentation: that is said, and never changes in the middle of a run."""

import pytest

import ibd
from ibd.errors import ConfigError
from ibd.io import build_data
from tests.command import SMALL, TINY

OFF = "the augmentation of data is off: features of the frozen backbone are computed once"


def fit(tmp_path, cache, *changes, resume=None):
    cached = f"model.backbone.cache={tmp_path / 'cache' if cache else 'null'}"
    return ibd.fit(
        None if resume else TINY,
        *(() if resume else (*SMALL, "model.backbone.frozen=true", f"output={tmp_path / 'runs'}")),
        cached,
        *changes,
        resume=resume,
    )


@pytest.mark.parametrize(
    ("change", "augments"),
    [("data.augment=none", False), ("data.augment=flip", True), ("data.part_drop=0.5", True)],
)
def test_augmentation_that_is_off_is_said(change, augments, tmp_path, caplog):
    run = fit(tmp_path, True, "trainer.max_epochs=1", change)
    assert (OFF in caplog.messages) == augments
    assert build_data(ibd.load_config(run.folder / "config.yaml").data).augments == augments


@pytest.mark.parametrize(
    ("cache", "message"),
    [
        (True, r"^resume: this run was begun on kept features, .* middle of it: model\.backbone\.cache is null$"),
        (False, r"^resume: this run was begun on augmented images, .* go on with model\.backbone\.cache=null$"),
    ],
)
def test_augmentation_does_not_change_in_a_run(cache, message, tmp_path):
    run = fit(tmp_path, cache, "trainer.max_epochs=1", "data.augment=flip")
    before = (run.folder / "config.yaml").read_text()
    with pytest.raises(ConfigError, match=message):
        fit(tmp_path, not cache, "trainer.max_epochs=2", resume=run)
    assert (run.folder / "config.yaml").read_text() == before
    assert fit(tmp_path, cache, "trainer.max_epochs=2", resume=run).epoch > 0


def test_without_augmentation_the_cache_may_change(tmp_path):
    run = fit(tmp_path, True, "trainer.max_epochs=1")
    assert fit(tmp_path, False, "trainer.max_epochs=2", resume=run).epoch > 0
