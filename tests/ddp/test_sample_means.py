"""Means over samples in two processes (gloo, on the CPU) against one, to the bit."""

import os
import sys
import textwrap

import pytest
import torch

from ibd.metrics.per_sample import PerSampleMetric
from tests.command import ROOT, answer_of, start

pytestmark = pytest.mark.ddp

SCRIPT = """
import sys
import torch
import torch.distributed as dist
from tests.ddp.test_sample_means import work

torch.set_num_threads(1)
rank, folder = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
torch.save(work(rank, 2), f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""
SAMPLES = 101


def work(rank=0, world=1):
    """What one process or each of two does: every `world`-th sample, padded with repeats as a sampler does."""
    g = torch.Generator().manual_seed(0)
    values = torch.randn(SAMPLES, 3, generator=g, dtype=torch.float64) * 10 ** torch.arange(3)
    values[::7, 1] = torch.nan
    ids = torch.arange(rank, SAMPLES + (-SAMPLES) % world, world) % SAMPLES
    scalar, curve, first = PerSampleMetric(), PerSampleMetric(columns=3), PerSampleMetric()
    for part in ids.split(8):
        scalar.update(values[part, 1], part)
        curve.update(values[part], part)
    if rank == 0:  # the other process has nothing to add
        first.update(values[:5, 0], torch.arange(5))
    interval = scalar.interval()
    return {
        "scalar": scalar.compute(),
        "curve": curve.compute(),
        "first": first.compute(),
        "n": torch.stack([scalar.n(), scalar.n_nan(), first.n()]),
        "ids": scalar.sample_ids(),
        "ends": torch.tensor([interval.low, interval.high], dtype=torch.float64),
    }


@pytest.mark.slow
def test_two_processes_are_one(tmp_path):
    (tmp_path / "script.py").write_text(textwrap.dedent(SCRIPT))
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    processes = [
        start(str(rank), str(tmp_path), cwd=tmp_path, command=(sys.executable, "script.py"), PYTHONPATH=path)
        for rank in (0, 1)
    ]
    one = work()
    assert one["n"].tolist() == [86, 15, 5]
    for process in processes:
        answer = answer_of(process, timeout=120)
        assert answer.code == 0, answer.err
    for rank in (0, 1):
        two = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, value in one.items():
            torch.testing.assert_close(two[name], value, rtol=0, atol=0, msg=lambda m, n=name: f"{n}: {m}")
