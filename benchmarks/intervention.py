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
from ibd.models.cbm import policies
from ibd.models.cbm.concepts import ConceptNetwork
from ibd.models.cbm.finish import ReadSplit
from ibd.models.cbm.intervention import POLICIES, cached_bottleneck
from ibd.models.cbm.network import ConceptBottleneckNetwork
from ibd.models.cbm.policies import Bottleneck
from ibd.models.cem.network import ConceptEmbeddingNetwork
from ibd.types import Units

SAMPLE = {"random": 20, "uncertainty": 20, "expected_change": 1, "learned": 1}
"""How many images are timed one by one; their time is scaled to all."""
SHARE = {"random": 1, "uncertainty": 1, "expected_change": 14, "learned": 5}
"""A repetition of so many that are asked for is done: some policies take seconds."""

Ranks = Callable[[Bottleneck], Tensor]
RANKS: dict[str, Ranks] = {
    "random": partial(policies.random_ranks, seed=0),
    "uncertainty": policies.uncertainty_ranks,
    "expected_change": policies.expected_change_ranks,
    "learned": lambda bottleneck: policies.fixed_ranks(bottleneck, policies.learned_order(bottleneck)),
}


def measure(
    repetitions: int = 14, images: int = 2000, classes: int = 200, chosen: Sequence[str] = POLICIES
) -> list[Row]:
    """Compare the whole curve, given the concept logits of all images, with a decode call of one image per step.

    The latter is one call for each image and budget; and one for each step that a policy looks at, where it is
    "expected_change" or "learned". It is timed on a sample of the images and scaled.
    """
    with torch.no_grad():
        rows = [_row(make_network(classes), make_read(images, classes), name, repetitions) for name in chosen]
        if "random" in chosen:
            network = make_embeddings(classes)
            read = make_read(images, classes, 2 * network.embedding_size)
            rows.append(_row(network, read, "random", repetitions, ", concept embeddings"))
    return rows


def _row(network: ConceptNetwork, read: ReadSplit, name: str, repetitions: int, of: str = "") -> Row:
    """Compare both ways for one policy."""
    bottleneck = cached_bottleneck(network, read)
    images, concepts = bottleneck.probability.shape
    groups, classes = len(bottleneck.groups), len(network.class_names)
    count = min(SAMPLE[name], images)
    candidates: dict[str, Callable[[], object]] = {
        "all": partial(_all_at_once, bottleneck, RANKS[name]),
        "one by one": partial(_one_by_one, network, read, bottleneck, RANKS[name], count),
    }
    timed = side_by_side(candidates, max(1, repetitions // SHARE[name]), warm_up=1 if SHARE[name] == 1 else 0)
    one_by_one = timed["one by one"].times(images / count)
    shapes = f"{images} images, {concepts} concepts, {groups} groups, {classes} classes"
    what = f"intervention curve{of}, {name}: a decode call per step ({count} images, scaled) / ours"
    return Row(what, shapes, f"{one_by_one} / {timed['all']}", *one_by_one.ratio(timed["all"]), ">= 50")


def make_network(classes: int) -> ConceptBottleneckNetwork:
    """Return a network with CUB's concepts and groups."""
    torch.manual_seed(0)
    backbone = build_backbone({"name": "small_cnn", "width": 2})
    return ConceptBottleneckNetwork(backbone, make_spec(CUB_GROUPS, classes, 64)).eval()


def make_embeddings(classes: int) -> ConceptEmbeddingNetwork:
    """Return concept embeddings with CUB's concepts and groups."""
    torch.manual_seed(0)
    backbone = build_backbone({"name": "small_cnn", "width": 2})
    return ConceptEmbeddingNetwork(backbone, make_spec(CUB_GROUPS, classes, 64)).eval()


def make_read(images: int, classes: int, vector: int = 0) -> ReadSplit:
    """Return a split as if the network had read it: random concept logits, concepts, labels and vectors of a length."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(images, sum(CUB_GROUPS), generator=generator)
    concepts = (torch.rand(scores.shape, generator=generator) < 0.2).float()
    state = (torch.randn(*scores.shape, vector, generator=generator),) if vector else ()
    return ReadSplit(scores, concepts, torch.arange(images) % classes, state)


def _all_at_once(bottleneck: Bottleneck, ranks: Ranks) -> Tensor:
    return policies.accuracy_by_budget(bottleneck, ranks(bottleneck))


def _one_by_one(
    network: ConceptNetwork, read: ReadSplit, bottleneck: Bottleneck, ranks: Ranks, count: int
) -> list[int]:
    """Return how many of the first images are right with 0, 1, 2, ... groups corrected."""
    corrected = network.truth_logits(read.scores, read.concepts, read.concepts.isfinite())
    right = [0] * (len(bottleneck.groups) + 1)
    for index in range(count):
        here = slice(index, index + 1)
        rank = ranks(_only(bottleneck, here))[:, bottleneck.group_of_concept]
        for budget in range(len(right)):
            scores = torch.where(rank < budget, corrected[here], read.scores[here])
            logits = network.decode(Units(scores, scores[:, :, None, None], tuple(part[here] for part in read.state)))
            right[budget] += int(logits.argmax()) == int(read.labels[index])
    return right


def _only(bottleneck: Bottleneck, here: slice) -> Bottleneck:
    per_image = ("predicted", "corrected", "probability", "absent", "present", "labels", "truth")
    return dataclasses.replace(bottleneck, **{name: getattr(bottleneck, name)[here] for name in per_image})
