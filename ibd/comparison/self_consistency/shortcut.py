"""Whether a model rests on a mark that goes with the class, and whether its explanations give that away.

The images are toy birds with a tag (preset "hans"), drawn with the tag of their class, without one, and with the tag of
another class.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ibd.comparison.self_consistency.reading import check_indices, classified
from ibd.comparison.self_consistency.redrawing import chunks, drawn, require_scenes
from ibd.data.dataset import ImageDataset
from ibd.data.toybirds.parts import FIRST_DISTRACTOR, TAG
from ibd.data.toybirds.scene import Scene, Tag, TagKind
from ibd.errors import ConfigError, UnsupportedError
from ibd.metrics.concepts import auroc_per_concept
from ibd.metrics.functional.checks import double, ratio
from ibd.metrics.functional.localization import mass_accuracy
from ibd.models.base import evaluating

TagMode = Literal["aligned", "absent", "flipped"]
MODES: tuple[TagMode, ...] = ("aligned", "absent", "flipped")


@dataclass(frozen=True)
class Shortcut:
    """What a tag does to the predictions of N images.

    Attributes:
        right: tag -> (N,) 1 where the prediction is right, else 0; the tag is "aligned", "absent" or "flipped".
        flips: (N,) 1 where the prediction with the tag of the class changes when the tag is removed, else 0.
        to_tag: (N,) 1 where a tag of another class makes that class the prediction, else 0.
        energy: name of a method -> (N,) share of the positive mass of its map that lies on the tag.
        area: (N,) share of the pixels that the tag has: what noise puts on it.
    """

    right: dict[str, Tensor]
    flips: Tensor
    to_tag: Tensor
    energy: dict[str, Tensor]
    area: Tensor

    def figures(self) -> dict[str, float]:
        """Return the means over images."""
        figures = {f"accuracy_{mode}": float(values.mean()) for mode, values in self.right.items()}
        figures |= {
            "flip_rate": float(self.flips.mean()),
            "follows_tag": float(self.to_tag.mean()),
            "tag_area": float(self.area.mean()),
        }
        return figures

    def breakdown(self) -> dict[str, dict[str, float]]:
        """Return by method the mean energy on the tag, and how well it tells which predictions flip."""
        return {
            "energy_on_tag": {name: float(energy.nanmean()) for name, energy in self.energy.items()},
            "reveals_tag": {name: float(self._revealed(energy)) for name, energy in self.energy.items()},
        }

    def _revealed(self, energy: Tensor) -> Tensor:
        """Return the AUROC of the energy for the flips, over the images that have both; NaN without both kinds."""
        known = ~energy.isnan()
        return auroc_per_concept(energy[known].unsqueeze(1), self.flips[known].unsqueeze(1))[0]


def tagged(dataset: ImageDataset, indices: Sequence[int], mode: TagMode = "aligned") -> tuple[Tensor, Tensor]:
    """Return images with a tag, (N, 3, H, W), and its pixels, (N, H, W) bool: what is explained for `tag_effects`.

    Args:
        dataset: a split of toy birds with tags.
        indices: which images of it.
        mode: the tag of the class, none, or that of another class.

    Raises:
        UnsupportedError: the images have no tags.
    """
    birds = require_scenes(dataset)
    kind, count = _tag_kind(birds.pictures.scenes), len(birds.classes.names)
    scenes = [_with_tag(birds.scene(int(i)), int(i), kind, count, mode) for i in indices]
    images, shown = drawn(scenes, birds.pictures.size)
    return images, torch.from_numpy(np.stack(shown) == TAG)


def tag_effects(
    model: nn.Module,
    dataset: ImageDataset,
    indices: Sequence[int],
    maps: Mapping[str, Tensor] | None = None,
    batch_size: int = 64,
) -> Shortcut:
    """Return what a tag does to the predictions, and whether maps show it.

    Args:
        model: any classifier of images in [0, 1].
        dataset: a split of toy birds with tags.
        indices: which images of it.
        maps: name of a method -> (N, H, W) signed maps of what speaks for the predicted class of ``tagged(dataset,
            indices)``, in this order.
        batch_size: pictures in a pass.

    Raises:
        UnsupportedError: the images have no tags.
        ConfigError: no images, or maps of another number.
    """
    check_indices(indices)
    for name, given in (maps or {}).items():
        if len(given) != len(indices):
            raise ConfigError(f"tag_effects: {len(given)} maps of '{name}' given for {len(indices)} images")
    birds = require_scenes(dataset)
    labels = birds.labels[torch.as_tensor(list(indices))]
    count = len(birds.classes.names)
    predicted: dict[str, list[Tensor]] = {mode: [] for mode in MODES}
    masks, codes = [], []
    with evaluating(model), torch.inference_mode():
        for some in chunks(indices, batch_size // len(MODES)):
            for mode in MODES:
                images, mask = tagged(birds, some, mode)
                predicted[mode].append(classified(model, images).cpu())
                masks += [mask] if mode == "aligned" else []
            codes += [_code(birds.scene(i), i, count, "flipped") for i in some]
    said = {mode: torch.cat(parts) for mode, parts in predicted.items()}
    mask = torch.cat(masks)
    return Shortcut(
        right={mode: (classes == labels).double() for mode, classes in said.items()},
        flips=(said["aligned"] != said["absent"]).double(),
        to_tag=(said["flipped"] == torch.tensor(codes)).double(),
        energy={name: mass_accuracy(given.detach().cpu(), mask) for name, given in (maps or {}).items()},
        area=mask.double().mean((1, 2)),
    )


def input_dependence(
    explain: Callable[[Tensor, Tensor], Tensor],
    model: nn.Module,
    dataset: ImageDataset,
    indices: Sequence[int],
    batch_size: int = 64,
) -> Tensor:
    """Input dependence rate: whether something that means nothing gets less attribution than the place without it.

    After Yang and Kim 2019 (BAM), with the largest visible shape behind the bird as the thing, and the predicted class
    explained. 1, 0, or 0.5 where both are equal, + higher is better; 0.5 by chance.

    Args:
        explain: ((B, 3, H, W) images, (B,) classes) -> (B, H, W) signed maps.
        model: any classifier of images in [0, 1], which says the classes.
        dataset: a split of toy birds.
        indices: which images of it.
        batch_size: images explained at a time.

    Returns:
        (N,) float64; NaN where no shape behind the bird is visible, or the prediction changes with it.

    Raises:
        UnsupportedError: the images cannot be drawn anew.
    """
    birds = require_scenes(dataset)
    rows = []
    for some in chunks(indices, batch_size):
        scenes = [birds.scene(i) for i in some]
        images, shown = drawn(scenes, birds.pictures.size)
        largest = [_largest_shape(scene, index) for scene, index in zip(scenes, shown, strict=True)]
        bare = [s if item is None else s.drop_distractor(item) for s, item in zip(scenes, largest, strict=True)]
        without, _ = drawn(bare, birds.pictures.size)
        here = [index == _number(item) for index, item in zip(shown, largest, strict=True)]
        mask = torch.from_numpy(np.stack(here))
        with evaluating(model), torch.no_grad():
            classes, other = (classified(model, pictures) for pictures in (images, without))
        means = [_mean_inside(explain(pictures, classes), mask) for pictures in (images, without)]
        less = (means[0] < means[1]).double() + (means[0] == means[1]).double() / 2
        rows.append(less.where(~(means[0] - means[1]).isnan() & (classes == other).cpu(), torch.nan))
    return torch.cat(rows)


def _tag_kind(scenes: Sequence[Scene]) -> TagKind:
    kinds = [scene.tag.kind for scene in scenes if scene.tag is not None]
    if not kinds:
        raise UnsupportedError("the data has no tag (data.tag; preset 'hans')")
    return kinds[0]


def _with_tag(scene: Scene, index: int, kind: TagKind, count: int, mode: TagMode) -> Scene:
    if mode == "absent":
        return scene.set_tag(None)
    position = scene.tag.position if scene.tag is not None else index % 4
    return scene.set_tag(Tag(kind, _code(scene, index, count, mode), position))


def _code(scene: Scene, index: int, count: int, mode: TagMode) -> int:
    """Return whose tag an image gets: of its class, or, by chance but always the same, of another one."""
    if mode == "aligned":
        return scene.cls
    return (scene.cls + 1 + int(np.random.default_rng([index, 2]).integers(count - 1))) % count


def _largest_shape(scene: Scene, index: Any) -> int | None:
    """Return which shape behind the bird has most visible pixels."""
    behind = [i for i, item in enumerate(scene.distractors) if item.layer == "back"]
    areas = {i: int((index == _number(i)).sum()) for i in behind}
    visible = {i: area for i, area in areas.items() if area}
    return max(visible, key=lambda i: (visible[i], -i)) if visible else None


def _number(item: int | None) -> int:
    """Return what the pixels of a shape show in an index map; what none does without a shape."""
    return -1 if item is None else FIRST_DISTRACTOR + item


def _mean_inside(maps: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of (B, H, W) maps over masks, (B,) float64; NaN over nothing."""
    values = double(maps.cpu())
    return ratio(values.where(mask, 0.0).sum((1, 2)), mask.sum((1, 2)))
