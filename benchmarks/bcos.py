"""What B-cos costs: a training step over that of the plain network, and its account over a pass forward and back."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.parts import make_batch, make_spec, plain_step, saved_bytes
from benchmarks.timing import Row, side_by_side
from ibd.backbones import build_backbone, prefers_channels_last
from ibd.explain import Intrinsic, Target
from ibd.models.baseline.network import BaselineNetwork

CASES: dict[str, tuple[dict[str, Any], int, int]] = {
    "small_cnn": ({"name": "small_cnn"}, 64, 64),
    "cifar_resnet": ({"name": "cifar_resnet"}, 64, 32),
    "resnet18": ({"name": "resnet18"}, 8, 224),
}
"""Name -> block of the plain backbone, images of a step, their size in pixels."""
COMPILED = ("cifar_resnet",)
"""Those whose steps are compared compiled, too, ``compile=true``: its channels are few, and what is not a convolution
weighs most. Compiling takes two minutes."""
CLASSES = 10


def measure(repetitions: int = 14, cases: tuple[str, ...] = tuple(CASES)) -> list[Row]:
    """Compare, for each case, the steps of the B-cos and the plain network, and an explanation with its floor.

    A step is a plain one: forward, cross-entropy, backward, AdamW; same body, batch and memory layout. The floor of an
    explanation is one pass forward and one back to the pixels of the same network, without anything kept.
    """
    rows = []
    for name in cases:
        plain, count, size = CASES[name]
        bcos = {**plain, "name": f"bcos_{name}"}
        batch = make_batch(make_spec([2], CLASSES, size), count)
        shapes = f"{name}, {count} x 3 x {size} x {size}"
        steps = {label: _step(block, batch) for label, block in (("bcos", bcos), ("plain", plain))}
        compiled = name in COMPILED and repetitions > 1
        if compiled:
            blocks = (("bcos", bcos), ("plain", plain))
            steps |= {f"compiled {label}": _step(block, batch, compiled=True) for label, block in blocks}
        peer = _peer_step(batch) if name == "resnet18" else None
        if peer is not None:
            steps["peer"] = peer
        timed = side_by_side(steps, repetitions, warm_up=2 if repetitions > 1 else 1)
        rows.append(_row("B-cos training step / plain step", shapes, timed["bcos"], timed["plain"], "<= 1.5"))
        if compiled:
            what = "B-cos training step / plain step, both compiled"
            rows.append(_row(what, shapes, timed["compiled bcos"], timed["compiled plain"], "<= 1.5"))
            what = "compiled B-cos training step / plain step"
            rows.append(_row(what, shapes, timed["compiled bcos"], timed["plain"], "<= 1.5"))
        if peer is not None:
            rows.append(_row("B-cos training step / of the package bcos", shapes, timed["bcos"], timed["peer"], "<= 1"))
        kept = {label: _kept(block, batch.image) / 2**20 for label, block in (("bcos", bcos), ("plain", plain))}
        ratio = kept["bcos"] / kept["plain"]
        what = "memory that a B-cos network keeps for the way back / a plain one"
        rows.append(Row(what, shapes, f"{kept['bcos']:.1f} / {kept['plain']:.1f} MiB", ratio, ratio, "<= 2"))
        account = side_by_side(_explaining(bcos, batch.image), repetitions)
        rows.append(_row("own map / forward and back", shapes, account["own"], account["floor"], "<= 1.5"))
    return rows


def _row(what: str, shapes: str, ours: Any, other: Any, bar: str) -> Row:
    return Row(what, shapes, f"{ours} / {other}", *ours.ratio(other), bar)


def _step(block: dict[str, Any], batch: Any, compiled: bool = False) -> Callable[[], object]:
    return plain_step(block, batch, CLASSES, prefers_channels_last(build_backbone(block), "cpu"), compiled)


def _kept(block: dict[str, Any], image: Tensor) -> int:
    """Return what a training's pass forward keeps, in bytes."""
    network = BaselineNetwork(build_backbone(block), [str(index) for index in range(CLASSES)]).train()
    own = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    return saved_bytes(lambda: network(image).logits, own)


def _explaining(block: dict[str, Any], image: Tensor) -> dict[str, Callable[[], object]]:
    """Return the own map of the first class, and a gradient of its logit."""
    network = BaselineNetwork(build_backbone(block), [str(index) for index in range(CLASSES)]).eval()
    for parameter in network.parameters():
        parameter.requires_grad_(False)

    def floor() -> Tensor:
        leaf = image.clone().requires_grad_()
        return torch.autograd.grad(network(leaf).logits[:, 0].sum(), leaf)[0]

    def own() -> object:
        return Intrinsic()(network, image, Target.cls(0))

    return {"own": own, "floor": floor}


def _peer_step(batch: Any) -> Callable[[], object] | None:
    """Return a step of the ResNet-18 of the paper's own package, where it is installed."""
    if importlib.util.find_spec("bcos") is None:
        return None
    pretrained = importlib.import_module("bcos.models.pretrained")
    network: nn.Module = copy.deepcopy(pretrained.resnet18(pretrained=False))
    head = network.num_classes
    optimizer = torch.optim.AdamW(network.parameters())
    image = torch.cat([batch.image, 1 - batch.image], 1)
    label = batch.label % int(head)  # type: ignore[call-overload]

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(image), label).backward()
        optimizer.step()

    return step
