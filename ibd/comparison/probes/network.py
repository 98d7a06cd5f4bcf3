"""A model as metrics ask it: a copy that computes the same faster, in batches that fit into memory, and counted."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ibd.backbones import prefers_channels_last
from ibd.backbones.precision import full_precision
from ibd.comparison.probes.folding import fold_batch_norm
from ibd.comparison.probes.memory import peak_bytes
from ibd.errors import ConfigError
from ibd.explain.activations import network_of
from ibd.explain.base import check_image
from ibd.explain.targets import logits_of
from ibd.models.base import InterpretableNetwork

TOLERANCE = 1e-4
"""How far the logits of the faster copy may be from the model's, over the largest of them."""
MEMORY = 256 * 2**20
_MOST = 256
"""Images in a batch: more do not make it faster."""

Make = Callable[[Tensor], Tensor]
"""(n,) int64 numbers of images -> (n, 3, H, W)."""


class Values(NamedTuple):
    """What a model says of the explained class, float64 each.

    Attributes:
        centered: its logit less the mean of all logits, which adding a constant to all of them does not change. It is
            linear in the logits, so that every explainer can be asked for it.
        probability: p, in [0, 1].
        kept: 1 where the explained class is the predicted one, else 0.
    """

    centered: Tensor
    probability: Tensor
    kept: Tensor

    def view(self, *shape: int) -> Values:
        """Return the same values in another shape."""
        return Values(*(values.view(*shape) for values in self))


class Predictor:
    """Asks a model for logits, without gradients, and without touching it.

    The copy has its batch normalizations, and whitened layers, folded into convolutions, and lies in memory as is
    fastest; where its logits differ from the model's by more than `TOLERANCE`, it is a copy as the model is. Autocast
    does not apply.

    Args:
        model: ours, or any classifier of (B, 3, H, W) images.
        like: (B, 3, H, W) some of the images. Images may be on any device: they are brought to the model's.
        memory: bytes that the tensors of one batch may take, the images included; at least one image is asked at a
            time. What the libraries of the processor take for themselves comes on top.

    Attributes:
        network: the copy, in evaluation mode.
        device: device that it is on and returns tensors on.
        form: form of the network: "folded, channels last", "folded", "channels last" or "as it is".
        difference: largest difference of its logits from the model's, over the largest of these.
        forwards: images that were asked so far.
        seconds: seconds that this took.
    """

    def __init__(self, model: nn.Module, like: Tensor, memory: int = MEMORY) -> None:
        check_image(like)
        if memory <= 0:
            raise ConfigError(f"memory: {memory} bytes given, more than 0 are needed")
        self.memory, self.forwards, self.seconds = memory, 0, 0.0
        self._sizes: dict[tuple[int, ...], int] = {}
        with torch.inference_mode(False), torch.no_grad():
            plain = _frozen(network_of(model))
            self.device = next((parameter.device for parameter in plain.parameters()), like.device)
            self.network, self.form, self.difference = self._choose(plain, like.clone().to(self.device))

    def _choose(self, plain: nn.Module, like: Tensor) -> tuple[nn.Module, str, float]:
        with full_precision(like):
            wanted = logits_of(plain(like)).double()
            faster, form = _faster(plain, like.device)
            self.channels_last = "channels last" in form
            logits = logits_of(faster(self._laid_out(like))).double()
        scale = float(wanted.abs().amax()) or 1.0
        difference = float((logits - wanted).abs().amax()) / scale
        if difference <= TOLERANCE:  # false for NaN
            return faster, form, difference
        self.channels_last = False
        return plain, "as it is", 0.0

    def _laid_out(self, images: Tensor) -> Tensor:
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        return images.to(self.device).contiguous(memory_format=layout)

    def batch_size(self, images: Tensor) -> int:
        """Return how many images like these, (B, 3, H, W), are asked at a time."""
        shape = tuple(images.shape[1:])
        if shape not in self._sizes:
            one = self._laid_out(images[:1])
            own = 4 * one.numel() * one.element_size()  # the image, and what it is made of
            with full_precision(one):
                self._sizes[shape] = own + peak_bytes(lambda: self.network(one))
            self._sizes[shape] = max(1, self._sizes[shape])
        return max(1, min(_MOST, self.memory // self._sizes[shape]))

    @torch.no_grad()
    def output(self, images: Tensor) -> object:
        """Return what the network returns for (n, 3, H, W) images, all at once; counted."""
        started = time.perf_counter()
        given = self._laid_out(images)
        with full_precision(given):
            output: object = self.network(given)
        if given.is_cuda:
            torch.cuda.synchronize(given.device)
        self.forwards += len(images)
        self.seconds += time.perf_counter() - started
        return output

    def made(self, make: Make, count: int, like: Tensor) -> Tensor:
        """Return the (count, C) logits of images that are made a batch at a time.

        Args:
            make: (n,) int64 numbers from 0 to count - 1 -> (n, 3, H, W) images.
            count: number of images.
            like: (B, 3, H, W) of the same size; the numbers are on its device.
        """
        numbers = torch.split(torch.arange(count, device=like.device), self.batch_size(like))
        logits = [logits_of(self.output(make(some))) for some in numbers]
        return torch.cat(logits) if logits else like.new_zeros(0, 0)

    def logits(self, images: Tensor) -> Tensor:
        """Return the (B, C) logits of (B, 3, H, W) images."""
        return self.made(lambda some: images[some], len(images), images)

    def values(self, logits: Tensor, classes: Tensor) -> Values:
        """Return what (n, C) logits say of the classes (n,)."""
        value = logits.cpu().double() if logits.device.type == "mps" else logits.double()
        index = classes.to(value.device).unsqueeze(1)
        centered = (value - value.mean(1, keepdim=True)).gather(1, index).squeeze(1)
        probability = self._probabilities(value).gather(1, index).squeeze(1)
        return Values(centered, probability, (value.argmax(1) == index.squeeze(1)).double())

    def centered(self, images: Tensor, classes: Tensor) -> Tensor:
        """Return (B,) the logits of the classes (B,) less the means of all logits, float64."""
        return self.values(self.logits(images), classes).centered

    def probabilities(self, images: Tensor, classes: Tensor) -> Tensor:
        """Return (B,) probabilities of the classes (B,), float64."""
        return self.values(self.logits(images), classes).probability

    def predicted(self, images: Tensor) -> Tensor:
        """Return the (B,) classes of the highest logit."""
        return self.logits(images).argmax(1)

    def _probabilities(self, logits: Tensor) -> Tensor:
        """Return the (n, C) probabilities of float64 logits, by the network's own rule where it has one."""
        if isinstance(self.network, InterpretableNetwork):
            return self.network.class_probabilities(logits)
        return logits.softmax(1)


def _frozen(model: nn.Module) -> nn.Module:
    """Return a copy in evaluation mode whose parameters want no gradient."""
    return copy.deepcopy(model).eval().requires_grad_(False)


def _faster(plain: nn.Module, device: torch.device) -> tuple[nn.Module, str]:
    """Return a copy with everything folded that can be, as is fastest in memory, and what was done."""
    network, last = _frozen(plain), True
    backbone = network
    if isinstance(plain, InterpretableNetwork):
        network = plain.for_inference().requires_grad_(False)
        backbone = network.backbone
        last = prefers_channels_last(backbone, device)
    fold_batch_norm(backbone)
    folded = network.state_dict().keys() != plain.state_dict().keys()
    if last:
        backbone.to(memory_format=torch.channels_last)
    words = ["folded"] * folded + ["channels last"] * last
    return network, ", ".join(words) or "as it is"
