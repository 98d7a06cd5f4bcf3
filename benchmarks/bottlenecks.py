"""Every family of concept bottlenecks on the built-in birds: accuracy, corrections, leakage, calibration, sets.

    python -m benchmarks.bottlenecks --seeds 5
    python -m benchmarks.bottlenecks data.train_size=1000 trainer.max_epochs=4 --seeds 2 --models baseline cem

Trains the shipped configs of ``configs/toybirds`` on the birds of ``standard``; "pscbm" is ``cbm_independent`` with a
covariance fitted on its validation images (`ibd covariance`). Each is calibrated as `ibd calibrate` does on its own
validation images, and asked about the same test images, those of data seed 0. Prints Markdown, and writes it into
``OUTPUT/bottlenecks.md``: mean and standard deviation over trainings, and differences from the plain bottleneck of the
same regime and seed, image by image, with an interval over trainings and images. Trainings and figures that are already
there are not made again.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.accuracy import spread
from ibd.app.covariance import add_covariance
from ibd.comparison.self_consistency.leakage import concept_leakage
from ibd.data.base import ImageDataModule
from ibd.errors import UnsupportedError
from ibd.io import load_run
from ibd.metrics.functional.random_effects import two_level_interval
from ibd.models.base import evaluating
from ibd.models.calibration.reading import ReadOutputs, read_outputs
from ibd.models.cbm.concepts import ConceptNetwork
from ibd.models.cbm.intervention import POLICIES, intervention_curve
from ibd.models.lightning import InterpretableModule
from ibd.training.calibrating import calibrate, figures_of
from ibd.training.runner import evaluate, fit

MODELS: dict[str, tuple[str, list[str]]] = {
    "baseline": ("baseline", []),
    "cbm_joint_probabilities": ("cbm", []),
    "cbm_joint_logits": ("cbm", ["model.bottleneck=logits"]),
    "cbm_independent": ("cbm", ["model.regime=independent"]),
    "cbm_independent_hard": ("cbm", ["model.regime=independent", "model.bottleneck=hard"]),
    "residual": ("cbm", ["model.residual=8"]),
    "cem": ("cem", []),
    "scbm_joint": ("scbm", ["data.preset=standard", "model.regime=joint"]),
    "scbm_independent": ("scbm", ["data.preset=standard"]),
    "pscbm": ("", []),
}
PLAIN = {
    **dict.fromkeys(MODELS, "cbm_joint_probabilities"),
    **dict.fromkeys(("cbm_independent_hard", "scbm_independent", "pscbm"), "cbm_independent"),
}
"""The plain bottleneck that each is set against."""
IMAGES = "data.seed=0"
"""Whatever birds a model was trained on, it is asked about these."""
ACCOUNTS = {
    "accuracy_without_named": "without the named, %",
    "accuracy_named_alone": "by the named alone, %",
    "accuracy_rounded": "concepts rounded, %",
    "leakage_gap": "soft - rounded, points",
    "concept_task_leakage": "concept-task leakage",
    "interconcept_leakage": "inter-concept leakage",
}
CALIBRATION = {
    "ece": "class ECE",
    "ece_calibrated": "calibrated",
    "nll": "class NLL",
    "nll_calibrated": "calibrated",
    "concept_ece": "concept ECE",
    "concept_ece_calibrated": "calibrated",
}
SETS: dict[str, dict[str, Any]] = {
    "90": {"coverage": 0.9},
    "99": {"coverage": 0.99},
    "90_exact": {"coverage": 0.9, "score": "aps", "randomized": True},
}
SET_COLUMNS = {
    f"set_{figure}_{name}": f"{title}, {name.replace('_', ' % ') if '_' in name else name + ' %'}"
    for name in SETS
    for figure, title in (("coverage", "coverage"), ("size", "classes"))
}
PERCENT = ("accuracy", "leakage_gap", "set_coverage")
Found = dict[str, Any]
""""figures": name -> number; "right": policy -> (G + 1, N) share of the trials in which each image is right."""


def trained(name: str, seed: int, overrides: Sequence[str], output: Path) -> str:
    """Train a model, or return the run of an earlier call."""
    done = output / f"{name}_{seed}.json"
    if not done.exists():
        if name == "pscbm":
            run = output / "runs" / f"pscbm_{seed}"
            list(add_covariance(trained("cbm_independent", seed, overrides, output), [], run))
        else:
            config, changes = MODELS[name]
            quiet = ["logger.name=csv", "logger.figures_every=0", f"output={output / 'runs'}", f"name={name}_{seed}"]
            run = fit(f"configs/toybirds/{config}.yaml", *changes, *quiet, *overrides, f"seed={seed}").folder
        done.write_text(json.dumps({"run": str(run)}))
    return str(json.loads(done.read_text())["run"])


def measure(name: str, seed: int, overrides: Sequence[str], trials: int, output: Path) -> Found:
    """Return what is found of one training, or what an earlier call has found."""
    kept = output / f"figures_{name}_{seed}.pt"
    if not kept.exists():
        run = trained(name, seed, overrides, output)
        figures = {key.removeprefix("test/"): value for key, value in evaluate(run, IMAGES).items()}
        model, data = load_run(run, IMAGES)
        right = {}
        if isinstance(model.network, ConceptNetwork):
            policies = [*POLICIES, "variance"] if model.network.dependent else POLICIES
            right = intervention_curve(model, data, policies=policies, trials=trials).right
            figures |= _leakage(model, data)
        with evaluating(model):
            read = read_outputs(model, data, "test")
        right["none"] = (read.logits.argmax(1) == read.labels).double().unsqueeze(0)
        figures |= _calibration(model, load_run(run)[1], read)
        torch.save({"figures": figures, "right": right}, kept)
        print(f"{name}, seed {seed}: {100 * figures['accuracy']:.1f} %", flush=True)
    found: Found = torch.load(kept, weights_only=True)
    return found


def _leakage(model: InterpretableModule, data: ImageDataModule) -> dict[str, float]:
    dataset = data.dataset("test")
    try:
        return concept_leakage(model, dataset, range(len(dataset))).figures()
    except UnsupportedError as error:
        print(f"no leakage: {error}", flush=True)
        return {}


def _calibration(model: InterpretableModule, own: ImageDataModule, read: ReadOutputs) -> dict[str, float]:
    """Return what calibrations on a model's own validation images are worth on the outputs for others."""
    figures: dict[str, float] = {}
    torch.manual_seed(0)  # of the randomized sets
    for name, options in SETS.items():
        calibrate(model, data=own, **options)
        found = figures_of(model, read)
        figures |= {f"{key}_{name}": found.pop(key) for key in ("set_coverage", "set_size")}
        figures |= {key: value for key, value in found.items() if key in CALIBRATION}  # the same each time
    return figures


