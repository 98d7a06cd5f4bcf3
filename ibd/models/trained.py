"""What a trained model is asked: to predict images, files of any size among them. No trainer is needed for that."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ibd.distributed import progress
from ibd.errors import DataError
from ibd.io import CALIBRATION_KEY, find_run
from ibd.models.base import InterpretableNetwork, evaluating
from ibd.models.calibration.calibration import Calibration, checksum
from ibd.models.inputs import File, Images, as_files, as_tensor, checked, named, read_images
from ibd.models.logits import Logits
from ibd.models.prediction import Prediction
from ibd.models.thresholds import Thresholds, calibration_number, read_thresholds
from ibd.types import DataSpec, Output, Units

_log = logging.getLogger(__name__)


class TrainedModel(nn.Module):
    """A network, and what must be known of its images to use it.

    Args:
        spec: description of its data.
        network: the pure network.

    Attributes:
        spec: description of its data.
        network: the pure network.
        calibration: how sure its predictions may be called, by `ibd.calibrate`; None where that was not asked.
        thresholds: from which probability on concepts are called true and classes answered, by `ibd threshold`; None
            where none is set.
        channels_last: whether images are laid out with their channels last, see `use_fast_layout` of
            `ibd.models.lightning.InterpretableModule`.
    """

    network: InterpretableNetwork
    calibration: Calibration | None = None
    thresholds: Thresholds | None = None
    channels_last = False

    def __init__(self, spec: DataSpec, network: InterpretableNetwork) -> None:
        super().__init__()
        self.spec = spec
        self.network = network

    @property
    def logits(self) -> Logits:
        """The model as a plain classifier of images, which other libraries take; it shares the network."""
        return Logits(self.network, self.forward)

    def forward(self, image: Tensor) -> Output:
        """Return logits and units of (B, 3, H, W) float images in [0, 1]; they are computed in the model's precision.

        Raises:
            DataError: no tensor of floats.
        """
        if not isinstance(image, Tensor) or not image.is_floating_point():
            what = image.dtype if isinstance(image, Tensor) else type(image).__name__
            raise DataError(f"images are {what}: a float tensor (B, 3, H, W) in [0, 1] is needed")
        image = image.to(next(self.network.parameters()).dtype)
        if self.channels_last:
            image = image.contiguous(memory_format=torch.channels_last)
        return self.network(image)  # type: ignore[no-any-return]

    def read_images(self, paths: Sequence[File]) -> Tensor:
        """Return images as (B, 3, H, W) in [0, 1], brought to the training size as the validation images were.

        Args:
            paths: image files, or images that Pillow has opened.

        Raises:
            DataError: a file is missing or unreadable, or none is given.
        """
        return read_images(paths, self.spec)

    def predict(self, images: Images, batch_size: int = 64) -> Prediction:
        """Return what the model says of images, as a `Prediction` that can be printed and intervened on.

        Args:
            images: (B, 3, H, W) or (3, H, W) float tensor or numpy array in [0, 1] at the training size, or one file (a
                path, or an image opened with Pillow), or several. Files may have any size and mode: they are brought to
                the training size as the validation images were.
            batch_size: images to read and compute at a time.

        Raises:
            DataError: an unreadable file, a tensor of another shape, type or range, or what is neither.
        """
        names: list[str] = []
        images = as_tensor(images)
        if isinstance(images, Tensor):
            parts: list[Any] = list(torch.split(checked(images, self.spec.image_size), batch_size))
        else:
            files = as_files(images)
            names = named(files)
            parts = [files[start : start + batch_size] for start in range(0, max(len(files), 1), batch_size)]
        weight = next(self.network.parameters())
        predicted = []
        with evaluating(self), torch.no_grad():
            for part in progress(parts, "reading images"):
                image = part if isinstance(part, Tensor) else self.read_images(part)
                predicted.append(self(image.to(weight.device, weight.dtype)))
        units = Units.cat([output.units for output in predicted])
        return self.prediction(torch.cat([output.logits for output in predicted]), units, names)

    def prediction(self, logits: Tensor, units: Units, names: list[str]) -> Prediction:
        """Return what the network has put out as a `Prediction`, in which nothing is edited yet."""
        unedited = torch.zeros_like(units.scores, dtype=torch.bool)
        draws = None if self.calibration is None else self.calibration.draw(len(logits))
        return Prediction(self.network, units, logits, unedited, names, self.calibration, draws, self.thresholds)

    def calibration_entry(self) -> dict[str, Any]:
        """Return what a checkpoint says of the calibration, as plain values; nothing where there is none."""
        return {} if self.calibration is None else {CALIBRATION_KEY: self.calibration.to_dict()}

    def take_calibration(self, content: Mapping[str, Any], loaded: bool = True) -> None:
        """Take over what a checkpoint says of how sure the model may be called, if it does.

        Args:
            content: content of the checkpoint.
            loaded: whether its weights are the model's already: of others the calibration is left out, with a warning.

        Raises:
            CheckpointError: that is damaged.
        """
        self.calibration = None
        if (plain := content.get(CALIBRATION_KEY)) is None:
            return
        found = Calibration.from_dict(plain, len(self.network.class_names), len(self.network.unit_names))
        if loaded and found.weights != checksum(self.network):
            _log.warning("the calibration is of other weights than the model now has, and left out: calibrate it anew")
        else:
            self.calibration = found

    def take_thresholds(self, checkpoint: Path) -> None:
        """Take over the thresholds that lie beside a checkpoint, if there are some, after its calibration.

        Raises:
            CheckpointError: they are damaged.
        """
        self.thresholds = None
        self.thresholds = self.thresholds_beside(checkpoint)

    def thresholds_beside(self, checkpoint: Path) -> Thresholds | None:
        """Return the thresholds that lie beside a checkpoint now; None where there are none.

        Those of other weights, or of another calibration, are left out, with a warning.

        Raises:
            CheckpointError: they are damaged.
        """
        found = read_thresholds(find_run(checkpoint), checkpoint.name)
        if found is None:
            return None
        same = found.weights == checksum(self.network) and found.calibration == calibration_number(self.calibration)
        if not same or not set(found.concepts) <= set(self.network.unit_names):
            _log.warning("the thresholds are of other weights or another calibration, and left out: set them anew")
            return None
        return found
