"""The full comparison of explanations: trains the models, compares, and writes tables of the main findings.

    python -m benchmarks.comparison benchmarks/comparison.yaml OUTPUT toybirds
    python -m benchmarks.comparison benchmarks/comparison.yaml OUTPUT cifar10.root=DATA blood_cells.root=DATA
    python -m benchmarks.comparison benchmarks/comparison.yaml OUTPUT toybirds toybirds.compare.images=16

Without names of data sets all of them are taken; ``dataset.key=value`` changes what the file says. In
``OUTPUT/<data set>/`` lie ``<model>_<seed>.json`` (a training that is done, and what it scores on the test images), the
``runs``, the ``report``, and ``tables.md``. What is there is not computed again: the same command goes on where it was.

Several processes share the work by ``--part 0/2`` and ``--part 1/2``: each trains every second seed, and measures every
second run into the report's folder. The call without it, afterwards, finds all that and writes the report and tables.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.comparison_settings import Study, baseline_of, read_studies
from benchmarks.comparison_tables import findings
from ibd.comparison.compare import compare
from ibd.errors import IbdError
from ibd.training.runner import evaluate, fit

IN_PHASES = ("protopnet", "pipnet")
"""The phases of the model say how long they train."""
Share = tuple[int, int]
"""Which part of how many."""
Trained = dict[str, Any]
"""What is known of a training: "run", "wall_s", and its test figures."""


def train(study: Study, model: str, seed: int, folder: Path) -> Trained:
    """Train a model and score it on the test images, or read what an earlier call found."""
    done = folder / f"{model}_{seed}.json"
    if done.exists():
        return dict(json.loads(done.read_text(encoding="utf-8")))
    changes = [f"data.root={study.root}"] if study.root else []
    in_phases = model.endswith(IN_PHASES)
    changes += [change for change in study.overrides if not (in_phases and change.startswith("trainer.max_epochs"))]
    baseline = baseline_of(model)
    if baseline is not None:
        changes.append(f"model.backbone.init_from={train(study, baseline, seed, folder)['run']}")
    changes += [f"seed={seed}", f"output={folder / 'runs'}", "logger.name=csv", "logger.figures_every=0"]
    print(f"{folder.name}: training {model}, seed {seed}", flush=True)
    started = time.monotonic()
    run = fit(f"{study.configs}{model}.yaml", *changes)
    if run.interrupted:  # what half a training scores is no result
        sys.exit(f"{folder.name}: {model}, seed {seed}: interrupted; the same command trains it anew")
    trained: Trained = {"run": str(run.folder), "wall_s": time.monotonic() - started, **evaluate(run)}
    write(done, json.dumps(trained, indent=1))
    print(f"{folder.name}: {model}, seed {seed}: accuracy {100 * trained['test/accuracy']:.1f} %", flush=True)
    return trained


def write(path: Path, text: str) -> None:
    """Write a file whole, or not at all."""
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def compare_all(name: str, study: Study, folder: Path) -> str:
    """Train what is not there, compare all, write the report, and return the tables."""
    trained = {model: [train(study, model, seed, folder) for seed in range(study.seeds)] for model in study.models}
    runs = [run["run"] for of_model in trained.values() for run in of_model]
    report = compare(runs, output=folder / "report", **study.options)
    text = f"## {name}\n\n{findings(report, study.tables, trained, study.differences)}"
    write(folder / "tables.md", text)
    return text


def compare_part(study: Study, folder: Path, share: Share) -> list[str]:
    """Train and measure one part of the runs; return these. What another process still trains is left out."""
    part, parts = share
    for seed in range(study.seeds)[part::parts]:
        for model in study.models:
            train(study, model, seed, folder)
    named = [(model, seed) for seed in range(study.seeds) for model in study.models]
    files = [folder / f"{model}_{seed}.json" for model, seed in named[part::parts]]
    runs = [json.loads(file.read_text(encoding="utf-8"))["run"] for file in files if file.exists()]
    print(f"{folder.name}: part {part} of {parts}: {len(runs)} of {len(named)} runs", flush=True)
    if runs:
        compare(runs, output=folder / "report", **study.options)
    return runs


def share_of(text: str) -> Share:
    """Return (0, 2) of "0/2"."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if match is None or not int(match[1]) < int(match[2]):
        raise argparse.ArgumentTypeError(f"'{text}' given, such as 0/2 or 1/2 is needed")
    return int(match[1]), int(match[2])


def run_studies(arguments: Sequence[str] | None = None) -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="comparison.yaml")
    parser.add_argument("output", type=Path, help="folder for trainings and reports")
    parser.add_argument("words", nargs="*", metavar="WORD", help="a data set, or dataset.key=value")
    parser.add_argument("--part", type=share_of, metavar="I/N", help="share of the work for this process")
    options = parser.parse_intermixed_args(arguments)
    for name, study in read_studies(options.file, options.words).items():
        folder: Path = options.output / name
        folder.mkdir(parents=True, exist_ok=True)
        if options.part is None:
            print(compare_all(name, study, folder), flush=True)
        else:
            compare_part(study, folder, options.part)


def main() -> None:
    """Run, and end with one line where the user made a mistake."""
    try:
        run_studies()
    except IbdError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
