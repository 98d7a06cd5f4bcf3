"""What a model says of every image of a split, read once: what images are chosen, listed and counted by."""

from __future__ import annotations

import copy
import threading
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from ibd.app.page.long_work import Told, nobody_told
from ibd.data.base import ImageDataModule, Split
from ibd.errors import DataError
from ibd.models.base import evaluating
from ibd.models.calibration.reading import ReadOutputs
from ibd.models.trained import TrainedModel
from ibd.types import Batch, Units, stack_samples

MOST = 50_000
"""Images of a split that are read; of more, as many are taken at even distances."""


@dataclass(frozen=True)
class Answers:
    """What a model says of N images of a split, on the CPU, a row for each.

    Attributes:
        split: the split.
        of: number of its images; more than N where only a part was read.
        index: (N,) positions in the split.
        names: N names: files, or how an image was made.
        read: scores, true concepts and labels, and logits of the N images.
        values: (N, U) units as a person reads them, calibrated where the model is.
        probabilities: (N, C), calibrated where the model is.
        predicted: (N,) the most probable classes.
        abstains: (N,) bool, where the model gives no prediction: `predicted` says nothing then.
    """

    split: Split
    of: int
    index: Tensor
    names: list[str]
    read: ReadOutputs
    values: Tensor
    probabilities: Tensor
    predicted: Tensor
    abstains: Tensor

    def __len__(self) -> int:
        """Return the number of images that were read."""
        return len(self.index)

    @property
    def confidence(self) -> Tensor:
        """Probability of the predicted class, (N,)."""
        return self.probabilities.gather(1, self.predicted[:, None])[:, 0]

    @property
    def wrong(self) -> Tensor:
        """Which images are taken for another class than theirs, (N,) bool; not those without a prediction."""
        return (self.predicted != self.read.labels) & ~self.abstains

    def order(self) -> list[int]:
        """Return the N rows: the wrong ones first, then those without a prediction, of each the least sure first.

        Of equal ones the earlier image comes first.
        """
        by_confidence = self.confidence.argsort(stable=True)
        place = torch.where(self.wrong, 0, torch.where(self.abstains, 1, 2))[by_confidence]
        return [int(row) for row in by_confidence[place.argsort(stable=True)]]


@torch.no_grad()
def read_answers(
    model: TrainedModel, data: ImageDataModule, split: Split, told: Told = nobody_told, most: int = MOST
) -> Answers:
    """Return what a model says of the images of a split, in one pass without augmentation.

    Args:
        model: the model; it is left as it was.
        data: data of the model.
        split: split of the data.
        told: is told how many images of how many are read.
        most: images that are read at most; of more, as many at even distances, the first among them.

    Raises:
        DataError: the split has no images.
    """
    dataset, device = data.dataset(split), next(model.parameters()).device
    count = min(len(dataset), most)
    if not count:
        raise DataError(f"there are no {split} images")
    index = torch.arange(count) * len(dataset) // count
    loader: DataLoader[Batch] = DataLoader(
        Subset(dataset, index.tolist()),  # type: ignore[arg-type]  # our samples are collated into a Batch
        batch_size=data.batch_size,
        num_workers=data.num_workers,
        collate_fn=stack_samples,
    )
    scores, logits, seen = list[Tensor](), list[Tensor](), 0
    told(0, count)
    with evaluating(model):
        for batch in loader:
            output = model(batch.image.to(device))
            scores.append(output.units.scores.float().cpu())
            logits.append(output.logits.float().cpu())
            seen += len(batch)
            told(seen, count)
    read = ReadOutputs(torch.cat(scores), dataset.concepts[index], dataset.labels[index], torch.cat(logits))
    names = [dataset.sample_id(place) for place in index.tolist()]
    return answers_of(model, read, split, len(dataset), index, names)


@torch.no_grad()
def answers_of(
    model: TrainedModel, read: ReadOutputs, split: Split, of: int, index: Tensor, names: list[str]
) -> Answers:
    """Return what was read of a split as a person reads it: by the model's calibration, where it has one.

    Args:
        model: the model.
        read: what it put out for N images.
        split: their split.
        of: number of images of the split.
        index: (N,) positions in the split.
        names: N names.
    """
    device = next(model.parameters()).device
    scores = read.scores.to(device)
    units = Units(scores, scores.new_zeros(*scores.shape, 1, 1))  # neither maps nor state is needed to read them
    said = model.prediction(read.logits.to(device), units, names)
    return Answers(
        split,
        of,
        index,
        names,
        read,
        said.unit_values.float().cpu(),
        said.probabilities.float().cpu(),
        said.labels.cpu(),
        said.abstains.cpu(),
    )


class KeptAnswers:
    """The answers of one model to the splits of its data, each read once, by whoever asks first.

    Args:
        model: the model.
        data: its data.
        most: images of a split that are read at most.
        lock: held by who runs or changes the model; None where nobody else has it.
    """

    def __init__(
        self, model: TrainedModel, data: ImageDataModule, most: int = MOST, lock: threading.RLock | None = None
    ) -> None:
        self.model, self.data, self.most = model, data, most
        self._lock = lock or threading.RLock()
        self._kept: dict[Split, Answers] = {}
        self._locks: dict[Split, threading.Lock] = {"train": threading.Lock(), "val": threading.Lock()}
        self._locks["test"] = threading.Lock()

    def get(self, split: Split, told: Told = nobody_told) -> Answers:
        """Return the answers of a split, reading it now if nobody has; who asks meanwhile waits.

        Raises:
            DataError: the split has no images.
        """
        with self._locks[split]:
            if split not in self._kept:
                with self._lock:  # a copy made while it runs may be of a model in between two states
                    model = copy.deepcopy(self.model)  # whoever works with the other meanwhile does not wait
                found = read_answers(model, self.data, split, told, self.most)
                with self._lock:  # its thresholds may have been set while the copy was read
                    self._kept[split] = self._told_anew(found)
            return self._kept[split]

    def _told_anew(self, kept: Answers) -> Answers:
        return answers_of(self.model, kept.read, kept.split, kept.of, kept.index, kept.names)

    def ready(self, split: Split) -> Answers | None:
        """Return the answers of a split where it was read already; None where it was not."""
        return self._kept.get(split)

    def calibrated(self) -> None:
        """Read the kept numbers anew by the model's calibration, which has changed; no image is read."""
        for split, kept in list(self._kept.items()):
            self._kept[split] = self._told_anew(kept)

    def forget(self) -> None:
        """Forget all answers: the model has changed."""
        self._kept.clear()
