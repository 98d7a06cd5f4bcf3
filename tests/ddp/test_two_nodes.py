"""Two computers, made of two network namespaces: ``torchrun --nnodes=2`` as it is; then one of them goes on alone."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command import QUIET, ROOT, ibd, rows

pytestmark = [pytest.mark.ddp, pytest.mark.slow]

CONFIG = """
name: nodes
model: {name: cbm, imbalance: none, head_epochs: 2, backbone: {name: small_cnn, width: 4, depth: 3, norm: group}}
data: {name: toybirds, preset: tiny, train_size: 64, val_size: 33, test_size: 33, batch_size: 16}
optimizer: {lr: 0.01}
trainer: {max_epochs: 2, precision: 64-true}
"""
ADDRESSES = ("10.213.77.1", "10.213.77.2")
_TIMEOUT = 400


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=30)


@pytest.fixture
def nodes():
    """The names of two namespaces that a cable connects; nothing else can be reached from either."""
    names = [f"ibd{os.getpid() % 10_000}{side}" for side in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
        ip("link", "add", names[0], "netns", names[0], "type", "veth", "peer", "name", names[1], "netns", names[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", name)
            ip("-n", name, "link", "set", name, "up")
            ip("-n", name, "link", "set", "lo", "up")
    except (OSError, subprocess.SubprocessError) as error:
        remove(names)
        pytest.skip(f"network namespaces are not permitted here: {error}")
    yield names
    remove(names)


def remove(names):
    for name in names:
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            ip("netns", "del", name)


def torchrun(node, rank, *arguments, cwd):
    """Start one agent in a namespace; the first holds the rendezvous."""
    command = ["ip", "netns", "exec", node, sys.executable, "-m", "torch.distributed.run", "--nnodes=2"]
    command += ["--nproc-per-node=1", f"--node-rank={rank}", f"--master-addr={ADDRESSES[0]}", "--master-port=29511"]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": node, "OMP_NUM_THREADS": "1", "WANDB_MODE": "disabled"}
    environment["PYTHONPATH"] = str(ROOT)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*command, "-m", "ibd.cli", *arguments], cwd=cwd, env=environment, **pipes)


def test_training_on_two_nodes_and_on_one_of_them(nodes, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("nodes.yaml").write_text(CONFIG, encoding="utf-8")
    pair = ("trainer.num_nodes=2", "trainer.devices=1", "trainer.strategy=ddp", "data.batch_size=8", "output=two")
    started = [
        torchrun(node, rank, "fit", "nodes.yaml", *QUIET, *pair, cwd=tmp_path) for rank, node in enumerate(nodes)
    ]
    said = [process.communicate(timeout=_TIMEOUT)[0] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    (run,) = (tmp_path / "two" / "nodes").iterdir()
    assert said[0].count("done: ") == 1
    assert "done: " not in said[1]
    alone = ibd("fit", "nodes.yaml", *QUIET, "output=one")
    assert alone.code == 0, alone.err
    for one, two in zip(rows(alone.run), rows(run), strict=True):
        for name, value in one.items():
            if value:
                assert float(two[name]) == pytest.approx(float(value), abs=2e-5), name
    changes = ("trainer.num_nodes=1", "trainer.strategy=auto", "trainer.max_epochs=3", "data.batch_size=16")
    onward = ibd("fit", f"resume={run}", *changes)
    assert onward.code == 0, onward.err
    assert float(rows(run)[-1]["epoch"]) == 2
