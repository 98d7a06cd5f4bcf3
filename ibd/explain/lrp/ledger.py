"""A ledger of relevance: what reached the pixels, and what biases took on the way."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Layer:
    """The relevance of one operation, per image: what its output had, and what its inputs and its bias got."""

    output: Tensor
    inputs: Tensor
    bias: Tensor


@dataclass
class Ledger:
    """Relevance that does not travel as a gradient.

    Attributes:
        images: number of images B.
        size: (H, W) of the images.
        taken: (B,) relevance that stayed with biases in the present backward pass; None before the first.
        map: (B, H, W) relevance that rules of the first operation gave to pixels; None where none did.
        layers: name -> its relevance, if asked for.
        by_layer: whether sums are kept by layer.
    """

    images: int
    size: tuple[int, int]
    taken: Tensor | None = None
    map: Tensor | None = None
    layers: dict[str, Layer] = field(default_factory=dict)
    by_layer: bool = False

    def clear(self) -> None:
        """Begin another backward pass."""
        self.taken = self.map = None
        self.layers = {}

    def per_image(self, values: Tensor) -> Tensor:
        """Return (B,) sums of a tensor whose first dimension is the images, or the images times something."""
        return values.reshape(self.images, -1).sum(1)

    def take(self, gradient: Tensor, bias: Tensor | float) -> Tensor:
        """Write down what a bias keeps of a gradient, and return it, (B,).

        Args:
            gradient: gradient of the operation's output, the rule's coefficient included.
            bias: bias that is broadcast to it.
        """
        if not isinstance(bias, Tensor):
            kept = self.per_image(gradient) * bias
        elif bias.dim() == gradient.dim() and gradient.dim() > 2 and bias.numel() == bias.shape[1]:  # (1, C, 1, 1)
            kept = gradient.sum(tuple(range(2, gradient.dim()))) @ bias.flatten()
            kept = kept if len(kept) == self.images else self.per_image(kept)
        else:
            product = gradient * bias
            kept = self.per_image(product if all_finite(product) else torch.where(gradient == 0, 0.0, product))
        return self.keep(kept)

    def keep(self, kept: Tensor) -> Tensor:
        """Write down (B,) relevance that stays, and return it."""
        self.taken = kept if self.taken is None else self.taken + kept
        return kept

    def deposit(self, relevance: Tensor) -> None:
        """Add the relevance of the first operation's input, (B, ..., H, W), to the map."""
        sums = relevance.reshape(self.images, -1, *self.size).sum(1)
        self.map = sums if self.map is None else self.map + sums

    def layer(self, name: str, output: Tensor, inputs: Tensor, bias: Tensor) -> None:
        """Write down the (B,) relevances of an operation."""
        while name in self.layers:  # a module that is used again
            stem, _, number = name.partition(" #")
            name = f"{stem} #{int(number or 1) + 1}"
        self.layers[name] = Layer(output, inputs, bias)

    def total(self) -> Tensor | float:
        """Return what biases took in this pass, (B,)."""
        return 0.0 if self.taken is None else self.taken


def divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return the quotient, 0 where the denominator is 0: no stabilizer, which would change small values."""
    quotient = numerator / denominator
    return quotient if all_finite(quotient) else quotient.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)


def like(value: Tensor, template: Tensor) -> Tensor:
    """Return `value` summed to the shape of what was broadcast to it."""
    return value if value.shape == template.shape else value.sum_to_size(template.shape)


def all_finite(values: Tensor) -> bool:
    """Return whether every value is; also False where their sum is too large."""
    return bool(values.sum().isfinite())
