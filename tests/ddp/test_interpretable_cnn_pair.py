"""An interpretable CNN in two processes (gloo, on the CPU) against one with twice the batch size: the same weights."""

import pytest

from tests.command import QUIET, assert_same_weights, fitted, ibd_process

pytestmark = [pytest.mark.ddp, pytest.mark.slow]

CONFIG = """
name: filters
model:
  name: interpretable_cnn
  filters: 6
  filter_weight: 0.02
  backbone: {name: small_cnn, width: 4, depth: 3, norm: group}
data: {name: toybirds, preset: tiny, train_size: 80, val_size: 61, test_size: 33, batch_size: 32}
optimizer: {name: sgd, lr: 0.1}
trainer: {precision: 64-true, max_epochs: 2}
logger: {figures_every: 0}
"""


@pytest.mark.parametrize("gradient", ["balanced", "exact"])
def test_templates_are_compared_over_the_batch_of_all_processes(gradient, tmp_path, monkeypatch):
    """Sums over all maps, classes of filters and their balance cross the processes, and so do gradients."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    (tmp_path / "filters.yaml").write_text(CONFIG)
    changes = (f"model.gradient={gradient}", f"model.filter_weight={0.02 if gradient == 'balanced' else 50}")
    one = fitted("filters.yaml", *QUIET, *changes)
    two = ("trainer.devices=2", "trainer.strategy=ddp", "data.batch_size=16", "output=two")
    answer = ibd_process("fit", "filters.yaml", *QUIET, *changes, *two, cwd=tmp_path, timeout=500)
    assert answer.code == 0, answer.err
    assert_same_weights(one, tmp_path / answer.run, tolerance=1e-5)
