"""Prototype networks in two processes (gloo, on the CPU): the projection of one, and the same weights in both."""

import os
import sys
import textwrap

import pytest
import torch

from ibd.io import load_run
from ibd.models.protopnet.phases import LastLayer, Prune
from ibd.models.protopnet.projection import project
from ibd.models.protopnet.push import push
from ibd.models.protopnet.scan import find_nearest
from tests.command import QUIET, ROOT, answer_of, assert_same_weights, checkpoint, fitted, ibd_process, rows, start
from tests.unit.models.protopnet.makers import SquareData, make_network

pytestmark = pytest.mark.ddp

SCRIPT = """
import sys
import torch
import torch.distributed as dist
from tests.ddp.test_prototypes import work

torch.set_num_threads(1)
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
torch.save(work(), f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""

CASES = {
    "plain": ({}, False, (70, 6, 6)),
    "distinct": ({"per_class": 4}, True, (70, 6, 6)),
    "cosine": ({"distance": "cosine", "extent": 2}, False, (70, 6, 6)),
    "one chunk for two": ({}, False, (30, 6, 6)),
}


def work():
    """What one process or each of two does; plain values and tensors."""
    results = {}
    for name, (options, distinct, sizes) in CASES.items():
        network, data = make_network(**options), SquareData(sizes=sizes)
        report = push(network, data, distinct)
        found, vectors = find_nearest(network.eval(), data, "train", k=5)
        results[name] = {
            **{key: value.clone() for key, value in network.state_dict().items()},
            "report": report.moved,
            "found": torch.stack([found.image, found.position, found.label]),
            "distance": found.distance,
            "vectors": vectors,
        }
    network, data = make_network(per_class=4), SquareData()
    project(network, data, False, LastLayer(ridge=0.1), Prune(3, 2))
    results["projected"] = network.state_dict()
    return results


@pytest.mark.slow
def test_identical_projection(tmp_path):
    """To the bit: prototypes, where they are from, the nearest patches, the last layer, the mask."""
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    processes = [
        start(str(rank), str(tmp_path), cwd=tmp_path, command=(sys.executable, "script.py"), PYTHONPATH=path)
        for rank in (0, 1)
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    one = work()
    torch.set_num_threads(threads)
    for process in processes:
        answer = answer_of(process, timeout=120)
        assert answer.code == 0, answer.err
    for rank in (0, 1):
        two = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for case, expected in one.items():
            for name, value in expected.items():
                torch.testing.assert_close(
                    two[case][name], value, rtol=0, atol=0, equal_nan=True, msg=lambda m, n=(case, name): f"{n}: {m}"
                )


CONFIG = """
name: pair
model:
  {name: 'own:Own', per_class: 2, dimension: 8, prune: {k: 6, threshold: 2}, last_layer: {ridge: 0.1},
   warm: {epochs: 1}, joint: {epochs: 2}, push: {start: 1, every: 9},
   backbone: {name: small_cnn, width: 4, depth: 3, norm: group}}
data:
  {name: toybirds, preset: tiny, train_size: 80, val_size: 65, test_size: 33, batch_size: 32, augment: flip}
optimizer: {lr: 0.01, name: sgd}
trainer: {precision: 64-true}
logger: {figures_every: 0}
"""
OWN = """
import torch
from ibd.models.protopnet.lightning import ProtoPNet

class Own(ProtoPNet):
    '''Writes down what each process ends with.'''

    def on_train_end(self):
        torch.save(self.state_dict(), f"rank{self.global_rank}.pt")
"""
TWO = ("trainer.devices=2", "trainer.strategy=ddp", "data.batch_size=16", "output=two")


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "pair.yaml").write_text(CONFIG)
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "own", raising=False)
    torch.set_num_threads(1)
    return tmp_path


@pytest.mark.slow
def test_a_training_with_all_phases(place):
    """Warm with a fixed backbone, joint, projection, last layer, pruning: as one process with twice the batch size."""
    answer = ibd_process("fit", "pair.yaml", *QUIET, *TWO, cwd=place, timeout=200)
    assert answer.code == 0, answer.err
    ranks = [torch.load(place / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    for name, value in ranks[0].items():
        if not name.startswith(("metrics", "dead")):
            torch.testing.assert_close(ranks[1][name], value, rtol=0, atol=0, equal_nan=True)
    pair = place / answer.run
    model, data = load_run(pair, trust=True)
    assert float(model.verify_projection(data).max()) <= 1e-5
    one = fitted("pair.yaml", *QUIET)
    assert_same_weights(one, pair, tolerance=1e-5)
    for which in ("last", "best"):
        assert checkpoint(one, which)["epoch"] == checkpoint(pair, which)["epoch"]
    for expected, row in zip(rows(one), rows(pair), strict=True):
        for name, value in expected.items():
            if value and not name.startswith("last_layer/steps"):
                assert float(row[name]) == pytest.approx(float(value), abs=2e-5, nan_ok=True), name
