"""What every explainer shares: the call, its answer, its cost, and that it leaves the model as it was."""

from __future__ import annotations

import abc
import dataclasses
import html
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ibd.drawing import shorten
from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.explain.asking import Asking, layer_among
from ibd.explain.checkpointing import kept
from ibd.explain.hidden import HiddenLayers
from ibd.explain.layouts import Layout
from ibd.explain.render import pictures, upsample
from ibd.explain.saving import as_array, save_arrays
from ibd.explain.targets import Target

_MISMATCH = re.compile("expected scalar type|type .* should be the same|same dtype|tensors to be on the same device")

Kind = Literal["intrinsic", "posthoc", "reference", "oracle"]


@dataclass
class Cost:
    """What an explanation took.

    Attributes:
        forwards: number of passes of one image through the model.
        backwards: number of passes of one image back.
        heads: number of passes, forth or back, of one image's activations through only what comes after a layer.
        seconds: seconds by the clock, for the whole batch.
    """

    forwards: float = 0.0
    backwards: float = 0.0
    heads: float = 0.0
    seconds: float = 0.0


@dataclass(frozen=True, repr=False)
class Explanation:
    """Where a model looked, or on which units a score rests.

    Attributes:
        map: (B, H, W) at the size of the images, or (B, K, H, W) of several targets; signed where the method is, as it
            comes, not normalized; None where the method has none.
        value: (B,) the explained scores, or (B, K).
        target: target that was explained, resolved.
        kind: "intrinsic", "posthoc", "reference" or "oracle".
        method: name of the explainer.
        units: (B, U) contributions of the units, or (B, K, U), where the method has them.
        unit_names: names of the units.
        unit_maps: (B, U, h, w), or (B, K, U, h, w), where the method has them.
        cost: cost of the explanation.
        extra: further figures of the method, (B, ...) or (B, K, ...) each, such as "conservation".
        layer: layer by whose output it is explained: the layer's name, or how a map was made that no layer puts out,
            such as "relu of 'features'"; None where it is the pixels.
    """

    map: Tensor | None
    value: Tensor
    target: Target
    kind: Kind
    method: str
    units: Tensor | None = None
    unit_names: list[str] | None = None
    unit_maps: Tensor | None = None
    cost: Cost = field(default_factory=Cost)
    extra: dict[str, Tensor] = field(default_factory=dict)
    layer: str | None = None

    def __repr__(self) -> str:
        """Return in a line what was explained, what of, and what it took."""
        said = [f"{len(self.value)} image{'' if len(self.value) == 1 else 's'}", shorten(str(self.target), 60)]
        said += [] if self.map is None else [f"map {tuple(self.map.shape)}"]
        said += [] if self.units is None else [f"{self.units.shape[-1]} units"]
        said += [] if self.layer is None else [f"by {self.layer}"]
        passes = f"{self.cost.forwards:g} forwards, {self.cost.backwards:g} backwards, {self.cost.seconds:.3g} s"
        return " ".join(f"Explanation({self.method}: {'; '.join(said)}; {passes})".split())

    def _repr_html_(self) -> str:
        """Return the maps of up to eight images as a picture, for a notebook."""
        said = f"<code>{html.escape(repr(self))}</code>"
        if self.map is None:
            return said
        maps = self.map if self.map.dim() == 3 else self.map[:, 0]
        several = "" if self.map.dim() == 3 else f"; the first of {self.map.shape[1]} scores"
        note = f"red speaks for, blue against; each map has a scale of its own{several}"
        return f"{said}<br>{pictures(maps[:8].detach().cpu())}<br><small>{note}</small>"

    def to(self, *args: Any, **kwargs: Any) -> Explanation:
        """Return the explanation with every tensor moved, as ``Tensor.to`` does (Lightning calls this)."""

        def moved(value: Tensor | None) -> Any:
            return None if value is None else value.to(*args, **kwargs)

        tensors = {name: moved(getattr(self, name)) for name in ("map", "value", "units", "unit_maps")}
        return dataclasses.replace(self, **tensors, extra={name: moved(value) for name, value in self.extra.items()})

    def to_numpy(self) -> dict[str, NDArray[Any]]:
        """Return the tensors that there are as arrays, by name: "map", "value", "units", "unit_maps".

        What else the method says (`extra`) is among them by its own name.
        """
        named = {name: getattr(self, name) for name in ("map", "value", "units", "unit_maps")}
        tensors: dict[str, Tensor] = {n: t for n, t in {**self.extra, **named}.items() if t is not None}
        return {name: as_array(tensor) for name, tensor in tensors.items()}

    def save(self, path: str | Path) -> Path:
        """Write the explanation into a file, in the format that the ending of its name says; return where it is.

        Args:
            path: ``.npz``, all arrays of `to_numpy`; ``.png``, the maps, each in a scale of its own; ``.csv``, a row
                for what each unit adds, or for each pixel where the method has no units.

        Raises:
            ConfigError: another ending, or the file cannot be written.
            UnsupportedError: the explanation has nothing of that kind.
        """
        scores = self.value.shape[1:].numel()
        titles = [f"image {n // scores}" + f", score {n % scores}" * (scores > 1) for n in range(self.value.numel())]
        return save_arrays(self.to_numpy(), path, titles, self.unit_names or [])


