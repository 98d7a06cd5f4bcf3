"""Tiny prototype networks, and images of which they can learn something."""

import pytorch_lightning as pl
import torch

from ibd.models.protopnet.lightning import ProtoPNet
from ibd.types import DataSpec
from tests.model_makers import TensorData

SPEC = DataSpec(class_names=("ant", "bee", "cow"), image_size=(32, 24))
BACKBONE = {"name": "small_cnn", "width": 4, "depth": 3}
GRID = (4, 3)
"""Rows and columns of the feature map of such an image."""


class SquareData(TensorData):
    """Gray noise with a square of the class's color somewhere; training images are wrong where they are augmented."""

    def __init__(self, sizes=(70, 24, 30), spec=SPEC, batch_size=16, num_workers=0):
        super().__init__(sizes, spec, batch_size=batch_size)
        self.num_workers = num_workers
        for images, labels, _ in self.splits.values():
            images.mul_(0.3)
            height, width = spec.image_size
            for i, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
                y, x = (i * 5) % (height - 8), (i * 3) % (width - 8)
                image[label, y : y + 8, x : x + 8] += 0.6

    def dataset(self, split, augment=False):
        """Make the dataset once, as those on disk do."""
        known = self.__dict__.setdefault("made", {})
        if (split, augment) not in known:
            known[split, augment] = super().dataset(split, augment)
        return known[split, augment]


class PlainTraining(SquareData):
    """Trains on what it shows: for trainings that are to learn something."""

    def dataset(self, split, augment=False):
        return super().dataset(split)


def make_module(seed=0, spec=SPEC, **options):
    """Return a `ProtoPNet` with random weights: 3 classes x 2 prototypes of 8 channels."""
    torch.manual_seed(seed)
    options = {"per_class": 2, "dimension": 8, "optimizer": {"lr": 0.01}, **options}
    return ProtoPNet(spec, options.pop("backbone", BACKBONE), **options)


def make_network(seed=0, **options):
    """Return only its network, in evaluation mode, with batch statistics that are not those of the beginning."""
    network = make_module(seed, **options).network
    generator = torch.Generator().manual_seed(seed)
    for module in network.backbone.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.copy_(0.3 * torch.randn(module.num_features, generator=generator))
            module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=generator))
    return network.eval()


SHORT = {"warm": {"epochs": 1}, "joint": {"epochs": 2}, "push": {"start": 1, "every": 10}}
"""Phases of three epochs, with a projection after the second and the third."""


def trainer(**options):
    return pl.Trainer(
        **{"accelerator": "cpu", "logger": False, "enable_progress_bar": False, **options},
        enable_model_summary=False,
        enable_checkpointing=False,
        use_distributed_sampler=False,
    )


def fitted(data=None, callbacks=(), precision="32-true", max_epochs=None, module=None, **options):
    """Return a module that was really trained, for as many epochs as its phases have, and its data."""
    module = make_module(**{**SHORT, **options}) if module is None else module
    data = PlainTraining() if data is None else data
    fitting = trainer(max_epochs=max_epochs or module.epochs, precision=precision, callbacks=list(callbacks))
    fitting.fit(module, datamodule=data)
    return module, data


def features_of(network, data, split="train"):
    """The features of all images, one image at a time."""
    with torch.no_grad():
        return torch.cat([network.features(image[None]) for image in data.splits[split][0]])


def batch_statistics(network):
    """All buffers of the backbone, copied."""
    return {name: value.clone() for name, value in network.backbone.named_buffers()}
