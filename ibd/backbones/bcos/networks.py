"""B-cos forms of our own small networks and of torchvision's: the same bodies, under the same names."""

from __future__ import annotations

from ibd.backbones.base import Backbone
from ibd.backbones.bcos.layers import TwoSided, check_bcos
from ibd.backbones.bcos.structure import bcos_layers, first_convolution, replace_layers, two_sided_like
from ibd.backbones.small import CifarResNet, SmallCNN
from ibd.backbones.torchvision import TorchvisionBackbone


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


class BcosSmallCNN(SmallCNN):
    """The B-cos form of `SmallCNN`; (B, 3, 64, 64) -> (B, width * 2**(depth - 1), 8, 8).

    Args:
        width: Channels of the first stage.
        depth: Number of stages, at least 3.
        b: B of all layers: how much an input has to look like the weights; 1 is a linear network.
        max_out: Units of which every output is the largest; 1 is none to choose from.
        rectify: Whether rectifiers stay where the plain network has them; the paper's networks have none.
        weights: File with weights of the same architecture.
        init_from: Run folder or checkpoint of an earlier run to take the backbone from.
    """

    def __init__(
        self,
        width: int = 16,
        depth: int = 4,
        b: float = 2.5,
        max_out: int = 1,
        rectify: bool = True,
        weights: str | None = None,
        init_from: str | None = None,
    ) -> None:
        super().__init__(width, depth)
        make_bcos(self, b, max_out, rectify)
        self.start_from(weights, init_from)


class BcosCifarResNet(CifarResNet):
    """The B-cos form of `CifarResNet`; (B, 3, 32, 32) -> (B, 4 * width, 8 / s, 8 / s).

    Args:
        depth: Number of weighted layers with the classifier, 6n + 2; 8, 14, 20, 32, 44, 56, 110.
        width: Channels of the first group.
        stem_stride: s, the stride of the first convolution.
        b: B of all layers: how much an input has to look like the weights; 1 is a linear network.
        max_out: Units of which every output is the largest; 1 is none to choose from.
        rectify: Whether rectifiers stay where the plain network has them; the paper's networks have none.
        weights: File with weights of the same architecture.
        init_from: Run folder or checkpoint of an earlier run to take the backbone from.
    """

    def __init__(
        self,
        depth: int = 20,
        width: int = 16,
        stem_stride: int = 1,
        b: float = 2.5,
        max_out: int = 1,
        rectify: bool = True,
        weights: str | None = None,
        init_from: str | None = None,
    ) -> None:
        super().__init__(depth, width, stem_stride)
        make_bcos(self, b, max_out, rectify)
        self.start_from(weights, init_from)


class BcosTorchvisionBackbone(TorchvisionBackbone):
    """The B-cos form of a ResNet or DenseNet of torchvision; (B, 3, H, W) -> (B, D, ~H/32, ~W/32).

    Args:
        name: torchvision's name of the network after ``bcos_``.
        b: B of all layers: how much an input has to look like the weights; 1 is a linear network.
        max_out: Units of which every output is the largest; 1 is none to choose from.
        rectify: Whether rectifiers stay where the plain network has them; the paper's networks have none.
        weights: File with weights of the same architecture.
        init_from: Run folder or checkpoint of an earlier run to take the backbone from.
    """

    config_excludes = ("name",)

    def __init__(
        self,
        name: str,
        b: float = 2.5,
        max_out: int = 1,
        rectify: bool = True,
        weights: str | None = None,
        init_from: str | None = None,
    ) -> None:
        super().__init__(name.removeprefix("bcos_"))
        make_bcos(self, b, max_out, rectify)
        self.name = name
        self.start_from(weights, init_from)
