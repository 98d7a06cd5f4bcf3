"""What is done once, after the concepts are trained: reading whole splits, and fitting the head on them."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from ibd.data.base import ImageDataModule, Split
from ibd.models.cbm.network import ConceptBottleneckNetwork

if TYPE_CHECKING:
    from ibd.models.lightning import InterpretableModule


class ReadSplit(NamedTuple):
    """All of a split after one pass of the backbone, on the CPU."""

    scores: Tensor
    """(N, K) concept logits."""
    concepts: Tensor
    """(N, K) true concepts, NaN where unknown."""
    labels: Tensor
    """(N,) int64."""


@torch.no_grad()
def read_split(module: InterpretableModule, data: ImageDataModule, split: Split) -> ReadSplit:
    """Return the scores of every image of a split, in order, without augmentation."""
    scores = []
    for batch in tqdm(data.loader(split), desc=f"reading {split} images", leave=False, delay=2):
        output = module(batch.image.to(module.device))
        scores.append(output.units.scores.float().cpu())
    dataset = data.dataset(split)
    return ReadSplit(torch.cat(scores), dataset.concepts, dataset.labels)


@torch.enable_grad()
def fit_head(
    network: ConceptBottleneckNetwork,
    train: ReadSplit,
    val: ReadSplit,
    regime: Literal["independent", "sequential"],
    epochs: int,
    lr: float,
    weight_decay: float,
    batch_size: int = 256,
    seed: int = 0,
) -> dict[str, float]:
    """Fit the head on cached bottlenecks with Adam and a cosine schedule; keep the epoch with the best validation loss.

    Args:
        network: its `head` is fitted anew; the concepts stay as they are.
        train: the training split; "independent" learns from its true concepts (an unknown one is filled in with the
            prediction), "sequential" from the predicted ones.
        val: picks the epoch; read as at test time, with predicted concepts.
        regime: which of the two.
        epochs: passes over the training set.
        lr: learning rate.
        weight_decay: added to the gradient, as published.
        batch_size: images per step.
        seed: of the initial weights and the order.

    Returns:
        ``head/val_accuracy`` and ``head/val_loss`` of the epoch kept.
    """
    device = network.low.device
    with torch.no_grad():
        inputs = network.activation(train.scores.to(device))
        if regime == "independent":
            truth = train.concepts.to(device)
            inputs = torch.where(truth.isnan(), inputs, truth)
        val_inputs = network.activation(val.scores.to(device))
    labels, val_labels = train.labels.to(device), val.labels.to(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in network.head.modules():
            if isinstance(layer, nn.Linear):
                layer.reset_parameters()
        orders = torch.stack([torch.randperm(len(labels)) for _ in range(epochs)])
    optimizer = torch.optim.Adam(network.head.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    best_loss, best_accuracy, best = float("inf"), 0.0, copy.deepcopy(network.head.state_dict())
    for order in tqdm(orders, desc="fitting the head", leave=False, delay=2):
        for part in order.to(device).split(batch_size):
            optimizer.zero_grad()
            F.cross_entropy(network.classify(inputs[part]), labels[part]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
        with torch.no_grad():
            logits = network.classify(val_inputs)
            loss = float(F.cross_entropy(logits, val_labels))
        if loss < best_loss:
            best_loss, best_accuracy = loss, float((logits.argmax(1) == val_labels).float().mean())
            best = copy.deepcopy(network.head.state_dict())
    network.head.load_state_dict(best)
    return {"head/val_loss": best_loss, "head/val_accuracy": best_accuracy}
