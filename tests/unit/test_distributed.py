"""The collectives, in one process: they change nothing. Two processes are in tests/ddp."""

import torch

from ibd.distributed import sum_over_processes, world_size


def test_one_process_is_the_identity():
    assert world_size() == 1
    value = torch.rand(3, requires_grad=True)
    assert sum_over_processes(value) is value
