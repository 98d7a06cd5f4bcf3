"""Bottlenecks in two processes (gloo, on the CPU) against one with twice the batch size: the same weights.

Of what is drawn at random, each process would draw another share: the draws here are the same for every image.
"""

import sys

import pytest

from tests.command import QUIET, assert_same_weights, fitted, ibd_process

pytestmark = [pytest.mark.ddp, pytest.mark.slow]

CONFIG = """
name: pair
model: {{name: {model}, backbone: {{name: small_cnn, width: 4, depth: 3, norm: group}}{options}}}
data:
  {{name: toybirds, preset: tiny, train_size: 80, val_size: 61, test_size: 33, batch_size: 32, concept_missing: 0.3}}
optimizer: {{name: sgd, lr: 0.1}}
trainer: {{precision: 64-true, max_epochs: 2}}
logger: {{figures_every: 0}}
"""
OWN = """
import torch
from ibd.models.cem.lightning import ConceptEmbedding
from ibd.models.scbm import lightning
from ibd.models.scbm.gaussian import widening


def draw(scores, factor, samples, generator=None):
    noise = torch.randn((samples, factor.shape[2]), generator=torch.Generator().manual_seed(0), dtype=factor.dtype)
    return (scores * widening(factor.square().sum(2))).unsqueeze(1) + noise @ factor.mT


lightning.draw = draw


class Stochastic(lightning.StochasticConceptBottleneck):
    '''A stochastic bottleneck that draws the same for every image.'''


class Embedding(ConceptEmbedding):
    '''Concept embeddings of which every second concept is corrected.'''

    def corrected(self, units, concepts):
        chosen = ~concepts.isnan() & (torch.arange(concepts.shape[1]) % 2 == 0)
        scores = self.network.truth_logits(units.scores, concepts.to(units.scores.dtype), chosen)
        return type(units)(scores, units.maps, units.state)
"""


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A folder with models of its own."""
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "own", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("own:Embedding", ", embedding_size: 3, imbalance: pos_weight"),
        ("own:Stochastic", ", class_loss: expected, samples: 8"),
        ("own:Stochastic", ", regime: sequential, samples: 8, covariance: amortized, rank: 2, head_epochs: 5"),
        ("cbm", ", regime: sequential, head: sparse"),
    ],
    ids=["cem", "scbm", "scbm, amortized, sequential", "cbm, sparse head"],
)
def test_the_weights_are_those_of_one_process(model, options, place):
    (place / "pair.yaml").write_text(CONFIG.format(model=f"'{model}'", options=options))
    one = fitted("pair.yaml", *QUIET)
    two = ("trainer.devices=2", "trainer.strategy=ddp", "data.batch_size=16", "output=two")
    answer = ibd_process("fit", "pair.yaml", *QUIET, *two, cwd=place, timeout=500)
    assert answer.code == 0, answer.err
    assert_same_weights(one, place / answer.run, tolerance=1e-5)


def test_a_posthoc_bottleneck_says_that_one_process_is_enough(place):
    """Nothing learns by gradients: the planes and heads would be fitted twice over."""
    base = CONFIG.format(model="baseline", options="")
    (place / "base.yaml").write_text(base)
    run = fitted("base.yaml", *QUIET, "trainer.max_epochs=1")
    (place / "pair.yaml").write_text(CONFIG.format(model="posthoc_cbm", options="").replace("max_epochs: 2", ""))
    two = ("trainer.devices=2", "trainer.strategy=ddp", f"model.backbone.init_from={run}")
    message = ibd_process("fit", "pair.yaml", *QUIET, *two, cwd=place, timeout=500).late_mistake
    assert message == "trainer.devices: a post-hoc bottleneck is made in seconds, in one process: 1 is needed"
