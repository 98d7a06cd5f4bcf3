"""How what a layer puts out lies: as a map with its channels first or last, or as tokens of which some are patches."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ibd.explain.activations import unknown_layout
from ibd.explain.flow import Flow
from ibd.explain.layouts import Layout, to_first, to_last
from ibd.explain.tokens import Grid


@dataclass(frozen=True)
class Arrangement:
    """Where the channels and the cells of a tensor are.

    Attributes:
        last: whether the channels are the last of four axes.
        grid: patches of three axes; None of a map, and of what is none.
    """

    last: bool = False
    grid: Grid | None = None

    @property
    def same(self) -> bool:
        """Whether nothing is to be done."""
        return not self.last and self.grid is None

    @property
    def channels(self) -> int:
        """The axis that holds the channels."""
        if self.grid is None:
            return 3 if self.last else 1
        return 1 if self.grid.axis == 2 else 2

    def to_map(self, values: Tensor) -> Tensor:
        """Return (..., C, h, w) of values that lie as the layer has them, with any axes before.

        The tokens that are no patches are left out.
        """
        if self.grid is None:
            return to_first(values) if self.last else values
        tokens = self._tokens_last(values).index_select(-1, self._order(values.device))
        return tokens.reshape(*tokens.shape[:-1], *self.grid.shape)

    def rest(self, values: Tensor) -> Tensor | None:
        """Return (B,) sums of values, as the layer has them, over the tokens that are no patches; None without any."""
        if self.grid is None or min(self.grid.cells) >= 0:
            return None
        others = [index for index, cell in enumerate(self.grid.cells) if cell < 0]
        return self._tokens_last(values)[..., others].flatten(1).sum(1)

    def to_layer(self, maps: Tensor, template: Tensor) -> Tensor:
        """Return (B, C, h, w) values as the layer has them; tokens that are no patches as in a template.

        Args:
            maps: values, with the channels first.
            template: what the layer put out.
        """
        if self.grid is None:
            return to_last(maps).contiguous() if self.last else maps
        cells = torch.tensor(self.grid.cells, device=maps.device)
        others = self._tokens_last(template.detach())[..., cells < 0].to(maps.dtype)
        both = torch.cat([maps.flatten(2), others], 2)
        count = maps.shape[2] * maps.shape[3]
        place = torch.where(cells >= 0, cells, count - 1 + (cells < 0).cumsum(0))
        tokens = both.index_select(2, place)
        if self.grid.axis == 2:
            return tokens
        return tokens.transpose(1, 2).contiguous() if self.grid.axis == 1 else tokens.permute(2, 0, 1).contiguous()

    def _tokens_last(self, values: Tensor) -> Tensor:
        """Return (..., B, C, N) of tokens."""
        assert self.grid is not None
        if self.grid.axis == 2:
            return values
        return values.transpose(-1, -2) if self.grid.axis == 1 else values.movedim(-3, -1)

    def _order(self, device: torch.device) -> Tensor:
        """Return which token each cell is, row by row."""
        assert self.grid is not None
        cells = torch.tensor(self.grid.cells, device=device)
        return cells.argsort()[int((cells < 0).sum()) :]


def arrangement_of(
    flow: Flow, node: int | None, shape: tuple[int, ...], layout: Layout, name: str, picture: tuple[int, int]
) -> Arrangement:
    """Return how a tensor lies; as it is, where it is neither a map nor tokens whose patches are known.

    Args:
        flow: flow of the pass.
        node: node of the tensor.
        shape: shape of it.
        layout: layout that was asked for.
        name: name for a message.
        picture: (H, W) of the images.

    Raises:
        UnsupportedError: it has four axes, and it cannot be told which holds the channels.
    """
    if len(shape) == 3 and node is not None and tokens_of(flow, node) is not None:
        return Arrangement(grid=tokens_of(flow, node))
    if len(shape) != 4 or layout != "auto":
        return Arrangement(last=len(shape) == 4 and layout == "channels_last")
    axis = None if node is None else flow.links.channels(node, shape, picture)
    if axis is None:
        raise unknown_layout(name, shape)
    return Arrangement(last=axis == 3)


def tokens_of(flow: Flow, node: int) -> Grid | None:
    """Return the patches of a node of three axes, one of them the images, if all are there."""
    grid, shape = flow.grids.get(node), flow.nodes[node].shape
    if grid is None or len(shape) != 3 or not grid.whole or shape[1 if grid.axis == 0 else 0] != flow.images:
        return None
    return grid
