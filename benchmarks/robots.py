"""The published benchmark of robots (package ``concept-benchmark``, Skirzynski et al. 2026) with our bottleneck.

    pip install concept-benchmark
    python -m benchmarks.robots OUTPUT --drawn FOLDER

``FOLDER`` holds the robots that the package has drawn (its ``data/robot_images``); without it they are drawn first, for
12 minutes. They are laid out as our data in folders, once with the 7 true concepts and once with the 12 human ones, in
the package's splits. Two networks are taken: the benchmark's own, which sees each position by itself, and
``cifar_resnet``, which averages over positions. Each gets a hard bottleneck whose head is trained on true concepts, as
the published one is, and stands beside a plain network. Prints Markdown, and writes it into ``OUTPUT/robots.md``. What
is there already is not made again.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from torch import nn

from ibd.backbones.base import Backbone, Normalization
from ibd.io import load_run
from ibd.models.cbm.intervention import intervention_curve
from ibd.training.runner import evaluate, fit

PRESETS = {"true": "ground_truth", "human": "foot_subtypes"}
POLICIES = ("random", "uncertainty", "learned")
LIGHT = ["logger.name=csv", "logger.figures_every=0", "data.image_size=32", "data.num_workers=0"]
BOTTLENECK = ["model.regime=independent", "model.bottleneck=hard", "model.imbalance=none"]
OWN = [
    *("data.augment=none", "data.batch_size=32", "optimizer.lr=0.001", "optimizer.weight_decay=0"),
    *("optimizer.schedule=constant", "trainer.max_epochs=30", "early_stopping.patience=10"),
]
RESNET = [
    *("data.augment=shift", "data.batch_size=64", "optimizer.lr=0.003", "trainer.max_epochs=15"),
    *("early_stopping=null", "model.backbone.name=cifar_resnet", "model.backbone.weights=null"),
]


class Concepts(Backbone):
    """The benchmark's network of concepts: convolutions without pooling, then a linear layer over all positions."""

    def __init__(self, channels: int = 16, normalize: Normalization = "none") -> None:
        super().__init__(normalize)
        self.body = nn.Sequential(*_stage(3, 16), *_stage(16, 32), *_stage(32, 64), nn.Conv2d(64, channels, 32))
        self.out_channels = channels


class Classes(Backbone):
    """The benchmark's plain network up to its last layer."""

    def __init__(self, normalize: Normalization = "none") -> None:
        super().__init__(normalize)
        stages = [(*_stage(before, after), nn.MaxPool2d(2)) for before, after in ((3, 16), (16, 32), (32, 64))]
        layers = [layer for stage in stages for layer in stage]
        self.body = nn.Sequential(*layers, nn.Conv2d(64, 128, 4), nn.ReLU(), nn.Dropout(0.5))
        self.out_channels = 128


def _stage(before: int, after: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(before, after, 3, padding=1), nn.ReLU()


def lay_out(concepts: str, drawn: Path | None, seed: int, root: Path) -> Path:
    """Make a folder with the classes, splits and concepts of the benchmark, and return it."""
    if (root / "concepts.csv").exists():
        return root
    from concept_benchmark.paths import data_dir
    from concept_benchmark.robots import DatasetGenerator

    given = DatasetGenerator(seed=seed, concept_preset=PRESETS[concepts], render_images=drawn is None).generate_splits()
    pictures = (drawn or Path(data_dir) / "robot_images").resolve()
    rows = []
    for split in ("train", "val", "test"):
        part = getattr(given, split)
        for picture, known, label in zip(part.X, part.C, part.y, strict=True):
            place = Path(split) / given.classes[int(label)] / str(picture)
            (root / place).parent.mkdir(parents=True, exist_ok=True)
            if not (root / place).exists():
                (root / place).symlink_to(pictures / str(picture))
            rows.append([place.as_posix(), *map(int, known)])
    with (root / "concepts.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["image", *given.train.concepts], *rows])
    return root


def measure(name: str, config: str, root: Path, changes: list[str], output: Path) -> dict[str, Any]:
    """Return accuracy and curve of a training, or those of an earlier call."""
    done = output / f"{name}.json"
    if not done.exists():
        where = [f"data.root={root.resolve()}", f"output={output / 'runs'}", f"name={name}"]
        run = fit(f"configs/folder/{config}.yaml", *LIGHT, *changes, *where).folder
        found: dict[str, Any] = {"run": str(run), "accuracy": evaluate(run, trust=True)["test/accuracy"]}
        if config == "cbm":
            curve = intervention_curve(*load_run(run, trust=True), policies=POLICIES)
            found["curve"] = {policy: curve.mean(policy).tolist() for policy in POLICIES}
        done.write_text(json.dumps(found, indent=1))
    return dict(json.loads(done.read_text()))


def table(found: dict[str, dict[str, Any]]) -> str:
    """Return the accuracies in % as Markdown."""
    lines = ["| | order | 0 | 1 | 3 | all |", "|---|---|---|---|---|---|"]
    for name, figures in found.items():
        for policy, curve in figures.get("curve", {"": [figures["accuracy"]]}).items():
            points = [curve[n] for n in (0, 1, 3, -1)] if len(curve) > 3 else curve
            cells = [f"{100 * value:.1f}" for value in points] + [""] * (4 - len(points))
            lines.append(f"| {name} | {policy} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("overrides", nargs="*", help="key=value changes to all configs")
    parser.add_argument("--drawn", type=Path, help="folder of the robots that are drawn already")
    parser.add_argument("--seed", type=int, default=1014)
    options = parser.parse_intermixed_args()
    roots = {
        concepts: lay_out(concepts, options.drawn, options.seed, options.output / f"{concepts}_concepts")
        for concepts in PRESETS
    }
    found = {}
    for network, settings in (("own", OWN), ("resnet", RESNET)):
        own = network == "own"
        changes = [*settings, *options.overrides, f"seed={options.seed}"]
        for concepts, root in roots.items():
            body = ["model.backbone={name: 'benchmarks.robots:Concepts'}"] if own else []
            name = f"{network}_{concepts}"
            found[name] = measure(name, "cbm", root, [*body, *changes, *BOTTLENECK], options.output)
        body = ["model.backbone={name: 'benchmarks.robots:Classes'}"] if own else []
        found[f"{network}_plain"] = measure(
            f"{network}_plain", "baseline", roots["true"], [*body, *changes], options.output
        )
    text = table(found)
    (options.output / "robots.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
