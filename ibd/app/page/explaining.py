"""Explainers on the page: which fit a model, what one says of an image, and several on one scale."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ibd import registry
from ibd.app.page.long_work import Stopped, Told, nobody_told
from ibd.app.page.maps import Picture
from ibd.errors import UnsupportedError
from ibd.explain.base import Explainer, Explanation
from ibd.explain.render import overlay, strongest
from ibd.explain.targets import Target
from ibd.models.trained import TrainedModel

ScaleOf = Literal["one", "own"]
OWN = "intrinsic"
"""The explainer that shows the model's own map."""
_TRIED = 3
"""Passes after which an explainer that has not refused a model is taken to fit it."""


@dataclass(frozen=True)
class Fitting:
    """Whether an explainer fits a model.

    Attributes:
        name: name of the explainer.
        kind: "intrinsic" for the model's own map, else "posthoc".
        says: one sentence on it.
        why_not: why it cannot explain the model; None where it can.
    """

    name: str
    kind: str
    says: str
    why_not: str | None


def fitting(model: TrainedModel, image: Tensor, told: Told = nobody_told) -> list[Fitting]:
    """Return for each registered explainer whether it fits a model: each begins, and is stopped after a few passes.

    Args:
        model: the model; hooks are hung into it meanwhile, so nobody else may run it.
        image: (1, 3, H, W) to try them on.
        told: is told how many of how many were tried.
    """
    names, found = registry.names("explainers"), []
    for number, name in enumerate(names):
        told(number, len(names))
        kind: type[Explainer] = registry.resolve("explainers", name)
        found.append(Fitting(name, str(kind.kind), _sentence(kind), _refused(model, image, kind())))
    told(len(names), len(names))
    return found


def explained(model: TrainedModel, image: Tensor, name: str, target: Target, told: Told = nobody_told) -> Explanation:
    """Return what an explainer with its default options says of an image.

    Args:
        model: the model; hooks are hung into it meanwhile, so nobody else may run it.
        image: (1, 3, H, W) in [0, 1].
        name: registered name of the explainer.
        target: class or unit that is explained.
        told: is told how many images have passed the model; raises `Stopped` to end it.

    Raises:
        ConfigError: no such explainer, class or unit.
        UnsupportedError: it cannot explain the model, or has no map.
        Stopped: nobody waits any more.
    """
    explainer: Explainer = registry.resolve("explainers", name)()
    with _watched(model.network, told):
        found = explainer(model, image.to(next(model.parameters())), target)
    if found.map is None:
        raise UnsupportedError(f"{name}: it has no map")
    return found


def on_scale(image: Tensor, maps: Mapping[str, Tensor], scale: ScaleOf = "one") -> dict[str, Picture]:
    """Return maps over an image at full strength, (H, W, 3) each, as pictures to lay over `ibd.app.page.maps.gray`.

    On one scale, a pixel is as strong as its share of what its map holds in all: a map that says much of a few pixels
    is strong there, and one that says a little of all is pale, whatever numbers the methods have. Full strength is the
    geometric mean of the maps' 99th percentiles, so that neither is lost; what is above it is painted with that.

    Args:
        image: (3, H, W) in [0, 1].
        maps: name -> (H, W), signed.
        scale: "one" for all, or "own": each map's 99th percentile, as of ``ibd explain``.
    """
    if scale == "own" or not maps:
        return {name: overlay(image, heat, normalization="percentile", strength=1.0) for name, heat in maps.items()}
    shares = {name: _shares(heat) for name, heat in maps.items()}
    sizes = torch.stack([strongest(share, "percentile").flatten()[0] for share in shares.values()])
    full = float(sizes[sizes > 0].log().mean().exp()) if bool((sizes > 0).any()) else 0.0
    return {name: overlay(image, share, scale=full, strength=1.0) for name, share in shares.items()}


def cost_in_words(found: Explanation) -> str:
    """Return what an explanation took: passes of one image, and seconds."""
    cost = found.cost
    parts = [_counted(cost.forwards, "pass", "passes")]
    parts += [f"{cost.backwards:g} back"] if cost.backwards else []
    parts += [f"{cost.heads:g} behind a layer"] if cost.heads else []
    return f"{', '.join(parts)}, {cost.seconds:.2g} s"


def _counted(number: float, one: str, several: str) -> str:
    return f"{number:g} {one if number == 1 else several}"


def _shares(heat: Tensor) -> Tensor:
    """Return a map over the sum of its absolute values; zeros where it is nothing."""
    heat = heat.detach().float().cpu()
    total = heat.abs().sum()
    return heat / total if total > 0 else torch.zeros_like(heat)


def _sentence(kind: type[Explainer]) -> str:
    """Return the first sentence that a class says of itself."""
    said = (inspect.getdoc(kind) or "").split("\n\n")[0]
    return " ".join(said.replace("`", "").split())


def _refused(model: TrainedModel, image: Tensor, explainer: Explainer) -> str | None:
    """Return why an explainer refuses a model; None where it has begun."""

    def stop(done: int, total: int) -> None:
        if done >= _TRIED:
            raise Stopped

    try:
        with _watched(model.network, stop):
            found = explainer(model, image.to(next(model.parameters())), Target.predicted())
    except Stopped:
        return None
    except UnsupportedError as error:
        return " ".join(str(error).split())
    return "it has no map" if found.map is None else None


@contextmanager
def _watched(network: nn.Module, told: Told) -> Iterator[None]:
    """Tell how many images have passed a network, before each pass."""
    passed = 0

    def count(module: nn.Module, given: Sequence[Any]) -> None:
        nonlocal passed
        told(passed, 0)
        passed += len(given[0]) if given and isinstance(given[0], Tensor) else 1

    handle = network.register_forward_pre_hook(count)
    try:
        yield
    finally:
        handle.remove()
