"""Two networks that were trained on the same pictures for different things, and what both say of some of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ibd.data.pasted.datamodule import PastedDataset
from ibd.errors import UnsupportedError
from ibd.explain.activations import device_of
from ibd.explain.base import undisturbed
from ibd.explain.scalars import logits_of

STEPS = 100
"""By which a patch becomes insignificant: a forward and a backward pass each."""
_RATE = 0.02
_SAME = 0.02
"""Largest change of any class's probability by an insignificant patch."""
_SEEN = 0.05
"""Mean change of the pixels of a patch below which there is none."""
_CHUNK = 32


@dataclass(frozen=True)
class Pasted:
    """Pictures with and without an object, and two networks.

    Attributes:
        objects: network trained on the labels of the objects; None without one.
        scenes: network trained on those of the scenes; None without one.
        images: (N, 3, H, W) pictures with the object.
        bare: (N, 3, H, W) the same places without it.
        patched: (N, 3, H, W) these with a patch that changes nothing of what `scenes` says; as `bare` without it.
        mask: (N, H, W) bool, the object, and the patch.
        object_classes: (N,) kinds of the objects.
        scene_classes: (N,) kinds of the places.
        both: (N,) bool, both networks are right about the picture.
        depends: (N,) bool, `scenes` is right with the object and without it.
        insignificant: (N,) bool, `scenes` says the same of `patched` and of `bare`, and is right.
    """

    objects: nn.Module | None
    scenes: nn.Module | None
    images: Tensor
    bare: Tensor
    patched: Tensor
    mask: Tensor
    object_classes: Tensor
    scene_classes: Tensor
    both: Tensor
    depends: Tensor
    insignificant: Tensor


def paste(objects: nn.Module | None, scenes: nn.Module | None, dataset: PastedDataset, index: Sequence[int]) -> Pasted:
    """Return what two networks say of pictures, with and without the object, and with an insignificant patch.

    Args:
        objects: network trained on the labels of the objects, or None.
        scenes: network trained on those of the scenes, or None.
        dataset: a split of the pictures.
        index: which of them.
    """
    images = torch.stack([dataset[i].image for i in index])
    bare = torch.stack([dataset.bare(i) for i in index])
    mask = torch.stack([dataset.masks(i)[0] for i in index])
    kinds, places = dataset.objects[list(index)], dataset.scenes[list(index)]
    none = torch.zeros(len(images), dtype=torch.bool)
    of_object = none if objects is None else _predicted(objects, images) == kinds
    of_place = none if scenes is None else _predicted(scenes, images) == places
    of_bare = none if scenes is None else _predicted(scenes, bare) == places
    patched, same = bare, none
    if scenes is not None:
        parts = [
            insignificant_patches(scenes, bare[rows], images[rows], mask[rows])
            for rows in torch.split(torch.arange(len(images)), _CHUNK)
        ]
        patched, same = (torch.cat(each) for each in zip(*parts, strict=True))
    return Pasted(
        objects, scenes, images, bare, patched, mask, kinds, places, of_object & of_place, of_place & of_bare,
        same & of_bare,
    )  # fmt: skip


def insignificant_patches(
    model: nn.Module, bare: Tensor, start: Tensor, mask: Tensor, steps: int = STEPS
) -> tuple[Tensor, Tensor]:
    """Return images with patches that are seen, and by which a network's answer stays as it is without them.

    A patch starts as the object, and its pixels are moved (Adam) until the logits are those of the bare image; the
    first that come close enough are kept, so that it stays far from the place that it covers.

    Args:
        model: any classifier of images in [0, 1].
        bare: (B, 3, H, W) images without a patch.
        start: (B, 3, H, W) what the patch is to begin with.
        mask: (B, H, W) bool, where it is.
        steps: steps at most; each is a forward and a backward pass.

    Returns:
        (B, 3, H, W) images on the CPU, and (B,) bool whether no probability changes by more than 0.02 and the patch by
        0.05 a pixel or more; where not, the bare image.

    Raises:
        UnsupportedError: the network has no gradient by its pixels.
    """
    place = device_of(model)
    image, begin, inside = bare.to(place), start.to(place), mask.unsqueeze(1).to(place)
    best, found = image.clone(), torch.zeros(len(image), dtype=torch.bool, device=place)
    with undisturbed(model):
        with torch.no_grad():
            wanted = logits_of(model(image)).float()
        spread = (wanted - wanted.mean(1, keepdim=True)).square().mean(1).clamp(min=1e-12)
        pixels = begin.clone().requires_grad_(True)
        moved = torch.optim.Adam([pixels], _RATE)
        for _ in range(steps):
            shown = torch.where(inside, pixels, image)
            logits = logits_of(model(shown)).float()
            near = (logits.softmax(1) - wanted.softmax(1)).abs().amax(1) <= _SAME
            new = near & ~found
            best[new], found = shown.detach()[new], found | near
            if bool(found.all()):
                break
            loss = ((logits - wanted).square().mean(1) / spread).where(~found, 0.0).sum()
            if not loss.requires_grad:
                raise UnsupportedError("this network has no gradient by its pixels, which patches are found by")
            (pixels.grad,) = torch.autograd.grad(loss, [pixels])
            moved.step()
            with torch.no_grad():
                pixels.clamp_(0, 1)
    change = ((best - image).abs().mean(1, keepdim=True) * inside).sum((1, 2, 3)) / inside.sum((1, 2, 3)).clamp(min=1)
    seen = found & (change >= _SEEN)
    return torch.where(seen[:, None, None, None], best, image).cpu(), seen.cpu()


def _predicted(model: Any, images: Tensor) -> Tensor:
    """Return the (N,) classes that a network predicts, on the CPU."""
    with undisturbed(model), torch.no_grad():
        parts = [logits_of(model(some.to(device_of(model)))).argmax(1).cpu() for some in torch.split(images, _CHUNK)]
    return torch.cat(parts)
