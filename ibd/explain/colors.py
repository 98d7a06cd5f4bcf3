"""The linear map of a B-cos network as a picture in its own colors: what it looked for, where it found it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ibd.explain.render import smoothed

LINEAR_MAP = "linear_map"
"""Where an explanation has the linear map that it is made of, among its extras."""
_FULL = 0.99
"""Share of the pixels whose contribution is not drawn with full opacity."""


def own_colors(weights: Tensor, heat: Tensor) -> NDArray[np.float32]:
    """Return pictures with opacity, (..., H, W, 4) in [0, 1] (Boehle et al. 2022, section 3.3 and figure 2).

    A pixel has the color that its weights ask for: of a channel and its negative, the share of the first among what is
    positive of the two. Its opacity is what it and the pixels around it contribute (`ibd.explain.render.smoothed`) over
    the 99th percentile of that (the paper: the 99.9th, of larger images); what speaks against is not drawn.

    Args:
        weights: (..., 6, H, W) of the channels [x, 1 - x], as ``network.pixel_maps`` returns them.
        heat: (..., H, W) contributions.
    """
    weights, heat = weights.detach().float().cpu(), smoothed(heat.detach().cpu()).clamp(min=0)
    asked = weights.relu()
    plain, negative = asked[..., :3, :, :], asked[..., 3:, :, :]
    total = plain + negative
    color = torch.where(total > 0, plain / torch.where(total > 0, total, 1.0), 0.5)
    ordered = heat.flatten(-2).sort(-1).values
    full = ordered[..., min(int(_FULL * ordered.shape[-1]), ordered.shape[-1] - 1), None, None]
    full = torch.where(full > 0, full, ordered[..., -1, None, None])
    opacity = torch.where(full > 0, heat / torch.where(full > 0, full, 1.0), 0.0).clamp(max=1)
    picture: NDArray[np.float32] = torch.cat([color, opacity.unsqueeze(-3)], -3).movedim(-3, -1).numpy()
    return picture
