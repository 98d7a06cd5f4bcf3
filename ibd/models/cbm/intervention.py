"""The intervention curve: how accurate the classes become as concept groups are corrected."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from ibd.data.base import SPLITS, ImageDataModule, Split
from ibd.drawing import PlainFigure
from ibd.errors import ConfigError, UnsupportedError, check_once, check_range, did_you_mean
from ibd.io import load_run
from ibd.models.base import evaluating
from ibd.models.cbm import policies as _orders
from ibd.models.cbm.concepts import ConceptNetwork
from ibd.models.cbm.finish import ReadSplit, read_split
from ibd.models.cbm.groups import complete
from ibd.models.cbm.policies import Bottleneck
from ibd.models.cbm.training import ConceptModule
from ibd.models.lightning import InterpretableModule
from ibd.types import RunLike, Units

Policy = Literal["random", "uncertainty", "expected_change", "learned"]
POLICIES: tuple[Policy, ...] = get_args(Policy)

TITLES = {
    "random": "random groups",
    "uncertainty": "most uncertain first",
    "expected_change": "largest expected change first",
    "learned": "order learned on validation",
}


@dataclass(frozen=True)
class InterventionCurve:
    """Accuracy against the number of corrected concept groups.

    Attributes:
        accuracy: policy -> (trials, G + 1) accuracies in [0, 1]; one trial where a policy is deterministic.
        group_names: the G groups.
        order: the groups in the order learned on validation data, where that policy was asked for.
        images: N, the number of images.
        split: split that they are of.
        known: share of the (image, concept) pairs whose truth is known, or follows; the others stay as predicted.
    """

    accuracy: dict[str, Tensor]
    group_names: list[str]
    order: list[str]
    images: int
    split: str
    known: float = 1.0

    def mean(self, policy: str) -> Tensor:
        """Return the mean over trials, (G + 1,): never the best trial."""
        return self.accuracy[policy].mean(0)

    def deviation(self, policy: str) -> Tensor:
        """Return the standard deviation over trials, (G + 1,); 0 for a deterministic policy."""
        trials = self.accuracy[policy]
        return trials.std(0) if len(trials) > 1 else torch.zeros_like(trials[0])

    def save_csv(self, path: str | Path) -> None:
        """Write one row for each policy and budget: policy, groups, accuracy, sd, trials, images."""
        with Path(path).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["policy", "groups_corrected", "accuracy", "sd_over_trials", "trials", "images"])
            for policy, trials in self.accuracy.items():
                rows = zip(self.mean(policy).tolist(), self.deviation(policy).tolist(), strict=True)
                for budget, (mean, sd) in enumerate(rows):
                    writer.writerow([policy, budget, f"{mean:.6f}", f"{sd:.6f}", len(trials), self.images])

    def figure(self) -> Figure:
        """Return the curves, with a band of one standard deviation over trials where there are several."""
        figure = PlainFigure(figsize=(6.4, 4.2), layout="constrained")
        axis = figure.subplots()
        budgets = range(len(self.group_names) + 1)
        for color, (policy, trials) in enumerate(self.accuracy.items()):
            mean, sd = 100 * self.mean(policy), 100 * self.deviation(policy)
            label = TITLES[policy] + (f" (mean of {len(trials)} ± 1 sd)" if len(trials) > 1 else "")
            style, size = ("-", "--", "-.", ":")[color % 4], 7 - color  # so that curves that coincide are both seen
            axis.plot(budgets, mean, marker="o", ls=style, markersize=size, label=label, color=f"C{color}")
            if len(trials) > 1:
                low, high = (mean - sd).clamp(min=0), (mean + sd).clamp(max=100)
                axis.fill_between(budgets, low, high, alpha=0.25, color=f"C{color}", linewidth=0)
        axis.set_xlabel(f"concept groups corrected, of {len(self.group_names)}")
        axis.set_ylabel(f"class accuracy, % ({self.images} {self.split} images)")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.grid(alpha=0.25)
        axis.legend(fontsize=8)
        return figure

    def __str__(self) -> str:
        """Return the accuracies as a table, budgets across."""
        head = "groups corrected".ljust(32) + "".join(f"{n:>8}" for n in range(len(self.group_names) + 1))
        rows = [TITLES[p].ljust(32) + "".join(f"{100 * v:8.2f}" for v in self.mean(p).tolist()) for p in self.accuracy]
        order = [f"learned order: {', '.join(self.order)}"] if self.order else []
        known = "" if self.known == 1 else f" ({100 * self.known:.1f} % of their concepts are known and corrected)"
        return "\n".join([f"class accuracy in % on {self.images} {self.split} images{known}", head, *rows, *order])


def intervention_curve(
    model: RunLike | InterpretableModule,
    data: ImageDataModule | None = None,
    policies: Sequence[str] = POLICIES,
    trials: int = 5,
    split: Split = "test",
    seed: int = 0,
) -> InterventionCurve:
    """Return the accuracy as a function of the number of concept groups corrected.

    The backbone reads the split once (and the validation split once, where an order is learned on it); everything
    after is the head alone. Orders are nested for each image: what is corrected at n groups stays corrected at n + 1.
    Unknown concepts stay as predicted, except that a 1 tells the rest of an exclusive group.

    Args:
        model: a ``ConceptBottleneck`` or ``ConceptEmbedding``, or a run (folder, checkpoint, or what ``ibd.fit``
            returned).
        data: data of the model; may be left out where `model` is a run.
        policies: names of policies, of "random", "uncertainty", "expected_change" and "learned".
        trials: number of random orders to average over.
        split: the images to measure on.
        seed: seed of the random orders.

    Raises:
        ConfigError: an unknown policy or split, or no trial.
        UnsupportedError: the model has no concepts, or the truth of none is known.
    """
    policies = [policies] if isinstance(policies, str) else policies
    if split not in SPLITS:
        raise ConfigError(f"unknown split '{split}'.{did_you_mean(split, SPLITS)}")
    for policy in policies:
        if policy not in POLICIES:
            raise ConfigError(f"unknown policy '{policy}'.{did_you_mean(policy, POLICIES)}")
    if not policies:
        raise ConfigError(f"policies: none given.{did_you_mean('', POLICIES)}")
    check_once("policies", policies)
    check_range("trials", trials, least=1)
    if not isinstance(model, torch.nn.Module):
        model, own = load_run(model)
        data = own if data is None else data
    if not isinstance(model, ConceptModule):
        raise UnsupportedError(f"a {type(model).__name__} has no concepts to correct; a ConceptBottleneck has")
    if data is None:
        raise ConfigError("intervention_curve needs the data beside the model (or a run in place of both)")
    model.use_fast_layout()
    with evaluating(model), torch.no_grad():
        if bool(data.dataset(split).concepts.isnan().all()):
            raise UnsupportedError(f"no {split} image has a known concept, so none can be corrected")
        read = read_split(model, data, split)
        bottleneck = cached_bottleneck(model.network, read)
        known = complete(read.concepts, ~read.concepts.isnan(), model.network.exclusive_groups)[1].float().mean()
        order: list[int] = []
        if "learned" in policies:
            seen = bottleneck if split == "val" else cached_bottleneck(model.network, read_split(model, data, "val"))
            order = _orders.learned_order(seen)
        accuracy = {policy: _measure(bottleneck, policy, order, trials, seed) for policy in policies}
    names = list(model.network.unit_groups)
    return InterventionCurve(accuracy, names, [names[i] for i in order], len(bottleneck.labels), split, float(known))


def cached_bottleneck(network: ConceptNetwork, read: ReadSplit) -> Bottleneck:
    """Return what interventions on a split need, from its concept logits, and what is beside them, alone."""
    weight = network.head_weight()
    device = next(network.parameters()).device
    scores, truth = read.scores.to(device), read.concepts.to(device)
    units = Units(scores, scores[..., None, None], tuple(part.to(device) for part in read.state))
    truth, known = complete(truth, ~truth.isnan(), network.exclusive_groups)
    corrected = Units(network.truth_logits(scores, truth, known), units.maps, units.state)
    groups = list(network.unit_groups.values())
    return Bottleneck(
        predicted=network.head_input(units),
        corrected=network.head_input(corrected),
        probability=network.probabilities(scores),
        absent=network.certain(units, 0.0),
        present=network.certain(units, 1.0),
        columns=network.columns.to(device),
        labels=read.labels.to(device),
        groups=groups,
        exclusive=[list(group) in network.exclusive_groups and len(group) > 1 for group in groups],
        classify=network.classify,
        weight=None if weight is None else weight.detach(),
        error=network.typical_error(),
    )


def _measure(bottleneck: Bottleneck, policy: str, order: list[int], trials: int, seed: int) -> Tensor:
    """Return (trials, G + 1) accuracies of one policy."""
    if policy == "random":
        ranks = [_orders.random_ranks(bottleneck, seed + trial) for trial in range(trials)]
    elif policy == "uncertainty":
        ranks = [_orders.uncertainty_ranks(bottleneck)]
    elif policy == "expected_change":
        ranks = [_orders.expected_change_ranks(bottleneck)]
    else:
        ranks = [_orders.fixed_ranks(bottleneck, order)]
    return torch.stack([_orders.accuracy_by_budget(bottleneck, rank) for rank in ranks])
