"""What a network with one whitened layer costs: a training step, the passes that turn its axes, inference."""

from __future__ import annotations

import torch

from benchmarks.parts import CUB_GROUPS, Step, make_batch, make_spec, module_step, plain_step, without_logging
from benchmarks.timing import Row, side_by_side
from ibd.backbones import build_backbone
from ibd.models.base import InterpretableNetwork
from ibd.models.baseline.network import BaselineNetwork
from ibd.models.concept_whitening.alignment import Alignment, align
from ibd.models.concept_whitening.examples import draw
from ibd.models.concept_whitening.lightning import ConceptWhitening
from ibd.models.concept_whitening.network import ConceptWhiteningNetwork

_TRAINING = 4796
"""Training images of CUB, less those for validation."""
CLASSES = [f"class {index}" for index in range(200)]
CONCEPTS = [f"concept {index}" for index in range(sum(CUB_GROUPS))]


def measure(repetitions: int = 14, name: str = "resnet18", size: int = 224, batch: int = 16) -> list[Row]:
    """Compare with the network of batch normalizations alone, memory layout and optimizer the same."""
    return [*training_rows(repetitions, name, size, batch), *inference_rows(repetitions, name, size, batch)]


def training_rows(rounds: int, name: str, size: int, batch: int) -> list[Row]:
    """Compare the Lightning module's ``training_step``, metrics and optimizer included, with a plain step.

    The second row adds a twentieth of a pass over concept examples, as many as are drawn for 112 concepts of which an
    image of CUB holds a quarter, 4 images of each (``configs/cub/concept_whitening.yaml``).
    """
    spec = make_spec(CUB_GROUPS, len(CLASSES), size)
    images = make_batch(spec, batch)
    torch.manual_seed(0)
    module = without_logging(ConceptWhitening(spec, {"name": name}, activation="mean"))
    settings = Alignment(images=4)
    annotations = (torch.rand(_TRAINING, len(CONCEPTS), generator=torch.Generator().manual_seed(0)) < 0.25).float()
    drawn = annotations[draw(annotations, settings.images, seed=0)]
    shown = make_batch(spec, len(drawn)).image
    examples = [(shown[i : i + batch], drawn[i : i + batch]) for i in range(0, len(drawn), batch)]
    candidates = {
        "whitened": module_step(module, images),
        "plain": plain_step({"name": name}, images, len(CLASSES), module.channels_last),
        "pass": lambda: align(module.network, examples, settings),
    }
    timed = side_by_side(candidates, rounds, warm_up=2)
    shapes = f"{name}, {batch} x 3 x {size} x {size}, layer4.1.bn1, {len(CONCEPTS)} concepts"
    with_passes = timed["whitened"].plus(timed["pass"].times(1 / settings.every))
    return [
        Row(what, shapes, f"{ours} / {timed['plain']}", *ours.ratio(timed["plain"]), bar)
        for what, ours, bar in (
            ("concept-whitening training step / BatchNorm network", timed["whitened"], "<= 1.10"),
            (f"the same, with its share of the alignment passes of {len(drawn)} images", with_passes, ""),
        )
    ]


def inference_rows(rounds: int, name: str, size: int, batch: int) -> list[Row]:
    """Compare folded, and unfolded, with the baseline network of batch normalizations alone.

    All in evaluation and inference mode with ``channels_last``; each computes logits, scores and maps of its units.
    """
    image = torch.rand(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    plain = BaselineNetwork(build_backbone({"name": name}), CLASSES)
    whitened = ConceptWhiteningNetwork(build_backbone({"name": name}), CLASSES, CONCEPTS)
    networks = {"plain": plain, "whitened": whitened, "folded": whitened.for_inference()}
    timed = side_by_side({key: _pass(network, image) for key, network in networks.items()}, rounds, warm_up=2)
    shapes = f"{name}, {batch} x 3 x {size} x {size}"
    return [
        Row(
            f"concept whitening, {key}: inference / BatchNorm network",
            shapes,
            f"{timed[key]} / {timed['plain']}",
            *timed[key].ratio(timed["plain"]),
            bar,
        )
        for key, bar in (("folded", "<= 1.02"), ("whitened", ""))
    ]


def _pass(network: InterpretableNetwork, image: torch.Tensor) -> Step:
    network.eval().to(memory_format=torch.channels_last)

    def run() -> None:
        with torch.inference_mode():
            network(image)

    return run
