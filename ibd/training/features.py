"""A training on a frozen backbone: its features are computed once, kept in a file, and read in the place of images."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from ibd.backbones import freezing_of
from ibd.backbones.weights import read_run
from ibd.data.base import ImageDataModule, Split
from ibd.data.dataset import ImageDataset
from ibd.data.features import FeatureFile
from ibd.distributed import progress
from ibd.errors import ConfigError
from ibd.models.base import evaluating
from ibd.models.lightning import InterpretableModule
from ibd.types import Batch, stack_samples

_log = logging.getLogger(__name__)

CHUNK = 32
"""Images that are computed together: as many as by a projection of prototypes, which finds the same bits."""

_PRECISIONS = ("32-true", "16-mixed", "bf16-mixed")
_LOOKED_AT = 16
"""Images of which the pixels are part of the fingerprint."""
_KNOWN = 1 << 32
"""Added to the checksum of a chunk that has been written."""


def use_features(
    model: InterpretableModule, data: ImageDataModule, trainer: pl.Trainer, checkpoint: Path | None
) -> None:
    """Let a training on a frozen backbone read features, which are computed now unless they are kept already.

    What a training needs beyond that (several processes, two views of an image) makes it read images as ever: the
    backbone stays as it is all the same.

    Args:
        model: model that is to be trained.
        data: images; gets `features` of its training and validation split.
        trainer: trainer that will train it.
        checkpoint: checkpoint from which a training goes on, whose backbone counts; None for a new one.

    Raises:
        ConfigError: the folder for features cannot be written to, or its disk has no room for them.
    """
    freezing = freezing_of(model.network.backbone)
    if not freezing.frozen or freezing.cache is None:
        return
    if reason := _why_not(model, trainer):
        _log.warning("features of the frozen backbone are computed anew in every step: %s", reason)
        return
    if data.augments:
        _log.warning("the augmentation of data is off: features of the frozen backbone are computed once")
    if checkpoint is not None:
        model.network.backbone.load_state_dict(read_run(checkpoint))
    folder = cache_folder(freezing.cache)
    model.to(trainer.strategy.root_device)
    with trainer.precision_plugin.forward_context():
        for split in ("train", "val"):
            data.features[split] = features_of(model, data, split, folder, str(trainer.precision))


def check_resumed(
    model: InterpretableModule, data: ImageDataModule, trainer: pl.Trainer, content: Mapping[str, Any]
) -> None:
    """Check that a training which goes on reads what it read before: images with augmentation, or features without.

    Args:
        model: model that is to be trained.
        data: its images.
        trainer: trainer that will train it.
        content: content of the checkpoint from which it goes on.

    Raises:
        ConfigError: its images would change in the middle of it.
    """
    freezing = freezing_of(model.network.backbone)
    before = content.get(type(data).__qualname__, {}).get("features")
    reason = "model.backbone.cache is null" if freezing.cache is None else _why_not(model, trainer)
    if not freezing.frozen or before is None or before == (reason is None) or not data.augments:
        return
    if before:
        raise ConfigError(
            "resume: this run was begun on kept features, without augmentation, which cannot be switched on in the "
            f"middle of it: {reason}"
        )
    raise ConfigError(
        "resume: this run was begun on augmented images, not on kept features, which have none: "
        "go on with model.backbone.cache=null"
    )


def _why_not(model: InterpretableModule, trainer: pl.Trainer) -> str | None:
    """Return why a training reads images; None where it need not."""
    if model.needs_images is not None:
        return model.needs_images
    if trainer.world_size > 1:
        return "the training has several processes"
    if str(trainer.precision) not in _PRECISIONS:
        return f"trainer.precision is {trainer.precision}"
    return None


def cache_folder(cache: str) -> Path:
    if cache != "auto":
        return Path(cache).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ibd" / "features"


@torch.no_grad()
def features_of(
    model: InterpretableModule, data: ImageDataModule, split: Split, folder: Path, precision: str
) -> FeatureFile:
    """Return the features of a split, of which those are computed that are not in the folder, or damaged there.

    Args:
        model: model on the device to compute on; its backbone alone is used.
        data: the images, which are read without augmentation.
        split: split of the data.
        folder: folder of all features; these get one of their own in it, by their fingerprint.
        precision: name of the precision that is computed in.

    Raises:
        ConfigError: the folder cannot be written to, or its disk has no room for them.
    """
    dataset, backbone = data.dataset(split), model.network.backbone
    model.use_fast_layout()
    weight = next(model.network.parameters())

    def compute(batch: Batch) -> Tensor:
        features: Tensor = backbone(batch.image.to(weight.device, weight.dtype))
        return features.float().cpu()

    own = folder / fingerprint_of(backbone, dataset, data, f"{precision} {weight.device.type} {weight.dtype}")
    with evaluating(backbone):
        try:
            return Computation(own, dataset, data.num_workers, compute).run(f"computing features of {split} images")
        except OSError as error:
            raise ConfigError(f"model.backbone.cache: cannot write to '{own}': {error.strerror or error}") from None


class Computation:
    """The features of a dataset in a folder: what has been there before, and is undamaged, stays.

    Chunks are written in order, each followed by its checksum, so that one which is not whole is known by it, be it
    that the process was killed or that the disk lost something.

    Args:
        folder: folder of these features.
        dataset: images.
        workers: loader processes.
        compute: function from a batch of images to (B, D, h, w) float32 on the CPU.
    """

    def __init__(self, folder: Path, dataset: ImageDataset, workers: int, compute: Callable[[Batch], Tensor]) -> None:
        self.folder, self.dataset, self.workers, self.compute = folder, dataset, workers, compute
        self.count = -(-len(dataset) // CHUNK)

    def run(self, title: str) -> FeatureFile:
        """Compute what is missing, and return all of it."""
        first = self.compute(next(self._read([0])))
        shape = (len(self.dataset), *first.shape[1:])
        self.folder.mkdir(parents=True, exist_ok=True)
        numbers = self._open("features.f32", np.float32, shape)
        sums = self._open("checksums.u64", np.uint64, (self.count,))
        if sums[0] and not np.allclose(numbers[:CHUNK], first.numpy(), rtol=1e-3, atol=1e-3 * float(first.abs().max())):
            _log.warning("features in '%s' are not those of the first images: computed anew", self.folder)
            sums[:] = 0
        if not sums[0]:
            self._write(numbers, sums, 0, first)
        damaged = [c for c in range(self.count) if sums[c] and sums[c] != _checksum(numbers, c)]
        if damaged:
            _log.warning("%d of %d parts of '%s' are damaged: computed anew", len(damaged), self.count, self.folder)
            sums[damaged] = 0
        missing = [c for c in range(self.count) if not sums[c]]
        for c, batch in zip(missing, progress(self._read(missing), title, len(missing)), strict=True):
            self._write(numbers, sums, c, self.compute(batch))
        numbers.flush()
        sums.flush()
        return FeatureFile(self.folder / "features.f32", shape)

    def _write(self, numbers: npt.NDArray[Any], sums: npt.NDArray[Any], chunk: int, features: Tensor) -> None:
        numbers[chunk * CHUNK : (chunk + 1) * CHUNK] = features.numpy()
        sums[chunk] = _checksum(numbers, chunk)

    def _read(self, chunks: list[int]) -> Iterator[Batch]:
        size = len(self.dataset)
        indices = [i for c in chunks for i in range(c * CHUNK, min((c + 1) * CHUNK, size))]
        subset = Subset(self.dataset, indices)
        workers = self.workers if len(chunks) > 1 else 0
        return iter(DataLoader(subset, CHUNK, num_workers=workers, collate_fn=stack_samples))

    def _open(self, name: str, kind: Any, shape: tuple[int, ...]) -> np.memmap[Any, Any]:
        """Return numbers in a file, all 0 where it is new; its room on the disk is taken now, not amid the writing."""
        path = self.folder / name
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        with path.open("ab") as file:
            if file.tell() not in (0, size):
                file.truncate(0)
            os.posix_fallocate(file.fileno(), 0, size)
        return np.memmap(path, kind, "r+", shape=shape)


def _checksum(numbers: npt.NDArray[Any], chunk: int) -> int:
    return zlib.crc32(numbers[chunk * CHUNK : (chunk + 1) * CHUNK].tobytes()) + _KNOWN


def fingerprint_of(backbone: nn.Module, dataset: ImageDataset, data: ImageDataModule, computed: str) -> str:
    """Return a name for features: another one where a weight, a layer, an image or the way to its size differs.

    Of most images it takes what tells that they have changed, such as the time of a file; of a few the pixels.
    """
    digest = hashlib.sha256(json.dumps([repr(backbone), computed, torch.__version__]).encode())
    for name, value in backbone.state_dict().items():
        if isinstance(value, Tensor):
            plain = value.detach().cpu().contiguous().view(-1).view(torch.uint8)
            digest.update(name.encode() + plain.numpy().tobytes())
    digest.update(json.dumps([data.spec.image_size, data.spec.resize, len(dataset)]).encode())
    for index in range(len(dataset)):
        digest.update(dataset.version(index).encode() + b"\0")
    for index in range(0, len(dataset), max(1, len(dataset) // _LOOKED_AT)):
        digest.update(dataset[index].image.numpy().tobytes())
    return digest.hexdigest()[:32]
