"""The collectives, in one process: they change nothing. Two processes are in tests/ddp."""

import io
import sys

import pytest
import torch

from ibd import distributed
from ibd.distributed import progress, sum_over_processes, world_size


def test_one_process_is_the_identity():
    assert world_size() == 1
    value = torch.rand(3, requires_grad=True)
    assert sum_over_processes(value) is value


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("rank", [0, 1])
def test_a_bar_is_of_the_first_process_alone(rank, monkeypatch):
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setattr(distributed.dist, "get_rank", lambda: rank)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert bool(progress(range(3), "reading").disable) == (rank == 1)
    assert progress(range(3), "reading", shown=False).disable
    assert list(progress(range(3), "reading")) == [0, 1, 2]
