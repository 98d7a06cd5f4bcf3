"""Networks that know what is in a picture: they look up the scene that it was drawn from."""

import torch
from torch import nn

from ibd.comparison.self_consistency import redrawing
from ibd.data.toybirds import dataset as toybirds_dataset
from ibd.data.toybirds.masks import part_masks
from ibd.data.toybirds.parts import FIRST_PART, PARTS, VARIANTS
from ibd.data.toybirds.render import render
from ibd.models.baseline.network import BaselineNetwork
from ibd.models.cbm.network import ConceptBottleneckNetwork
from ibd.models.prototypes import LinearPrototypes
from ibd.types import Units
from tests.model_makers import CountingBackbone

SURE = 30.0


class Drawn:
    """Every picture that was drawn since, with its scene and what its pixels show."""

    def __init__(self, patch):
        self.known = {}
        for module in (redrawing, toybirds_dataset):
            patch.setattr(module, "render", self._render)

    def _render(self, scene, size):
        image, index = render(scene, size)
        self.known[image.tobytes()] = scene, index
        return image, index

    def of(self, images):
        """Return scene and index map of each of (B, 3, H, W) images."""
        pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        return [self.known[each.numpy().tobytes()] for each in pixels]

    def masks(self, images):
        """Return the (B, P, H, W) masks of the parts: what they change, which depends on what is behind them."""
        size = images.shape[-1]
        return torch.stack([torch.from_numpy(part_masks(scene, size)) for scene, _ in self.of(images)])

    def shown(self, images):
        """Return the (B, P, H, W) pixels that show a part more than anything else, whatever is behind it."""
        numbers = FIRST_PART + torch.arange(len(PARTS)).view(-1, 1, 1)
        return torch.stack([torch.from_numpy(index) == numbers for _, index in self.of(images)])


def place(scene, part):
    """Return the position of a part's variant among those that there are."""
    return VARIANTS[part].index(scene.parts[part])


class KnowingConcepts(ConceptBottleneckNetwork):
    """A concept bottleneck whose concept logits are a function of the scene, by default its truth."""

    def __init__(self, drawn, spec, logits=None, **options):
        torch.manual_seed(0)
        super().__init__(CountingBackbone(), spec, **options)
        nn.init.normal_(self.head.weight)
        self.drawn, self.logits = drawn, logits or self.truth

    def truth(self, scene):
        held = {f"{part}::{variant}" for part, variant in scene.parts.items()}
        return torch.tensor([SURE if name in held else -SURE for name in self.unit_names])

    def encode(self, image):
        scores = torch.stack([self.logits(scene) for scene, _ in self.drawn.of(image)])
        return Units(scores, scores[:, :, None, None])


class KnowingPrototypes(LinearPrototypes):
    """Prototype p frames part p, and is as present as the variant of part ``watched[p]`` says."""

    def __init__(self, drawn, class_names, watched=(0, 1, 2, 3, 4)):
        super().__init__(CountingBackbone(), len(PARTS), class_names)
        self.drawn, self.watched = drawn, list(watched)
        self.head = nn.Linear(len(PARTS), len(class_names), bias=False)
        nn.init.zeros_(self.head.weight)
        self.head.weight.data[0] = 10.0 ** -torch.arange(len(PARTS))  # class 0, and prototype 0 adds most

    def encode(self, image):
        scores = torch.tensor(
            [[1 + place(scene, PARTS[q]) / 10 for q in self.watched] for scene, _ in self.drawn.of(image)]
        )
        masks = self.drawn.shown(image).double()
        y, x = (torch.arange(side).double() for side in masks.shape[2:])
        total = masks.sum((2, 3))
        rows, columns = (masks.sum(3) * y).sum(2) / total, (masks.sum(2) * x).sum(2) / total
        maps = -((y - rows[..., None]) ** 2)[..., :, None] - ((x - columns[..., None]) ** 2)[..., None, :]
        return Units(scores, maps.float())


class KnowingChannels(BaselineNetwork):
    """Its channels and their maps are functions of scene and masks; channel c is class c."""

    def __init__(self, drawn, class_names, scores, maps=None):
        super().__init__(CountingBackbone(len(class_names)), class_names)
        self.drawn, self.scores_of, self.maps_of = drawn, scores, maps
        nn.init.eye_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def encode(self, image):
        scores = torch.stack([self.scores_of(scene) for scene, _ in self.drawn.of(image)])
        maps = scores[:, :, None, None] if self.maps_of is None else self.maps_of(self.drawn, image)
        return Units(scores, maps)
