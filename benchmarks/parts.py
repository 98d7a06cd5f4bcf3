"""What several benchmarks are made of: data of a shape, plain networks, training steps."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.backbones import build_backbone
from ibd.data.base import ImageDataModule, Split
from ibd.data.dataset import ImageDataset
from ibd.models.cbm.lightning import ConceptBottleneck
from ibd.models.cem.lightning import ConceptEmbedding
from ibd.models.lightning import InterpretableModule
from ibd.models.optimizer import OptimizerSettings, build_optimizer
from ibd.types import Batch, DataSpec, Sample, groups_of

Step = Callable[[], object]
AnyModule = TypeVar("AnyModule", bound=InterpretableModule)

CUB_GROUPS = [size for size, count in ((1, 3), (2, 4), (3, 6), (4, 2), (5, 3), (6, 10)) for _ in range(count)]
"""Sizes of the 28 groups of the 112 concepts of CUB."""


def make_spec(group_sizes: Sequence[int], classes: int, size: int) -> DataSpec:
    """Return the specification of data with concept groups of these sizes."""
    names = tuple(f"group{g}::{i}" for g, count in enumerate(group_sizes) for i in range(count))
    labels = tuple(f"class {i}" for i in range(classes))
    return DataSpec(labels, names, groups_of(names), image_size=(size, size))


def make_batch(spec: DataSpec, count: int) -> Batch:
    """Return random images with random labels and concepts."""
    generator = torch.Generator().manual_seed(0)
    height, width = spec.image_size
    return Batch(
        image=torch.rand(count, 3, height, width, generator=generator),
        label=torch.randint(len(spec.class_names), (count,), generator=generator),
        concepts=(torch.rand(count, len(spec.concept_names), generator=generator) < 0.2).float(),
        index=torch.arange(count),
    )


class TensorImages(ImageDataset):
    """The images of a batch, as a dataset."""

    def __init__(self, batch: Batch) -> None:
        self.batch, self.labels, self.concepts = batch, batch.label, batch.concepts

    def load(self, index: int) -> Sample:
        """Return image `index`."""
        return Sample(self.batch.image[index], int(self.labels[index]), self.concepts[index], index)

    def sample_id(self, index: int) -> str:
        """Return a number."""
        return str(index)


class TensorData(ImageDataModule):
    """The images of a batch, as all three splits."""

    def __init__(self, batch: Batch, spec: DataSpec) -> None:
        super().__init__(len(batch))
        self.batch, self.spec = batch, spec

    def dataset(self, split: Split, augment: bool = False) -> TensorImages:
        """Return all images."""
        return TensorImages(self.batch)


class PlainNetwork(nn.Module):
    """Backbone, mean, linear layer: what anybody would write."""

    def __init__(self, backbone: dict[str, Any], classes: int) -> None:
        super().__init__()
        self.backbone = build_backbone(backbone)
        self.head = nn.Linear(self.backbone.out_channels, classes)

    def forward(self, image: Tensor) -> Tensor:
        """Return (B, C) logits of (B, 3, H, W) images."""
        logits: Tensor = self.head(self.backbone(image).mean((2, 3)))
        return logits


def plain_step(backbone: dict[str, Any], batch: Batch, classes: int, channels_last: bool) -> Step:
    """Return a plain training step: forward, cross-entropy, backward, optimizer."""
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network = PlainNetwork(backbone, classes).to(memory_format=layout).train()
    optimizer = build_optimizer(network, OptimizerSettings(lr=1e-4))

    def step() -> None:
        logits = network(batch.image.contiguous(memory_format=layout))
        loss = F.cross_entropy(logits, batch.label)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def without_logging(module: AnyModule) -> AnyModule:
    """Return a module as it is in training, without a trainer: what it logs goes nowhere."""
    module.log = module.log_dict = lambda *_, **__: None  # type: ignore[method-assign, assignment]
    module.use_fast_layout()
    return module.train()


def cbm_module(backbone: dict[str, Any], spec: DataSpec) -> ConceptBottleneck:
    """Return a joint concept bottleneck as it is in training."""
    torch.manual_seed(0)
    return without_logging(ConceptBottleneck(spec, backbone, imbalance="pos_weight"))


def cem_module(backbone: dict[str, Any], spec: DataSpec) -> ConceptEmbedding:
    """Return a concept embedding model as it is in training."""
    torch.manual_seed(0)
    return without_logging(ConceptEmbedding(spec, backbone, imbalance="pos_weight"))


def module_step(module: InterpretableModule, batch: Batch) -> Step:
    """Return the module's own training step, metrics included, and an optimizer step."""
    optimizer = build_optimizer(module.network, OptimizerSettings(lr=1e-4))

    def step() -> None:
        loss = module.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def saved_bytes(layer: Callable[[], Tensor], inputs: Collection[int] = ()) -> int:
    """Return what a pass keeps for the way back, in bytes, without the storages at these addresses."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in inputs:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = layer()
    del result
    return sum(kept.values())