class Call:
    """A model while it is being explained: it counts passes, and answers in the right mode.

    Attributes:
        model: model in evaluation mode.
        target: target, resolved.
        cost: cost so far.
        layout: axis of a layer's output that holds the channels.
        hidden: hidden layers that the target is about; None where it is about what the model returns.

    Args:
        model: model, resolved names are of it.
        target: target to explain.
        layout: axis of a layer's output that holds the channels.
        image: (B, 3, H, W) that is asked about: how hidden layers lie is told by the first.
    """

    def __init__(self, model: nn.Module, target: Target, layout: Layout = "auto", image: Tensor | None = None) -> None:
        self.model: nn.Module = getattr(model, "behind_logits", model)  # the network, which has units
        self.target, self.cost, self.layout = target.resolve(model), Cost(), layout
        self.hidden: HiddenLayers | None = None
        if self.target.layers and image is not None:
            self.hidden = HiddenLayers(self.model, self.target.layers, image, "auto", self.target.reads_output)
            self.cost.forwards += self.hidden.passes

    @property
    def ends(self) -> list[str]:
        """Hidden layers after which nothing runs; none where the target is about what the model returns."""
        return [] if self.target.reads_output else self.target.layers

    def output(self, image: Tensor) -> Any:
        """Return what the model returns, counting the pass; it gets a copy, which it may write over.

        Of a target of hidden layers what they put out, see `ibd.explain.hidden.Seen`; a pass may end there.
        """
        self.cost.forwards += len(image)
        return (self.hidden or self.model)(image.clone())

    def scores(self, image: Tensor, target: Target | None = None) -> Tensor:
        """Return the (B, K) scores of images, counting the pass."""
        return (target or self.target).scores(self.output(image))

    def gradients(self, scores: Tensor, inputs: Tensor) -> Tensor:
        """Return the gradient of each (B, K) score by (B, ...) inputs, (B, K, ...), counting the passes.

        The graph is kept until the last one. Parameters are left alone: nothing is accumulated. The way back is that of
        the precision of the way there; autocast would round once more.
        """
        count = scores.shape[1]
        self.cost.backwards += len(scores) * count
        with torch.autocast(scores.device.type, enabled=False):
            sums = [scores[:, k].sum() for k in range(count)]
            gradients = [torch.autograd.grad(total, inputs, retain_graph=total is not sums[-1])[0] for total in sums]
        return torch.stack(gradients, 1)


