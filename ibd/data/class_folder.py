"""Images in one folder for each class, without splits: images that a trained model is asked about."""

from __future__ import annotations

import torch

from ibd.data.files import FileDataModule, FileTable
from ibd.data.folder import class_folders
from ibd.errors import DataError
from ibd.types import DataSpec, Resize


class ClassFolder(FileDataModule):
    """Images in ``root/<class>/``, all of them the test split; nothing can be trained on them.

    Args:
        root: folder of the images.
        image_size: side of the square, or [height, width], that a network is fed with, in pixels.
        resize: way to bring other sizes to it: "squash" distorts, "crop" cuts the edges, "pad" adds black ones.
        batch_size: images per step.

    Raises:
        DataError: there is no such folder, or no class or image in it.
    """

    def __init__(
        self, root: str, image_size: int | list[int] = 224, resize: Resize = "crop", batch_size: int = 64
    ) -> None:
        super().__init__(root, image_size, resize, "none", 0.1, False, True, batch_size, 0, 0)
        self.images = self.root
        classes = class_folders(self.root)
        if not classes:
            raise DataError(f"{self.root}: there are no class folders; images must lie in CLASS/, or train/CLASS/, ...")
        paths = [path for files in classes.values() for path in files]
        labels = torch.tensor([label for label, files in enumerate(classes.values()) for _ in files])
        rows = torch.arange(len(paths))
        self.tables = {"test": FileTable(paths, labels, torch.zeros(len(paths), 0), rows)}
        self.spec = DataSpec(class_names=tuple(classes), image_size=self.size, resize=resize)
