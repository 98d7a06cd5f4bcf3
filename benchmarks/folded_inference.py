"""What concept whitening costs at inference: the folded network over the plain one of the same backbone."""

from __future__ import annotations

import torch

from benchmarks.parts import Step
from benchmarks.timing import Row, side_by_side
from ibd.backbones import build_backbone
from ibd.models.base import InterpretableNetwork
from ibd.models.baseline.network import BaselineNetwork
from ibd.models.concept_whitening.folding import fold
from ibd.models.concept_whitening.network import ConceptWhiteningNetwork

CLASSES = [f"class {index}" for index in range(200)]
CONCEPTS = [f"concept {index}" for index in range(112)]


def measure(
    repetitions: int = 14, name: str = "resnet18", size: int = 224, batch: int = 16, concepts: int = 112
) -> list[Row]:
    """Compare folded, and unfolded, with the baseline network of batch normalisations alone.

    All in evaluation and inference mode with ``channels_last``; each computes logits, scores and maps of its units.
    """
    image = torch.rand(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    plain = BaselineNetwork(build_backbone({"name": name}), CLASSES)
    whitened = ConceptWhiteningNetwork(build_backbone({"name": name}), CLASSES, CONCEPTS[:concepts])
    networks = {"plain": plain, "whitened": whitened, "folded": fold(whitened)}
    found = side_by_side({key: _pass(network, image) for key, network in networks.items()}, repetitions, warm_up=2)
    shapes = f"{name}, {batch} x 3 x {size} x {size}"
    return [
        Row(
            f"concept whitening, {key}: inference / BatchNorm network",
            shapes,
            f"{found[key]} / {found['plain']}",
            *found[key].ratio(found["plain"]),
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