class Explainer(abc.ABC):
    """Asks a model where it looked for something. Subclasses say how in `explain`.

    Attributes:
        name: registered name.
        kind: kind of its explanations.
        layout: axis of a layer's output that holds the channels; "auto" finds out.
        given: options as they were written: without and with names.
    """

    name: str
    given: tuple[tuple[Any, ...], dict[str, Any]]
    kind: Kind = "posthoc"
    layout: Layout = "auto"

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Refuse a model, or a layer itself, among the options: other libraries take it there.

        Raises:
            ConfigError: one is given; the line says how the explainer is called.
        """
        modules = [part for part in tree_leaves((args, kwargs)) if isinstance(part, nn.Module)]
        if modules:
            raise ConfigError(
                f"{cls.__name__}: takes only options, a layer by its name; pass the model with the images: "
                f"{cls.__name__}({layer_among(modules)})(model, image, target)"
            )
        made = super().__new__(cls)
        object.__setattr__(made, "given", (args, kwargs))  # also of a frozen dataclass
        return made

    def __repr__(self) -> str:
        """Return the call that made it."""
        args, options = self.given
        said = [*map(repr, args), *(f"{name}={value!r}" for name, value in options.items())]
        return f"{type(self).__name__}({', '.join(said)})"

    def __call__(self, model: nn.Module, image: Tensor, target: Target | int | str | None = None) -> Explanation:
        """Return an explanation of each image.

        The model is in evaluation mode meanwhile, with gradients on, also inside of ``torch.no_grad`` and
        ``inference_mode``; afterwards it is exactly as it was, also where something raised: modes, gradients,
        parameters and their ``requires_grad``, buffers, hooks, the random state.

        Args:
            model: ours, or any classifier of (B, 3, H, W) images.
            image: (B, 3, H, W) float, on the model's device.
            target: target to explain; a number or name is that class, None the predicted class.

        Raises:
            ConfigError: no such class or unit.
            DataError: an image that is no such tensor, or not finite.
            UnsupportedError: the method cannot explain this model.
        """
        check_image(image)
        self.check_scale(image)
        started = time.perf_counter()
        with undisturbed(model):
            call = Call(model, as_target(target), self.layout, image)
            answer = self.explain(call, image.detach().clone())
        if answer.layer is None:
            answer = dataclasses.replace(answer, layer=getattr(self, "layer", None))
        answer.cost.seconds = time.perf_counter() - started
        return answer

    def on(self, model: nn.Module) -> Asking:
        """Return the explainer of a model, as captum has it: ``Saliency().on(model).attribute(images, target=3)``."""
        return Asking(self, model)

    def attribute(self, *args: object, **kwargs: object) -> Tensor:
        """Say how to call an explainer, which, other than captum's, holds no model.

        Raises:
            ConfigError: always.
        """
        name = type(self).__name__
        raise ConfigError(
            f"{name}.attribute: an explainer holds no model: {name}(...).on(model).attribute(images, target=3) gives a "
            f"tensor as captum does, {name}(...)(model, images, 3) all there is to say"
        )

    def check_scale(self, image: Tensor) -> None:  # noqa: B027 - most methods have nothing to say
        """Warn where the method means something else on images that are not from 0 to 1."""

    @abc.abstractmethod
    def explain(self, call: Call, image: Tensor) -> Explanation:
        """Return the explanation of a checked image, a tensor of its own that may get a gradient."""

    def answer(self, call: Call, maps: Tensor | None, scores: Tensor, **more: Any) -> Explanation:
        """Return the explanation made of (B, K, h, w) maps, which are brought to the image's size, and (B, K) scores.

        Args:
            call: call whose target and cost it gets.
            maps: maps, or None where there is none; of the image's size already, or smaller with ``size=(H, W)``.
            scores: scores that were explained.
            more: other fields of `Explanation`, and `size`.
        """
        size: tuple[int, int] | None = more.pop("size", None)
        if maps is not None and size is not None and tuple(maps.shape[2:]) != tuple(size):
            maps = upsample(maps, size)
        single = not call.target.many
        return Explanation(
            map=maps if maps is None else (maps[:, 0] if single else maps).detach(),
            value=(scores[:, 0] if single else scores).detach(),
            target=call.target.without_model(),
            kind=self.kind,
            method=self.name,
            cost=call.cost,
            **more,
        )


def as_target(target: Target | int | str | None) -> Target:
    """Return a target as such: a number or name is that class, None the predicted class."""
    if target is None:
        return Target.predicted()
    return target if isinstance(target, Target) else Target.cls(target)


def check_image(image: Tensor) -> None:
    """Check what is to be explained.

    Raises:
        DataError: it is no float (B, C, H, W) tensor, empty, or not finite.
    """
    if not isinstance(image, Tensor) or image.dim() != 4 or not image.is_floating_point():
        what = f"{tuple(image.shape)} of {image.dtype}" if isinstance(image, Tensor) else type(image).__name__
        raise DataError(f"an explanation needs float images (B, 3, H, W), not {what}")
    if not len(image):
        raise DataError("an explanation needs at least one image")
    if not image.numel():
        raise DataError(f"an explanation needs images of at least one pixel, not {tuple(image.shape)}")
    finite = image.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        raise DataError(f"image {int((~finite).nonzero()[0])} of the batch has values that are not finite")


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode, gradients on, and bring everything back afterwards.

    Explainers draw random numbers from generators of their own, use ``torch.autograd.grad``, which writes no ``.grad``,
    and take away the hooks that they set; what is left to bring back is here. So are the random numbers that a model
    draws in evaluation mode: every explanation starts from the same state, and leaves it to the caller. Checkpointed
    parts run once, see `ibd.explain.checkpointing`.

    Raises:
        UnsupportedError: tensors of the model were made in inference mode, and a gradient was asked for; the model is
            checkpointed in a way that cannot be switched off; or the images are of another type than its weights.
    """
    modes = [(part, part.training) for part in model.modules()]
    # What was made in inference mode takes part in no gradient; its flag could not be set back outside of that mode.
    wanted = [(parameter, parameter.requires_grad) for parameter in model.parameters() if not parameter.is_inference()]
    devices = {parameter.device for parameter in model.parameters() if parameter.is_cuda}
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(devices))
            stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(kept())
            for part, _ in modes:
                part.training = False
            for parameter, _ in wanted:
                parameter.requires_grad_(False)
            yield
    except RuntimeError as error:
        reason = _told(model, str(error))
        if reason is None:
            raise
        raise UnsupportedError(reason) from error
    finally:
        for part, training in modes:
            part.training = training
        for parameter, needed in wanted:
            parameter.requires_grad_(needed)


def _told(model: nn.Module, message: str) -> str | None:
    """Return what a message of PyTorch means, in a line; None for any other."""
    if "nference tensor" in message:
        made = [name for name, tensor in model.state_dict(keep_vars=True).items() if tensor.is_inference()]
        what = f"'{made[0]}' of the model" if made else "a tensor of the model that is neither a parameter nor a buffer"
        return f"{what} was made inside of torch.inference_mode, so it has no gradients: make or load the model outside"
    if _MISMATCH.search(message) and (weight := next(model.parameters(), None)) is not None:
        return (
            f"the images differ from the model's weights in type or device: give image.to('"
            f"{weight.device}', {weight.dtype})"
        )
    if "torch.utils.checkpoint" in message:
        return (
            "the model computes parts again in the backward pass (torch.utils.checkpoint); this could not be switched "
            "off: explain it without checkpointing"
        )
    return None
