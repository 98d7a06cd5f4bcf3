"""Concept whitening in two processes (gloo, on the CPU) against one: statistics, axes and weights of twenty steps."""

import pytest
import torch

from tests.command import QUIET, checkpoint, fitted, ibd_process, rows

pytestmark = pytest.mark.ddp

CONFIG = """
name: pair
model:
  name: concept_whitening
  layers: ['*']                # a batch normalization that is left would see half a batch
  concepts: [wing::red_oval, wing::blue_oval, tail::red_fan, eye::ring]
  activation: ACTIVATION
  alignment: {every: 4, images: 3}
  backbone: {name: small_cnn, width: 8, depth: 3}
data: {name: toybirds, preset: tiny, train_size: 128, val_size: 33, test_size: 33, batch_size: 32}
optimizer: {name: sgd, lr: 0.05}
trainer: {max_epochs: 5, precision: 64-true}
"""
TWO = ("trainer.devices=2", "trainer.strategy=ddp", "data.batch_size=16")


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)

    def write(activation):
        (tmp_path / "pair.yaml").write_text(CONFIG.replace("ACTIVATION", activation))
        return tmp_path

    return write


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["pool_max", "mean"])
def test_twenty_steps_are_those_of_one_process(activation, config):
    """Gradients through the statistics, their running averages, five turns of the axes, in three layers at once."""
    place = config(activation)
    quiet = (*QUIET, "logger.figures_every=0")
    one = fitted("pair.yaml", *quiet)
    answer = ibd_process("fit", "pair.yaml", *quiet, *TWO, "output=two", cwd=place, timeout=200)
    assert answer.code == 0, answer.err
    pair = place / answer.run
    assert int(checkpoint(one)["global_step"]) == int(checkpoint(pair)["global_step"]) == 20
    weights = [checkpoint(run)["state_dict"] for run in (one, pair)]  # as completed afterwards, in float32
    assert list(weights[0]) == list(weights[1])
    for name, value in weights[0].items():
        # Ends of the activations, after all layers in float32: 1.3e-5 apart on an AMD EPYC.
        bound = 5e-5 if name in ("network.low", "network.high") else 1e-5
        torch.testing.assert_close(weights[1][name], value, rtol=0, atol=bound, equal_nan=True)
    before, after = (checkpoint(run)["ibd_unfinished"] for run in (one, pair))  # as trained, in float64
    assert len([name for name in before if "running" in name]) == 6
    assert len([name for name in before if name.endswith((".weight", ".rotation", ".pull"))]) == 10
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=0, atol=1e-9, equal_nan=True)
    rotation = checkpoint(one)["state_dict"]["network.backbone.stage3.norm.rotation"]
    assert float((rotation - torch.eye(32)).abs().max()) > 0.05  # the axes did turn
    for expected, row in zip(rows(one), rows(pair), strict=True):
        assert row["val/loss"] == expected["val/loss"] == "" or (
            float(row["val/loss"]) == pytest.approx(float(expected["val/loss"]), abs=1e-6)
        )
