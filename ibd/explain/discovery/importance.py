"""What concepts are worth to a class: exact where the rest of the network is linear, else total Sobol indices.

A concept is taken away by its part of the features, ``x - (1 - m) u v`` with its activations u, its part v and a mask m
from 1 to 0; what no concept rebuilds stays. Where a class's logit is an affine function of the features, a concept adds
``u v . gradient`` to it. Elsewhere Fel et al. (CRAFT, 2023) mask all concepts at random and take the total index of
each, the share of the logit's variance in which it has a part, by the estimator of Jansen (1999):
``S_k = mean (f(A) - f(A with column k of B))^2 / (2 Var f)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ibd.errors import check_range
from ibd.explain.base import Call, undisturbed
from ibd.explain.directions import Directions
from ibd.explain.layers import LayerCut
from ibd.explain.targets import Target

Kind = Literal["exact", "sobol"]
_AFFINE = 1e-3
"""How far the logits of a mixture of two images' features may be from the mixture, as a share of what they differ."""
_PAIRS = 4


@dataclass(frozen=True)
class Importance:
    """What K concepts are worth to C classes.

    Attributes:
        values: (K, C): "exact", what a concept adds to the class's logit, mean over images of the class; "sobol", its
            total index, 0 to about 1, mean over these images. NaN for a class without images.
        kind: way in which it is known.
        images: images of each class, at most.
        designs: rows of random masks of each image; 0 where none were needed.
    """

    values: Tensor
    kind: Kind
    images: int
    designs: int


def class_importance(
    model: nn.Module, images: Sequence[Tensor], layer: str, directions: Directions, designs: int = 32, seed: int = 0
) -> Importance:
    """Return what concepts are worth to the classes of a model, which is left as it was.

    Args:
        model: model of (B, 3, H, W) images in [0, 1] with a logit for each class, on the images' device.
        images: for each class (n, 3, H, W) images of it, n from 0.
        layer: name of the concepts' layer in the model.
        directions: concepts, which add up to features.
        designs: rows of random masks for each image, a power of 2.
        seed: seed of the masks.

    Raises:
        UnsupportedError: the logits do not depend on the layer, or it runs several times.
    """
    check_range("designs", designs, least=2)
    values = torch.full((len(directions), len(images)), torch.nan)
    most = max((len(some) for some in images), default=0)
    kind: Kind = "exact" if _all_affine(model, images, layer) else "sobol"
    for number, some in enumerate(images):
        if not len(some):
            continue
        with undisturbed(model):
            call = Call(model, Target.cls(number))
            cut = LayerCut(call, some, layer, replay=True)
            found = exact_parts(cut, directions) if kind == "exact" else _indices(cut, directions, designs, seed)
        values[:, number] = found.mean(0).float().cpu()
    return Importance(values, kind, most, 0 if kind == "exact" else designs)


def exact_parts(cut: LayerCut, directions: Directions) -> Tensor:
    """Return what each concept adds to an affine score, (B, K)."""
    gradient = cut.gradients()[:, 0].detach()
    activations = directions.read(cut.value.detach())
    slopes = torch.einsum("bdhw,kd->bkhw", gradient, directions.shown.to(gradient))
    return (activations * slopes).sum((2, 3))


def _indices(cut: LayerCut, directions: Directions, designs: int, seed: int) -> Tensor:
    """Return the total indices of the concepts in each image, (B, K)."""
    value = cut.value.detach()
    activations = directions.read(value)
    parts = directions.shown.to(value)

    def score(masks: Tensor) -> Tensor:
        """Return the (n, B) scores under (n, K) masks."""

        def change(start: int, stop: int) -> Tensor:
            off = (1 - masks[start:stop]).to(value)
            taken = torch.einsum("nk,bkhw,kd->nbdhw", off, activations, parts)
            return value - taken

        return cut.many(change, len(masks))[:, :, 0]

    return total_indices(score, len(directions), designs, seed).t()


def total_indices(score: Callable[[Tensor], Tensor], count: int, designs: int, seed: int = 0) -> Tensor:
    """Return the total Sobol indices of `count` numbers that are uniform in [0, 1], by Jansen's estimator.

    Args:
        score: (n, K) inputs -> (n, B) scores.
        count: number of inputs K.
        designs: rows N of each of two designs, which a scrambled Sobol sequence fills: N (K + 2) rows are scored.
        seed: seed of the scrambling.

    Returns:
        (K, B) float64; 0 where the score does not change at all.
    """
    from scipy.stats import qmc

    sequence = qmc.Sobol(2 * count, seed=np.random.default_rng(seed)).random(designs)
    both = torch.from_numpy(sequence.astype(np.float32))
    first, second = both[:, :count], both[:, count:]
    base = score(first).double()
    variance = torch.cat([base, score(second).double()]).var(0, unbiased=False)
    found = []
    for column in range(count):
        mixed = first.clone()
        mixed[:, column] = second[:, column]
        found.append((base - score(mixed).double()).square().mean(0) / 2)
    still = variance <= 1e-12 * base.square().mean(0)
    return torch.stack(found).div(variance.where(~still, 1.0)).where(~still, 0.0)


def _all_affine(model: nn.Module, images: Sequence[Tensor], layer: str) -> bool:
    """Return whether the logits are affine functions of a layer, as far as mixtures of features tell.

    Of the features of two images, the logits of a mixture must be the mixture of the logits; also of far ones.
    """
    known = [number for number, some in enumerate(images) if len(some)]
    pool = torch.cat([images[number][:1] for number in known])[: 2 * _PAIRS]
    if len(pool) < 2:
        pool = next(some for some in images if len(some))[: 2 * _PAIRS]
    if len(pool) < 2:
        return False
    target = Target.classes(list(range(len(images)))) if len(images) > 1 else Target.cls(0)
    with undisturbed(model), torch.no_grad():
        cut = LayerCut(Call(model, target), pool, layer, replay=True)
        value = cut.value.detach()
        other = value.roll(1, 0)
        here, there = cut.scores.detach(), cut.scores.detach().roll(1, 0)
        spread = (here - there).abs().amax().clamp_min(1e-6)
        for share in (0.5, -1.0, 3.0):
            mixed = cut.at(share * value + (1 - share) * other)
            if float((mixed - (share * here + (1 - share) * there)).abs().amax() / spread) > _AFFINE:
                return False
    return True
