"""The intervention curve: how accurate the classes become as concept groups are corrected."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

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
from ibd.models.cbm.annotators import Annotator, Rates
from ibd.models.cbm.bottleneck import Beliefs, Bottleneck, Given
from ibd.models.cbm.concepts import ConceptNetwork
from ibd.models.cbm.finish import ReadSplit, read_split
from ibd.models.cbm.groups import complete
from ibd.models.lightning import InterpretableModule
from ibd.types import RunLike, Units

if TYPE_CHECKING:
    from ibd.models.scbm.network import StochasticConceptBottleneckNetwork

Policy = Literal[
    "random",
    "uncertainty",
    "expected_change",
    "learned",
    "contribution",
    "expected_certainty",
    "variance",
    "concept_error",
]
POLICIES: tuple[Policy, ...] = get_args(Policy)[:4]
"""Those of a curve unless others are named."""

TITLES = {
    "random": "random groups",
    "uncertainty": "most uncertain first",
    "expected_change": "largest expected change first",
    "learned": "order learned on validation",
    "contribution": "largest contribution first",
    "expected_certainty": "most expected certainty first",
    "variance": "most variance taken first",
    "concept_error": "worst predicted first (oracle)",
}

_RANKS = {
    "uncertainty": _orders.uncertainty_ranks,
    "expected_change": _orders.expected_change_ranks,
    "contribution": _orders.contribution_ranks,
    "expected_certainty": _orders.expected_certainty_ranks,
    "variance": _orders.variance_ranks,
    "concept_error": _orders.concept_error_ranks,
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
        annotator: in words, how often whoever corrects errs or does not know; "" where never.
        right: policy -> (G + 1, N) share of the trials in which each image is right, to compare with another model's.
    """

    accuracy: dict[str, Tensor]
    group_names: list[str]
    order: list[str]
    images: int
    split: str
    known: float = 1.0
    annotator: str = ""
    right: dict[str, Tensor] = field(default_factory=dict)

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
            writer.writerow(
                ["policy", "groups_corrected", "accuracy", "sd_over_trials", "trials", "images", "annotator"]
            )
            for policy, trials in self.accuracy.items():
                rows = zip(self.mean(policy).tolist(), self.deviation(policy).tolist(), strict=True)
                for budget, (mean, sd) in enumerate(rows):
                    row = [policy, budget, f"{mean:.6f}", f"{sd:.6f}", len(trials), self.images, self.annotator]
                    writer.writerow(row)

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
        person = [f"whoever corrects {self.annotator}"] if self.annotator else []
        title = f"class accuracy in % on {self.images} {self.split} images{known}"
        return "\n".join([title, *person, head, *rows, *order])


def intervention_curve(
    model: RunLike | InterpretableModule,
    data: ImageDataModule | None = None,
    policies: Sequence[str] = POLICIES,
    trials: int = 5,
    split: Split = "test",
    seed: int = 0,
    noise: Rates = 0.0,
    unknown: Rates = 0.0,
) -> InterventionCurve:
    """Return the accuracy as a function of the number of concept groups corrected.

    The backbone reads the split once (and the validation split once, where an order is learned on it); everything
    after is the head alone. Orders are nested for each image: what is corrected at n groups stays corrected at n + 1.
    Unknown concepts stay as predicted, except that a 1 tells the rest of an exclusive group. Where concepts depend on
    each other, those that are not corrected move with those that are.

    Args:
        model: a ``ConceptBottleneck``, ``ConceptEmbedding`` or another model with labelled concepts, or a run (folder,
            checkpoint, or what ``ibd.fit`` returned).
        data: data of the model; may be left out where `model` is a run.
        policies: names of policies: some of `Policy`.
        trials: number of random orders to average over, and of answers of whoever corrects, where these are random.
        split: the images to measure on.
        seed: seed of the random orders and answers.
        noise: rate at which whoever corrects errs, of all groups or by their names; see
            `ibd.models.cbm.annotators.Annotator`.
        unknown: rate at which they do not know, so that the group stays as predicted.

    Raises:
        ConfigError: an unknown policy, split or group, no trial, a rate outside of 0 to 1, or one of errors about a
            quantity.
        UnsupportedError: the model has no concepts, or the truth of none is known; or "variance" is asked of concepts
            that do not depend on each other.
    """
    policies = [policies] if isinstance(policies, str) else policies
    if split not in SPLITS:
        raise ConfigError(f"unknown split '{split}'.{did_you_mean(split, SPLITS)}")
    _check_policies(policies)
    check_range("trials", trials, least=1)
    if not isinstance(model, torch.nn.Module):
        model, own = load_run(model)
        data = own if data is None else data
    network = model.network
    if not isinstance(network, ConceptNetwork):
        raise UnsupportedError(f"a {type(model).__name__} has no concepts to correct; a ConceptBottleneck has")
    if not network.truth_values:
        raise UnsupportedError("its concepts were found, and not labelled: nobody knows which are true")
    if data is None:
        raise ConfigError("intervention_curve needs the data beside the model (or a run in place of both)")
    if "variance" in policies and not network.dependent:
        raise UnsupportedError(
            "policy 'variance': the concepts of this model have no covariance; train an scbm, or fit one by "
            "`ibd covariance RUN`"
        )
    annotator = Annotator.of(network.unit_groups, noise, unknown, network.quantities)
    model.use_fast_layout()
    with evaluating(model), torch.no_grad():
        if bool(data.dataset(split).concepts.isnan().all()):
            raise UnsupportedError(f"no {split} image has a known concept, so none can be corrected")
        read = read_split(model, data, split)
        order: list[int] = []
        if "learned" in policies:
            seen = read if split == "val" else read_split(model, data, "val")
            order = _orders.learned_order(cached_bottleneck(network, seen))
        told = _answers(network, read, annotator, trials, seed)
        measured = {policy: _measure(told, policy, order, trials, seed) for policy in policies}
    names = list(network.unit_groups)
    known = sum(float((~answer.truth.isnan()).double().mean()) for answer in told) / len(told)
    return InterventionCurve(
        {policy: right.mean(2) for policy, right in measured.items()},
        names,
        [names[i] for i in order],
        len(read.labels),
        split,
        known,
        annotator.words(seed),
        {policy: right.mean(0) for policy, right in measured.items()},
    )


