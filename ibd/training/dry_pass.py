"""One pass of a copy of the network, before anything is written, so that what it cannot compute is found at once."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from ibd.data.base import ImageDataModule
from ibd.errors import ConfigError, lacks_memory
from ibd.models.lightning import InterpretableModule

_DOUBLINGS = 7
"""How often a size that is too small is doubled, to say which one would do."""


def dry_pass(model: InterpretableModule, data: ImageDataModule) -> None:
    """Compute blank images of the training size in training mode, two of them, or one where batches are of one.

    The model, torch's random numbers and the data are left as they are.

    Raises:
        ConfigError: the images are smaller than the backbone allows, or memory does not hold them, or batch
            normalization gets one image alone.
        RuntimeError, ValueError: the network fails whatever the size; the error is its own.
    """
    network, (height, width) = model.network, model.spec.image_size
    batch = min(data.batch_size, 2)
    failure = _failure(network, batch, height, width)
    if failure is None:
        return
    if lacks_memory(failure):
        raise ConfigError(
            f"data.image_size: {height} x {width} given, which does not fit into memory: not even {batch} of them "
            f"do, in this network of {sum(p.numel() for p in network.parameters()):.1e} weights"
        ) from failure
    if batch == 1 and _failure(network, 2, height, width) is None:
        raise ConfigError(
            "data.batch_size: 1 given, at least 2 is needed: batch normalization has one value in a channel here, and "
            "nothing to compare it with"
        ) from failure
    for factor in (2**power for power in range(1, _DOUBLINGS + 1)):
        if _failure(network, 2, factor * height, factor * width) is None:
            name = getattr(network.backbone, "name", type(network.backbone).__name__)
            raise ConfigError(
                f"data.image_size: {height} x {width} given, which is too small for the backbone {name}; "
                f"{factor * height} x {factor * width} would do"
            ) from failure
    raise failure


def _failure(network: nn.Module, batch: int, height: int, width: int) -> Exception | None:
    """Return the error with which a network refuses images of a size; None where it takes them."""
    weight = next(network.parameters())
    with _silence(), torch.random.fork_rng(devices=[]), torch.no_grad():
        try:
            image = torch.zeros(batch, 3, height, width, device=weight.device, dtype=weight.dtype)
            copy.deepcopy(network).train()(image)
        except (RuntimeError, ValueError, MemoryError) as error:
            return error
    return None


@contextmanager
def _silence() -> Iterator[None]:
    """Hold back warnings, which would be about two blank images and not about a batch of the training."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
