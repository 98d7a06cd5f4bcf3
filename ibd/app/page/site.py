"""What the page serves: the runs, the images that were brought to it, and what their models said of them.

For those who write a mode of the page:

- A mode is a Python module with ``routes(site) -> list[Route]``, made by `ibd.app.page.answers.get` and ``post``, and
  listed in `ibd.app.page.server.MODES`. Its functions take an `ibd.app.page.answers.Asked`, run in a thread, and return
  plain values, which become JSON (NaN becomes null), or a response. An `IbdError` becomes ``{"error": "one line"}``.
- A run is found by the address: ``/api/runs/{run}/...`` holds its key, and ``asked.run`` is the `Served` run.
- An image is named ``test:17`` (split and number in the data of the run) or ``upload:ID`` (brought by this browser).
  ``asked.image()`` returns it as an `Entry`, by the parameter ``image`` of the address or the body: with the tensor
  that the network is fed with, and the `Prediction`, made once and kept: no slider runs the backbone again.
- Who runs a model holds ``run.lock`` (`Entry` and its prediction do so themselves). What takes long or hangs hooks into
  the model (explainers) takes ``run.explained``, a copy, and ``run.explaining``: sliders of others go on meanwhile.
- What a model says of a whole split is read once for all modes: ``run.answers.get(split, told)``, in a work of
  ``run.works``, which runs in a thread, says how far it is, and can be stopped.
- Nothing is written to the disk, unless a mode says so to the person who asks for it.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from ibd.app.page.long_work import Works
from ibd.app.page.looking import Looked
from ibd.app.page.split_answers import KeptAnswers
from ibd.app.page.uploads import Uploads
from ibd.config.loading import load_saved_config
from ibd.config.plain import to_plain
from ibd.data.base import SPLITS, ImageDataModule, Split
from ibd.data.dataset import ImageDataset
from ibd.errors import DataError, IbdError, did_you_mean
from ibd.io import find_checkpoint, find_run, is_time, load_run_data
from ibd.models.base import InterpretableNetwork
from ibd.models.loading import load_network
from ibd.models.prediction import Prediction
from ibd.models.thresholds import Thresholds
from ibd.models.trained import TrainedModel
from ibd.types import Sample

SPLIT_WORDS: dict[str, str] = {"train": "training", "val": "validation", "test": "test"}
"""What a person calls the splits."""
KEPT = 64
"""Images of a run whose predictions are kept."""
_OF_LOADING = ("batch_size", "num_workers", "cache", "check_images", "augment")
"""Options of a data module that do not change which images it has."""


class NotFoundError(IbdError):
    """The page knows no such run or image; answered by 404."""


class GoneError(IbdError):
    """A run or an image was there, and is no longer; answered by 410."""


@dataclass(frozen=True)
class Entry:
    """An image as a run sees it.

    Attributes:
        name: ``test:17`` or ``upload:ID``.
        title: what a person calls it: its path in the data, or the name of the file.
        image: (1, 3, H, W) in [0, 1], as the network is fed with it.
        prediction: prediction for it, with nothing edited.
        sample: what the data says of it; None for an upload.
    """

    name: str
    title: str
    image: Tensor
    prediction: Prediction
    sample: Sample | None = None

    @cached_property
    def contributions(self) -> Tensor:
        """What each unit adds to each class logit, (1, U, C), computed once: asked for with the run's lock held."""
        return self.prediction.contributions


