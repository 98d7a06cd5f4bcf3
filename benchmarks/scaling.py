"""Time and memory by the number of images, extrapolated to ImageNet's: ``python -m benchmarks.scaling FOLDER``.

Tiny images in FOLDER, made where they are missing, in 1000 classes; each step in a process of its own, on half of them
and on all. What doubles where the images double is linear, and can be extrapolated; what grows by more is superlinear.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ibd.data import ConceptFolder, ImageDataModule
from ibd.models.cbm.lightning import ConceptBottleneck
from ibd.models.protopnet.lightning import ProtoPNet
from ibd.models.protopnet.push import push as project

CLASSES, SIDE, IMAGENET = 1000, 16, 1_281_167
BACKBONE = {"name": "small_cnn", "width": 4, "depth": 3}


def make_images(root: Path, images: int) -> None:
    """Write images of noise, the same number for each class, and a table of two concepts by class."""
    (root / "train").mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for number in range(CLASSES):
        folder = root / "train" / f"class_{number:04d}"
        folder.mkdir(exist_ok=True)
        picture = Image.fromarray(random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8))
        picture.save(folder / "0000.png")
        content = (folder / "0000.png").read_bytes()
        for image in range(1, images // CLASSES):
            (folder / f"{image:04d}.png").write_bytes(content)
    rows = [f"class_{number:04d},{number % 2},{number // 2 % 2}" for number in range(CLASSES)]
    (root / "concepts.csv").write_text("\n".join(["class,even,half", *rows]) + "\n", encoding="utf-8")


def opened(root: Path, check: bool = False) -> ImageDataModule:
    """Return the folder as a data module."""
    return ConceptFolder(str(root), image_size=SIDE, augment="none", batch_size=256, check_images=check)


def scan(root: Path) -> None:
    """Scan the folder, without looking into the files."""
    opened(root)


def check(root: Path) -> None:
    """Scan the folder, and look at the first and last bytes of every file."""
    opened(root, check=True).prepare_data()


def read(root: Path) -> None:
    """Read every training image once."""
    for _ in opened(root).loader("train"):
        pass


def statistics(root: Path) -> None:
    """Finish a bottleneck: percentiles of all concepts over the training images."""
    data = opened(root)
    ConceptBottleneck(data.spec, BACKBONE).finish(data)


def push(root: Path) -> None:
    """Project a prototype of each class on the nearest patch of the training images; the last layer is not fitted."""
    data = opened(root)
    model = ProtoPNet(data.spec, BACKBONE, per_class=1, dimension=16)
    project(model.network, data)


STEPS: dict[str, Callable[[Path], None]] = {
    "scan": scan,
    "check": check,
    "read": read,
    "statistics": statistics,
    "push": push,
}


def measured(step: str, root: Path) -> tuple[float, float]:
    """Return CPU seconds of a step in a process of its own, less those of its start, and its peak memory in GB."""
    command = [sys.executable, "-m", "benchmarks.scaling", str(root), "--step", step]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    return answer["seconds"], answer["memory"]


def run_step(step: str, root: Path) -> None:
    """Do a step, and print what it took."""
    torch.set_num_threads(1)
    started = time.process_time()
    STEPS[step](root)
    seconds = time.process_time() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(json.dumps({"seconds": seconds, "memory": memory}))


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=200_000)
    parser.add_argument("--steps", default=",".join(STEPS))
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        run_step(options.step, options.folder)
        return
    sizes = (options.images // 2, options.images)
    for size in sizes:
        if not (options.folder / str(size) / "concepts.csv").exists():
            make_images(options.folder / str(size), size)
    print(f"| step | {sizes[0]:,} | {sizes[1]:,} | growth | GB | 1.28 million: hours | GB |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for step in options.steps.split(","):
        (half, low), (whole, high) = (measured(step, options.folder / str(size)) for size in sizes)
        factor, more = IMAGENET / sizes[1], (high - low) / (sizes[1] - sizes[0])
        hours, memory = whole * factor / 3600, high + max(more, 0) * (IMAGENET - sizes[1])
        times = f"{half:.1f} s | {whole:.1f} s | {whole / half:.2f}"
        print(f"| {step} | {times} | {high:.2f} | {hours:.2f} | {memory:.2f} |", flush=True)


if __name__ == "__main__":
    main()
