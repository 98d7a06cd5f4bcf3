"""Feature inversion: an image of which a layer says the same as of another one (Mahendran & Vedaldi 2015).

What is lost on the way to the layer is free, and comes out as the penalties have it: what is to be seen is what the
layer still knows of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ibd.errors import ConfigError
from ibd.explain.base import check_image, undisturbed
from ibd.explain.feature_visualization.maximize import Visualization, maximize_activation, read_layer
from ibd.explain.feature_visualization.objectives import Objective
from ibd.explain.feature_visualization.penalties import Norm, Penalty, Roughness
from ibd.explain.layouts import Layout

SHARE = 0.05
"""Share of each of the two penalties."""


def invert_features(
    model: nn.Module,
    image: Tensor,
    layer: str,
    steps: int = 256,
    penalties: Sequence[Penalty] | None = None,
    layout: Layout = "auto",
    **options: Any,
) -> Visualization:
    """Return images, made from noise, that a layer puts out the same for as for given ones.

    The objective is ``-|f(x) - f(x0)|^2 / |f(x0)|^2`` of all that the layer puts out: 0 where nothing differs, and -1
    for a layer that is silent.

    Args:
        model: ours, or any of (B, C, H, W) images in [0, 1]; left as it was.
        image: (C, H, W) or (B, C, H, W).
        layer: name of a layer.
        steps: steps, each a pass to the layer and back.
        penalties: penalties; None takes `Norm` and `Roughness`, those of the paper, with a small share each.
        layout: axis of the layer's output that holds the channels.
        options: other options of `maximize_activation`.

    Raises:
        ConfigError: no such layer, or a layer that is silent for an image.
    """
    image = image if image.dim() == 4 else image.unsqueeze(0)
    check_image(image)
    with undisturbed(model), torch.no_grad():
        wanted = read_layer(model, image, layer, layout).float()
    if bool((wanted.flatten(1).abs().amax(1) == 0).any()):
        raise ConfigError(f"inversion: '{layer}' puts out zeros alone for an image: there is nothing to invert")
    usual = [Norm(share=SHARE), Roughness(share=SHARE)] if penalties is None else list(penalties)
    chosen: dict[str, Any] = {"transforms": None, "channels": image.shape[1], **options}
    return maximize_activation(
        model,
        Objective.features(layer, wanted),
        (image.shape[2], image.shape[3]),
        batch=len(image),
        steps=steps,
        penalties=usual,
        layout=layout,
        **chosen,
    )
