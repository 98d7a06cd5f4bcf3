"""What is done once, after the concepts are trained: reading whole splits, and fitting the head on them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.data.base import ImageDataModule, Split
from ibd.distributed import progress
from ibd.models.cbm.network import ConceptBottleneckNetwork
from ibd.models.sparse_heads import fit_heads
from ibd.types import Output

if TYPE_CHECKING:
    from ibd.models.lightning import InterpretableModule


_SMALLEST = 1e-5
"""Last penalty of a path, as a share of the first: concepts that a network was trained for tell classes without doubt,
and at a share of 1e-3 a path ends with a few of them."""


class ReadSplit(NamedTuple):
    """All of a split after one pass of the backbone, on the CPU."""

    scores: Tensor
    """(N, U) logits of the units, the K concepts first."""
    concepts: Tensor
    """(N, K) true concepts, quantities in their units; NaN where unknown."""
    labels: Tensor
    """(N,) int64."""
    state: tuple[Tensor, ...] = ()
    """What ``decode`` reads beside the scores, (N, ...) each."""


def outputs(module: InterpretableModule, data: ImageDataModule, split: Split) -> Iterator[Output]:
    """Yield what a model puts out for the batches of a split, in order, without augmentation."""
    for batch in progress(data.loader(split, features=True), f"reading {split} images"):
        yield module.answer(batch.to(module.device))


@torch.no_grad()
def read_split(module: InterpretableModule, data: ImageDataModule, split: Split) -> ReadSplit:
    """Return the scores of every image of a split, in order, without augmentation."""
    scores, state = [], []
    for output in outputs(module, data, split):
        scores.append(output.units.scores.float().cpu())
        state.append([part.cpu() for part in output.units.state])
    dataset = data.dataset(split)
    beside = tuple(torch.cat(parts) for parts in zip(*state, strict=True))
    return ReadSplit(torch.cat(scores), dataset.concepts, dataset.labels, beside)


def typical_error(network: ConceptBottleneckNetwork, read: ReadSplit) -> Tensor:
    """Return the root mean square error of the standardized quantities of a split, (K,); NaN of other concepts.

    It is 1, that of guessing the mean, for a quantity that is never known.

    Args:
        network: network of the concepts.
        read: a split that the network was not trained on.
    """
    known = network.measured.standardized(read.concepts.to(network.low.device))
    error = (read.scores[:, : network.concept_count].to(known) - known).square().nanmean(0).sqrt().nan_to_num(1.0)
    return error.masked_fill(~network.measured.flags, torch.nan)


@torch.enable_grad()
def fit_head(
    network: ConceptBottleneckNetwork,
    train: ReadSplit,
    val: ReadSplit,
    regime: Literal["independent", "sequential"],
    epochs: int,
    lr: float,
    weight_decay: float,
    batch_size: int | None = None,
    seed: int = 0,
) -> dict[str, float]:
    """Fit the head on cached bottlenecks with Adam and a cosine schedule; keep the epoch with the best validation loss.

    The result depends on the arguments alone: torch's global generator is neither read nor moved.

    Args:
        network: network whose `head` is fitted anew; the concepts stay as they are.
        train: the training split; "independent" learns from its true concepts (an unknown one is filled in with the
            prediction), "sequential" from the predicted ones.
        val: validation split, which picks the epoch; read as at test time, with predicted concepts.
        regime: regime of the training, "independent" or "sequential".
        epochs: passes over the training set.
        lr: learning rate.
        weight_decay: weight decay, added to the gradient, as published.
        batch_size: images per step; None takes 256, or as many as make 64 steps of an epoch where that is more.
        seed: seed of the initial weights and the order.

    Returns:
        ``head/val_accuracy`` and ``head/val_loss`` of the epoch kept.
    """
    head, device = network.head, network.low.device
    inputs, labels = _head_inputs(network, train, regime), train.labels.to(device)
    val_inputs, val_labels = _head_inputs(network, val, "sequential"), val.labels.to(device)
    batch_size = batch_size or max(256, math.ceil(len(labels) / 64))
    _reset(head, seed)
    shuffle = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(head.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    best = {"head/val_loss": math.inf, "head/val_accuracy": 0.0}
    weights = copy.deepcopy(head.state_dict())
    for _ in progress(range(epochs), "fitting the head"):
        order = torch.randperm(len(labels), generator=shuffle).to(device)
        for part in torch.split(order, batch_size):
            optimizer.zero_grad()
            loss = F.cross_entropy(network.classify(inputs[part]), labels[part])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
        scores = _score(network, val_inputs, val_labels)
        if scores["head/val_loss"] < best["head/val_loss"]:
            best, weights = scores, copy.deepcopy(head.state_dict())
    head.load_state_dict(weights)
    return best


@torch.no_grad()
def fit_sparse_head(
    network: ConceptBottleneckNetwork,
    train: ReadSplit,
    val: ReadSplit,
    regime: Literal["independent", "sequential", "joint"],
    share: float,
    effective: float | None,
) -> dict[str, float]:
    """Fit the head with few concepts, and those that models are compared by, each to its end.

    Args:
        network: network whose `head` and `few` are fitted anew; the concepts stay as they are.
        train: the training split; "independent" learns from its true concepts, the others from the predicted ones.
        val: validation split, which picks the penalty; read as at test time, with predicted concepts.
        regime: regime of the training.
        share: share of the absolute values in the penalty.
        effective: effective concepts a class; None leaves it to the validation images.

    Returns:
        ``head/val_accuracy``, ``head/val_loss`` and ``head/effective_concepts``.
    """
    few, head, device = network.few, network.head, network.low.device
    assert few is not None
    assert isinstance(head, nn.Linear)
    read: Literal["independent", "sequential"] = "independent" if regime == "independent" else "sequential"
    learned = _head_inputs(network, train, read), train.labels.to(device)
    judged = _head_inputs(network, val, "sequential"), val.labels.to(device)
    found = fit_heads(learned, judged, len(network.class_names), few.budgets, effective, share, _SMALLEST)
    head.weight.copy_(found.head.weight)
    head.bias.copy_(found.head.bias)
    few.set(found)
    return {**_score(network, *judged), "head/effective_concepts": found.head.effective}


@torch.no_grad()
def _head_inputs(
    network: ConceptBottleneckNetwork, read: ReadSplit, regime: Literal["independent", "sequential"]
) -> Tensor:
    """Return (N, K) what the head reads of a split."""
    inputs = network.activation(read.scores.to(network.low.device))
    truth = network.measured.standardized(read.concepts.to(network.low.device))
    return torch.where(truth.isnan(), inputs, truth.to(inputs.dtype)) if regime == "independent" else inputs


@torch.no_grad()
def _score(network: ConceptBottleneckNetwork, inputs: Tensor, labels: Tensor) -> dict[str, float]:
    logits = network.classify(inputs)
    accuracy = (logits.argmax(1) == labels).float().mean()
    return {"head/val_loss": float(F.cross_entropy(logits, labels)), "head/val_accuracy": float(accuracy)}


def _reset(head: nn.Module, seed: int) -> None:
    """Draw new weights, on the CPU, so that they are the same on every device."""
    fresh = copy.deepcopy(head).cpu()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the GPUs too
        for layer in fresh.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
    head.load_state_dict(fresh.state_dict())
