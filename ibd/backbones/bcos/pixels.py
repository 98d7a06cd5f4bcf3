"""The account of a network that is exact to the pixel: what units say, laid out over the pixels that it is a sum of.

For the image at hand a B-cos backbone is a linear map of what its first layer puts out (`ibd.backbones.bcos`), and a
unit's score, less what is there without any image, is the sum over the pixels of that map times them. What a unit
contributes to a class is laid out in the same proportions; so the map adds up to what was laid out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ibd.backbones.bcos.fading import faded
from ibd.backbones.bcos.linearized import Linearized
from ibd.errors import UnsupportedError
from ibd.types import Units

_TINY = 1e-12


class PixelMaps(NamedTuple):
    """Contributions laid out over pixels.

    Attributes:
        heat: (B, K, H, W): what each pixel adds.
        weights: (B, K, 6, H, W): the linear map, which times the six channels [x, 1 - x] is that; None where it was not
            asked for.
    """

    heat: Tensor
    weights: Tensor | None = None


class _Network(Protocol):
    @property
    def backbone(self) -> nn.Module: ...

    def linear_pass(self, image: Tensor) -> tuple[Units, Tensor]: ...


class PixelPass:
    """One pass of a network whose account is exact to the pixel: its units, and what of them is a sum over pixels.

    It holds the graph of the pass, with all that is between the pixels and the units.

    Args:
        network: a network whose `account` is "pixels", in evaluation mode.
        image: (B, 3, H, W).

    Attributes:
        units: units of the pass, without its graph.

    Raises:
        UnsupportedError: the backbone does not run its first layer, ``normalize``, which is where pixels are counted.
    """

    def __init__(self, network: _Network, image: Tensor) -> None:
        with torch.inference_mode(False), torch.enable_grad(), Linearized(), _leaf(network.backbone) as leaves:
            units, self._sums = network.linear_pass(image.detach().clone())
        if not leaves:
            raise UnsupportedError(
                f"{type(network.backbone).__name__} does not run its first layer, `normalize`, in whose output the "
                "pixels are counted"
            )
        self._leaf = leaves[0]
        self.units = Units(units.scores.detach(), units.maps.detach(), tuple(part.detach() for part in units.state))

    def lay_out(
        self,
        contributions: Tensor | None = None,
        factors: Tensor | None = None,
        weights: bool = True,
        units: Sequence[int] | None = None,
    ) -> PixelMaps:
        """Lay what units say out over the pixels: one pass back for each of the K, which can be asked for once.

        Args:
            contributions: (B, K, U) of K questions, each laid out as its unit's sum is.
            factors: (B, K, U) times the units' sums, which is laid out too; with neither, each sum by itself.
            weights: whether to keep the linear map, six times as large as the heat.
            units: K units, whose sums are laid out where nothing else is; by default all.
        """
        sums, seen, heat, kept = self._sums, self._leaf.detach(), list[Tensor](), list[Tensor]()
        if factors is None and contributions is None:
            one = torch.eye(sums.shape[1], device=sums.device)
            factors = (one if units is None else one[list(units)]).expand(len(sums), -1, -1)
        with torch.inference_mode(False):
            times = torch.zeros((), dtype=sums.dtype, device=sums.device)
            if factors is not None:
                times = times + factors.detach().to(sums)
            if contributions is not None:
                times = times + per_score(contributions.detach().to(sums), sums.detach().unsqueeze(1))
            for k, factor in enumerate(times.unbind(1)):
                more = k + 1 < times.shape[1]  # the last one frees what the pass kept
                (row,) = torch.autograd.grad(sums, self._leaf, factor.contiguous(), retain_graph=more)
                heat.append((row * seen).sum(1))
                if weights:
                    kept.append(row)
        return PixelMaps(torch.stack(heat, 1), torch.stack(kept, 1) if weights else None)


def reaches_pixels(backbone: nn.Module) -> bool:
    """Return whether features are sums over pixels: those of a B-cos backbone, whose conversion, if any, is over."""
    return getattr(backbone, "account", "cells") == "pixels" and faded(backbone) == 1


def what_it_takes(backbone: nn.Module) -> str:
    """Return what to do where an account is not exact to the pixel."""
    if (fade := faded(backbone)) < 1:
        return f"the conversion of its backbone is not over ({fade:.0%})"
    if getattr(backbone, "account", "cells") == "pixels":
        return (
            "its backbone's account is, but what stands on it mixes units, or adds what no pixel says (docs/models.md)"
        )
    return "take a B-cos backbone (bcos_small_cnn, bcos_resnet18, ...)"


def per_score(contributions: Tensor, scores: Tensor) -> Tensor:
    """Return contributions over scores; 0 where a score is: there is nothing to lay out, and nothing to lay it on."""
    size = scores.abs()
    return torch.where(size > _TINY, contributions / torch.where(size > _TINY, scores, 1.0), 0.0)


@contextmanager
def _leaf(backbone: nn.Module) -> Iterator[list[Tensor]]:
    """Cut the graph behind the backbone's first layer; gives what that layer put out, once it has run."""
    leaves: list[Tensor] = []

    def cut(_: nn.Module, __: object, output: Tensor) -> Tensor:
        leaves.append(output.detach().requires_grad_())
        return leaves[0]

    handle = backbone.normalize.register_forward_hook(cut)  # type: ignore[union-attr]
    try:
        yield leaves
    finally:
        handle.remove()
