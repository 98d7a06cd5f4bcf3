"""Explanations where Quantus asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ibd.errors import ConfigError
from ibd.explain.base import Explainer
from ibd.explain.targets import Scalar, Target
from ibd.registry import resolve

METHOD = "gradcam"
"""What explains where nothing else is asked for."""


def quantus_explain(
    model: nn.Module,
    inputs: NDArray[Any],
    targets: NDArray[Any],
    method: str | Explainer = METHOD,
    device: str | torch.device | None = None,
    scalar: Scalar = "logit",
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
        scalar: what is explained of the class; "centered_logit" is what `ibd.compare` asks about.
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
    target = Target.cls(torch.as_tensor(np.asarray(targets)), scalar)
    found: torch.Tensor = made(method, options).on(model).attribute(image, target)
    maps: NDArray[np.float32] = found.float().cpu().numpy()
    return maps


def made(method: str | Explainer, options: Mapping[str, Any]) -> Explainer:
    """Return the explainer of a registered name and its options, or one that is made as it is.

    Raises:
        ConfigError: no such explainer, or options beside one that is made.
    """
    if not isinstance(method, Explainer):
        explainer: Explainer = resolve("explainers", method)(**options)
        return explainer
    if options:
        raise ConfigError(f"quantus_explain: {', '.join(options)}: an option of an explainer that is made already")
    return method
