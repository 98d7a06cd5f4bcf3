"""A network of ours as others expect a classifier: images in, logits out."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ibd.models.base import InterpretableNetwork
from ibd.types import Output


class Logits(nn.Module):
    """A network that returns its (B, C) logits alone, for captum, pytorch-grad-cam, Quantus and others.

    Its modules and weights are the network's own: a hook on ``network.backbone`` works here, too, and so does an
    explainer of ours, `Intrinsic` among them.

    Args:
        network: network, in the mode that it is to run in.
        answer: what is asked in the network's place: the model around it, which may know a precision; None is itself.
    """

    def __init__(self, network: InterpretableNetwork, answer: Callable[[Tensor], Output] | None = None) -> None:
        super().__init__()
        self.network = network
        self.answer = answer  # a method, so that the model is no part of this one
        self.training = network.training  # not train(), which would set the network, too

    @property
    def behind_logits(self) -> InterpretableNetwork:
        """The network, which explainers ask in the place of its logits: it has units, too."""
        return self.network

    def forward(self, image: Tensor) -> Tensor:
        """Return the (B, C) logits of (B, 3, H, W) images in [0, 1]."""
        logits: Tensor = (self.answer or self.network)(image).logits
        return logits
