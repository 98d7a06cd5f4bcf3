"""Whether an explanation goes along where an image moves little by little: the example of Montavon et al. 2018."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.distributed import progress
from ibd.errors import ConfigError, DataError, UnsupportedError, check_range
from ibd.explain.activations import device_of
from ibd.explain.base import Explainer, undisturbed
from ibd.explain.scalars import logits_of, predicted_classes
from ibd.explain.targets import Target


@dataclass(frozen=True)
class Continuity:
    """Maps of an image that is moved step by step, and how much they change by it.

    Attributes:
        images: (T, 3, H, W) the image, moved by 0, 1, ... steps.
        maps: name of a method -> (T, H, W), or fewer columns where a method's map is smaller.
        value: (T,) the explained score.
        kept: (T,) bool, the explained class is still the predicted one.
        distance: (T - 1,) Euclidean distance of each image from the one before.
        change: name of a method -> (T - 1,) ``||a_t - a_(t-1)||_1 / (||a_(t-1)||_1 ||x_t - x_(t-1)||_2)``; NaN where
            one of the two predictions is another one, or a map is 0.
        pixels: pixels of a step.
        left_out: methods that could not explain the model, each with why.
    """

    images: Tensor
    maps: dict[str, Tensor]
    value: Tensor
    kept: Tensor
    distance: Tensor
    change: dict[str, Tensor]
    pixels: int
    left_out: tuple[str, ...] = ()

    def largest(self) -> dict[str, float]:
        """Return the largest change of each method, lower is better; NaN where there is none."""
        return {name: _largest(values) for name, values in self.change.items()}

    def __str__(self) -> str:
        """Return a line for each method, the most continuous first."""
        wide = max(map(len, self.change), default=6)
        found = self.largest()
        order = sorted(found, key=lambda name: (found[name] != found[name], found[name]))
        lines = [f"{'method':<{wide}}  largest  mean change of the map, in its own size, by 1 of the image"]
        lines += [f"{name:<{wide}}  {found[name]:>7.3f}  {float(self.change[name].nanmean()):.3f}" for name in order]
        if not bool(self.distance.any()):
            lines.append("the image is the same wherever it is moved: there is nothing to go along with")
        if not bool(self.kept.all()):
            lines.append(
                f"{int((~self.kept).sum())} of {len(self.kept)} images are predicted as another class: left out"
            )
        return "\n".join(lines + [f"left out: {why}" for why in self.left_out])


def continuity_example(
    model: nn.Module,
    image: Tensor,
    explainers: Sequence[Explainer],
    target: Target | int | str | None = None,
    steps: int = 8,
    pixels: int = 1,
) -> Continuity:
    """Return what methods say of an image that moves to the right step by step; the model is left as it was.

    What comes in is the image's border, repeated. The class is that of the image where it is. It costs ``steps + 1``
    explanations by each method.

    Args:
        model: ours, or any classifier of (B, 3, H, W) images in [0, 1].
        image: (3, H, W) in [0, 1], on the model's device.
        explainers: methods; one that cannot explain the model is left out where others can.
        target: target to explain, a number or name is that class; None the class predicted at the start.
        steps: number of steps.
        pixels: pixels of a step.

    Raises:
        ConfigError: steps out of the image.
        DataError: no (3, H, W) image.
        UnsupportedError: none of the methods can explain the model.
    """
    check_range("steps", steps, least=1)
    check_range("pixels", pixels, least=1)
    if image.dim() != 3 or image.shape[0] != 3:
        raise DataError(f"continuity: an image of shape {tuple(image.shape)} given, (3, H, W) is needed")
    if steps * pixels >= image.shape[2]:
        raise ConfigError(f"steps: {steps} of {pixels} pixels leave nothing of an image {image.shape[2]} pixels wide")
    images = moved_right(image, steps, pixels).to(device_of(model))
    with undisturbed(model), torch.no_grad():
        output = model(images)
    predicted = predicted_classes(logits_of(output))
    asked = Target.predicted().pin(output).select(slice(0, 1)).repeat(len(images)) if target is None else target
    maps, value, reasons = dict[str, Tensor](), images.new_full((len(images),), torch.nan), list[str]()
    for explainer in progress(explainers, "continuity"):
        try:
            found = explainer(model, images, asked)
        except UnsupportedError as error:
            reasons.append(f"{explainer.name}: {error}")
            continue
        if found.map is None:
            reasons.append(f"{explainer.name}: it gives no map")
        else:
            maps[explainer.name], value = found.map.detach().float(), found.value.detach().float()
    if not maps:
        raise UnsupportedError(f"continuity: none of the methods gives a map: {'; '.join(reasons)}")
    kept = predicted == predicted[0]
    distance = (images[1:] - images[:-1]).double().flatten(1).norm(dim=1)
    change = {name: _changes(values, distance, kept[1:] & kept[:-1]) for name, values in maps.items()}
    return Continuity(images, maps, value, kept, distance, change, pixels, tuple(reasons))


def moved_right(image: Tensor, steps: int, pixels: int = 1) -> Tensor:
    """Return a (3, H, W) image moved to the right by 0, 1, ..., `steps` steps, (steps + 1, 3, H, W)."""
    width, most = image.shape[2], steps * pixels
    padded = F.pad(image.unsqueeze(0), (most, 0, 0, 0), mode="replicate")[0]
    return torch.stack([padded[:, :, most - n * pixels : most - n * pixels + width] for n in range(steps + 1)])


def _changes(maps: Tensor, distance: Tensor, valid: Tensor) -> Tensor:
    """Return (T - 1,) relative changes in the L1 norm by the distances of the images, on the CPU."""
    flat = maps.double().flatten(1)
    size = flat[:-1].abs().sum(1) * distance
    change = (flat[1:] - flat[:-1]).abs().sum(1) / size
    return change.where(valid & (size > 0), torch.nan).cpu()


def _largest(values: Tensor) -> float:
    known = values[~values.isnan()]
    return float(known.max()) if len(known) else float("nan")
