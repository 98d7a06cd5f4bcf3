"""Accuracy of the models over several seeds, by the shipped configs: the tables of docs/results.md.

    python -m benchmarks.accuracy configs/toybirds --seeds 3
    python -m benchmarks.accuracy configs/folder/cifar10_ data.root=DATA --models baseline joint sequential --seeds 1

Trains ``PREFIX``baseline.yaml, ``PREFIX``cbm.yaml, ``PREFIX``protopnet.yaml and ``PREFIX``concept_whitening.yaml,
scores them on the test split, and draws an intervention curve for every concept bottleneck. "longer" is the baseline
trained on for as many epochs, and at the same rate, as the concept-whitening network, which starts from it, too. Prints
Markdown, and writes it with all figures into
``OUTPUT/accuracy.{md,json}``. Runs that are already there are not trained again.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import time
from pathlib import Path
from typing import Any

from ibd.config import load_config
from ibd.models.cbm.intervention import intervention_curve
from ibd.models.concept_whitening.evaluation import evaluate_axes
from ibd.models.protopnet.evaluation import evaluate_prototypes
from ibd.training.runner import evaluate, fit

MODELS: dict[str, tuple[str, list[str]]] = {
    "baseline": ("baseline", []),
    "joint": ("cbm", ["model.regime=joint"]),
    "sequential": ("cbm", ["model.regime=sequential"]),
    "independent": ("cbm", ["model.regime=independent"]),
    "protopnet": ("protopnet", []),
    "protopnet_l2": ("protopnet", ["model.distance=l2", "model.activation=log"]),
    "concept_whitening": ("concept_whitening", []),
    "longer": ("baseline", []),
}
CONCEPTS = ("joint", "sequential", "independent")
PROTOTYPES = ("protopnet", "protopnet_l2")
ON_BASELINE = (*PROTOTYPES, "concept_whitening", "longer")
"""They start from the backbone of the baseline of the same seed."""
POLICIES = ("random", "uncertainty", "expected_change", "learned")


def cpu_seconds() -> float:
    """Return the processor time of this process and its children."""
    both = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


def measure(prefix: str, model: str, seed: int, overrides: list[str], output: Path) -> dict[str, Any]:
    """Train, score, and intervene; or read what an earlier call found."""
    done = output / f"{model}_{seed}.json"
    if done.exists():
        return dict(json.loads(done.read_text()))
    config, changes = MODELS[model]
    if model in ON_BASELINE:
        baseline = measure(prefix, "baseline", seed, overrides, output)
        changes = [*changes, f"model.backbone.init_from={baseline['run']}"]
        overrides = [text for text in overrides if not text.startswith("trainer.max_epochs")]
    if model == "longer":
        whitening = load_config(f"{prefix}concept_whitening.yaml", *overrides)
        changes = [
            *changes,
            f"optimizer.lr={whitening.optimizer.lr}",
            f"trainer.max_epochs={whitening.trainer.max_epochs}",
        ]
    wall, cpu = time.monotonic(), cpu_seconds()
    run = fit(f"{prefix}{config}.yaml", *overrides, *changes, f"seed={seed}", f"output={output / 'runs'}")
    result: dict[str, Any] = {"wall_s": time.monotonic() - wall, "cpu_s": cpu_seconds() - cpu, "run": str(run.folder)}
    result |= evaluate(run)
    if model in CONCEPTS:
        curve = intervention_curve(run, policies=POLICIES)
        curve.figure().savefig(output / f"curve_{model}_{seed}.png", dpi=130)
        curve.save_csv(output / f"curve_{model}_{seed}.csv")
        result["curve"] = {policy: curve.mean(policy).tolist() for policy in POLICIES}
    if model in PROTOTYPES:
        result["units"] = evaluate_prototypes(run)
    if model == "concept_whitening":
        result["units"] = evaluate_axes(run, baseline=baseline["run"]).figures
    done.write_text(json.dumps(result, indent=1))
    return result


def spread(values: list[float], scale: float = 100.0, digits: int = 1) -> str:
    """Return mean and, of several, standard deviation."""
    mean = f"{scale * statistics.fmean(values):.{digits}f}"
    return mean + (f" ± {scale * statistics.stdev(values):.{digits}f}" if len(values) > 1 else "")


def table(results: dict[str, list[dict[str, Any]]]) -> str:
    """Return the accuracies, and the intervention curves, as Markdown."""
    lines = [
        "| model | test accuracy, % | concept AUROC | all groups corrected, % | training, min (wall) | CPU min |",
        "|---|---|---|---|---|---|",
    ]
    for model, runs in results.items():
        concept = spread([r["test/concept_auroc"] for r in runs], 1, 4) if model in CONCEPTS else ""
        corrected = spread([r["curve"]["random"][-1] for r in runs]) if model in CONCEPTS else ""
        cost = " | ".join(f"{statistics.fmean(r[key] for r in runs) / 60:.1f}" for key in ("wall_s", "cpu_s"))
        lines.append(f"| {model} | {spread([r['test/accuracy'] for r in runs])} | {concept} | {corrected} | {cost} |")
    for model, runs in results.items():
        if "units" not in runs[0]:
            continue
        shown = {name: spread([r["units"][name] for r in runs], 1, 3) for name in runs[0]["units"]}
        lines += ["", f"{model}: {', '.join(f'{name} {value}' for name, value in shown.items())}"]
    for model, runs in results.items():
        if model not in CONCEPTS:
            continue
        budgets = range(len(runs[0]["curve"]["random"]))
        lines += ["", f"{model}: test accuracy (%) by groups corrected, mean over seeds", ""]
        lines += ["| policy | " + " | ".join(map(str, budgets)) + " |", "|---" * (len(budgets) + 1) + "|"]
        for policy in POLICIES:
            means = [100 * statistics.fmean(r["curve"][policy][n] for r in runs) for n in budgets]
            lines.append(f"| {policy} | " + " | ".join(f"{value:.2f}" for value in means) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefix", help="what stands before baseline.yaml and cbm.yaml")
    parser.add_argument("overrides", nargs="*", help="key=value changes to the configs")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--output", type=Path, default=Path("runs/accuracy"))
    options = parser.parse_args()
    prefix = options.prefix + ("/" if Path(options.prefix).is_dir() else "")
    options.output.mkdir(parents=True, exist_ok=True)
    quiet = ["logger.name=csv", "logger.figures_every=0", *options.overrides]
    results = {
        model: [measure(prefix, model, seed, quiet, options.output) for seed in range(options.seeds)]
        for model in options.models
    }
    text = table(results)
    (options.output / "accuracy.md").write_text(text + "\n")
    (options.output / "accuracy.json").write_text(json.dumps(results, indent=1))
    print(text)


if __name__ == "__main__":
    main()
