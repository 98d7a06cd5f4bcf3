"""Activation maximization: gradient ascent on an image until it excites what was asked for (Erhan et al. 2009).

As lucid does it (Olah et al. 2017): Adam in a decorrelated Fourier space, small random movements. Steps and noise at
the start are larger than its 0.05 and 0.01, with which the probability of a class often does not begin to rise. The
model runs only as far as the objective needs, and no gradient of a parameter is computed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ibd.distributed import progress as progress_bar
from ibd.errors import ConfigError, DataError, UnsupportedError, check_range
from ibd.explain.activations import Reader, device_of, network_of
from ibd.explain.arrangement import Arrangement
from ibd.explain.base import undisturbed
from ibd.explain.feature_visualization.objectives import Objective
from ibd.explain.feature_visualization.parametrizations import Canvas, Colors, Decoder, Fourier, Parametrization
from ibd.explain.feature_visualization.penalties import Penalty
from ibd.explain.feature_visualization.redirect import RedirectedRelu
from ibd.explain.feature_visualization.softening import softening
from ibd.explain.feature_visualization.transforms import Transforms
from ibd.explain.feature_visualization.weighing import Penalties
from ibd.explain.layer_layout import as_map
from ibd.explain.layouts import Layout

_REDIRECTED = 16
"""Steps at the start in which a ReLU that is off lets gradients through."""


@dataclass(frozen=True)
class Visualization:
    """Images that were made, and how.

    Attributes:
        image: (B, C, H, W) in [0, 1].
        value: (B,) the objective of these, without transformation or penalty.
        probability: (B,) probability of the class, where the objective is about one; else None.
        trace: (steps, B) the objective of the transformed images, before each step.
        settings: settings that they were made with, as plain values.
        complete: whether all steps were made: not where a dream was interrupted.
    """

    image: Tensor
    value: Tensor
    trace: Tensor
    settings: dict[str, Any]
    probability: Tensor | None = None
    complete: bool = True


def maximize_activation(
    model: nn.Module,
    objective: Objective,
    size: int | tuple[int, int] | None = None,
    batch: int | None = None,
    steps: int = 256,
    lr: float | None = None,
    parametrization: Parametrization | None = None,
    transforms: Transforms | None = Transforms(),  # noqa: B008 - frozen
    penalties: Sequence[Penalty] = (),
    ramp: float = 0.0,
    start: Literal["noise"] | Tensor = "noise",
    seed: int = 0,
    progress: bool = True,
    channels: int | None = None,
    layout: Layout = "auto",
    gradient_blur: float | tuple[float, float] = 0.0,
) -> Visualization:
    """Return images that maximize an objective; several at once cost little more than one.

    The model is left exactly as it was; random numbers come from a generator of the call's own. Images of a model in
    half precision are made in float32.

    Args:
        model: ours, or any that takes (B, C, H, W) images in [0, 1]; put the normalization of another before it.
        objective: objective to maximize.
        size: H and W, or one number for both; None takes the model's own, or 128.
        batch: images to make at once; None takes one for each class, unit or channel that the objective lists, else
            as many as there are to start from, else 1.
        steps: steps of Adam.
        lr: length of a step; None takes the parametrization's own, 0.1 for most.
        parametrization: parametrization of the images that is optimized; None takes `Fourier`, whose colors are those
            of photographs where there are three channels, and independent elsewhere.
        transforms: random movements before each step, or None.
        penalties: penalties that are subtracted from the objective, each by its share of what the objective gains over
            the first eighth of the steps, see `Weighted`; a function of yours, image -> (B,), as it is.
        ramp: share of the steps over which the penalties grow from nothing to their weight: what is to be seen must
            come up before what is not needed goes.
        start: "noise", or images (B, C, H, W) in [0, 1], or one (C, H, W) for all, which also says the size.
        seed: seed of noise and movements.
        progress: whether to show a bar, if it takes more than two seconds.
        channels: C; None takes that of the images to start from, or what the model's first convolution takes, or 3.
        layout: axis of the layers' output that holds the channels; "auto" tells it, or refuses. Of tokens it is the map
            of the patches that objectives are about.
        gradient_blur: sigma, in pixels, of a Gaussian that the gradient of the image is convolved with before each step
            (Oygard 2015); or two, at the first step and at the last: large shapes come first, then what is fine.

    Raises:
        ConfigError: no such layer, channel, class or unit, colors of another number of channels, or a number out of
            its range.
        DataError: images to start from that are not such.
        UnsupportedError: the objective does not depend on the image, or is about a layer of which it cannot be told
            which axis holds the channels, or which token is which patch.
    """
    check_range("steps", steps, least=1)
    if batch is None:
        batch = objective.images or (len(start) if isinstance(start, Tensor) and start.dim() == 4 else 1)
    check_range("batch", batch, least=1)
    check_range("ramp", ramp, least=0.0)
    softened = softening(gradient_blur, steps)
    resolved, generator = objective.resolve(model), torch.Generator().manual_seed(seed)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        like, image = _shape(model, size, batch, start, channels)
        colors = Colors.natural() if like.shape[1] == 3 else Colors.independent(like.shape[1])
        kind = parametrization or Fourier(colors)
        lr = kind.lr if lr is None else lr
        check_range("lr", lr, above=0.0)
        for module in (model, *(kind.modules if isinstance(kind, Decoder) else [])):
            stack.enter_context(undisturbed(module))
        score = scorer(model, resolved, layout)
        weighed = Penalties(penalties, steps, ramp, lambda: _of_gray(score, like))
        canvas = kind.start(like, generator, image)
        moved = (lambda picture: transforms(picture, generator)) if transforms else (lambda picture: picture)
        trace = _climb(canvas, score, moved, weighed, softened, steps, lr, progress)
        with torch.no_grad():
            made = canvas.draw().detach()
            value = score(made)
            probable = resolved.probability
            probability = None if probable is None else scorer(model, probable, layout)(made)
    settings = {"objective": str(objective), "steps": steps, "lr": lr, "seed": seed, "size": tuple(made.shape[2:])}
    return Visualization(made, value, trace, {**settings, "parametrization": type(kind).__name__}, probability)


def _climb(
    canvas: Canvas,
    score: Callable[[Tensor], Tensor],
    moved: Callable[[Tensor], Tensor],
    penalty: Penalties,
    softened: Callable[[Tensor, int], Tensor],
    steps: int,
    lr: float,
    progress: bool,
) -> Tensor:
    """Optimize a canvas and return the trace, (steps, B)."""
    optimizer = torch.optim.Adam(canvas.parameters, lr=lr)
    trace = []
    bar = progress_bar(range(steps), "maximizing", shown=progress)
    for step in bar:
        picture = softened(canvas.draw(), step)
        seen = moved(picture)
        with RedirectedRelu() if step < _REDIRECTED else nullcontext():
            values = score(seen)
            if not values.requires_grad:
                raise UnsupportedError("the objective does not depend on the image: nothing can be maximized")
            loss = penalty(picture, values, step) - values.sum()
            if canvas.pull is not None:
                loss = loss + canvas.pull().sum()
        gradients = torch.autograd.grad(loss, canvas.parameters)
        for parameter, gradient in zip(canvas.parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
        trace.append(values.detach())
        if step % 16 == 0 and not bar.disable:
            bar.set_postfix(objective=f"{float(values.detach().mean()):.3g}", refresh=False)
    return torch.stack(trace)


@torch.no_grad()
def _of_gray(score: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """Return the (B,) objective of gray images."""
    return score(torch.full_like(like, 0.5))


def scorer(model: nn.Module, objective: Objective, layout: Layout) -> Callable[[Tensor], Tensor]:
    """Return images -> (B,) objective, by a pass no longer than needed."""
    reader, network = Reader(model, objective.layers), network_of(model)
    mapped = _mapper(model, layout)
    if objective.reads == "layers":
        return lambda image: objective.values(mapped(image, reader(as_input(model, image))), None)
    encode = getattr(network, "encode", None)
    if objective.reads == "units" and encode is not None:

        def run(image: Tensor) -> Any:
            return SimpleNamespace(units=encode(image))

    else:
        run = model

    def score(image: Tensor) -> Tensor:
        layers, output = reader.whole(as_input(model, image), run)
        return objective.values(mapped(image, layers), output)

    return score


def read_layer(model: nn.Module, image: Tensor, layer: str, layout: Layout = "auto") -> Tensor:
    """Return what a layer puts out for images, with the channels first, as objectives see it."""
    return _mapper(model, layout)(image, Reader(model, [layer])(as_input(model, image)))[layer]


def _mapper(model: nn.Module, layout: Layout) -> Callable[[Tensor, dict[str, Tensor]], dict[str, Tensor]]:
    """Return images, and name -> what layers put out -> the same with the channels first; how it lies is told once."""
    found: dict[str, Arrangement] = {}

    def mapped(image: Tensor, layers: dict[str, Tensor]) -> dict[str, Tensor]:
        for name, output in layers.items():
            if output.dim() > 2 and name not in found:
                found[name] = as_map(model, as_input(model, image.detach()), name, output.detach(), layout)[1]
        return {name: found[name].to_map(output) if name in found else output for name, output in layers.items()}

    return mapped


def as_input(model: nn.Module, image: Tensor) -> Tensor:
    """Return images as a model takes them: where it is, in its precision."""
    return image.to(device_of(model), _precision(model))


def _precision(model: nn.Module) -> torch.dtype:
    return next((parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()), torch.float32)


def _channels(model: nn.Module) -> int:
    """Return how many channels the first convolution takes, in the order in which modules are registered; or 3."""
    first = (module for module in model.modules() if isinstance(module, nn.Conv2d))
    return next((convolution.in_channels for convolution in first), 3)


def _shape(
    model: nn.Module,
    size: int | tuple[int, int] | None,
    batch: int,
    start: Literal["noise"] | Tensor,
    channels: int | None,
) -> tuple[Tensor, Tensor | None]:
    """Return an empty image of the right shape, and the one to start from, if any."""
    dtype = torch.promote_types(_precision(model), torch.float32)
    device = device_of(model)
    check_range("channels", 1 if channels is None else channels, least=1)
    if not isinstance(start, Tensor):
        if start != "noise":
            raise ConfigError(f"start: '{start}' is neither noise nor images")
        size = getattr(getattr(model, "spec", None), "image_size", None) or 128 if size is None else size
        height, width = (size, size) if isinstance(size, int) else size
        check_range("size", min(height, width), least=1)
        channels = _channels(model) if channels is None else channels
        return torch.empty(batch, channels, height, width, dtype=dtype, device=device), None
    image = start if start.dim() == 4 else start.unsqueeze(0)
    if image.dim() != 4 or not image.is_floating_point() or len(image) not in (1, batch):
        raise DataError(f"start: images ({batch}, C, H, W) or one (C, H, W) are needed, not {tuple(start.shape)}")
    if channels is not None and image.shape[1] != channels:
        raise DataError(f"start: the images have {image.shape[1]} channels, but channels={channels} is asked for")
    if not bool(((image >= 0) & (image <= 1)).all()):
        raise DataError("start: the images are not within 0 and 1")
    if size is not None and tuple(image.shape[2:]) != ((size, size) if isinstance(size, int) else tuple(size)):
        raise ConfigError(f"start: the images have {tuple(image.shape[2:])} pixels, but size {size} is asked for")
    image = image.detach().to(device, dtype).expand(batch, *image.shape[1:])
    return torch.empty_like(image), image
