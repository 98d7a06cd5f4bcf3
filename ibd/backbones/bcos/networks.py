"""B-cos forms of our own small networks and of torchvision's: the same bodies, under the same names."""

from __future__ import annotations

from ibd.backbones import weights as files
from ibd.backbones.base import Backbone
from ibd.backbones.bcos.conversion import bcosify
from ibd.backbones.bcos.fading import SHARE
from ibd.backbones.bcos.layers import B, TwoSided, check_bcos
from ibd.backbones.bcos.structure import bcos_layers, first_convolution, replace_layers, two_sided_like
from ibd.backbones.small import CifarResNet, SmallCNN
from ibd.backbones.torchvision import TorchvisionBackbone
from ibd.errors import CheckpointError, ConfigError


def make_bcos(backbone: Backbone, b: float, max_out: int, rectify: bool) -> None:
    """Make a plain backbone, whose weights do not matter, a B-cos one with random weights, in place.

    Args:
        backbone: a backbone that is not trained.
        b: B of all layers.
        max_out: units of which every output is the largest.
        rectify: whether rectifiers stay.

    Raises:
        ConfigError: b below 1, no unit to choose from, or a convolution that has no B-cos form.
    """
    check_bcos(b, max_out)
    first = first_convolution(backbone)
    path, _, last = first.rpartition(".")
    parent = backbone.get_submodule(path)
    setattr(parent, last, two_sided_like(getattr(parent, last)))
    replace_layers(backbone, bcos_layers(b, max_out, rectify))
    backbone.normalize = TwoSided()
    backbone.account = "pixels"


def become_bcos(
    backbone: Backbone,
    b: float,
    max_out: int,
    rectify: bool,
    converted: bool = False,
    fade: float = SHARE,
    weights: str | None = None,
    init_from: str | None = None,
) -> None:
    """Make a plain backbone, just built, a B-cos one, in place, with the weights that it is to start from.

    Args:
        backbone: a backbone with random weights.
        b: B of all layers.
        max_out: units of which every output is the largest.
        rectify: whether rectifiers stay.
        converted: whether the body stays that of the plain network, and fades (`bcosify`); weights are then those of a
            plain network, or of one that was converted before.
        fade: share of the training during which it fades.
        weights: see `Backbone.start_from`.
        init_from: see `Backbone.start_from`.

    Raises:
        ConfigError: an option that is not allowed.
        CheckpointError: the weights cannot be had, or do not fit.
    """
    if not converted:
        make_bcos(backbone, b, max_out, rectify)
        backbone.start_from(weights, init_from)
        return
    if max_out != 1:
        raise ConfigError(f"max_out: {max_out} given, but a converted network keeps its units: 1 is needed")
    if not rectify:
        raise ConfigError("rectify: false given, but a converted network keeps its rectifiers: true is needed")
    if not 0 <= fade <= 1:
        raise ConfigError(f"fade: {fade} given, a share of the training, from 0 to 1, is needed")
    given = backbone.initial_state(weights, init_from)
    kind = None if given is None else files.kind_of(given[0])
    if given is not None and kind == "B-cos":
        raise CheckpointError(f"{given[1]} is of a B-cos network already: set model.backbone.converted=false")
    before = kind == "converted"
    if given is not None and not before:
        backbone.copy_state(*given)
    bcosify(backbone, b)
    if given is not None and before:
        backbone.copy_state(*given)
    backbone.fade_share = fade


