"""Models whose predictions are known in closed form, and counted."""

import torch
from torch import nn


class Linear(nn.Module):
    """Two classes; the log-odds of class 0 are weights times pixels, plus a bias. Counts the images that it sees."""

    def __init__(self, weights, bias=0.0):
        super().__init__()
        self.weights, self.bias = nn.Parameter(weights), bias
        self.images, self.batches = 0, []

    def forward(self, image):
        self.images += len(image)
        self.batches.append(len(image))
        score = (image * self.weights).flatten(1).sum(1) + self.bias
        return torch.stack([score, torch.zeros_like(score)], 1)


def random_linear(size=8, seed=0, channels=3):
    generator = torch.Generator().manual_seed(seed)
    return Linear(torch.randn(channels, size, size, generator=generator, dtype=torch.float64) / size)


def random_images(count=3, size=8, seed=1, dtype=torch.float64):
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Convolutions(nn.Module):
    """A small network with batch normalizations of any statistics."""

    def __init__(self, width=8, classes=3, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.norm = nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width)
        self.second, self.other = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.head = nn.Linear(width, classes)
        for norm in (self.norm, self.other):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias)
            nn.init.normal_(norm.running_mean)
            nn.init.uniform_(norm.running_var, 0.1, 2.0)
        self.eval()

    def forward(self, image):
        x = self.norm(self.first(image)).relu()
        return self.head(self.other(self.second(x)).relu().mean((2, 3)))