def _check_policies(policies: Sequence[str]) -> None:
    for policy in policies:
        if policy not in TITLES:
            raise ConfigError(f"unknown policy '{policy}'.{did_you_mean(policy, TITLES)}")
    if not policies:
        raise ConfigError(f"policies: none given.{did_you_mean('', TITLES)}")
    check_once("policies", policies)


def _answers(
    network: ConceptNetwork, read: ReadSplit, annotator: Annotator, trials: int, seed: int
) -> list[Bottleneck]:
    """Return the bottleneck with what it is corrected by: once, or once for each trial where answers are random."""
    bottleneck = cached_bottleneck(network, read)
    if annotator.sure:
        return [bottleneck]
    truth, exclusive = network.labelled(read.concepts), [list(group) for group in network.exclusive_groups]
    answers = [annotator.answers(truth, exclusive, seed + trial) for trial in range(trials)]
    corrections = [_corrected(network, _units(network, read), told) for told in answers]
    return [replace(bottleneck, corrected=corrected, truth=truth) for corrected, truth in corrections]


def cached_bottleneck(network: ConceptNetwork, read: ReadSplit) -> Bottleneck:
    """Return what interventions on a split need, from its concept logits, and what is beside them, alone."""
    return told_bottleneck(network, _units(network, read), network.labelled(read.concepts), read.labels)


def told_bottleneck(network: ConceptNetwork, units: Units, told: Tensor, labels: Tensor) -> Bottleneck:
    """Return what interventions on images need, whose concepts somebody tells.

    Args:
        network: network of the concepts.
        units: units as predicted.
        told: (N, K) what is told of the network's concepts; NaN where nothing.
        labels: (N,) true classes.
    """
    weight = network.head_weight()
    corrected, truth = _corrected(network, units, told)
    groups = list(network.unit_groups.values())
    return Bottleneck(
        predicted=network.head_input(units),
        corrected=corrected,
        probability=network.probabilities(units.scores),
        absent=network.certain(units, 0.0),
        present=network.certain(units, 1.0),
        columns=network.columns.to(units.scores.device),
        labels=labels.to(units.scores.device),
        truth=truth,
        given=_dependence(network, units) if network.dependent else None,
        groups=groups,
        exclusive=[list(group) in network.exclusive_groups and len(group) > 1 for group in groups],
        classify=network.classify,
        weight=None if weight is None else weight.detach(),
        error=network.typical_error(),
    )


def _units(network: ConceptNetwork, read: ReadSplit) -> Units:
    """Return the units of a split, without maps, where the network is."""
    device = next(network.parameters()).device
    scores = read.scores.to(device)
    return Units(scores, scores[..., None, None], tuple(part.to(device) for part in read.state))


def _corrected(network: ConceptNetwork, units: Units, told: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the head reads once every concept is corrected that is told, (N, R), and what is told, (N, K).

    Args:
        network: network of the concepts.
        units: units as predicted.
        told: (N, K) truth, NaN where unknown.
    """
    told = told.to(units.scores.device)
    truth, known = complete(told, ~told.isnan(), network.exclusive_groups)
    scores = network.truth_logits(units.scores, truth, known)
    return network.head_input(Units(scores, units.maps, units.state)), truth.masked_fill(~known, torch.nan)


def _dependence(network: ConceptNetwork, whole: Units) -> Given:
    """Return what stands in a bottleneck of dependent concepts, given the truth of some."""
    stochastic = cast("StochasticConceptBottleneckNetwork", network)

    def given(truth: Tensor, images: Tensor) -> Beliefs:
        units = whole[images]
        found = stochastic.marginals(units, truth)
        scores = stochastic.told_scores(units, truth, found)
        return Beliefs(stochastic.activation(scores), stochastic.probabilities(scores), found.variance)

    return given


def _measure(told: list[Bottleneck], policy: str, order: list[int], trials: int, seed: int) -> Tensor:
    """Return (trials, G + 1, N) float64, whether each image is right by one policy; one trial where nothing is random.

    Args:
        told: the bottleneck with what it is corrected by, once or for each trial.
        policy: name of the policy.
        order: the learned order.
        trials: number of trials.
        seed: seed of the first.
    """
    rows = []
    for trial in range(trials if policy == "random" else len(told)):
        bottleneck = told[trial % len(told)]
        if policy == "random":
            ranks = _orders.random_ranks(bottleneck, seed + trial)
        elif policy == "learned":
            ranks = _orders.fixed_ranks(bottleneck, order)
        else:
            ranks = _RANKS[policy](bottleneck)
        rows.append(_orders.right_by_budget(bottleneck, ranks))
    return torch.stack(rows).double()
