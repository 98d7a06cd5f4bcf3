"""Images that are their own masks, for tests of what channels detect."""

import torch

from ibd.data.masked import MaskedImages
from ibd.types import DataSpec, Sample

NAMES = ("a", "b", "c")


class Squares:
    """Images whose channels are the masks of three squares, at random places."""

    def __init__(self, count=24, size=(16, 20), seed=0, noise=0.0):
        g = torch.Generator().manual_seed(seed)
        self.masks = torch.zeros(count, 3, *size, dtype=torch.bool)
        for mask in self.masks.flatten(0, 1):
            top, left = (int(torch.randint(side - 6, (), generator=g)) for side in size)
            mask[top : top + 6, left : left + 6] = True
        self.images = (self.masks.float() + noise * torch.rand(self.masks.shape, generator=g)) / (1 + noise)
        self.labels = torch.arange(count) % 2

    def __getitem__(self, index):
        return Sample(self.images[index], 0, torch.zeros(0), index, self.masks[index])


def squares(seed=0, count=24, batch_size=7, **options):
    data = Squares(count, seed=seed, **options)
    return MaskedImages(data, DataSpec(("x", "y"), part_names=NAMES), tuple(range(count)), batch_size)
