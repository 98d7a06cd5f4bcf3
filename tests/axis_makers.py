"""A network that has axes, made of a small CNN: the concepts' own channels are what batch normalization returns."""

import pytorch_lightning as pl
import torch
from torch import nn

from ibd.backbones.small import SmallCNN
from ibd.models.base import InterpretableNetwork
from ibd.models.baseline.lightning import Baseline
from ibd.models.concept_whitening.lightning import ConceptWhitening
from ibd.models.concept_whitening.network import ConceptWhiteningNetwork
from ibd.models.prediction import Prediction
from ibd.types import Units
from tests.model_makers import SPEC

LAYERS = ("stage2.norm", "stage3.norm")


class AxisNetwork(ConceptWhiteningNetwork):
    """Stages of convolution, normalization and ReLU; the units are what the last normalization returns."""

    unit_kind = "axis"
    additive = False
    activation = "max"

    def __init__(self, concept_names, class_names, layers=LAYERS, width=4):
        backbone = SmallCNN(width=width, depth=3)
        axes = backbone.out_channels
        names = [*concept_names, *(f"axis {i}" for i in range(len(concept_names), axes))]
        InterpretableNetwork.__init__(self, backbone, names, class_names)  # nothing of what it stands in for
        self.concept_names, self.layer_names = list(concept_names), list(layers)
        self.head = nn.Linear(axes, len(class_names))
        self.decoded = 0

    def pool(self, maps):
        return maps.amax((2, 3))

    def depth_maps(self, image):
        found = {}
        handles = [
            self.backbone.get_submodule(name).register_forward_hook(
                lambda layer, given, output, name=name: found.update({name: output.clone()})
            )
            for name in self.layer_names
        ]
        self.backbone(image)
        for handle in handles:
            handle.remove()
        return found

    def encode(self, image):
        maps = self.depth_maps(image)[self.layer_names[-1]]
        return Units(self.pool(maps), maps, (maps,))

    def decode(self, units):
        self.decoded += len(units.scores)
        return self.head(units.state[0].relu().mean((2, 3)))

    def edit(self, units, values):
        state = units.state[0].clone()
        for index, value in self.resolve_values(values).items():
            state[:, index] = value
        return Units(self.pool(state), state, (state,))

    def without(self, units, axes):
        return torch.stack([self.decode(self.edit(units, {u: 0.0})) for u in axes], 1)

    def contributions(self, units):
        logits = self.decode(units)
        return torch.stack(
            [logits - self.decode(self.edit(units, {u: 0.0})) for u in range(len(self.unit_names))], 1
        ).detach()

    def bias(self):
        return self.head.bias

    def readable(self, units):
        return units.scores


class AxisModule(ConceptWhitening):
    """What a Lightning module around it has."""

    def __init__(self, spec=SPEC, concept_names=None, seed=0, **options):
        pl.LightningModule.__init__(self)
        torch.manual_seed(seed)
        names = spec.concept_names if concept_names is None else concept_names
        self.spec, self.network = spec, AxisNetwork(names, spec.class_names, **options)
        nn.init.normal_(self.network.head.weight)
        settle(self)

    def forward(self, image):
        return self.network(image)

    @torch.no_grad()
    def predict(self, images):
        logits, units = self(images)
        return Prediction(self.network, units, logits, torch.zeros_like(units.scores, dtype=torch.bool))


def settle(module):
    """Give the normalization layers the statistics of some images, and weights that are not all 1."""
    module.train()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1, 0.3)
            nn.init.normal_(layer.bias, 0, 0.3)
            layer.momentum = 1.0
    with torch.no_grad():
        module(torch.rand(64, 3, *module.spec.image_size, generator=torch.Generator().manual_seed(9)))
    module.eval()


def make_axis_baseline(spec=SPEC, seed=1, width=4, **options):
    """Return a `Baseline` with the backbone of `AxisModule`."""
    torch.manual_seed(seed)
    module = Baseline(spec, {"name": "small_cnn", "width": width, "depth": 3, **options})
    settle(module)
    return module
