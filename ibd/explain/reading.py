"""Whether, and through which tokens, a score is made from the patches that a tensor holds.

Behind the last attention of a vision transformer only its class token is read: the gradient by every patch is 0 there,
though the tensor holds all of them. And by what the last block is given, gradient times value is 0 as well, patch by
patch, where a normalization of each token comes first. So it is the tokens that the last attention reads that matter.
"""

from __future__ import annotations

from torch import Tensor

from ibd.errors import UnsupportedError
from ibd.explain.arrangement import tokens_of
from ibd.explain.flow import Flow


def is_read(flow: Flow, node: int, score: int) -> bool:
    """Return whether a score depends on the patches of a node: whether they are mixed into what it is made from."""
    return bool(_mixed_into(flow, node, flow.needed(score)))


def check_read(flow: Flow, node: int, columns: list[Tensor], layer: str | None) -> None:
    """Refuse tokens after which only others than the patches are read.

    Raises:
        UnsupportedError: none of the scores depends on the patches.
    """
    scores = [score for column in columns if (score := flow.of(column)) is not None]
    if tokens_of(flow, node) is not None and not any(is_read(flow, node, score) for score in scores):
        raise UnsupportedError(
            f"the score does not depend on the patches that layer '{layer}' puts out, only on other tokens (a class "
            "token): name an earlier layer, or none"
        )


def read_through(flow: Flow, node: int, score: int) -> int:
    """Return the last tokens through which all that a score has of the patches of a node comes, or the node itself.

    Only tokens of the same features are taken: normalized ones, but not queries, keys and values made of them.
    """
    needed = flow.needed(score)
    ends = _mixed_into(flow, node, needed)
    if node not in flow.grids or not ends:
        return node
    carriers = [node]
    for other in sorted(needed):
        carries = other > node and other in flow.grids and other not in flow.mixers
        if carries and set(flow.nodes[other].parents) & set(carriers) and _mixed_into(flow, other, needed):
            carriers.append(other)
    passed = [carrier for carrier in carriers if all(_passes(flow, node, end, carrier, carriers) for end in ends)]
    alike = [carrier for carrier in passed if flow.nodes[carrier].depth == flow.nodes[node].depth]
    tokens = [carrier for carrier in alike if tokens_of(flow, carrier) is not None] or [node]
    return max((carrier for carrier in tokens if carrier in flow.names), default=tokens[-1])


def _mixed_into(flow: Flow, node: int, needed: set[int]) -> set[int]:
    """Return the first nodes, of those needed, into which the patches of a node are mixed."""
    carriers, ends = {node}, set()
    for other in sorted(needed):
        held = [parent for parent in flow.nodes[other].parents if parent in carriers] if other > node else []
        if held and other in flow.mixers:
            ends.add(other)
        elif held and other in flow.grids:
            carriers.add(other)
    return ends


def _passes(flow: Flow, node: int, end: int, through: int, carriers: list[int]) -> bool:
    """Return whether all ways from a node to another, over carriers, go through one of these."""
    waiting, seen = [end], set[int]()
    while waiting:
        for parent in flow.nodes[waiting.pop()].parents:
            if parent == through or parent in seen or parent not in carriers:
                continue
            if parent == node:
                return False
            seen.add(parent)
            waiting.append(parent)
    return True