@dataclass(eq=False)
class Served:
    """A run that is served.

    Attributes:
        key: name in addresses, unlike that of every other run here.
        folder: run folder.
        model: its trained model, loaded once.
        checkpoint: file that it was loaded from.
        lock: held by who runs the model.
        explaining: held by who runs `explained`.
        works: what takes long, under way or done.
        looked: what was made of its images and units so far.
        written: when that file was written, and how long it was; see `was_replaced`.
    """

    key: str
    folder: Path
    model: TrainedModel
    checkpoint: Path
    written: tuple[int, int] | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)
    explaining: threading.RLock = field(default_factory=threading.RLock)
    works: Works = field(default_factory=Works)
    looked: Looked = field(default_factory=Looked)
    _entries: OrderedDict[str, Entry] = field(default_factory=OrderedDict)
    _loading: threading.Lock = field(default_factory=threading.Lock)
    _data: ImageDataModule | None = None
    _answers: KeptAnswers | None = None

    def __post_init__(self) -> None:
        """Note which checkpoint it is, where that was not done before it was loaded."""
        self.written = self.written or _written(self.checkpoint)

    @property
    def network(self) -> InterpretableNetwork:
        """The network of its model."""
        return self.model.network

    @cached_property
    def explained(self) -> TrainedModel:
        """A copy of the model, for what takes long or hangs hooks into it; to be run with `explaining` held."""
        with self.lock:
            return copy.deepcopy(self.model)

    @property
    def data(self) -> ImageDataModule:
        """The data that the run was trained on, loaded when first asked for.

        Raises:
            GoneError: the run folder is no longer there.
            IbdError: the data cannot be loaded; the message says why.
        """
        with self._loading:
            if self._data is None:
                self.check_there()
                self._data = load_run_data(self.folder)
            return self._data

    @cached_property
    def data_key(self) -> str | None:
        """What runs on the same images have in common; None where it is not said what this one was trained on."""
        try:
            block = to_plain(load_saved_config(self.folder / "config.yaml").data)
        except IbdError:
            return None
        images = {key: value for key, value in block.items() if key not in _OF_LOADING}
        return hashlib.sha256(json.dumps(images, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def answers(self) -> KeptAnswers:
        """What the model says of the splits of its data.

        Raises:
            IbdError: as for `data`.
        """
        data = self.data
        with self._loading:
            if self._answers is None:
                self._answers = KeptAnswers(self.model, data, lock=self.lock)
            return self._answers

    def check_there(self) -> None:
        """Look whether the run folder is still there, before something is read from or written to it.

        Raises:
            GoneError: it is not.
        """
        if not self.folder.is_dir():
            raise GoneError(f"the run '{self.folder}' was deleted or moved since it is served: what it holds is gone")

    def was_replaced(self) -> bool:
        """Return whether the checkpoint is gone, or another one than what was loaded, as after further training."""
        return _written(self.checkpoint) != self.written

    def check_unchanged(self) -> None:
        """Look whether the checkpoint is still the one that is served, before something of it is written beside it.

        Raises:
            GoneError: it is not.
        """
        self.check_there()
        if self.was_replaced():
            raise GoneError(
                f"'{self.checkpoint}' was calibrated or trained since it is served: end `ibd serve`, and start it anew"
            )

    def take_thresholds(self) -> None:
        """Go by the thresholds that lie beside the checkpoint, where `ibd threshold` has changed them meanwhile.

        Raises:
            CheckpointError: they are damaged.
        """
        with self.lock:
            if not self.folder.is_dir() or self.was_replaced():
                return  # those are of another model, or gone
            there = self.model.thresholds_beside(self.checkpoint)
            if there != self.model.thresholds:
                self.set_thresholds(there)

    def set_thresholds(self, thresholds: Thresholds | None) -> None:
        """Let the model call true and answer by other thresholds; what is kept is told anew."""
        with self.lock:
            self.model.thresholds = thresholds
            if self._answers is not None:
                self._answers.calibrated()
            if "explained" in vars(self):
                self.explained.thresholds = thresholds
            self._entries.clear()

    def dataset(self, split: str) -> ImageDataset:
        """Return one split of the data.

        Raises:
            NotFoundError: there is no split of this name.
            IbdError: as for `data`.
        """
        known = split_named(split)
        return self.data.dataset(known)

    def entry(self, name: str, uploads: Uploads, session: str) -> Entry:
        """Return an image and its prediction, which is kept.

        Args:
            name: ``test:17`` or ``upload:ID``.
            uploads: images that were brought.
            session: browser that asks: it sees its own uploads only.

        Raises:
            NotFoundError: there is no such image.
            GoneError: it was an upload and went to make room for others, or the data went with the run folder.
            DataError: it cannot be read.
        """
        kind, _, rest = name.partition(":")
        upload = uploads.get(session, rest) if kind == "upload" else None
        with self.lock:
            if name in self._entries:
                self._entries.move_to_end(name)
                return self._entries[name]
        if upload is not None:
            title, image, sample = upload.name, self.model.read_images([upload.opened()]), None
        else:
            title, sample = self.sample(kind, rest)
            image = sample.image[None]
        with self.lock:
            prediction = self.model.predict(image)
            self._entries[name] = Entry(name, title, image, prediction, sample)
            while len(self._entries) > KEPT:
                self._entries.popitem(last=False)
            return self._entries[name]

    def sample(self, split: str, number: str) -> tuple[str, Sample]:
        """Return what an image of the data is called, and the image.

        Raises:
            NotFoundError: there is no such image.
        """
        dataset = self.dataset(split)
        if not number.isdecimal() or len(number) > 12 or int(number) >= len(dataset):
            raise NotFoundError(f"there is no image '{split}:{number}': {split} has {len(dataset)}, counted from 0")
        return dataset.sample_id(int(number)), dataset[int(number)]


def split_named(name: str) -> Split:
    """Return a split by its name.

    Raises:
        NotFoundError: there is none.
    """
    for split in SPLITS:
        if split == name:
            return split
    raise NotFoundError(f"there is no split '{name}': it is one of {', '.join(SPLITS)}")


class Site:
    """The runs that are served, and the images that were brought.

    Args:
        runs: run folders or checkpoints.

    Raises:
        IbdError: one cannot be loaded.
    """

    def __init__(self, runs: Sequence[str]) -> None:
        self.runs: dict[str, Served] = {}
        self.uploads = Uploads()
        self._adding = threading.Lock()
        for run in runs:
            self.add(run)

    def add(self, run: str) -> str:
        """Serve another run, and return its key.

        Raises:
            IbdError: it cannot be loaded.
        """
        folder = find_run(run).absolute()
        checkpoint = find_checkpoint(run).absolute()
        written = _written(checkpoint)
        model = load_network(run)
        with self._adding:
            key = self._key(folder)
            served = Served(key, folder, model, checkpoint, written)
            self.runs = {**self.runs, key: served}  # who goes through the others meanwhile is not disturbed
        _ = served.data_key  # read while it is there
        return key

    def _key(self, folder: Path) -> str:
        """Return the name of a run in addresses: that of the folder, or of the one above where that is a time."""
        parts = [part for part in folder.parts[-2:] if not is_time(part)] or [folder.name]
        plain = re.sub(r"[^A-Za-z0-9_.-]+", "-", parts[-1]).strip(".-") or "run"
        count = 1
        while (key := plain if count == 1 else f"{plain}-{count}") in self.runs:
            count += 1
        return key

    def run(self, key: str) -> Served:
        """Return a run by its key.

        Raises:
            NotFoundError: there is none.
        """
        if key not in self.runs:
            raise NotFoundError(f"no run '{key}' is served here.{did_you_mean(key, self.runs)}")
        return self.runs[key]


def _written(file: Path) -> tuple[int, int] | None:
    """Return when a file was written, and how long it is; None where it is gone."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def as_png(image: Tensor) -> bytes:
    """Return a (3, H, W) image in [0, 1] as a PNG file.

    Raises:
        DataError: it is none.
    """
    import io

    from PIL import Image

    if image.ndim != 3 or image.shape[0] != 3:
        raise DataError(f"a picture of shape {tuple(image.shape)}: (3, H, W) is needed")
    pixels = (image.detach().clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()
