"""Explanations where Quantus asks for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ibd.explain.base import Explainer
from ibd.registry import resolve


def quantus_explain(
    model: nn.Module,
    inputs: NDArray[Any],
    targets: NDArray[Any],
    method: str | Explainer = "gradcam",
    device: str | torch.device | None = None,
    **options: Any,
) -> NDArray[np.float32]:
    """Return explanations as Quantus takes them: its ``explain_func``, in the place of ``quantus.explain``.

    ``metric(model=model.logits, x_batch=x, y_batch=y, explain_func=quantus_explain, explain_func_kwargs={"method":
    "lrp"})``.

    Args:
        model: any classifier of images that returns logits; of ours its ``logits``, as Quantus itself asks the model,
            too.
        inputs: (B, 3, H, W) images.
        targets: (B,) numbers of classes.
        method: registered name of an explainer, or one that is made.
        device: device of the images; None takes that of the model's weights.
        options: options of the explainer that is named.

    Returns:
        (B, 1, H, W) maps, signed.

    Raises:
        ConfigError: no such explainer or class.
        DataError: images that are none.
        UnsupportedError: the method cannot explain this model.
    """
    weight = next(model.parameters(), torch.zeros(()))
    image = torch.as_tensor(inputs, dtype=weight.dtype, device=device or weight.device)
    explainer: Explainer = method if isinstance(method, Explainer) else resolve("explainers", method)(**options)
    found: torch.Tensor = explainer.on(model).attribute(image, torch.as_tensor(np.asarray(targets)))
    maps: NDArray[np.float32] = found.float().cpu().numpy()
    return maps
