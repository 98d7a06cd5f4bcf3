"""What layers of a model put out: their names, and a pass that stops as soon as the wanted ones have run."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
from torch import Tensor, nn

from ibd.errors import ConfigError, DataError, UnsupportedError

Visit = Callable[[str, Tensor], None]
_LISTED = 12
"""Names that a message holds."""


class _Reached(BaseException):
    """Ends a pass whose wanted layers have run; no ``except Exception`` of a model's own stops it."""


def network_of(model: nn.Module) -> nn.Module:
    """Return the network in our training modules; any other model as it is. Names of layers are counted from it."""
    inner = getattr(model, "network", None)
    return inner if isinstance(inner, nn.Module) and hasattr(inner, "encode") else model


def layer_names(model: nn.Module) -> list[str]:
    """Return the names of all layers, in the order in which they are registered."""
    return [name for name, _ in network_of(model).named_modules() if name]


def find_layer(model: nn.Module, name: str) -> nn.Module:
    """Return a layer by its name, such as ``backbone.layer4``; with or without ``network.`` or ``model.`` before it.

    Raises:
        ConfigError: there is none; the message lists those that there are, the nearest first.
    """
    network = network_of(model)
    names: dict[str, nn.Module] = dict(network.named_modules())
    short = name.removeprefix("network.") if network is not model else name
    if short and short not in names and f"model.{short}" in names:  # a network of anybody's, with what is around it
        short = f"model.{short}"
    if not short or short not in names:
        listed = nearest_first(short, filter(None, names))
        raise ConfigError(f"no layer '{name}' in {type(network).__name__}. Layers, the nearest first: {listed}")
    return names[short]


def nearest_first(name: str, names: Iterable[str]) -> str:
    """Return names as a list for a message, those most alike `name` first; "none" if there are none."""
    known = list(names)
    ordered = sorted(known, key=lambda layer: -difflib.SequenceMatcher(None, layer, name).ratio())
    return (", ".join(ordered[:_LISTED]) or "none") + (f", ... ({len(known)} in all)" if len(known) > _LISTED else "")


def spatial_layers(model: nn.Module, image: Tensor) -> dict[str, tuple[int, int, int]]:
    """Return name -> (D, h, w) of every layer that puts out a map of these images, in the order in which they run.

    A map has more than one position.
    """
    layers: dict[str, tuple[int, int, int]] = {}

    def note(name: str, output: Tensor) -> None:
        if output.dim() == 4 and output.shape[2] * output.shape[3] > 1:
            layers.pop(name, None)
            layers[name] = (output.shape[1], output.shape[2], output.shape[3])

    visit(model, image, note)
    return layers


def maps_note(model: nn.Module, image: Tensor, name: str = "") -> str:
    """Return a sentence, for the end of a message, with the layers that put out maps, those most alike `name` first."""
    return f" Layers with maps, the nearest first: {nearest_first(name, spatial_layers(model, image[:1]))}"


def visit(model: nn.Module, image: Tensor, note: Visit, only_leaves: bool = False) -> object:
    """Run a model once, without gradients, and show every tensor that a layer puts out.

    Args:
        model: model, run as it is; its mode is not changed.
        image: (B, 3, H, W).
        note: function that is called with name and output each time that a layer has run.
        only_leaves: whether to leave out layers that are made of layers.

    Returns:
        What the model returns.
    """
    handles = []
    try:
        for name, layer in network_of(model).named_modules():
            inner = only_leaves and any(True for _ in layer.children())
            if name and not inner and not isinstance(layer, torch.jit.ScriptModule):
                handles.append(layer.register_forward_hook(_noting(name, note)))
        with torch.no_grad():
            return model(image)
    finally:
        for handle in handles:
            handle.remove()


def _noting(name: str, note: Visit) -> Callable[[nn.Module, object, object], None]:
    def hook(_: nn.Module, __: object, output: object) -> None:
        if isinstance(output, Tensor):
            note(name, output)

    return hook


