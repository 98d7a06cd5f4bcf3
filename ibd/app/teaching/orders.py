"""Which image comes next, and which group of its concepts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from ibd.errors import ConfigError, did_you_mean
from ibd.models.cbm.concepts import ConceptNetwork
from ibd.models.cbm.group_scores import uncertainty
from ibd.models.cbm.intervention import told_bottleneck
from ibd.models.prediction import Prediction

ImageOrder = Literal["random", "uncertain", "wrong"]
GroupOrder = Literal["uncertain", "random", "given"]
POLICY = {"uncertain": "uncertainty", "random": "random", "given": "random"}
"""The policy of `ibd curve` that an order of groups is compared with; "random" where a person chooses."""


def check_orders(order: str, groups: str) -> None:
    """Look whether there are such orders.

    Raises:
        ConfigError: there are not.
    """
    for name, value, allowed in (("order", order, get_args(ImageOrder)), ("groups", groups, get_args(GroupOrder))):
        if value not in allowed:
            raise ConfigError(f"{name}: '{value}' is not one of {', '.join(allowed)}.{did_you_mean(value, allowed)}")


def image_order(order: str, count: int, seed: int, probabilities: Tensor | None, right: Tensor | None) -> list[int]:
    """Return the images of a split in the order in which they are taught.

    Only a random order makes the accuracy of the first few that of the split: where the wrong or uncertain ones come
    first, they are harder than the others.

    Args:
        order: "random"; "uncertain" has the least sure prediction first; "wrong" the wrong ones, each part at random.
        count: N, the number of images.
        seed: seed of the random order, which decides between equal ones, too.
        probabilities: (N, C) class probabilities; needed for "uncertain".
        right: (N,) bool, whether the prediction is right; needed for "wrong".
    """
    shuffled = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    key = torch.zeros(count)
    if order == "uncertain":
        assert probabilities is not None
        key = probabilities.max(1).values.float().cpu()
    elif order == "wrong":
        assert right is not None
        key = right.float().cpu()
    return [int(index) for index in shuffled[key[shuffled].sort(stable=True).indices]]


def group_order(
    order: str, network: ConceptNetwork, predicted: Prediction, told: Tensor, answered: Sequence[str], seed: int
) -> list[str]:
    """Return the groups of an image that were not answered yet, in the order in which they are asked for.

    Args:
        order: "uncertain" first, by the policy "uncertainty" of `ibd curve`; "random"; or as "given" by the data.
        network: network of the concepts.
        predicted: prediction for the one image, with nothing edited.
        told: (1, K) what a person said of the concepts, NaN where nothing.
        answered: groups that were answered.
        seed: seed of the random order; another one for each image.
    """
    names = list(network.unit_groups)
    if order == "random":
        shuffled = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed))
        names = [names[index] for index in shuffled.tolist()]
    elif order == "uncertain":
        scores = _uncertainty(network, predicted, told)
        ranked = scores.sort(descending=True, stable=True).indices.tolist()
        names = [names[index] for index in ranked]
    return [name for name in names if name not in answered]


@torch.no_grad()
def _uncertainty(network: ConceptNetwork, predicted: Prediction, told: Tensor) -> Tensor:
    """Return how uncertain each group is, (G,), given what was told."""
    nobody = torch.zeros(1, dtype=torch.int64)  # the true class, which a person does not say
    bottleneck = told_bottleneck(network, predicted.units, told, nobody)
    known = ~bottleneck.truth.isnan()
    left = torch.ones(1, len(bottleneck.groups), dtype=torch.bool, device=known.device)
    return uncertainty(bottleneck, bottleneck.beliefs(known), known, left)[0].cpu()
