"""PIP-Net in two processes (gloo, on the CPU) against one with twice the batch size: the same weights."""

import pytest

from tests.command import QUIET, assert_same_weights, fitted, ibd_process

pytestmark = [pytest.mark.ddp, pytest.mark.slow]

CONFIG = """
name: pip
model:
  name: pipnet
  prototypes: 8
  color: 0  # views are drawn in each process, here without difference
  shift: 0
  backbone: {name: small_cnn, width: 4, depth: 3, norm: group}
  pretrain: {epochs: 2, tanh: 5.0}
  train: {epochs: 1, classifier_only: 0}
data: {name: toybirds, preset: tiny, train_size: 64, val_size: 60, test_size: 33, batch_size: 32}
optimizer: {name: sgd, lr: 0.1}
trainer: {precision: 64-true}
logger: {figures_every: 0}
"""


def test_prototypes_are_spread_over_the_batch_of_all_processes(tmp_path, monkeypatch):
    """A term for the share of each process alone would ask every prototype to be present in every share."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    (tmp_path / "pip.yaml").write_text(CONFIG)
    one = fitted("pip.yaml", *QUIET)
    two = ("trainer.devices=2", "trainer.strategy=ddp", "data.batch_size=16", "output=two")
    answer = ibd_process("fit", "pip.yaml", *QUIET, *two, cwd=tmp_path)
    assert answer.code == 0, answer.err
    assert_same_weights(one, tmp_path / answer.run, tolerance=1e-5)
