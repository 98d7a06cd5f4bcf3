"""Attention written down in plain operations, in place of the fused functions of torch.

So what it does is seen one operation at a time by whatever follows a model, and its weights are tensors of the graph.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ibd.errors import UnsupportedError
from ibd.explain.calls import Call

FUSED = ("scaled_dot_product_attention", "multi_head_attention_forward")
"""Names of the functions that are written down here."""
_MULTI_HEAD = inspect.signature(F.multi_head_attention_forward)


class Attended(NamedTuple):
    """What an attention gives.

    Attributes:
        output: what the function returns, the first of it where it returns several.
        weights: (B, heads, L, S) softmax of queries and keys.
    """

    output: Tensor
    weights: Tensor


def written_down(call: Call) -> Attended:
    """Return what a call of one of `FUSED` gives, by a matrix product, a softmax and another matrix product.

    Raises:
        UnsupportedError: an option of it that is not written down here (dropout in evaluation, added keys, grouped
            queries).
    """
    if call.bare == FUSED[0]:
        return _scaled(*call.args, **call.kwargs)
    options = _MULTI_HEAD.bind(*call.args, **call.kwargs)
    options.apply_defaults()
    return _multi_head(options.arguments)


def same_as_fused(name: str, fused: Tensor, output: Tensor) -> None:
    """Check that an attention that was written down gives what the fused function does.

    Raises:
        UnsupportedError: it does not.
    """
    tolerance = {torch.float64: 1e-9, torch.float32: 1e-4}.get(fused.dtype, 3e-2)
    if not bool((fused - output).abs().max() <= tolerance * fused.abs().max().clamp(min=1e-6)):
        raise UnsupportedError(f"'{name}' gives something else than the attention that it stands for here")


def _scaled(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Attended:  # fmt: skip
    if dropout_p or enable_gqa:
        _refuse("scaled_dot_product_attention", "dropout_p" if dropout_p else "enable_gqa")
    scores = (query * (query.shape[-1] ** -0.5 if scale is None else scale)) @ key.transpose(-2, -1)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    weights = scores.softmax(-1)
    return Attended(weights @ value, weights)


def _multi_head(given: dict[str, Any]) -> Attended:
    """Write down `F.multi_head_attention_forward` of (L, B, E) queries."""
    query: Tensor = given["query"]
    for name in ("bias_k", "bias_v", "static_k", "static_v"):
        if given[name] is not None:
            _refuse("multi_head_attention_forward", name)
    if given["add_zero_attn"] or (given["dropout_p"] and given["training"]):
        _refuse("multi_head_attention_forward", "add_zero_attn" if given["add_zero_attn"] else "dropout_p")
    if query.dim() != 3:
        _refuse("multi_head_attention_forward", "a query without images")
    if given["use_separate_proj_weight"]:
        weights = [given[f"{part}_proj_weight"] for part in "qkv"]
    else:
        weights = list(given["in_proj_weight"].chunk(3))
    biases = [None] * 3 if given["in_proj_bias"] is None else given["in_proj_bias"].chunk(3)
    heads = []
    for name, weight, bias in zip(("query", "key", "value"), weights, biases, strict=True):
        projected = F.linear(given[name].transpose(0, 1), weight, bias)
        heads.append(projected.reshape(*projected.shape[:2], given["num_heads"], -1).transpose(1, 2))
    mask = _mask(given["attn_mask"], given["key_padding_mask"], len(heads[0]), given["num_heads"], query)
    output, attention = _scaled(heads[0], heads[1], heads[2], mask)
    joined = F.linear(output.transpose(1, 2).flatten(2), given["out_proj_weight"], given["out_proj_bias"])
    return Attended(joined.transpose(0, 1), attention)


def _mask(mask: Tensor | None, padding: Tensor | None, images: int, heads: int, query: Tensor) -> Tensor | None:
    """Return the numbers that are added to the scores; true means to leave out."""

    def added(given: Tensor) -> Tensor:
        if given.dtype != torch.bool:
            return given.to(query.dtype)
        return torch.zeros(given.shape, dtype=query.dtype, device=query.device).masked_fill(given, -torch.inf)

    if mask is not None:
        mask = added(mask)
        mask = mask.view(images, heads, *mask.shape[1:]) if mask.dim() == 3 else mask
    if padding is None:
        return mask
    hidden = added(padding).view(images, 1, 1, -1)
    return hidden if mask is None else mask + hidden


def _refuse(function: str, option: str) -> None:
    raise UnsupportedError(f"'{function}' with {option} cannot be written down in operations that are followed")
