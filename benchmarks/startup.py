"""What predicting one image costs as a whole process, beside importing PyTorch: ``python -m benchmarks.startup``.

CPU seconds of child processes, in turns; medians and their ratio. The networks are not trained: it changes nothing.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from PIL import Image

BACKBONES = {
    "small_cnn": {"name": "small_cnn", "width": 16, "depth": 4},
    "resnet18": {"name": "resnet18", "weights": None},
}
BAR = 1.3


def cpu_seconds(*arguments: str) -> float:
    """Return what a Python process with these arguments takes, user and system time together."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def make_checkpoints(folder: Path) -> dict[str, Path]:
    """Write a concept bottleneck on each backbone; return the checkpoints."""
    from ibd.models.cbm.lightning import ConceptBottleneck
    from ibd.types import DataSpec, groups_of

    concepts = tuple(f"part::{value}" for value in ("red", "green", "blue"))
    spec = DataSpec(("a", "b"), concepts, groups_of(concepts), image_size=(64, 64))
    files = {name: folder / f"{name}.ckpt" for name in BACKBONES}
    for name, backbone in BACKBONES.items():
        ConceptBottleneck(spec, backbone).save(files[name])
    Image.effect_noise((300, 200), 60).convert("RGB").save(folder / "image.png")
    return files


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=7)
    repetitions = parser.parse_args().repetitions
    with tempfile.TemporaryDirectory() as place:
        files = make_checkpoints(Path(place))
        calls = {"import torch": ("-c", "import torch"), "import torchvision": ("-c", "import torchvision")}
        for name, file in files.items():
            calls[f"ibd predict ({name})"] = ("-m", "ibd.cli", "predict", str(file), str(Path(place) / "image.png"))
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(repetitions + 1):  # the first round fills the caches of the disk
            for name, call in calls.items():
                times[name].append(cpu_seconds(*call))
    base = median(times["import torch"][1:])
    print("| process | CPU seconds | of import torch |\n|---|---:|---:|")
    for name, seconds in times.items():
        print(f"| {name} | {median(seconds[1:]):.2f} | {median(seconds[1:]) / base:.2f} |")
    print(f"\nbar: ibd predict (small_cnn) at most {BAR} of import torch")


if __name__ == "__main__":
    main()