class BcosSmallCNN(SmallCNN):
    """The B-cos form of `SmallCNN`; (B, 3, 64, 64) -> (B, width * 2**(depth - 1), 8, 8).

    Args:
        width: Channels of the first stage.
        depth: Number of stages, at least 3.
        b: B of all layers: how much an input has to look like the weights; 1 is a linear network.
        max_out: Units of which every output is the largest; 1 is none to choose from.
        rectify: Whether rectifiers stay where the plain network has them; the paper's networks have none.
        converted: Whether to convert a plain network, whose body and weights it keeps: `weights` or `init_from` are
            then those of the plain network.
        fade: Share of the training during which a converted network becomes a B-cos one.
        weights: File with weights of the same architecture, or, with `converted`, of the plain one.
        init_from: Run folder or checkpoint of an earlier run to take the backbone from, likewise.
    """

    def __init__(
        self,
        width: int = 16,
        depth: int = 4,
        b: float = B,
        max_out: int = 1,
        rectify: bool = True,
        converted: bool = False,
        fade: float = SHARE,
        weights: str | None = None,
        init_from: str | None = None,
    ) -> None:
        super().__init__(width, depth)
        become_bcos(self, b, max_out, rectify, converted, fade, weights, init_from)


class BcosCifarResNet(CifarResNet):
    """The B-cos form of `CifarResNet`; (B, 3, 32, 32) -> (B, 4 * width, 8 / s, 8 / s).

    Args:
        depth: Number of weighted layers with the classifier, 6n + 2; 8, 14, 20, 32, 44, 56, 110.
        width: Channels of the first group.
        stem_stride: s, the stride of the first convolution.
        b: B of all layers: how much an input has to look like the weights; 1 is a linear network.
        max_out: Units of which every output is the largest; 1 is none to choose from.
        rectify: Whether rectifiers stay where the plain network has them; the paper's networks have none.
        converted: Whether to convert a plain network, whose body and weights it keeps: `weights` or `init_from` are
            then those of the plain network.
        fade: Share of the training during which a converted network becomes a B-cos one.
        weights: File with weights of the same architecture, or, with `converted`, of the plain one.
        init_from: Run folder or checkpoint of an earlier run to take the backbone from, likewise.
    """

    def __init__(
        self,
        depth: int = 20,
        width: int = 16,
        stem_stride: int = 1,
        b: float = B,
        max_out: int = 1,
        rectify: bool = True,
        converted: bool = False,
        fade: float = SHARE,
        weights: str | None = None,
        init_from: str | None = None,
    ) -> None:
        super().__init__(depth, width, stem_stride)
        become_bcos(self, b, max_out, rectify, converted, fade, weights, init_from)


class BcosTorchvisionBackbone(TorchvisionBackbone):
    """The B-cos form of a ResNet or DenseNet of torchvision; (B, 3, H, W) -> (B, D, ~H/32, ~W/32).

    Args:
        name: torchvision's name of the network after ``bcos_``.
        b: B of all layers: how much an input has to look like the weights; 1 is a linear network.
        max_out: Units of which every output is the largest; 1 is none to choose from.
        rectify: Whether rectifiers stay where the plain network has them; the paper's networks have none.
        converted: Whether to convert a plain network, whose body and weights it keeps: `weights` or `init_from` are
            then those of the plain network.
        fade: Share of the training during which a converted network becomes a B-cos one.
        weights: File with weights of the same architecture, or, with `converted`, of the plain one; then torchvision's
            names of weights ("DEFAULT"), too.
        init_from: Run folder or checkpoint of an earlier run to take the backbone from, likewise.
    """

    config_excludes = ("name",)

    def __init__(
        self,
        name: str,
        b: float = B,
        max_out: int = 1,
        rectify: bool = True,
        converted: bool = False,
        fade: float = SHARE,
        weights: str | None = None,
        init_from: str | None = None,
    ) -> None:
        super().__init__(name.removeprefix("bcos_"))
        self.converted = converted
        become_bcos(self, b, max_out, rectify, converted, fade, weights, init_from)
        self.name = name

    def published(self, weights: str) -> files.State | None:
        """Return torchvision's weights of the plain network, which can be converted; None where `weights` is a path.

        Raises:
            ConfigError: it is neither, or the network is not to be a converted one.
        """
        if self.converted:
            return super().published(weights)
        if not files.is_path(weights):
            raise ConfigError(
                f"weights: '{weights}' are those of the plain {self.name}, which model.backbone.converted=true converts"
            )
        return None
