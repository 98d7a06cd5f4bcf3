"""Functions that make tiny models, and data that is nothing but tensors."""

import dataclasses

import torch
from torch import nn

from ibd.backbones.base import Backbone
from ibd.data.base import ImageDataModule
from ibd.data.dataset import ImageDataset
from ibd.models.cbm.lightning import ConceptBottleneck
from ibd.models.cbm.network import ConceptBottleneckNetwork
from ibd.models.cem.lightning import ConceptEmbedding
from ibd.models.concept_whitening.lightning import ConceptWhitening
from ibd.models.interpretable_cnn.lightning import InterpretableCNN
from ibd.models.pipnet.lightning import PIPNet
from ibd.models.posthoc_cbm.lightning import PosthocBottleneck
from ibd.models.protopnet.lightning import ProtoPNet
from ibd.models.scbm.lightning import StochasticConceptBottleneck
from ibd.models.scbm.network import StochasticConceptBottleneckNetwork
from ibd.types import DataSpec, Sample, groups_of

CONCEPTS = ("wing::red", "wing::blue", "wing::green", "size::big", "size::loud", "flies")
SPEC = DataSpec(
    class_names=("ant", "bee", "cow"),
    concept_names=CONCEPTS,
    concept_groups=groups_of(CONCEPTS),
    exclusive_groups=("wing",),
    image_size=(16, 16),
)
LARGE = dataclasses.replace(SPEC, image_size=(32, 32))
SMALL = {"name": "small_cnn", "width": 2, "depth": 3}


class CountingBackbone(Backbone):
    """One convolution; counts its passes and the images that it saw."""

    def __init__(self, channels=4):
        super().__init__()
        self.out_channels = channels
        self.conv = nn.Conv2d(3, channels, 3, stride=4, padding=1)
        self.passes, self.images = 0, 0

    def forward(self, image):
        self.passes, self.images = self.passes + 1, self.images + len(image)
        return super().forward(image)


def make_network(spec=SPEC, seed=0, **options):
    """Return a concept bottleneck network with large random weights and made-up training percentiles."""
    torch.manual_seed(seed)
    network = ConceptBottleneckNetwork(CountingBackbone(), spec, **options)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=1.5)
    network.low.copy_(torch.linspace(-4, -2, len(network.low)))
    network.high.copy_(torch.linspace(1, 3, len(network.high)))
    return network.eval()


def make_module(spec=SPEC, seed=0, **options):
    """Return a small `ConceptBottleneck` with made-up training percentiles."""
    torch.manual_seed(seed)
    module = ConceptBottleneck(spec, SMALL, **options)
    nn.init.normal_(module.network.concepts.weight, std=2.0)
    module.network.low.fill_(-3.0)
    module.network.high.fill_(2.0)
    return module.eval()


def make_embedding(spec=SPEC, seed=0, **options):
    """Return a small `ConceptEmbedding` with vectors of five numbers that differ between images."""
    torch.manual_seed(seed)
    module = ConceptEmbedding(spec, SMALL, **{"embedding_size": 5, **options})
    for layer in (module.network.embeddings, module.network.scorer, module.network.head):
        nn.init.normal_(layer.weight, std=1.5)
    return module.eval()


class Pixels(Backbone):
    """Features are the colors of an image: as many maps as colors, a quarter as high and wide."""

    def __init__(self):
        super().__init__("none")
        self.out_channels = 3
        self.pool = nn.AvgPool2d(4)


PIXELS = {"name": "tests.model_makers:Pixels"}


def make_posthoc(spec=SPEC, seed=0, truth=True, **options):
    """Return a small `PosthocBottleneck` with random directions and a random head, as if it had been fitted."""
    torch.manual_seed(seed)
    units = {"names": list(spec.concept_names), "truth": truth, "reading": options.pop("reading", "linear")}
    module = PosthocBottleneck(spec, options.pop("backbone", SMALL), units=units, **options)
    network = module.network
    nn.init.normal_(network.concepts.weight, std=2.0)
    network.low.fill_(-3.0)
    network.high.fill_(2.0)
    if options.get("rest"):
        with torch.no_grad():
            network.head.weight[:, network.concept_count :] = torch.eye(len(spec.class_names))
    return module.eval()


def make_stochastic(spec=SPEC, seed=0, covariance="global", rank=None, **options):
    """Return a small stochastic bottleneck whose concepts depend on each other a lot, with made-up percentiles."""
    torch.manual_seed(seed)
    own = {"covariance": covariance, "rank": rank, **options}
    network = StochasticConceptBottleneckNetwork(CountingBackbone(), spec, **own)
    for name, parameter in network.named_parameters():
        nn.init.normal_(parameter, std=0.8 if name.startswith("covariance") else 1.5)
    network.low.copy_(torch.linspace(-4, -2, len(network.low)))
    network.high.copy_(torch.linspace(1, 3, len(network.high)))
    return network.eval().requires_grad_(False)


