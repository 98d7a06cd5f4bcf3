"""Images that show the concepts: from the annotations of the training data, or from a folder for each concept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from ibd.data.dataset import ImageDataset, Key
from ibd.data.images import IMAGE_SUFFIXES, check_image, read_image
from ibd.data.transforms import eval_transform
from ibd.distributed import progress
from ibd.errors import DataError, did_you_mean
from ibd.types import Batch, DataSpec, Sample, stack_samples


def folder_concepts(root: str | Path) -> list[str]:
    """Return the names of the concepts in a folder that has a folder of images for each.

    Raises:
        DataError: there is no such folder, or no folder in it.
    """
    path = Path(root).expanduser()
    if not path.is_dir():
        raise DataError(f"model.concept_folder: there is no folder '{root}'")
    names = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise DataError(
            f"model.concept_folder: '{root}' holds no folder: one for each concept, with its images, is needed"
        )
    return names


class ConceptImages(ImageDataset):
    """The images of ``root/<concept>/*``: each shows its concept; of the others nothing is known.

    Args:
        root: folder that holds the folders of the concepts.
        concepts: the K names, each a folder in it.
        spec: description of the data, which says how images are brought to the training size.

    Raises:
        DataError: a concept has no folder, or no image in it.
    """

    def __init__(self, root: str | Path, concepts: Sequence[str], spec: DataSpec) -> None:
        known = folder_concepts(root)
        self.paths: list[Path] = []
        owners: list[int] = []
        for index, name in enumerate(concepts):
            if name not in known:
                raise DataError(f"model.concept_folder: '{root}' has no folder '{name}'.{did_you_mean(name, known)}")
            folder = Path(root).expanduser() / name
            paths = sorted(
                path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.name[0] != "."
            )
            if not paths:
                raise DataError(f"model.concept_folder: '{folder}' holds no image")
            self.paths += paths
            owners += [index] * len(paths)
        self.concepts = torch.full((len(owners), len(concepts)), torch.nan)
        self.concepts[range(len(owners)), owners] = 1.0
        self.labels = torch.zeros(len(owners), dtype=torch.int64)
        self._transform = eval_transform(spec.image_size, spec.resize)

    def check(self) -> None:
        """Read every image once.

        Raises:
            DataError: one is damaged.
        """
        for path in progress(self.paths, "checking concept images"):
            check_image(path)

    def load(self, index: int) -> Sample:
        """Return an image at the training size."""
        image = self._transform(read_image(self.paths[index]))
        assert isinstance(image, Tensor)
        return Sample(image, 0, self.concepts[index], index)

    def sample_id(self, index: int) -> str:
        """Return the path."""
        return str(self.paths[index])


def draw(concepts: Tensor, per_concept: int, seed: int) -> Tensor:
    """Return the indices of images that show the concepts, as few as will do, in order.

    The rarest concept first, images are drawn for each until there are as many of it as asked for, those that other
    concepts have brought along included; of a concept with fewer images, all.

    Args:
        concepts: (N, K), present where above 0.5.
        per_concept: images of each concept.
        seed: the result depends on it alone.
    """
    generator = torch.Generator().manual_seed(seed)
    present = (concepts > 0.5).t().contiguous()
    chosen = torch.zeros(len(concepts), dtype=torch.bool)
    for column in present[present.sum(1).argsort(stable=True)]:
        missing = per_concept - int((column & chosen).sum())
        rest = (column & ~chosen).nonzero().flatten()
        if missing > 0:
            chosen[rest[torch.randperm(len(rest), generator=generator)[:missing]]] = True
    return chosen.nonzero().flatten()


class _Passes(Sampler[list[Key]]):
    """Batches of one pass after the other, without end; a process has its share of each."""

    def __init__(self, examples: ConceptExamples, start: int) -> None:
        self.examples, self.start = examples, start

    def __iter__(self) -> Iterator[list[Key]]:
        number = self.start
        while parts := self.examples.parts(number):  # there are none where there are more processes than images
            for part in parts:
                yield [Key(int(index)) for index in part]
            number += 1


class ConceptExamples:
    """Passes over concept examples, each a fresh draw by (seed, number), shared out among the processes.

    Args:
        dataset: dataset whose `concepts` are (N, K).
        columns: columns of these concepts, in the order of the axes.
        per_concept: images drawn for each concept and pass.
        batch_size: images at a time.
        num_workers: loader processes, which live as long as this.
        seed: seed of the draws.
        rank, world_size: rank and world size of this process.

    Raises:
        DataError: a concept holds in no image.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        columns: Sequence[int],
        per_concept: int,
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.dataset, self.columns = dataset, list(columns)
        self.concepts = dataset.concepts[:, self.columns]
        self.per_concept, self.batch_size, self.num_workers, self.seed = per_concept, batch_size, num_workers, seed
        self.rank, self.world_size = rank, world_size
        self._iterator: Iterator[Batch] | None = None
        self._next = -1

    def parts(self, number: int) -> Sequence[Tensor]:
        """Return the batches of indices of this process in a pass."""
        indices = draw(self.concepts, self.per_concept, self.seed * 1_000_003 + number)
        mine = indices[self.rank :: self.world_size]
        return torch.split(mine, self.batch_size) if len(mine) else []

    def read(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the images (B, 3, H, W) and concepts (B, K) of a pass; in order, passes are read ahead."""
        parts = self.parts(number)
        if not parts:
            self._iterator = None
            return
        if self._iterator is None or self._next != number:
            loader: DataLoader[Batch] = DataLoader(
                self.dataset,  # type: ignore[arg-type]  # our samples are collated into a Batch
                batch_sampler=_Passes(self, number),
                num_workers=self.num_workers,
                collate_fn=stack_samples,
                generator=torch.Generator(),  # else it would draw from torch's own, which a resumed run has elsewhere
            )
            self._iterator = iter(loader)
        self._next = number + 1
        for _ in parts:
            batch = next(self._iterator)
            yield batch.image, batch.concepts[:, self.columns]