def tables(results: dict[str, list[Found]]) -> str:
    """Return what was found as Markdown."""
    lines = ["| model | accuracy, % | more than the plain bottleneck | concept AUROC |", "|---|---|---|---|"]
    for name, runs in results.items():
        auroc = _cell(runs, "concept_auroc")
        lines.append(f"| {name} | {_cell(runs, 'accuracy')} | {_apart(results, name, 'none', 0)} | {auroc} |")
    for columns in (ACCOUNTS, CALIBRATION, SET_COLUMNS):
        lines += ["", *_figures(results, columns)]
    for policy in (*POLICIES, "variance"):
        lines += ["", f"Test accuracy, %, by groups corrected, {policy}; [more than the plain bottleneck]", ""]
        lines += _curve(results, policy)
    return "\n".join(lines)


def _figures(results: dict[str, list[Found]], columns: dict[str, str]) -> list[str]:
    head = f"| model | {' | '.join(columns.values())} |"
    rows = [f"| {name} | {' | '.join(_cell(runs, key) for key in columns)} |" for name, runs in results.items()]
    return [head, "|---" * (len(columns) + 1) + "|", *rows]


def _cell(runs: list[Found], key: str) -> str:
    values = [run["figures"].get(key, math.nan) for run in runs]
    if any(math.isnan(value) for value in values):
        return ""
    return spread(values, 100, 1) if key.startswith(PERCENT) else spread(values, 1, 3)


def _curve(results: dict[str, list[Found]], policy: str) -> list[str]:
    """Return the rows of one policy, of the models that have it."""
    having = {name: runs for name, runs in results.items() if policy in runs[0]["right"]}
    if not having:
        return []
    groups = len(next(iter(having.values()))[0]["right"][policy]) - 1
    budgets = [0, 1, 2, groups]
    lines = [f"| model | 0 | 1 | 2 | all {groups} |", "|---" * (len(budgets) + 1) + "|"]
    for name, runs in having.items():
        cells = []
        for budget in budgets:
            mean = spread([float(run["right"][policy][budget].mean()) for run in runs])
            apart = _apart(results, name, policy, budget) if budget in (1, 2) else ""
            cells.append(f"{mean} {apart}".strip())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _apart(results: dict[str, list[Found]], name: str, policy: str, budget: int) -> str:
    """Return how much more accurate a model is than its plain bottleneck, which is corrected by its best order."""
    plain = results.get(PLAIN[name])
    if plain is None or name in PLAIN.values():
        return ""
    against = policy if policy in plain[0]["right"] else "learned"
    pairs = zip(results[name], plain, strict=True)
    return interval(torch.stack([own["right"][policy][budget] - its["right"][against][budget] for own, its in pairs]))


def interval(values: Tensor) -> str:
    """Return the mean of (M, N) differences in points, with its interval over trainings and images."""
    found = two_level_interval(values)
    return f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="key=value changes to all configs")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=5, help="random orders")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--output", type=Path, default=Path("runs/bottlenecks"))
    options = parser.parse_intermixed_args()
    options.output.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[Found]] = {name: [] for name in options.models}
    for seed in range(options.seeds):
        for name, found in results.items():
            found.append(measure(name, seed, options.overrides, options.trials, options.output))
    text = tables(results)
    (options.output / "bottlenecks.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
