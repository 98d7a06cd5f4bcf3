"""Procedural birds with a ground truth for explanations (see `ToyBirds`)."""

from ibd.data.toybirds.classes import ToyClasses
from ibd.data.toybirds.contact_sheet import contact_sheet
from ibd.data.toybirds.datamodule import ToyBirds
from ibd.data.toybirds.dataset import ToyBirdsDataset, Truth
from ibd.data.toybirds.masks import part_masks
from ibd.data.toybirds.parts import PARTS, VARIANTS
from ibd.data.toybirds.render import render, visible_fraction
from ibd.data.toybirds.scene import Background, Distractor, Jitter, Pose, Scene, Tag

__all__ = [
    "PARTS",
    "VARIANTS",
    "Background",
    "Distractor",
    "Jitter",
    "Pose",
    "Scene",
    "Tag",
    "ToyBirds",
    "ToyBirdsDataset",
    "ToyClasses",
    "Truth",
    "contact_sheet",
    "part_masks",
    "render",
    "visible_fraction",
]
