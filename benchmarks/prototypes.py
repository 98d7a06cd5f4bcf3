"""What prototypes cost: the distance layer, a training step, projection, pruning, the last layer."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.parts import TensorData, make_batch, make_spec, plain_step, saved_bytes
from benchmarks.timing import Row, Times, side_by_side
from ibd.models.optimizer import OptimizerSettings, build_optimizer
from ibd.models.protopnet.distance import nearest_patches, patches_of
from ibd.models.protopnet.last_layer import fit_last_layer
from ibd.models.protopnet.lightning import ProtoPNet
from ibd.models.protopnet.prune import kept_prototypes
from ibd.models.protopnet.scan import chunks, find_nearest
from ibd.models.protopnet.similarity import activate

PROTOTYPES, DIMENSION, CLASSES = 2000, 128, 200
LAYER = {(16, 7): ">= 1.2", (16, 14): ">= 2", (80, 7): ">= 1.7"}
"""(images, cells along a side) -> bar."""
BACKBONE = {"name": "resnet18"}


def measure(repetitions: int = 15) -> list[Row]:
    """Return the rows of the table; at least 15 rounds where all are asked for."""
    rounds = max(15, repetitions) if repetitions > 1 else 1
    return [*layer_rows(rounds), step_row(rounds), *pass_rows(rounds), last_layer_row(rounds)]


def published_layer(features: Tensor, prototypes: Tensor, ones: Tensor) -> Tensor:
    """Return the (B, P) smallest distances as Chen et al. 2019 formulate them: three terms, two convolutions."""
    squares = F.conv2d(features.square(), ones)
    products = F.conv2d(features, prototypes)
    distance = F.relu(squares - 2 * products + prototypes.square().sum((1, 2, 3)).view(-1, 1, 1))
    return -F.max_pool2d(-distance, distance.shape[2:]).flatten(1)


def layer_rows(rounds: int) -> list[Row]:
    """Compare distance, minimum and log similarity, forward and backward, and what is kept for the backward pass."""
    rows = []
    for (images, cells), bar in LAYER.items():
        features = torch.rand(images, DIMENSION, cells, cells, requires_grad=True)
        prototypes = torch.rand(PROTOTYPES, DIMENSION, 1, 1, requires_grad=True)
        ones = torch.ones_like(prototypes, requires_grad=False)

        def ours(features: Tensor = features, prototypes: Tensor = prototypes) -> Tensor:
            patches, _ = patches_of(features, (1, 1))
            return nearest_patches(patches, prototypes.flatten(1)).distance[..., 0]

        def published(features: Tensor = features, prototypes: Tensor = prototypes, ones: Tensor = ones) -> Tensor:
            return published_layer(features, prototypes, ones)

        calls = {"ours": _there_and_back(ours), "published": _there_and_back(published)}
        if importlib.util.find_spec("cabrnet"):
            calls["cabrnet"] = _cabrnet(features, prototypes)
        timed = side_by_side(calls, rounds, 2)
        shapes = f"{images} x {DIMENSION} x {cells} x {cells}, {PROTOTYPES} prototypes"
        rows.append(
            _row("published distance layer / ours, forward and backward", shapes, timed, "published", "ours", bar)
        )
        if "cabrnet" in timed:
            rows.append(_row("CaBRNet's distance layer / ours", shapes, timed, "cabrnet", "ours", ">= 1"))
        inputs = {features.data_ptr(), prototypes.data_ptr(), ones.data_ptr()}
        saved = [saved_bytes(call, inputs) / 2**20 for call in (published, ours)]
        ratio = saved[0] / saved[1]
        what = "the same, memory kept for the backward pass beside features and prototypes"
        rows.append(Row(what, shapes, f"{saved[0]:.1f} / {saved[1]:.1f} MiB", ratio, ratio, ">= 15"))
    return rows


def _there_and_back(layer: Callable[[], Tensor]) -> Callable[[], None]:
    def call() -> None:
        activate(layer(), "log", "l2").sum().backward()  # type: ignore[no-untyped-call]

    return call


def _cabrnet(features: Tensor, prototypes: Tensor) -> Callable[[], None]:
    """Return the same of CaBRNet (extra `peers`): squared `cdist`, similarity, maximum over positions."""
    from cabrnet.core.utils.similarities import ProtoPNetSimilarity  # type: ignore[import-not-found]

    layer = ProtoPNetSimilarity()

    def call() -> None:
        similarity = layer.distances_to_similarities(layer.distances(features, prototypes))
        similarity.flatten(2).amax(2).sum().backward()  # type: ignore[no-untyped-call]

    return call


def make_module() -> ProtoPNet:
    """Return a prototype network of the shape of the design, in training mode, whose logs go nowhere."""
    torch.manual_seed(0)
    module = ProtoPNet(make_spec([], CLASSES, 224), BACKBONE, per_class=PROTOTYPES // CLASSES, dimension=DIMENSION)
    module.log = module.log_dict = lambda *_, **__: None  # type: ignore[method-assign, assignment]
    module.use_fast_layout()
    return module.train()


def step_row(rounds: int) -> Row:
    """Compare the module's joint training step, optimizer and metrics included, with a plain step."""
    module = make_module()
    batch = make_batch(module.spec, 16)
    optimizer = build_optimizer(module.network, OptimizerSettings(lr=1e-4))

    def step() -> None:
        loss = module.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    plain = plain_step(BACKBONE, batch, CLASSES, module.channels_last)
    timed = side_by_side({"ours": step, "plain": plain}, rounds, 2)
    shapes = f"resnet18, 16 x 3 x 224 x 224, {PROTOTYPES} prototypes of {DIMENSION}"
    return _row("ProtoPNet joint step / plain step", shapes, timed, "ours", "plain", "<= 1.02")


