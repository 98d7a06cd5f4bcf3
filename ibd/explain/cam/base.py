"""What the CAM family shares: one pass, cut at a feature map, and the several maps that follow from it."""

from __future__ import annotations

import abc
import dataclasses
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ibd.errors import ConfigError
from ibd.explain.activations import no_map
from ibd.explain.base import Call, Cost, Explainer, Explanation, as_target, check_image, undisturbed
from ibd.explain.boxes import field_of, placed
from ibd.explain.layers import Formula, LayerCut, precise
from ibd.explain.layouts import Layout, check_layout
from ibd.explain.targets import Target
from ibd.registry import resolve


class CamExplainer(Explainer):
    """A map over the cells of a feature map, brought to the image's size bilinearly.

    The cells of any model share the image out evenly, as published. Of our networks it is known which pixels the cells
    are centered on (`ibd.backbones.receptive_field`), and they are drawn there.

    Args:
        layer: name of a module with a (B, C, h, w) or (B, h, w, C) output. None takes the output of the model's
            ``backbone`` where it has one that runs as a module and puts out a map, so that the map is that of the
            features and not of the units made from them; else the last map of more than one position that all of the
            score passes. The explanation's ``layer`` says which.
        relu: whether only what speaks for the score is kept.
        layout: "channels_first" or "channels_last", of the layer's output; "auto" tells it by what made the map and
            what takes it, or refuses.

    Attributes:
        replays: whether what comes after the layer is run again.
    """

    replays = False

    def __init__(self, layer: str | None = None, relu: bool = False, layout: Layout = "auto") -> None:
        self.layer, self.relu, self.layout = layer, relu, check_layout(layout)

    def explain(self, call: Call, image: Tensor) -> Explanation:
        """Return the map of each image."""
        return self.finish(cut_map(call, image, self.layer, self.replays, self.layout))

    def finish(self, at: LayerCut) -> Explanation:
        """Return the explanation of images whose pass was cut at a map; of our networks, each cell where it looks."""
        maps = self.maps(at)
        maps = maps.relu() if self.relu else maps
        size = (at.image.shape[2], at.image.shape[3])
        field = field_of(at.call.model, maps, size)
        if field is not None:
            maps = placed(maps, size, field)
        return self.answer(at.call, maps, at.scores, size=size, layer=at.described)

    @abc.abstractmethod
    def maps(self, at: LayerCut) -> Tensor:
        """Return the signed maps, (B, K, h, w)."""


class GradientCam(CamExplainer):
    """A map that is a function of the activations and of the gradients by them."""

    formula: Formula

    @classmethod
    def formulas(cls) -> dict[str, Formula]:
        """Return name -> formula of the map, and of whatever else is needed of the gradients."""
        return {cls.name: cls.formula}

    def maps(self, at: LayerCut) -> Tensor:
        """Return the maps."""
        return at.maps(self.name, self.formulas())


class Cams:
    """Several of the family from one forward pass, and one gradient.

    Args:
        names: registered names, or explainers of the family.
        layer: layer for each of them; those that were given as explainers must have the same.
        layout: layout of that layer's output.

    Raises:
        ConfigError: none is given, or one that is not of the family.
    """

    def __init__(self, names: Sequence[str | CamExplainer], layer: str | None = None, layout: Layout = "auto") -> None:
        made = [name if isinstance(name, Explainer) else resolve("explainers", name)(layer=layer) for name in names]
        for explainer in made:
            if not isinstance(explainer, CamExplainer):
                raise ConfigError(f"cams: '{explainer.name}' is not of the CAM family")
            if explainer.layer != layer:
                raise ConfigError(f"cams: '{explainer.name}' uses layer '{explainer.layer}', not '{layer}'")
            if explainer in names and explainer.layout != layout:
                raise ConfigError(f"cams: '{explainer.name}' has the layout '{explainer.layout}', not '{layout}'")
        if not made:
            raise ConfigError("cams: no name given")
        self.layer, self.layout = layer, check_layout(layout)
        self.explainers: dict[str, CamExplainer] = {explainer.name: explainer for explainer in made}

    def __call__(
        self, model: nn.Module, image: Tensor, target: Target | int | str | None = None
    ) -> dict[str, Explanation]:
        """Return name -> explanation; the cost of each is that of all so far. See `Explainer.__call__`."""
        check_image(image)
        for explainer in self.explainers.values():
            explainer.check_scale(image)
        started = time.perf_counter()
        maps = {}
        with undisturbed(model):
            call = Call(model, as_target(target), image=image)
            replays = any(explainer.replays for explainer in self.explainers.values())
            at = cut_map(call, image.detach().clone(), self.layer, replays, self.layout)
            formulas: dict[str, Formula] = {}
            for explainer in self.explainers.values():
                formulas |= explainer.formulas() if isinstance(explainer, GradientCam) else {}
            for name in list(formulas)[:1]:
                at.maps(name, formulas)
            for name, explainer in self.explainers.items():
                answer = explainer.finish(at)
                cost = Cost(**{**vars(call.cost), "seconds": time.perf_counter() - started})
                maps[name] = dataclasses.replace(answer, cost=cost)
        return maps


def cut_map(call: Call, image: Tensor, layer: str | None, replay: bool, layout: Layout = "auto") -> LayerCut:
    """Return the model cut at a feature map.

    Raises:
        UnsupportedError: the layer's output is no (B, C, h, w) or (B, h, w, C) map, or it cannot be told which.
    """
    at = LayerCut(call, image, layer, replay=replay, layout=layout)
    if at.value.dim() != 4:
        raise no_map(call.model, image, layer, at.value)
    return at


def affine_gradients(at: LayerCut) -> Tensor | None:
    """Return the gradients if the scores are affine in the map: the same elsewhere, and explaining the difference.

    Else None. Tried at one random map, of three times the size of the real one.
    """
    value, gradients = precise(at.value), precise(at.gradients())
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(value.shape, generator=generator).to(value) * value.square().mean().sqrt() * 3
    elsewhere, others = at.gradients_at(random.to(at.value.dtype))
    tolerance = 1e-3 if at.value.dtype in (torch.float32, torch.float64) else 3e-2
    random = precise(random.to(at.value.dtype))
    parts = gradients * (random - value).unsqueeze(1)
    size = parts.abs().flatten(2).sum(2) + precise(at.scores).abs() + 1e-12
    missing = precise(elsewhere) - precise(at.scores) - parts.flatten(2).sum(2)
    if bool((missing.abs() > tolerance * size).any()) or not _close(precise(others), gradients, tolerance):
        return None
    return gradients


def evenly(gradients: Tensor) -> bool:
    """Return whether (B, K, C, h, w) gradients are the same at every position."""
    return _close(gradients, gradients.mean((3, 4), keepdim=True).expand_as(gradients), 1e-3)


def _close(one: Tensor, other: Tensor, tolerance: float) -> bool:
    return bool((one - other).abs().max() <= tolerance * other.abs().max())
