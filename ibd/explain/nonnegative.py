"""Non-negative codes: how much of each part a vector is made of."""

from __future__ import annotations

import torch
from torch import Tensor

_SWEEPS = 500
_CLOSE = 1e-6


def nonnegative_codes(rows: Tensor, parts: Tensor) -> Tensor:
    """Return the u >= 0 of each row x that minimises ``|x - u parts|^2``.

    By coordinate descent, a part at a time over all rows (Hsieh & Dhillon 2011 do so for factorizations); where rows
    have a graph, the last step solves for the parts that are in use, so that the gradient is that of the solution.

    Args:
        rows: (N, D).
        parts: (K, D); one of length 0 is never used.

    Returns:
        (N, K).
    """
    gram = parts @ parts.t()
    with torch.no_grad():
        codes = _descend(rows.detach() @ parts.t(), gram)
    if not (torch.is_grad_enabled() and rows.requires_grad):
        return codes
    used = (codes > 0).to(rows)
    pairs = used.unsqueeze(2) * used.unsqueeze(1) * gram + torch.diag_embed(1 - used)
    return torch.linalg.solve(pairs, used * (rows @ parts.t()))


def _descend(products: Tensor, gram: Tensor) -> Tensor:
    """Return the codes for (N, K) products of rows and parts, and the (K, K) products of parts."""
    codes, sizes = torch.zeros_like(products), gram.diagonal().tolist()
    scale = float(products.abs().max()) if products.numel() else 0.0
    for _ in range(_SWEEPS):
        moved = 0.0
        for part, size in enumerate(sizes):
            if size <= 0:
                continue
            before = codes[:, part].clone()
            step = (products[:, part] - codes @ gram[part]) / size
            codes[:, part] = (before + step).clamp_(min=0)
            moved = max(moved, float((codes[:, part] - before).abs().max()) * size)
        if moved <= _CLOSE * scale:
            break
    return codes
