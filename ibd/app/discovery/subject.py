"""What is looked into: a run of ours, a backbone by its name, or a network of anybody's; and the images it is fed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ibd import registry
from ibd.app.discovery.options import DiscoverOptions
from ibd.app.foreign import ForeignSettings, find_model, is_place, short_name
from ibd.backbones import build_backbone
from ibd.comparison.devices import chosen_device
from ibd.comparison.images import balanced
from ibd.comparison.sources import find_data
from ibd.data.base import ImageDataModule
from ibd.data.selection import SelectedImages
from ibd.errors import ConfigError, DataError, UnsupportedError, did_you_mean
from ibd.explain.activations import find_layer, network_of, spatial_layers
from ibd.explain.targets import logits_of
from ibd.io import load_model, load_run_data
from ibd.models.foreign import ForeignModel

_BACKBONE = "backbone"


class BareBackbone(nn.Module):
    """A backbone as a model, which has no classes."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: Tensor) -> Tensor:
        """Return the (B, D, h, w) features of (B, 3, H, W) images."""
        features: Tensor = self.backbone(image)
        return features


@dataclass(frozen=True)
class Subject:
    """What is looked into.

    Attributes:
        model: the model, in evaluation mode on its device.
        name: name for the page.
        data: source of images.
        images: the images that are looked at.
        classes: whether the model has a logit for each class of the data.
        why: why not, for the page.
    """

    model: nn.Module
    name: str
    data: ImageDataModule
    images: SelectedImages
    classes: bool
    why: str = ""

    def layer(self, given: str) -> tuple[str, str]:
        """Return a layer's name in the model, and as directions call it: "" is the backbone's output.

        Raises:
            ConfigError: there is no such layer, or none is named where there is no backbone.
        """
        network = network_of(self.model)
        if given and given != _BACKBONE:
            find_layer(self.model, given)
            return given, given
        if isinstance(getattr(network, _BACKBONE, None), nn.Module):
            return _BACKBONE, ""
        maps = list(spatial_layers(self.model, self.first(1)))
        if not maps:
            raise UnsupportedError(f"{self.name} has no layer that puts out a map")
        return maps[-1], maps[-1]

    def first(self, count: int) -> Tensor:
        """Return the first few images, (n, 3, H, W), on the model's device."""
        device = next((value.device for value in self.model.parameters()), torch.device("cpu"))
        return torch.stack([self.images[index].image for index in range(min(count, len(self.images)))]).to(device)


def find_subject(run: Any, data: Any, options: DiscoverOptions) -> Subject:
    """Return what is looked into.

    Args:
        run: a run folder, a checkpoint, a registered name of a backbone or ``timm/NAME``, ``package.module:make`` of a
            network of anybody's; or a model itself, of (B, 3, H, W) images in [0, 1].
        data: source of the images, see `ibd.comparison.sources.find_data`; None takes those of a run.
        options: options.

    Raises:
        ConfigError: no such model, or no data for it.
        DataError: no images of the classes.
    """
    model, name, trained_on = _model(run, data, options)
    source = trained_on if data is None else find_data(data, options.overrides)
    if source is None:
        raise ConfigError(f"data: '{name}' was trained elsewhere: which images? data=FOLDER or a config file")
    images = SelectedImages(source.dataset(options.split), _chosen(source, options))
    model.to(chosen_device(options.device)).eval()
    subject = Subject(model, name, source, images, classes=False)
    why = _no_classes(subject)
    return Subject(model, name, source, images, not why, why)


def _model(run: Any, data: Any, options: DiscoverOptions) -> tuple[nn.Module, str, ImageDataModule | None]:
    """Return a model, its name, and the data that it was trained on where it is a run without other data."""
    if isinstance(run, nn.Module):
        return run, type(network_of(run)).__name__, None
    text = str(getattr(run, "folder", run))
    if _is_backbone(text):
        if options.weights is None:
            raise ConfigError(f"weights: which for '{text}'? A name of published ones, a package, or a file is needed")
        return BareBackbone(build_backbone({"name": text, "weights": options.weights, **options.backbone})), text, None
    if options.weights is not None or options.backbone:
        near = did_you_mean(text, registry.names("backbones"))
        raise ConfigError(f"weights: they are for the name of a backbone, and '{text}' is none.{near}")
    if is_place(text):
        return find_model(text, ForeignSettings(**(options.model or {}))), short_name(text), None
    if options.model:
        raise ConfigError("model: options of a network package.module:make_model, and there is none")
    return load_model(run), text, load_run_data(run, *options.overrides) if data is None else None


def _is_backbone(text: str) -> bool:
    families = registry.FAMILIES["backbones"]
    return not Path(text).exists() and (text in registry.names("backbones") or text.startswith(tuple(families)))


def _chosen(source: ImageDataModule, options: DiscoverOptions) -> list[int]:
    """Return the positions of the images that are looked at, in order."""
    labels, names = source.dataset(options.split).labels, list(source.spec.class_names)
    wanted = options.class_list
    for name in wanted:
        if name not in names:
            raise ConfigError(f"class: there is no '{name}'.{did_you_mean(name, names)}")
    allowed = [i for i, label in enumerate(labels.tolist()) if not wanted or names[label] in wanted]
    if not allowed:
        raise DataError(f"class: the {options.split} split has no image of {', '.join(wanted) or 'any class'}")
    return sorted(allowed[place] for place in balanced(labels[allowed], options.images, options.seed))


@torch.no_grad()
def _no_classes(subject: Subject) -> str:
    """Return why a model has no logit for each class of the data; "" where it has.

    Raises:
        ConfigError: it cannot be asked about such images.
    """
    if isinstance(subject.model, BareBackbone):
        return "a backbone has no classes"
    names: Sequence[str] = subject.data.spec.class_names
    if isinstance(subject.model, ForeignModel):
        subject.model.check(subject.first(2), [])
        try:
            subject.model.for_classes(names)
        except ConfigError:
            return "the network's classes are not those of the data"
    try:
        width = logits_of(subject.model(subject.first(1))).shape[1]
    except (UnsupportedError, ConfigError, IndexError):
        return "the model returns no logits"
    return "" if width == len(names) else f"the model tells {width} classes apart, the data has {len(names)}"
