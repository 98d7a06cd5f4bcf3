"""What concepts cost: the training step of a bottleneck, and of embeddings, metrics on, over a plain backbone's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.parts import CUB_GROUPS, cbm_module, cem_module, make_batch, make_spec, module_step, plain_step
from benchmarks.timing import Row, Times, side_by_side
from ibd.models.cbm.lightning import ConceptBottleneck
from ibd.types import Batch


@dataclass(frozen=True)
class Case:
    """What is trained.

    Attributes:
        backbone: its block of a configuration.
        groups: sizes of the concept groups.
        classes: number of classes.
        size: of the images in pixels.
        batch: images of a step.
        epoch: images of an epoch.
        rounds: repetitions for each one that is asked for.
    """

    backbone: dict[str, Any]
    groups: list[int]
    classes: int
    size: int
    batch: int
    epoch: int
    rounds: int = 1


CASES = {
    "small_cnn": Case({"name": "small_cnn", "width": 16}, [5, 6, 5, 4, 6], 20, 64, 64, 4000, rounds=4),
    "resnet18": Case({"name": "resnet18"}, CUB_GROUPS, 200, 224, 16, 4796),
}


def measure(repetitions: int = 14, cases: tuple[str, ...] = tuple(CASES)) -> list[Row]:
    """Compare the Lightning module's ``training_step``, optimizer included, with a plain step.

    Same backbone, memory layout and optimizer. Lightning's own loop and its logging, which a plain Lightning module
    has too, are on neither side. The last row adds the end of an epoch of a bottleneck, where the metrics are computed.
    """
    rows = []
    for name in cases:
        case = CASES[name]
        spec = make_spec(case.groups, case.classes, case.size)
        batch = make_batch(spec, case.batch)
        module, embedding = cbm_module(case.backbone, spec), cem_module(case.backbone, spec)
        plain = plain_step(case.backbone, batch, case.classes, module.channels_last)
        candidates = {"cbm": module_step(module, batch), "cem": module_step(embedding, batch), "plain": plain}
        timed = side_by_side(candidates, case.rounds * repetitions, warm_up=2 if repetitions > 1 else 1)
        shapes = f"{name}, {case.batch} x 3 x {case.size} x {case.size}, {sum(case.groups)} concepts, "
        shapes += f"{case.classes} classes"
        rows.append(_row("CBM training step, metrics on / plain step", shapes, timed["cbm"], timed["plain"]))
        rows.append(_row("CEM training step, metrics on / plain step", shapes, timed["cem"], timed["plain"]))
        steps = case.epoch // case.batch
        epoch = timed["cbm"].times(steps, plus=_epoch_end(module, batch, steps))
        rows.append(_row(f"an epoch of {steps} such steps and its end", shapes, epoch, timed["plain"].times(steps)))
    return rows


def _row(what: str, shapes: str, ours: Times, plain: Times) -> Row:
    return Row(what, shapes, f"{ours} / {plain}", *ours.ratio(plain), "<= 1.02")


def _epoch_end(module: ConceptBottleneck, batch: Batch, steps: int) -> tuple[float, float]:
    """Return the CPU time and the time by the clock of computing the training metrics of so many steps."""
    output = module(batch.image)
    collections = [metrics for name, metrics in module.metrics.items() if name.startswith("train_")]
    for metrics in collections:
        metrics.reset()  # type: ignore[operator]
    for _ in range(steps):
        module._update_metrics(output, batch, "train")

    def compute() -> None:
        for metrics in collections:
            for metric in metrics.values():  # type: ignore[operator]
                metric._computed = None  # torchmetrics keeps what it has computed
            metrics.compute()  # type: ignore[operator]

    return side_by_side({"end": compute}, repetitions=3)["end"].medians
