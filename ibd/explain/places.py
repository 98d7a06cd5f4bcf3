"""Where a model is cut by default: the last feature map through which the whole score comes."""

from __future__ import annotations

from collections.abc import Sequence

from ibd.errors import UnsupportedError
from ibd.explain.arrangement import tokens_of
from ibd.explain.flow import Flow
from ibd.explain.moves import EVEN, Frame, is_vector
from ibd.explain.reading import is_read, read_through

PIXEL_METHODS = "a method of pixels such as 'integrated_gradients' or 'occlusion'"
"""What explains any model, for messages."""


def last_map(flow: Flow, score: int | None, end: int, lie: Sequence[Frame | None]) -> int:
    """Return the last feature map that all of a score passes, or the last tokens.

    It has more than one position, each where the image has it (see `ibd.explain.moves`), and is made of the pixels by
    more than a normalization. Of tokens the patches have to be known (see `ibd.explain.tokens`), and the score has to
    be made from several of them: where only a class token is read, that is what the last attention reads. Where the
    model puts out a map, and only the target makes a number of it (a mean over pixels), it is the last one before the
    operation that mixes features to that: a map of the output would only repeat the output.

    Args:
        flow: flow of the pass.
        score: node of the score; None for a constant.
        end: nodes from here on are the target's, and not the model's.
        lie: places of the cells of each node, see `ibd.explain.moves.frames`.

    Raises:
        UnsupportedError: there is none, or what is last are tokens of unknown places; the message says what works.
    """
    passed = [node for node in flow.passed(score or 0) if 0 < node < end]
    last = _Walk(flow, lie, score or 0)
    for node in passed:
        last.step(node)
    if last.refused is not None:
        raise last.refused
    depth = flow.nodes[score or 0].depth
    nodes = [node for node in last.maps if last.pooled or flow.nodes[node].depth < depth]
    if not nodes:
        several = any(last.is_map(node) for node in flow.needed(score or 0) if node < end)
        why = "no single feature map carries the whole score" if several else "no feature map is pooled or flattened"
        if not several and any(last.moved(node) for node in passed):
            why = "no feature map has its cells where the image has them (they are cropped, padded, flipped or rolled)"
        raise UnsupportedError(f"{why} in this model: name a layer, or use {PIXEL_METHODS}")
    return read_through(flow, nodes[-1], score or 0)


class _Walk:
    """Goes from the image to a score.

    Attributes:
        maps: feature maps that were passed.
        pooled: whether what was passed last has no positions any more.
        refused: error about positions that were passed after the last map, and are none of it.
    """

    def __init__(self, flow: Flow, lie: Sequence[Frame | None], score: int) -> None:
        self.flow, self.picture = flow, (flow.nodes[0].shape[2], flow.nodes[0].shape[3])
        self.lie, self.score = lie, score
        self.maps: list[int] = []
        self.pooled = False
        self.refused: UnsupportedError | None = None

    def step(self, node: int) -> None:
        """Go on to what everything passes next."""
        shape, pixels = self.flow.nodes[node].shape, self.flow.nodes[node].pixels
        if pixels or not shape:
            return
        if len(shape) == 4 and self.moved(node):
            return
        if self.is_map(node):
            self.maps.append(node)
            self.pooled, self.refused = False, None
        elif is_vector(shape, self.flow.images):
            self.pooled = True
        elif len(shape) == 3 and node in self.flow.grids and tokens_of(self.flow, node) is not None:
            if self._mixed(node) and not self.moved(node) and is_read(self.flow, node, self.score):
                self.maps.append(node)
                self.pooled, self.refused = False, None
        elif not self.pooled and self._lost(node) and self.refused is None:
            self.refused = _tokens(self.flow, node) if len(shape) == 3 else _unknown(self.flow, node)

    def moved(self, node: int) -> bool:
        """Return whether the cells of a node are not where the image has them."""
        return self.lie[node] not in (None, EVEN)

    def is_map(self, node: int) -> bool:
        """Return whether a node is a map of several positions, where the image has them, with known channels."""
        shape, pixels = self.flow.nodes[node].shape, self.flow.nodes[node].pixels
        if pixels or len(shape) != 4 or shape[0] != self.flow.images or not _places(shape) or self.moved(node):
            return False
        return self.flow.links.channels(node, shape, self.picture) is not None

    def _lost(self, node: int) -> bool:
        """Return whether a node holds positions that are none of the last map, and are not known."""
        shape, parents = self.flow.nodes[node].shape, self.flow.nodes[node].parents
        of_tokens = any(parent in self.flow.grids for parent in parents) and node not in self.flow.mixers
        return self._mixed(node) and len(shape) in (3, 4) and not of_tokens

    def _mixed(self, node: int) -> bool:
        """Return whether features were mixed since the last map that is none of tokens."""
        since = next((seen for seen in reversed(self.maps) if len(self.flow.nodes[seen].shape) == 4), 0)
        return self.flow.nodes[node].depth > self.flow.nodes[since].depth


def _places(shape: tuple[int, ...]) -> bool:
    """Return whether a 4-dimensional tensor has more than one position, wherever its channels are."""
    return shape[2] * shape[3] > 1 and shape[1:3] != (1, 1)


def _tokens(flow: Flow, node: int) -> UnsupportedError:
    shape = flow.nodes[node].shape
    return UnsupportedError(
        f"the score is made from tokens ({flow.describe(node)}: {'x'.join(map(str, shape[1:]))} numbers for each "
        f"image), and it cannot be told which token is which patch: use {PIXEL_METHODS}, or name a layer with a map"
    )


def _unknown(flow: Flow, node: int) -> UnsupportedError:
    shape = flow.nodes[node].shape
    return UnsupportedError(
        f"the score is made from {flow.describe(node)}, {'x'.join(map(str, shape[1:]))} numbers for each image, "
        "and it is unclear which axis holds the channels: name a layer and set layout='channels_first' or "
        f"'channels_last', or use {PIXEL_METHODS}"
    )