def make_stochastic_module(spec=SPEC, seed=0, **options):
    """Return a small `StochasticConceptBottleneck` with made-up training percentiles and a covariance of its own."""
    torch.manual_seed(seed)
    module = StochasticConceptBottleneck(spec, SMALL, **options)
    nn.init.normal_(module.network.concepts.weight, std=2.0)
    for parameter in module.network.covariance.parameters():
        nn.init.normal_(parameter, std=0.8)
    module.network.low.fill_(-3.0)
    module.network.high.fill_(2.0)
    return module.eval()


def make_pipnet(spec=SPEC, seed=0, **options):
    """Return a small `PIPNet` with seven prototypes."""
    torch.manual_seed(seed)
    return PIPNet(spec, SMALL, **{"prototypes": 7, **options})


def make_filters(spec=SPEC, seed=0, **options):
    """Return a small `InterpretableCNN` with filters of all classes but the first, in evaluation mode."""
    torch.manual_seed(seed)
    module = InterpretableCNN(spec, SMALL, **{"filters": 7, **options})
    network, classes = module.network, len(spec.class_names)
    activity = torch.zeros_like(network.activity)
    for j in range(activity.shape[1] - 1):
        activity[1 + j % (classes - 1), j] = 1.0
    network.assign(activity)
    network.name_filters()
    return module.eval()


def make_whitening(spec=SPEC, seed=0, backbone=None, **options):
    """Return a small `ConceptWhitening`; see `settle`."""
    torch.manual_seed(seed)
    module = ConceptWhitening(spec, backbone or {"name": "small_cnn", "width": 4, "depth": 3}, **options)
    settle(module.network, spec.image_size)
    return module.eval()


def settle(network, size=(16, 16), batches=3, images=16):
    """Give a whitened network statistics of random images and random rotations, in evaluation mode.

    Its batch normalizations get scales, shifts and statistics of their own as well.
    """
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.3)
    with torch.no_grad():
        for _ in range(batches):
            network(torch.rand(images, 3, *size, dtype=network.head.weight.dtype))
        for layer in network.whitened.values():
            layer.rotation.copy_(torch.linalg.qr(torch.randn(layer.rotation.shape))[0])
    return network.eval()


def random_concepts(count, spec=SPEC, seed=0, unknown=0.0):
    """Return (N, K) concepts of which an exclusive group has at most one, some of them NaN."""
    generator = torch.Generator().manual_seed(seed)
    concepts = (torch.rand(count, len(spec.concept_names), generator=generator) < 0.5).float()
    for name in spec.exclusive_groups:
        group = list(spec.concept_groups[name])
        choice = torch.randint(len(group) + 1, (count,), generator=generator)
        concepts[:, group] = torch.eye(len(group) + 1)[choice][:, :-1]
    missing = torch.rand(concepts.shape, generator=generator) < unknown
    return concepts.masked_fill(missing, torch.nan)


class TensorImages(ImageDataset):
    """Images in memory; the augmented ones are black, so that nobody takes them for the others."""

    def __init__(self, images, labels, concepts, augment):
        self.images = images * 0 if augment else images
        self.labels, self.concepts = labels, concepts

    def load(self, index):
        return Sample(self.images[index], int(self.labels[index]), self.concepts[index], index)

    def sample_id(self, index):
        return f"tensor {index}"


class TensorData(ImageDataModule):
    """Random images with random labels and concepts, in three splits."""

    def __init__(self, sizes=(40, 24, 30), spec=SPEC, unknown=0.1, batch_size=16):
        super().__init__(batch_size)
        self.spec, self.asked = spec, []
        self.splits = {}
        for seed, (split, size) in enumerate(zip(("train", "val", "test"), sizes, strict=True)):
            generator = torch.Generator().manual_seed(seed)
            images = torch.rand(size, 3, *spec.image_size, generator=generator)
            labels = torch.randint(len(spec.class_names), (size,), generator=generator)
            self.splits[split] = images, labels, random_concepts(size, spec, seed, unknown)

    def dataset(self, split, augment=False):
        self.asked.append((split, augment))
        return TensorImages(*self.splits[split], augment)


def make_prototypes(data=None, seed=0, **options):
    """Return a small `ProtoPNet`, its prototypes projected on the training images of the data, if any."""
    torch.manual_seed(seed)
    spec = LARGE if data is None else data.spec
    backbone = {"name": "small_cnn", "width": 4, "depth": 3, "normalize": "none"}
    module = ProtoPNet(spec, backbone, **{"per_class": 2, "dimension": 6, "distance": "cosine", **options}).eval()
    for name, parameter in module.network.named_parameters():
        if name.startswith(("backbone", "add_on")):
            nn.init.normal_(parameter, std=0.7)
    if data is not None:
        module.finish(data)
    return module
