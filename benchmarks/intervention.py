"""The intervention curve over one decode call per step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from benchmarks.parts import CUB_GROUPS, make_spec
from benchmarks.timing import Row, side_by_side
from ibd.backbones import build_backbone
from ibd.comparison import policies
from ibd.comparison.intervention import POLICIES, cached_bottleneck
from ibd.comparison.policies import Bottleneck
from ibd.models.cbm.finish import ReadSplit
from ibd.models.cbm.network import ConceptBottleneckNetwork

SAMPLE = {"random": 20, "uncertainty": 20, "expected_change": 1, "learned": 1}
"""How many images are timed one by one; their time is scaled to all."""

Curve = Callable[[Bottleneck], Tensor]


def measure(
    repetitions: int = 14, images: int = 2000, classes: int = 200, chosen: tuple[str, ...] = POLICIES
) -> list[Row]:
    """Compare the whole curve, given the bottleneck of all images, with the same code on one image at a time.

    The latter is one decode call of one image for each step that a policy looks at, and for each budget; it is timed
    on a sample of the images and scaled.
    """
    bottleneck = make_bottleneck(images, classes)
    groups, concepts = len(bottleneck.groups), bottleneck.predicted.shape[1]
    rows = []
    with torch.no_grad():
        for name in chosen:
            sample = [_only(bottleneck, index) for index in range(SAMPLE[name])]
            curve = _curve(name)
            candidates = {"all": partial(curve, bottleneck), "each": partial(_one_by_one, curve, sample)}
            slow = name == "expected_change"
            found = side_by_side(
                candidates, max(1, repetitions // 5) if slow else repetitions, warm_up=0 if slow else 1
            )
            each = found["each"].times(images / len(sample))
            shapes = f"{images} images, {concepts} concepts, {groups} groups, {classes} classes"
            what = f"intervention curve, {name}: a decode call per step / ours"
            rows.append(Row(what, shapes, f"{each} / {found['all']}", *each.ratio(found["all"]), ">= 50"))
    return rows


def make_bottleneck(images: int, classes: int) -> Bottleneck:
    """Return the bottleneck of random concept logits and a random linear head, of CUB's shape."""
    torch.manual_seed(0)
    spec = make_spec(CUB_GROUPS, classes, 64)
    network = ConceptBottleneckNetwork(build_backbone({"name": "small_cnn", "width": 2}), spec).eval()
    scores, concepts = torch.randn(images, len(spec.concept_names)), torch.rand(images, len(spec.concept_names))
    with torch.no_grad():
        return cached_bottleneck(network, ReadSplit(scores, (concepts < 0.2).float(), torch.arange(images) % classes))


def _curve(policy: str) -> Curve:
    """Return what makes the accuracies of one policy; for "learned" with the learning of the order."""
    orders: dict[str, Callable[[Bottleneck], Tensor]] = {
        "random": lambda b: policies.random_ranks(b, seed=0),
        "uncertainty": policies.uncertainty_ranks,
        "expected_change": policies.expected_change_ranks,
        "learned": lambda b: policies.fixed_ranks(b, policies.learned_order(b)),
    }
    return lambda bottleneck: policies.accuracy_by_budget(bottleneck, orders[policy](bottleneck))


def _one_by_one(curve: Curve, sample: Sequence[Bottleneck]) -> list[Tensor]:
    return [curve(one) for one in sample]


def _only(bottleneck: Bottleneck, index: int) -> Bottleneck:
    per_image = {name: getattr(bottleneck, name)[index : index + 1] for name in _PER_IMAGE}
    return dataclasses.replace(bottleneck, **per_image)


_PER_IMAGE = ("predicted", "corrected", "probability", "labels")
