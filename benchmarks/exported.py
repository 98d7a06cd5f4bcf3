"""An exported model in onnxruntime, beside PyTorch: ``python -m benchmarks.exported``.

Seconds per image of a concept bottleneck on ResNet-18 at 224 px, one thread each, in turns; medians and their ratio.
Both give the same: logits and units from the same image. The network is not trained: it changes nothing.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import onnxruntime
import torch
from torch import Tensor

import ibd
from ibd.app.exporting.programs import random_images
from ibd.models.cbm.lightning import ConceptBottleneck
from ibd.types import DataSpec, groups_of


def make_model(backbone: str, size: int) -> ConceptBottleneck:
    """Return a concept bottleneck of as many concepts and classes as CUB has."""
    names = tuple(f"part{group}::value{value}" for group in range(28) for value in range(4))
    spec = DataSpec(tuple(f"class {number}" for number in range(200)), names, groups_of(names), image_size=(size, size))
    torch.manual_seed(0)
    options = {"name": backbone} if backbone == "small_cnn" else {"name": backbone, "weights": None}
    return ConceptBottleneck(spec, options).eval()


def one_thread(file: Path) -> onnxruntime.InferenceSession:
    """Return a session that computes on the thread that calls it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def calls(model: ConceptBottleneck, folder: Path, images: Tensor) -> dict[str, Callable[[], object]]:
    """Return what is measured, by name: PyTorch, and the parts that `ibd export` writes, one after the other."""
    files = ibd.export(model, folder / "model.onnx", parts=("encode", "decode")).files
    encode, decode = (one_thread(files[name]) for name in ("encode", "decode"))
    (needed,) = (each.name for each in decode.get_inputs())
    given = {"image": images.numpy()}

    def exported() -> object:
        scores, _, _ = encode.run([needed, "values", "maps"], given)
        return decode.run(None, {needed: scores})

    def pytorch() -> object:
        with torch.inference_mode():
            return model.network(images)

    return {"PyTorch": pytorch, "onnxruntime": exported}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exported", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=224)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = make_model(given.backbone, given.size)
    print("| images | runtime | ms per image (CPU) | ms per image | of PyTorch (CPU) |\n|---:|---|---:|---:|---:|")
    for count in (1, 8):
        with tempfile.TemporaryDirectory() as place:
            run = calls(model, Path(place), random_images(model, count))
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in run}
        for _ in range(given.repetitions + 2):  # the first two warm up
            for name, call in run.items():
                began = time.process_time(), time.perf_counter()
                call()
                times[name].append((time.process_time() - began[0], time.perf_counter() - began[1]))
        cpu, wall = (
            {name: 1e3 * median(each[k] for each in taken[2:]) / count for name, taken in times.items()} for k in (0, 1)
        )
        for name in run:
            print(f"| {count} | {name} | {cpu[name]:.1f} | {wall[name]:.1f} | {cpu[name] / cpu['PyTorch']:.2f} |")


if __name__ == "__main__":
    main()
