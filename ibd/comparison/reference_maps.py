"""Maps that know nothing of the model: what every metric must tell from an explanation.

"noise" is drawn for each image; "constant" says nothing; "center" is a Gaussian in the middle, where things are
photographed; "edges" is the Sobel gradient of the image, "intensity" its mean absolute value; "other_image" is the
explanation of an image of another class.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.comparison.probes.seeding import Id, seeded_normal
from ibd.errors import ConfigError, did_you_mean
from ibd.explain.base import Call, Explainer, Explanation

REFERENCE_MAPS = ("noise", "constant", "center", "edges", "intensity")
"""The reference maps that are made of the images alone; `other_image` needs the maps of an explainer."""
_WIDTH = 1 / 4
"""Width of the center prior, over each side."""


def reference_maps(name: str, images: Tensor, ids: Sequence[Id], seed: int = 0) -> Tensor:
    """Return reference maps, (B, H, W) float32.

    Args:
        name: one of `REFERENCE_MAPS`.
        images: (B, 3, H, W).
        ids: ids of the images: the noise of an image depends on its id, and not on its batch.
        seed: seed of the noise; another one gives other noise.

    Raises:
        ConfigError: no such reference map, or other than one id for each image.
    """
    if len(ids) != len(images):
        raise ConfigError(f"{len(ids)} ids given for {len(images)} images")
    size = (images.shape[2], images.shape[3])
    if name == "noise":
        return seeded_normal(size, ids, seed, "reference").to(images.device)
    if name == "constant":
        return torch.ones(len(images), *size, device=images.device)
    if name == "center":
        return center_prior(size).to(images.device).expand(len(images), *size).clone()
    if name == "edges":
        return edges(images)
    if name == "intensity":
        return images.abs().mean(1).float()
    raise ConfigError(f"unknown null '{name}'.{did_you_mean(name, REFERENCE_MAPS)}")


def center_prior(size: tuple[int, int]) -> Tensor:
    """Return a Gaussian in the middle of (H, W), 1 at its top, a quarter of each side wide."""
    rows, columns = ((torch.arange(side) + 0.5) / side - 0.5 for side in size)
    return torch.exp(-(rows.square().unsqueeze(1) + columns.square()) / (2 * _WIDTH**2))


def edges(images: Tensor) -> Tensor:
    """Return the size of the Sobel gradient of the brightness of (B, 3, H, W) images, (B, H, W) float32."""
    gray = F.pad(images.float().mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=images.device) / 8
    kernels = torch.stack([across, across.t()]).unsqueeze(1)
    return F.conv2d(gray, kernels).square().sum(1).sqrt()


def partners(labels: Tensor) -> Tensor:
    """Return for each of N images the next one, in their order and around, of another class, (N,) int64.

    Args:
        labels: (N,) of all images of a comparison.

    Raises:
        ConfigError: all are of one class.
    """
    classes = labels.tolist()
    if len(set(classes)) < 2:
        raise ConfigError("all images are of one class: none has a partner of another")
    count, partner, after = len(classes), [0] * len(classes), 0
    for place in range(2 * count - 1, -1, -1):  # from behind: `after` is the next place of another class
        here = classes[place % count]
        if place + 1 < 2 * count and classes[(place + 1) % count] != here:
            after = place + 1
        if place < count:
            partner[place] = after % count
    return torch.tensor(partner)


def other_image(maps: Tensor, labels: Tensor) -> Tensor:
    """Return for each of the (N, H, W) maps of all images that of its partner; see `partners`."""
    return maps[partners(labels).to(maps.device)]


class ReferenceExplainer(Explainer):
    """A reference map in the place of an explainer, for what explains changed images and models.

    Its noise depends on the pixels of an image: a changed image gets other noise.

    Args:
        name: one of `REFERENCE_MAPS`.
        seed: seed of the noise.
    """

    kind = "reference"

    def __init__(self, name: str, seed: int = 0) -> None:
        reference_maps(name, torch.zeros(0, 3, 1, 1), [])
        self.name, self.seed = name, seed

    def explain(self, call: Call, image: Tensor) -> Explanation:
        """Return the reference maps; the model is asked for the explained value alone."""
        with torch.no_grad():
            output = call.output(image)
            target = call.target.pin(output)
            scores = target.scores(output)
        ids = [pixels.cpu().numpy().tobytes().hex() for pixels in image] if self.name == "noise" else range(len(image))
        maps = reference_maps(self.name, image, list(ids), self.seed).unsqueeze(1)
        return self.answer(call, maps.expand(-1, scores.shape[1], -1, -1), scores)
