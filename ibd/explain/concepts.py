"""A class by its concepts: what carried it, where each was seen, and what each looks like in other images.

After concept relevance propagation (Achtibat et al. 2023): the relevance of a class is passed to the units of one of
our models, or to the channels of any layer; the largest are asked where in the image they were met, and shown by
patches that they respond to most, and by those in which they are most relevant to the class.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ibd.errors import DataError, UnsupportedError, check_range
from ibd.explain.activations import network_of
from ibd.explain.base import Explainer, as_target, undisturbed
from ibd.explain.boxes import account_of
from ibd.explain.intrinsic import Intrinsic
from ibd.explain.lrp import LRP
from ibd.explain.names import names_of
from ibd.explain.patches import maximally_activating_patches
from ibd.explain.relevance_patches import most_relevant_patches
from ibd.explain.targets import Target
from ibd.explain.terms import Term


@dataclass(frozen=True)
class ConceptRelevance:
    """What one image's class passed, the largest part first.

    Attributes:
        target: the target, its class known.
        value: score of it.
        names: names of the n units or channels.
        relevance: (n,) what passed each, signed; of units their contributions.
        rest: what passed all others.
        maps: (n, H, W) where in the image each was met: adds up to its relevance but for what biases took.
        layer: the layer whose channels they are; None for units.
        own: whether the maps are the network's own account, exact to the pixel.
    """

    target: Target
    value: float
    names: list[str]
    relevance: Tensor
    rest: float
    maps: Tensor
    layer: str | None
    own: bool = False


def concept_relevance(
    model: nn.Module,
    image: Tensor,
    target: Target | int | str | None = None,
    layer: str | None = None,
    top: int = 5,
    explainer: LRP | None = None,
) -> ConceptRelevance:
    """Return which units or channels carried a class in an image, and where each was met.

    Units of a network that accounts for itself to the pixel are laid out by its own account, all others by LRP.

    Args:
        model: ours, or any classifier of (B, 3, H, W) images in [0, 1].
        image: (3, H, W) or (1, 3, H, W), on the model's device.
        target: class; None is the predicted one.
        layer: layer whose channels are asked; None takes the units of one of our models.
        top: how many, by the size of what passed them.
        explainer: LRP with other rules than the default ones.

    Raises:
        ConfigError: no such class or layer.
        DataError: several images.
        UnsupportedError: the model has no units and no layer is named, its logits are no sum over its units, or LRP
            cannot explain it.
    """
    check_range("top", top, least=1)
    images = image.unsqueeze(0) if image.dim() == 3 else image
    if len(images) != 1:
        raise DataError(f"concept_relevance: {len(images)} images given, one at a time is needed")
    asked = as_target(target)
    lrp = LRP() if explainer is None else explainer
    if layer is None and names_of(model, "unit") is None:
        raise UnsupportedError(f"{type(network_of(model)).__name__} has no units: name a layer to ask its channels")
    if layer is None:
        whole = Intrinsic()(model, images, asked)
        by: Explainer = Intrinsic() if account_of(network_of(model)) == "pixels" else lrp
    else:
        whole, by = _at(lrp, layer)(model, images, asked), lrp
    if whole.units is None or whole.unit_names is None:
        raise UnsupportedError(f"{type(network_of(model)).__name__} has no units: name a layer")
    parts = whole.units[0].detach()
    order = parts.abs().argsort(descending=True, stable=True)[:top].tolist()
    order = [unit for unit in order if float(parts[unit])] or order[:1]  # what nothing passed has no map
    pinned = _pinned(model, images, asked)
    maps = [by(model, images, _condition(pinned, unit, layer)).map for unit in order]
    return ConceptRelevance(
        target=pinned,
        value=float(whole.value[0]),
        names=[whole.unit_names[unit] for unit in order],
        relevance=parts[order],
        rest=float(parts.sum() - parts[order].sum()),
        maps=torch.cat([found for found in maps if found is not None]),
        layer=layer,
        own=isinstance(by, Intrinsic),
    )


@dataclass(frozen=True)
class ConceptSheet:
    """What units or channels look like: (n, k, 3, s, s) patches, gray where there is none, and their scores (n, k).

    Attributes:
        active: patches that they respond to most.
        active_scores: their activations.
        relevant: patches in which most of the class passed them; of those that spoke against it, most against it.
        relevant_scores: what passed there, signed.
    """

    active: Tensor
    active_scores: Tensor
    relevant: Tensor
    relevant_scores: Tensor


def concept_sheet(
    model: nn.Module, found: ConceptRelevance, loader: Iterable[object], dataset: Any, k: int = 4, size: int = 64
) -> ConceptSheet:
    """Return what the units or channels that carried a class look like, among other images.

    Args:
        model: the model.
        found: what `concept_relevance` returned.
        loader: loader of the images that are searched; it is read two or three times.
        dataset: data set whose items it reads, see `Patches.pictures`.
        k: patches of each kind.
        size: side of a patch in pixels.
    """
    channels: Sequence[int | str] = found.names
    if found.layer is not None:
        channels = [int(name.rsplit(" ", 1)[1]) for name in found.names]
    active = maximally_activating_patches(model, loader, found.layer, channels, k)
    pictures, scores = torch.empty(len(channels), k, 3, size, size), torch.empty(len(channels), k)
    for sign in (1.0, -1.0):
        some = [row for row, relevance in enumerate(found.relevance.tolist()) if (relevance < 0) == (sign < 0)]
        if some:
            asked, chosen = sign * found.target, [channels[row] for row in some]
            relevant = most_relevant_patches(model, loader, asked, found.layer, chosen, k)
            pictures[some], scores[some] = relevant.pictures(dataset, size), sign * relevant.score
    return ConceptSheet(active.pictures(dataset, size), active.score, pictures, scores)


def _condition(target: Target, unit: int, layer: str | None) -> Target:
    return target.through(unit) if layer is None else target.through(layer=layer, channels=[unit])


def _pinned(model: nn.Module, images: Tensor, target: Target) -> Target:
    """Return the target with the class that is predicted in the place of "predicted": other images are asked for it."""
    with undisturbed(model), torch.no_grad():
        pinned = target.resolve(model).pin(model(images))

    def for_all(term: Term) -> Term:
        return dataclasses.replace(term, index=term.index[0]) if isinstance(term.index, tuple) else term

    sums = tuple(tuple(for_all(term) for term in terms) for terms in pinned.sums)
    return dataclasses.replace(pinned, sums=sums)


def _at(lrp: LRP, layer: str) -> LRP:
    """Return the same LRP by a layer."""
    args, options = lrp.given
    return LRP(*args, **{**options, "layer": layer})