def pass_rows(rounds: int) -> list[Row]:
    """Compare projection and the search for pruning with one forward pass over the same images."""
    module = make_module()
    data = TensorData(make_batch(module.spec, 64), module.spec)
    module.eval()
    network = module.network

    @torch.no_grad()
    def forward() -> None:
        for _ in chunks(network, data, "train", None, "forward"):
            pass

    @torch.no_grad()
    def project() -> None:  # `push` would want images of all 200 classes
        nearest, vectors = find_nearest(network, data, "train", 1, own_class=True)
        there = nearest.distance[:, 0].isfinite()
        network.prototypes[there] = vectors[there, 0]

    calls = {
        "forward": forward,
        "push": project,
        "prune": lambda: kept_prototypes(network, data),
    }
    timed = side_by_side(calls, rounds)
    shapes = f"64 images at 224, resnet18, {PROTOTYPES} prototypes"
    return [
        _row("projection / one forward pass over the images", shapes, timed, "push", "forward", "<= 1.03"),
        _row("pruning / one forward pass over the images", shapes, timed, "prune", "forward", "<= 1.05"),
    ]


def last_layer_row(rounds: int) -> Row:
    """Compare one pass over the images in which the last layer learns: through the network, and on similarities."""
    module = make_module()
    batch = make_batch(module.spec, 16)
    network = module.network
    network.head.weight.requires_grad_(True)
    module.eval()
    steps = 16
    with torch.no_grad():
        scores = network.encode(batch.image).scores.repeat(steps, 1)
    scores += 0.1 * torch.rand_like(scores)
    labels = batch.label.repeat(steps)

    def through() -> None:
        with torch.no_grad():
            units = network.encode(batch.image)
        F.cross_entropy(network.decode(units), batch.label).backward()  # type: ignore[no-untyped-call]

    def cached() -> None:
        kept = torch.ones(PROTOTYPES, dtype=torch.bool)
        fit_last_layer(scores, labels, network.initial_head(), network.own(), kept, tolerance=1e-12, max_steps=30)

    timed = side_by_side({"through": through, "cached": cached}, rounds)
    timed["cached"] = timed["cached"].times(1 / 30)
    timed["through"] = timed["through"].times(steps)
    shapes = f"{16 * steps} images, resnet18, {PROTOTYPES} prototypes; {steps} steps of 16, and a step of the solver"
    return _row("last-layer epoch through the network / on similarities", shapes, timed, "through", "cached", ">= 100")


def _row(what: str, shapes: str, timed: dict[str, Times], first: str, second: str, bar: str) -> Row:
    return Row(what, shapes, f"{timed[first]} / {timed[second]}", *timed[first].ratio(timed[second]), bar)
