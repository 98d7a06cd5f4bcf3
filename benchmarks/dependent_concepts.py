"""What a covariance between concepts is worth: a plain, a stochastic and a post-hoc stochastic bottleneck, corrected.

    python -m benchmarks.dependent_concepts --seeds 5
    python -m benchmarks.dependent_concepts data.train_size=1500 trainer.max_epochs=10 --seeds 3 --placements posterior

Trains ``configs/toybirds/cbm.yaml`` and ``scbm.yaml``, both on the birds of ``correlated`` and with the head of
``independent``, and fits a covariance for the former on its validation images ("pscbm"). All are corrected on the same
test images, those of data seed 0. Prints Markdown, and writes it into ``OUTPUT/dependent_concepts.md``: accuracy at 0,
1, 2, ... groups, how many of the groups that were not corrected are right then, and the differences from the plain
bottleneck of the same seed, image by image, with an interval over trainings and images. Trainings and curves that are
already there are not computed again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from benchmarks.accuracy import spread
from ibd.data.base import ImageDataModule
from ibd.io import load_run
from ibd.metrics.functional.random_effects import two_level_interval
from ibd.models.base import evaluating
from ibd.models.cbm import policies as orders
from ibd.models.cbm.bottleneck import Bottleneck
from ibd.models.cbm.concepts import ConceptNetwork
from ibd.models.cbm.finish import read_split
from ibd.models.cbm.intervention import cached_bottleneck, intervention_curve
from ibd.models.lightning import InterpretableModule
from ibd.models.scbm.fitting import fit_covariance
from ibd.models.scbm.lightning import StochasticConceptBottleneck
from ibd.models.scbm.network import Placement, StochasticConceptBottleneckNetwork
from ibd.training.runner import fit

CHANGES = ["data.preset=correlated", "model.regime=independent", "logger.name=csv", "logger.figures_every=0"]
OTHERS_NAMES = ("others, random", "others, uncertainty")
POLICIES = ["random", "uncertainty", "expected_change", "learned", "variance"]
Curves = dict[str, Tensor]
"""Policy -> (G + 1, N) share of the trials in which each test image is right; "others, POLICY" -> (G, N) share of the
groups that are not corrected whose most probable concept is the true one."""


def trained(name: str, seed: int, overrides: list[str], output: Path) -> str:
    """Train a config, or return the run of an earlier call."""
    done = output / f"{name}_{seed}.json"
    if not done.exists():
        changes = [*CHANGES, *overrides, f"seed={seed}", f"output={output / 'runs'}"]
        run = fit(f"configs/toybirds/{name}.yaml", *changes)
        done.write_text(json.dumps({"run": str(run.folder)}))
    return str(json.loads(done.read_text())["run"])


def curves(model: InterpretableModule, data: ImageDataModule, trials: int, kept: Path) -> Curves:
    """Return the curves of a model on test images, or those of an earlier call."""
    if not kept.exists():
        policies = POLICIES if isinstance(model, StochasticConceptBottleneck) else POLICIES[:-1]
        torch.save(intervention_curve(model, data, policies=policies, trials=trials).right, kept)
    found: Curves = torch.load(kept, weights_only=True)
    if OTHERS_NAMES[0] not in found:
        found |= others(model, data, trials)
        torch.save(found, kept)
    return found


@torch.no_grad()
def others(model: InterpretableModule, data: ImageDataModule, trials: int) -> Curves:
    """Return how many of the groups that were not corrected a model gets right, once n of them were."""
    assert isinstance(model.network, ConceptNetwork)
    with evaluating(model):
        bottleneck = cached_bottleneck(model.network, read_split(model, data, "test"))
    random = [_others_right(bottleneck, orders.random_ranks(bottleneck, trial)) for trial in range(trials)]
    unsure = _others_right(bottleneck, orders.uncertainty_ranks(bottleneck))
    return dict(zip(OTHERS_NAMES, (torch.stack(random).mean(0), unsure), strict=True))


def _others_right(bottleneck: Bottleneck, ranks: Tensor) -> Tensor:
    """Return the share of the groups of a rank of n and more that are right with the others corrected, (G, N)."""
    shares = []
    for budget in range(len(bottleneck.groups)):
        probability = bottleneck.beliefs((ranks < budget)[:, bottleneck.group_of_concept]).probability
        right = [
            probability[:, list(group)].argmax(1) == bottleneck.truth[:, list(group)].argmax(1)
            for group in bottleneck.groups
        ]
        left = (ranks >= budget).double()
        shares.append((torch.stack(right, 1) * left).sum(1) / left.sum(1))
    return torch.stack(shares).cpu()


def measure(seed: int, placements: list[str], overrides: list[str], trials: int, output: Path) -> dict[str, Curves]:
    """Return model -> its curves, of one seed."""
    result = {}
    plain, data = load_run(trained("cbm", seed, overrides, output), "data.seed=0")
    own = load_run(trained("cbm", seed, overrides, output))[1]
    along = load_run(trained("scbm", seed, overrides, output))[0]
    afterwards = fit_covariance(plain, own, split="val")
    print(f"seed {seed}: covariance of {afterwards.fitted_on}", flush=True)
    result["cbm"] = curves(plain, data, trials, output / f"cbm_{seed}.pt")
    for name, model in (("scbm", along), ("pscbm", afterwards)):
        assert isinstance(model.network, StochasticConceptBottleneckNetwork)
        for placement in get_args(Placement):
            if placement not in placements:
                continue
            model.network.placement = placement
            result[f"{name}, {placement}"] = curves(model, data, trials, output / f"{name}_{placement}_{seed}.pt")
    return result


def table(results: list[dict[str, Curves]]) -> str:
    """Return accuracies, and differences from the plain bottleneck, as Markdown."""
    groups = len(results[0]["cbm"]["random"])
    lines = [
        "Test accuracy, %, by groups corrected; others: share of the groups that are not corrected that are right, %.",
        "Below: what it is more than that of the plain bottleneck [95 %]",
        "",
    ]
    lines += ["| policy | model | " + " | ".join(map(str, range(groups))) + " |", "|---" * (groups + 2) + "|"]
    for policy in (*POLICIES, *OTHERS_NAMES):
        for model, first in results[0].items():
            if policy not in first:
                continue
            means = [[float(value) for value in run[model][policy].mean(1)] for run in results]
            cells = " | ".join(spread([row[n] for row in means]) for n in range(len(means[0])))
            lines.append(f"| {policy} | {model} | {cells} |")
            if model != "cbm":  # the plain one has no variance: it is corrected by its best policy
                against = policy if policy in results[0]["cbm"] else "learned"
                apart = torch.stack([run[model][policy] - run["cbm"][against] for run in results])
                lines.append(
                    f"| | - cbm, {against} | "
                    + " | ".join(_interval(apart[:, n]) for n in range(apart.shape[1]))
                    + " |"
                )
    return "\n".join(lines)


def _interval(values: Tensor) -> str:
    found = two_level_interval(values)
    return f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="key=value changes to both configs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=5, help="random orders")
    parser.add_argument("--placements", nargs="+", choices=get_args(Placement), default=get_args(Placement))
    parser.add_argument("--output", type=Path, default=Path("runs/dependent_concepts"))
    options = parser.parse_intermixed_args()
    options.output.mkdir(parents=True, exist_ok=True)
    results = [
        measure(seed, options.placements, options.overrides, options.trials, options.output)
        for seed in range(options.seeds)
    ]
    text = table(results)
    (options.output / "dependent_concepts.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
