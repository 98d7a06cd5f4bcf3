"""The number that is explained of a class: of its logit, or of its probability."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.errors import UnsupportedError

Scalar = Literal["logit", "centered_logit", "log_prob", "log_odds", "prob"]


def numbers_in(output: object) -> object:
    """Return what of a model's output is its numbers for the classes, by where models keep them; None without.

    That is a tensor itself; "logits" or "out", else the first entry, of a dict; the attribute of such a name; the first
    entry of a tuple or list.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        return output.get("logits", output.get("out", next(iter(output.values()), None)))
    found = getattr(output, "logits", getattr(output, "out", None))
    return output[0] if found is None and isinstance(output, list | tuple) and output else found


def logits_of(output: object) -> Tensor:
    """Return the (B, C) logits in what a model returned.

    Raises:
        UnsupportedError: there are none.
    """
    logits = numbers_in(output)
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        shape = f" of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else ""
        raise UnsupportedError(
            f"the model returns a {type(output).__name__}{shape}: logits (B, C), a tuple or dict with them, or a "
            "target of its own (Target.of) is needed"
        )
    return logits


def predicted_classes(logits: Tensor) -> Tensor:
    """Return the (B,) predicted classes of (B, C) logits; of one logit z 1 where z > 0 and 0 elsewhere, as its labels.

    In a `Target` the class of the one logit is number 0: there it is the only one.
    """
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)


def of_class(logits: Tensor, index: Tensor, scalar: Scalar) -> Tensor:
    """Return the asked-for number of one class for each image, (B,).

    Args:
        logits: (B, C) of at least two classes, of which one is true: probabilities are their softmax.
        index: (B,) classes.
        scalar: "logit"; "centered_logit", the logit less the mean of all C; "prob", "log_prob", or "log_odds", which is
            ``ln(p / (1 - p))``.
    """
    chosen = logits.gather(1, index.unsqueeze(1)).squeeze(1)
    if scalar == "logit":
        return chosen
    if scalar == "centered_logit":
        return chosen - logits.mean(1)
    if scalar == "log_odds":
        return chosen - logits.scatter(1, index.unsqueeze(1), -torch.inf).logsumexp(1)
    log_prob = logits.log_softmax(1).gather(1, index.unsqueeze(1)).squeeze(1)
    return log_prob if scalar == "log_prob" else log_prob.exp()


def of_one_logit(logit: Tensor, absent: Tensor, scalar: Scalar) -> Tensor:
    """Return the asked-for number of the class, or of its absence, where there is one logit z, (B,).

    The probability of the class is ``sigmoid(z)``: z is its log-odds. That of its absence is ``sigmoid(-z)``.

    Args:
        logit: (B,).
        absent: (B,) bool: whether its absence is asked about.
        scalar: scalar as in `of_class`; centered on the one logit itself nothing would be left, so that it stays.
    """
    signed = logit if not bool(absent.any()) else logit * torch.where(absent, -1.0, 1.0).to(logit)
    if scalar == "prob":
        return signed.sigmoid()
    return F.logsigmoid(signed) if scalar == "log_prob" else signed


def dependent(scores: Tensor) -> Tensor:
    """Return scores, which have a gradient.

    Raises:
        UnsupportedError: they have none.
    """
    if not scores.requires_grad:
        raise UnsupportedError("the score has no gradient: it does not depend on the image, or is a constant")
    return scores
