"""What concept whitening costs: the layer in training and in evaluation, an update of the rotation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.published_whitening import PublishedLayer, published_rotation_step
from benchmarks.timing import Row, Times, side_by_side
from ibd.models.concept_whitening.layer import ConceptWhiteningLayer
from ibd.models.concept_whitening.rotation import cayley_step

CONCEPTS = 7
LAYERS = {(64, 56): ">= 2", (128, 28): ">= 2", (256, 14): ">= 2", (512, 7): ">= 5"}
"""(channels, cells along a side) -> bar of the training step; those of ResNet-18."""
EVALUATION = ">= 4"
ROTATIONS = {128: ">= 15", 512: ">= 40"}
"""Channels -> bar."""


def measure(repetitions: int = 14, images: int = 32) -> list[Row]:
    """Return the rows of the table."""
    rows = []
    for (channels, cells), bar in LAYERS.items():
        rows += layer_rows(repetitions, (images, channels, cells, cells), bar)
    return [*rows, *(rotation_row(repetitions, channels, bar) for channels, bar in ROTATIONS.items())]


def layer_rows(rounds: int, shape: tuple[int, int, int, int], bar: str) -> list[Row]:
    """Compare forward and backward pass in training, and the forward pass in evaluation, in both memory layouts."""
    torch.manual_seed(0)
    channels = shape[1]
    x, gradient = torch.randn(shape).relu_(), torch.randn(shape)
    lasting = {
        "published": (PublishedLayer(channels), torch.contiguous_format),
        "ours": (ConceptWhiteningLayer(channels, CONCEPTS), torch.contiguous_format),
        "ours, channels_last": (ConceptWhiteningLayer(channels, CONCEPTS), torch.channels_last),
    }
    laid = {name: (layer, *_laid(x, gradient, layout)) for name, (layer, layout) in lasting.items()}
    training = side_by_side({name: _training(*inputs) for name, inputs in laid.items()}, rounds, 2)
    evaluation = side_by_side(
        {name: _evaluation(layer, features) for name, (layer, features, _) in laid.items()}, rounds, 2
    )
    shapes = " x ".join(map(str, shape))
    return [
        _row(f"published whitening layer / {name}, {what}", shapes, timed, name, limit)
        for what, timed, limit in (
            ("forward and backward", training, bar),
            ("evaluation", evaluation, EVALUATION),
        )
        for name in ("ours", "ours, channels_last")
    ]


def _laid(x: Tensor, gradient: Tensor, layout: torch.memory_format) -> tuple[Tensor, Tensor]:
    """Return copies in a memory layout."""
    return x.clone(memory_format=layout), gradient.clone(memory_format=layout)


def _training(layer: nn.Module, x: Tensor, gradient: Tensor) -> Callable[[], None]:
    x = x.requires_grad_()

    def call() -> None:
        layer.train()
        torch.autograd.grad(layer(x), x, gradient)

    return call


def _evaluation(layer: nn.Module, x: Tensor) -> Callable[[], None]:
    @torch.no_grad()
    def call() -> None:
        layer.eval()
        layer(x)

    return call


def rotation_row(rounds: int, channels: int, bar: str) -> Row:
    """Compare an update of the rotation, two steps along the curve."""
    torch.manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(channels, channels))[0]
    gradient = torch.randn(CONCEPTS, channels) / channels**0.5
    padded = torch.zeros(1, channels, channels)
    padded[0, :CONCEPTS] = gradient
    calls = {
        "published": lambda: published_rotation_step(rotation.unsqueeze(0), padded),
        "ours": lambda: cayley_step(rotation, gradient),
    }
    timed = side_by_side(calls, rounds, 2)
    shapes = f"{channels} channels, {CONCEPTS} concepts, 2 steps"
    return _row("published update of the rotation / ours", shapes, timed, "ours", bar)


def _row(what: str, shapes: str, timed: dict[str, Times], ours: str, bar: str) -> Row:
    times = f"{timed['published']} / {timed[ours]}"
    return Row(what, shapes, times, *timed["published"].ratio(timed[ours]), bar)
