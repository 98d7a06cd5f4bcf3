"""How what a layer puts out lies, where the layer is only read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

import torch
from torch import Tensor, nn

from ibd.errors import UnsupportedError
from ibd.explain.activations import Reader, find_layer, network_of, no_map
from ibd.explain.arrangement import Arrangement, arrangement_of
from ibd.explain.flow import Flow
from ibd.explain.layouts import Layout, check_layout
from ibd.explain.tape import Watch


def layer_arrangement(model: nn.Module, image: Tensor, layer: str, layout: Layout = "auto") -> Arrangement:
    """Return how what a layer puts out lies, (B, ., ., .) or tokens (B, N, D); told by a pass of its own.

    Raises:
        ConfigError: there is no such layer or layout.
        UnsupportedError: it cannot be told.
    """
    check_layout(layout)
    flow, outputs = _followed(model, image, {layer: find_layer(model, layer)})
    return arrangement_of(flow, *outputs[layer], layout, layer, (image.shape[2], image.shape[3]))


def layer_arrangements(model: nn.Module, image: Tensor) -> dict[str, Arrangement]:
    """Return how the maps lie that innermost layers put out, by name; told by one pass.

    Layers that put out no maps of more than one place, nor tokens of patches, are left out, and those where it cannot
    be told.
    """
    layers = {
        name: part
        for name, part in network_of(model).named_modules()
        if name and next(part.children(), None) is None and not isinstance(part, torch.jit.ScriptModule)
    }
    flow, outputs = _followed(model, image, layers)
    found = {}
    for name, (node, shape) in outputs.items():
        with suppress(UnsupportedError):
            lies = arrangement_of(flow, node, shape, "auto", name, (image.shape[2], image.shape[3]))
            several = len(shape) == 4 and (1, 1) not in (shape[2:], shape[1:3])
            if several or lies.grid is not None:
                found[name] = lies
    return found


def _followed(
    model: nn.Module, image: Tensor, layers: Mapping[str, nn.Module]
) -> tuple[Flow, dict[str, tuple[int | None, tuple[int, ...]]]]:
    """Run a model; return the flow, and the node and shape of what each layer put out last."""
    watch, outputs = Watch(image, False, constants=model.buffers()), dict[str, tuple[int | None, tuple[int, ...]]]()
    assert watch.flow is not None
    flow = watch.flow

    def noting(name: str) -> Callable[[nn.Module, object, object], None]:
        def note(_: nn.Module, __: object, output: object) -> None:
            with watch.alone():
                if isinstance(output, Tensor):
                    outputs[name] = (flow.of(output), tuple(output.shape))

        return note

    handles = [module.register_forward_hook(noting(name)) for name, module in layers.items()]
    try:
        with torch.no_grad(), watch:
            model(image)
    finally:
        for handle in handles:
            handle.remove()
    return flow, outputs


def read_map(model: nn.Module, image: Tensor, layer: str, layout: Layout = "auto") -> Tensor:
    """Return the (B, D, h, w) output of a layer, without gradients, whatever the layer's own layout is.

    Raises:
        ConfigError: there is no such layer or layout.
        UnsupportedError: it puts out no map; the message names layers that do. Or its layout cannot be told.
    """
    with torch.no_grad():
        output = Reader(model, [layer])(image)[layer]
    return as_map(model, image, layer, output, layout)[0]


def as_map(
    model: nn.Module, image: Tensor, layer: str, output: Tensor, layout: Layout = "auto"
) -> tuple[Tensor, Arrangement]:
    """Return what a layer put out for an image as a (B, D, h, w) map, and how it lies.

    Raises:
        UnsupportedError: it is no map, nor tokens whose patches are known; or its layout cannot be told.
    """
    if output.dim() not in (3, 4):
        raise no_map(model, image, layer, output)
    found = layer_arrangement(model, image, layer, layout)
    if output.dim() == 3 and found.grid is None:
        raise no_map(model, image, layer, output)
    return found.to_map(output), found
