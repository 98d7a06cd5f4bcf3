"""A layer's features of a data set: computed once, kept in a file, and read from there a few at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.data.base import ImageDataModule
from ibd.data.dataset import ImageDataset
from ibd.data.features import FeatureFile
from ibd.distributed import progress
from ibd.errors import ConfigError, DataError
from ibd.explain.activations import device_of, network_of
from ibd.explain.base import undisturbed
from ibd.explain.directions import Directions
from ibd.explain.discovery.dictionaries import Rows
from ibd.explain.patches import maps_reader
from ibd.training.features import Computation, cache_folder, fingerprint_of
from ibd.types import Batch

_TOGETHER = 32
"""Images that are read together."""


def kept_features(
    model: nn.Module,
    layer: str,
    dataset: ImageDataset,
    data: ImageDataModule,
    cache: str = "auto",
    pooled: bool = False,
) -> FeatureFile:
    """Return the features of images, of which those are computed that are not kept already.

    Args:
        model: model on the device to compute on; it is left as it was.
        layer: name of the layer, which puts out a map.
        dataset: the images.
        data: source of these, for its loader processes and the size of images.
        cache: folder of all kept features; "auto" is that of the trainings on frozen backbones.
        pooled: whether the mean of each map is kept, (D, 1, 1), in the place of the map.

    Raises:
        ConfigError: no such layer, or the folder cannot be written to.
        UnsupportedError: the layer puts out no map.
    """
    maps_of, device = maps_reader(model, layer, "auto"), device_of(model)

    def compute(batch: Batch) -> Tensor:
        maps = maps_of(batch.image.to(device)).float()
        return (maps.mean((2, 3), keepdim=True) if pooled else maps).cpu()

    words = f"discovery {layer} {device.type} {pooled}"
    own = cache_folder(cache) / fingerprint_of(network_of(model), dataset, data, words)
    with undisturbed(model), torch.no_grad():
        try:
            return Computation(own, dataset, data.num_workers, compute).run(
                f"computing features of {len(dataset)} images"
            )
        except OSError as error:
            raise ConfigError(f"cache: cannot write to '{own}': {error.strerror or error}") from None


def drawn_cells(
    features: FeatureFile, count: int, seed: int, allowed: npt.NDArray[np.bool_] | None = None
) -> tuple[Rows, npt.NDArray[np.int64]]:
    """Return vectors of features of random cells, (R, D), in a file without a name, and the image of each.

    Args:
        features: maps of N images.
        count: cells of each image, at most.
        seed: seed of the choice.
        allowed: (N, h, w), where they may be; None is everywhere.

    Raises:
        DataError: they may be nowhere.
    """
    images, channels, height, width = features.shape
    generator = np.random.default_rng([seed, images])
    places: list[npt.NDArray[np.int64]] = []
    for image in range(images):
        free = np.arange(height * width) if allowed is None else np.flatnonzero(allowed[image])
        places.append(np.sort(generator.permutation(free)[:count]))
    counts = np.array([len(place) for place in places])
    if not counts.sum():
        raise DataError("there is no cell of any image to learn from")
    rows = _numbers((int(counts.sum()), channels))
    start = 0
    for image in progress(range(images), "drawing cells"):
        if counts[image]:
            vectors = features[image].flatten(1).t()[torch.from_numpy(places[image])]
            rows[start : start + counts[image]] = vectors.numpy()
            start += int(counts[image])
    return rows, np.repeat(np.arange(images), counts)


def read_activations(features: FeatureFile, directions: Directions, device: torch.device) -> Rows:
    """Return the activations of concepts, (N, K, h, w), in a file without a name.

    Raises:
        DataError: the features are not those of the concepts' layer.
    """
    images, _, height, width = features.shape
    found = _numbers((images, len(directions), height, width))
    for chunk, maps in progress(batches(features), "reading concepts", -(-images // _TOGETHER)):
        found[chunk] = directions.read(maps.to(device)).cpu().numpy()
    return found


def batches(features: FeatureFile) -> Iterator[tuple[slice, Tensor]]:
    """Yield (images, their (B, D, h, w) features), a few at a time."""
    for start in range(0, features.shape[0], _TOGETHER):
        stop = min(features.shape[0], start + _TOGETHER)
        yield slice(start, stop), torch.stack([features[image] for image in range(start, stop)])


def strong_cells(activations: Rows, shape: tuple[int, int], share: float) -> npt.NDArray[np.bool_]:
    """Return where one concept is strong, as cells of another layer: (N, h, w) bool.

    Args:
        activations: (N, h', w') of the concept.
        shape: (h, w) of the cells that are wanted.
        share: share of the cells in which it counts as strong; never where it is 0.
    """
    maps = F.interpolate(torch.from_numpy(np.array(activations)).unsqueeze(1), size=shape, mode="bilinear")[:, 0]
    threshold = float(np.quantile(maps.numpy(), 1 - share))
    strong: npt.NDArray[np.bool_] = ((maps >= threshold) & (maps > 0)).numpy()
    return strong


def _numbers(shape: tuple[int, ...]) -> Rows:
    """Return numbers in a file that is gone when they are."""
    if not int(np.prod(shape)):
        return np.zeros(shape, np.float32)
    return np.memmap(tempfile.TemporaryFile(dir=_folder()), np.float32, "w+", shape=shape)  # noqa: SIM115


def _folder() -> str | None:
    """Return the folder of temporary files, none where a tmpfs of the memory is the usual one."""
    return "/var/tmp" if Path("/var/tmp").is_dir() else None  # noqa: S108
