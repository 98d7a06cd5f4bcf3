"""Sources of images: `ToyBirds` (built in), `ConceptFolder` (your own), `CUB` (CUB-200-2011), `GivenImages` (any)."""

from ibd.data.base import ImageDataModule
from ibd.data.cub import CUB
from ibd.data.dataset import ImageDataset
from ibd.data.folder import ConceptFolder
from ibd.data.given import GivenImages
from ibd.data.images import read_image
from ibd.data.toybirds.datamodule import ToyBirds
from ibd.types import Batch, DataSpec, Sample

__all__ = [
    "CUB",
    "Batch",
    "ConceptFolder",
    "DataSpec",
    "GivenImages",
    "ImageDataModule",
    "ImageDataset",
    "Sample",
    "ToyBirds",
    "read_image",
]
