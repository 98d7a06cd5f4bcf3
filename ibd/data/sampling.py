"""In which order images are read: the same whatever number of processes and workers reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.utils.data import Sampler

from ibd.data.dataset import Key


class TrainSampler(Sampler[Key]):
    """A shuffle and augmentation seeds that depend on (seed, epoch, index) alone.

    So a resumed run sees what an uninterrupted one would have seen, and the number of workers changes nothing.
    Every process gets the same number of images; the shuffle is wrapped around where the set does not divide.
    """

    def __init__(self, size: int, seed: int, epoch: Callable[[], int], rank: int = 0, world_size: int = 1) -> None:
        self.size, self.seed, self.epoch = size, seed, epoch
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        """Return the number of images of this process."""
        return -(-self.size // self.world_size)

    def __iter__(self) -> Iterator[Key]:
        """Yield this process's share of the epoch's shuffle."""
        epoch = self.epoch()
        generator = torch.Generator().manual_seed(_mix(self.seed, epoch))
        order = torch.randperm(self.size, generator=generator)
        order = order.repeat(2)[: len(self) * self.world_size] if self.size else order
        for index in order[self.rank :: self.world_size].tolist():
            yield Key(index, _mix(self.seed, epoch, index))


class EvalSampler(Sampler[Key]):
    """Every image once, in order; the shares of several processes are filled up with marked padding."""

    def __init__(self, size: int, rank: int = 0, world_size: int = 1) -> None:
        self.size, self.rank, self.world_size = size, rank, world_size

    def __len__(self) -> int:
        """Return the number of items of this process, padding included."""
        return -(-self.size // self.world_size)

    def __iter__(self) -> Iterator[Key]:
        """Yield this process's images, then padding."""
        for index in range(self.rank, len(self) * self.world_size, self.world_size):
            yield Key(min(index, self.size - 1), padding=index >= self.size)


def _mix(*values: int) -> int:
    """Hash integers to a 63-bit seed (splitmix64), so that neighboring epochs and images are unrelated."""
    state = 0
    for value in values:
        state = (state + value + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1