class Reader:
    """Runs a model for what some layers put out, again and again, and no further than to the last of them.

    The first pass is whole: it counts how often each layer runs. Of a layer that runs several times, it is the last
    output that is meant.

    Args:
        model: model, run as it is.
        layers: names of layers, see `find_layer`.

    Raises:
        ConfigError: there is no such layer.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        self._model = model
        self._modules = {name: find_layer(model, name) for name in dict.fromkeys(layers)}
        self._runs: Counter[str] | None = None

    def __call__(self, image: Tensor) -> dict[str, Tensor]:
        """Return name -> output of images, with their graph if gradients are on. Hooks go away whatever happens.

        Raises:
            UnsupportedError: a layer does not run, or puts out something else than a tensor.
        """
        if not self._modules:
            return {}
        if self._runs is None:
            with torch.no_grad(), self._reading(None) as (_, counted):
                self._model(image[:1])
            self._complain(counted, image)
            self._runs = counted
        with self._reading(self._runs) as (outputs, _), suppress(_Reached):
            self._model(image)
        return {name: outputs[name] for name in self._modules}

    def whole(self, image: Tensor, run: Callable[[Tensor], object] | None = None) -> tuple[dict[str, Tensor], object]:
        """Return name -> output, and what a whole pass of the model, or of a part of it, returns.

        Raises:
            UnsupportedError: a layer does not run, or puts out something else than a tensor.
        """
        with self._reading(None) as (outputs, counted):
            output = (run or self._model)(image)
        self._complain(counted, image)
        return outputs, output

    def _complain(self, runs: Counter[str], image: Tensor) -> None:
        missing = [name for name in self._modules if not runs[name]]
        if missing:
            raise not_run(self._model, image, missing[0])

    @contextmanager
    def _reading(self, stop_after: Counter[str] | None) -> Iterator[tuple[dict[str, Tensor], Counter[str]]]:
        """Set hooks for one pass, which ends where every layer has run as often as `stop_after` says."""
        outputs: dict[str, Tensor] = {}
        runs: Counter[str] = Counter()

        def hook_of(name: str) -> Callable[[nn.Module, object, object], None]:
            def hook(_: nn.Module, __: object, output: object) -> None:
                if not isinstance(output, Tensor):
                    raise UnsupportedError(f"layer '{name}' returns a {type(output).__name__}, not a tensor")
                runs[name] += 1
                if stop_after is not None and runs == stop_after:
                    outputs[name] = output
                    raise _Reached
                outputs[name] = output.clone()  # what comes next may write over it

            return hook

        handles = [module.register_forward_hook(hook_of(name)) for name, module in self._modules.items()]
        try:
            yield outputs, runs
        finally:
            for handle in handles:
                handle.remove()


def not_run(model: nn.Module, image: Tensor, layer: str, ends: Sequence[str] = ()) -> UnsupportedError:
    """Return the error for a layer that does not run; it names layers that put out maps.

    Args:
        model: model.
        image: (B, 3, H, W).
        layer: name of the layer.
        ends: hidden layers that are explained, after which nothing runs.
    """
    named = "', '".join(ends)
    when = f"before '{named}', which is explained" if ends else "when the model sees an image"
    return UnsupportedError(f"layer '{layer}' does not run {when}.{maps_note(model, image, layer)}")


def no_map(model: nn.Module, image: Tensor, layer: str | None, output: Tensor) -> UnsupportedError:
    """Return the error for a layer whose output is no (B, D, h, w); it names layers that put out maps."""
    shape = "x".join(str(size) for size in output.shape[1:])
    tokens = ", tokens of which it is not known which are which patch: use a layer with a map, or a method of pixels "
    why = f"{tokens}such as 'integrated_gradients' or 'occlusion'." if output.dim() == 3 else ", no map."
    note = maps_note(model, image, layer or "")
    return UnsupportedError(f"layer '{layer}' returns {shape} numbers for each image{why}{note}")


def unknown_layout(layer: str, shape: Sequence[int]) -> UnsupportedError:
    """Return the error for a layer with a 4-dimensional output of which it is not known which axis has the channels."""
    sizes = "x".join(str(size) for size in shape[1:])
    return UnsupportedError(
        f"layer '{layer}' returns {sizes} numbers for each image, and the operations before and after it do not show "
        "which axis holds the channels: set layout='channels_first' or 'channels_last', or use another layer"
    )


def images_of(batch: object) -> Tensor:
    """Return the (B, 3, H, W) images of what a data loader yields: a ``Batch``, a tuple or dict with them, or a tensor.

    Raises:
        DataError: there are none.
    """
    images = getattr(batch, "image", batch)
    if isinstance(images, dict):
        images = images.get("image", images.get("images"))
    elif isinstance(images, list | tuple) and images:
        images = images[0]
    if not isinstance(images, Tensor) or images.dim() != 4:
        raise DataError(f"the data loader yields a {type(batch).__name__}: images (B, 3, H, W) are needed")
    return images


def device_of(model: nn.Module) -> torch.device:
    """Return where the first parameter or buffer of a model lies; the CPU for a model without."""
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")


def chunked(total: int, size: int) -> Iterator[slice]:
    """Yield slices of at most `size` that cover ``range(total)``."""
    for part in range(math.ceil(total / size)):
        yield slice(part * size, min(total, (part + 1) * size))
