"""What selected channels look like, and which of them respond in an image: explanation by interpretation.

After Oramas et al. (2019): a channel is shown by the average of the patches that it responds to most; a prediction, by
the channels that were selected for its class and respond, where they do, and by their pictures.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ibd.errors import ConfigError, DataError, check_range
from ibd.explain.activations import no_map
from ibd.explain.base import check_image, undisturbed
from ibd.explain.feature_selection import RelevantFeatures, Unit
from ibd.explain.layer_features import layer_reader, pooled
from ibd.explain.patches import Patches, maximally_activating_patches
from ibd.explain.render import upsample
from ibd.explain.scalars import logits_of

Pictures = dict[tuple[str, int], Tensor]
"""(layer, channel) -> (3, s, s) average patch."""


@dataclass(frozen=True)
class Interpretation:
    """The selected channels that respond in an image, those that say most for the class first.

    Attributes:
        index: number of the class.
        class_name: name of it.
        probability: its probability.
        units: the n channels.
        responses: (n,) their responses in standard deviations above the mean of the images that they were selected by.
        maps: (n, H, W) their maps, brought to the image's size.
        responding: number of the class's channels, of positive weight, that respond above their mean.
        selected: number of these channels.
    """

    index: int
    class_name: str
    probability: float
    units: tuple[Unit, ...]
    responses: Tensor
    maps: Tensor
    responding: int
    selected: int


def average_patches(
    model: nn.Module,
    units: Iterable[Unit],
    data_loader: Iterable[object],
    dataset: Any,
    patches: int = 20,
    size: int = 64,
) -> Pictures:
    """Return the average of the patches that channels respond to most, one of each image.

    A patch is what the channel's cell with the largest response sees (its receptive field). Those that the edge of the
    image cuts off are left out of the average, where there are others.

    Args:
        model: ours, or any of (B, 3, H, W) images in [0, 1].
        units: channels; the data is searched once for each of their layers.
        data_loader: loader of images.
        dataset: data set whose items it reads, see `Patches.pictures`.
        patches: patches of each channel.
        size: side of a picture in pixels.
    """
    check_range("patches", patches, least=1)
    places = dict.fromkeys((unit.layer, unit.channel) for unit in units)
    made: Pictures = {}
    for layer in dict.fromkeys(layer for layer, _ in places):
        channels = [channel for other, channel in places if other == layer]
        found = maximally_activating_patches(model, data_loader, layer, channels, patches)
        for row, channel in enumerate(channels):
            made[layer, channel] = _average(found, row, dataset, size)
    return made


def interpret(
    model: nn.Module, image: Tensor, found: RelevantFeatures, index: int | None = None, top: int = 4
) -> Interpretation:
    """Return which of a class's channels respond in an image, and where.

    Args:
        model: ours, or any classifier of (B, 3, H, W) images in [0, 1]; it is left as it was.
        image: (3, H, W) or (1, 3, H, W), on the model's device.
        found: channels that were selected, see `relevant_features`.
        index: number of the class; None is the predicted one.
        top: channels to return.

    Raises:
        ConfigError: there is no such class.
        DataError: several images.
        UnsupportedError: a layer puts out no map.
    """
    check_range("top", top, least=1)
    images = image.unsqueeze(0) if image.dim() == 3 else image
    check_image(images)
    if len(images) != 1:
        raise DataError(f"interpret: {len(images)} images given, one at a time is needed")
    with undisturbed(model), torch.no_grad():
        logits = logits_of(model(images))[0].float()
        chosen = int(logits.argmax()) if index is None else index
        if not 0 <= chosen < len(found.class_names):
            raise ConfigError(f"interpret: there is no class {chosen} among {len(found.class_names)}")
        units = [unit for unit in found.selected(chosen) if unit.weight > 0]
        maps = layer_reader(model, list(dict.fromkeys(unit.layer for unit in units)))(images) if units else {}
    for layer, output in maps.items():
        if output.dim() != 4:
            raise no_map(model, images, layer, output)
    z = torch.tensor([_response(found, maps[unit.layer], unit) for unit in units], dtype=torch.float64)
    says = z * torch.tensor([unit.weight for unit in units], dtype=torch.float64)
    order = [place for place in says.argsort(descending=True, stable=True).tolist() if float(z[place]) > 0]
    size = (images.shape[2], images.shape[3])
    shown = [upsample(maps[units[p].layer][:, [units[p].channel]], size)[0, 0].cpu() for p in order[:top]]
    return Interpretation(
        index=chosen,
        class_name=found.class_names[chosen],
        probability=float(logits.softmax(0)[chosen]),
        units=tuple(units[p] for p in order[:top]),
        responses=z[order[:top]],
        maps=torch.stack(shown) if shown else torch.zeros(0, *size),
        responding=len(order),
        selected=len(units),
    )


def shown_units(found: RelevantFeatures, per_class: int, classes: Sequence[int] | None = None) -> list[Unit]:
    """Return the channels of the largest weights of each class, those of several classes once."""
    every: dict[tuple[str, int], Unit] = {}
    for index in range(len(found.class_names)) if classes is None else classes:
        for unit in found.selected(index)[:per_class]:
            every.setdefault((unit.layer, unit.channel), unit)
    return list(every.values())


def _response(found: RelevantFeatures, maps: Tensor, unit: Unit) -> float:
    """Return a channel's response in standard deviations above its mean."""
    feature = found.part(unit.layer).start + unit.channel
    value = pooled(maps[:, [unit.channel]].double(), found.response)[0, 0]
    return float((value.cpu() - found.mean[feature]) / found.deviation[feature])


def _average(found: Patches, row: int, dataset: Any, size: int) -> Tensor:
    """Return the average of the patches of a channel, (3, size, size)."""
    box = found.box[row]
    area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
    whole = (area == area.max()) & (found.image[row] >= 0)
    few = Patches(
        [found.names[row]],
        found.score[row][whole].unsqueeze(0),
        found.image[row][whole].unsqueeze(0),
        found.position[row][whole].unsqueeze(0),
        box[whole].unsqueeze(0),
        found.exact,
    )
    return few.pictures(dataset, size)[0].mean(0)
