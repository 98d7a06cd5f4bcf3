"""Exclusive concept groups: at most one of their concepts holds in one image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

CERTAIN = 30.0
"""The logit that stands for a certain truth value: its sigmoid is exactly 1 in float32, and 9e-14 when negated."""


def with_none(logits: Tensor) -> Tensor:
    """Return the logits of a group, (..., G), and that of "none of them", which is 0: (..., G + 1).

    So a group may be absent from an image, as when a part is hidden, and a group of one concept is a plain sigmoid.
    """
    return F.pad(logits, (0, 1))


def group_probabilities(logits: Tensor) -> Tensor:
    """Return the probabilities of the concepts of a group, (..., G): a softmax over them and "none of them"."""
    return with_none(logits).softmax(-1)[..., :-1]


def group_log_odds(logits: Tensor) -> Tensor:
    """Return ``log(p / (1 - p))`` of the concepts of a group, (..., G), also where float32 knows p only as 1."""
    itself = torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device)
    others = with_none(logits.unsqueeze(-2).masked_fill(itself, -torch.inf))
    return logits - others.logsumexp(-1)


def group_truth_logits(logits: Tensor, truth: Tensor, known: Tensor) -> Tensor:
    """Return logits of a softmax group whose probabilities are `truth` where `known`.

    What is left of the probability is shared by the others, and by "none of them", in the proportions predicted. Truth
    values that add up to more than 1 are scaled down to it.

    Args:
        logits: (..., G) logits as predicted.
        truth: (..., G) truth values in [0, 1]; ignored where not known.
        known: (..., G) bool, whether the truth is known. Where nothing is known the logits stay.

    Returns:
        (..., G) between -`CERTAIN` and `CERTAIN` where something is known.
    """
    told = torch.where(known, truth, 0.0)
    left = (1 - told.sum(-1, keepdim=True)).clamp(min=0).log()
    others = with_none(logits.masked_fill(known, -torch.inf)).log_softmax(-1) + left
    none = others[..., -1:].clamp(min=-CERTAIN)
    edited = torch.where(known, told.log(), others[..., :-1]) - none
    same = ~known & (
        others[..., -1:] >= -CERTAIN
    )  # to "none of them" as before: to the bit, so nobody takes it for set
    edited = torch.where(same, logits, edited)
    return torch.where(known.any(-1, keepdim=True), edited.clamp(-CERTAIN, CERTAIN), logits)


def complete(truth: Tensor, known: Tensor, groups: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Return truth and what is known of it, both (..., K), with the unknown siblings of a certain 1 known to be 0."""
    truth, known = torch.where(known, truth, 0.0), known.clone()
    for group in groups:
        certain = (truth[..., group] == 1).any(-1, keepdim=True)
        known[..., group] |= certain
    return truth, known
