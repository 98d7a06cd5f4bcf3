"""Sources of images: `ToyBirds` (built in), `ConceptFolder` (your own), `CUB` (CUB-200-2011), `GivenImages` (any)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ibd.errors import did_you_mean

if TYPE_CHECKING:  # what an editor and a type checker read; at run time these come from the table below
    from ibd.data.base import ImageDataModule as ImageDataModule
    from ibd.data.cub import CUB as CUB
    from ibd.data.dataset import ImageDataset as ImageDataset
    from ibd.data.folder import ConceptFolder as ConceptFolder
    from ibd.data.given import GivenImages as GivenImages
    from ibd.data.images import read_image as read_image
    from ibd.data.masked import MaskedImages as MaskedImages
    from ibd.data.pasted.datamodule import PastedScenes as PastedScenes
    from ibd.data.toybirds.datamodule import ToyBirds as ToyBirds
    from ibd.types import Batch as Batch, DataSpec as DataSpec, Sample as Sample

_PLACES = {
    "CUB": "ibd.data.cub",
    "Batch": "ibd.types",
    "ConceptFolder": "ibd.data.folder",
    "DataSpec": "ibd.types",
    "GivenImages": "ibd.data.given",
    "ImageDataModule": "ibd.data.base",
    "ImageDataset": "ibd.data.dataset",
    "PastedScenes": "ibd.data.pasted.datamodule",
    "MaskedImages": "ibd.data.masked",
    "Sample": "ibd.types",
    "ToyBirds": "ibd.data.toybirds.datamodule",
    "read_image": "ibd.data.images",
}
"""Public name -> its module: a prediction needs one of them, which must not import Lightning with the others."""

__all__ = sorted(_PLACES)

if not TYPE_CHECKING:  # which would take any name for right

    def __getattr__(name: str) -> Any:
        """Import a public name when it is first asked for (PEP 562)."""
        if name not in _PLACES:
            raise AttributeError(f"module 'ibd.data' has no attribute '{name}'.{did_you_mean(name, __all__)}")
        public = globals()[name] = getattr(importlib.import_module(_PLACES[name]), name)
        return public


def __dir__() -> list[str]:
    """Name what can be asked for."""
    return __all__
