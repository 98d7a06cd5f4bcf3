"""A bottleneck of discovered concepts on a frozen network, beside the network and a linear probe.

    python -m benchmarks.posthoc configs/folder/cifar10_baseline.yaml OUTPUT data.root=DATA --k 64
    python -m benchmarks.posthoc configs/folder/blood_cells_pretrained_baseline.yaml OUTPUT data.root=DATA --k 20

Trains the baseline of the config (on a frozen backbone that is the probe already), and where it is a network of its own
a linear probe on its frozen features. Then, for each method, concepts are discovered in the training images, and a
post-hoc bottleneck is made of them. Prints test accuracies as Markdown, also at 5, 10 and 15 effective concepts a class
(VLG-CBM, Srivastava et al. 2024), and writes it with all figures into ``OUTPUT/posthoc.{md,json}``. What is there
already is not made again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.accuracy import cpu_seconds
from ibd.app.discovery.features import drawn_cells
from ibd.config import load_config
from ibd.explain.discovery.dictionaries import Search, find_directions
from ibd.io import load_run
from ibd.training.features import cache_folder, features_of
from ibd.training.runner import evaluate, fit

METHODS = ("pca", "kmeans", "nmf", "sae")
CELLS = 100_000
"""Vectors of features that concepts are discovered in, at most."""
LIGHT = ("logger.mode=disabled", "logger.figures_every=0")
COLUMNS = ("accuracy", "accuracy_nec5", "accuracy_nec10", "accuracy_nec15", "anec")


def discover(run: str, method: str, k: int, seed: int, path: Path) -> None:
    """Write k concepts of the training images, as directions of the features of a run's backbone."""
    module, data = load_run(run)
    features = features_of(module, data, "train", cache_folder("auto"), "32-true")
    rows, _ = drawn_cells(features, max(1, CELLS // features.shape[0]), seed)
    find_directions(rows, Search(method, k, seed)).save(path)  # type: ignore[arg-type]


def timed(done: Path, make: Callable[[], str]) -> dict[str, Any]:
    """Return the test figures of the run that `make` makes, and its CPU seconds; or what an earlier call found."""
    if done.exists():
        return dict(json.loads(done.read_text()))
    start = cpu_seconds()
    run = make()
    found: dict[str, Any] = {"run": run, "cpu_s": cpu_seconds() - start, **evaluate(run)}
    done.write_text(json.dumps(found, indent=1))
    return found


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the accuracies in %, and CPU seconds, as Markdown."""
    lines = [f"| model | {' | '.join(COLUMNS)} | CPU s |", "|---" * (len(COLUMNS) + 2) + "|"]
    for name, found in results.items():
        values = [f"{100 * found[f'test/{key}']:.1f}" if f"test/{key}" in found else "" for key in COLUMNS]
        lines.append(f"| {name} | {' | '.join(values)} | {found['cpu_s']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.posthoc", description=__doc__)
    parser.add_argument("config", help="config of the baseline")
    parser.add_argument("output", type=Path)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["pca", "kmeans"])
    parser.add_argument("--k", type=int, default=64, help="number of concepts")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    changes = [*given.overrides, *LIGHT, f"seed={given.seed}", f"output={given.output / 'runs'}"]
    frozen = bool(load_config(given.config, *changes).model.backbone.frozen)
    results = {}

    def trained(*more: str) -> str:
        return str(fit(given.config, *changes, *more).folder)

    first = "linear probe" if frozen else "the network"
    results[first] = timed(given.output / f"network_{given.seed}.json", trained)
    network = results[first]["run"]
    backbone = [] if frozen else [f"model.backbone.init_from={network}", "model.backbone.frozen=true"]
    if not frozen:
        probe = [*backbone, "optimizer.name=adamw", "optimizer.lr=0.003", "name=probe"]
        results["linear probe"] = timed(given.output / f"probe_{given.seed}.json", lambda: trained(*probe))
    for method in given.methods:
        name = f"{method}_{given.k}_{given.seed}"
        path = given.output / f"{name}.npz"

        def bottleneck(method: str = method, path: Path = path) -> str:
            discover(network, method, given.k, given.seed, path)
            base = {"base": str(Path(given.config).resolve()), "name": f"posthoc-{method}"}
            file = given.output / f"{path.stem}.yaml"
            file.write_text(json.dumps({**base, "trainer": {"max_epochs": None}}))
            model = ["model.name=posthoc_cbm", f"model.concepts={path}", *backbone]
            kept = [text for text in changes if not text.startswith("trainer.max_epochs")]
            return str(fit(str(file), *kept, *model).folder)

        results[f"{given.k} concepts ({method})"] = timed(given.output / f"{name}.json", bottleneck)
    text = table(results)
    (given.output / "posthoc.md").write_text(text + "\n", encoding="utf-8")
    (given.output / "posthoc.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
