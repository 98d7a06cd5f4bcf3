"""How what a layer puts out lies, where the layer is only read."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibd.explain.activations import Reader, find_layer, no_map
from ibd.explain.arrangement import Arrangement, arrangement_of
from ibd.explain.layouts import Layout, check_layout
from ibd.explain.tape import Watch


def layer_arrangement(model: nn.Module, image: Tensor, layer: str, layout: Layout = "auto") -> Arrangement:
    """Return how what a layer puts out lies, (B, ., ., .) or tokens (B, N, D); told by a pass of its own.

    Raises:
        ConfigError: there is no such layer or layout.
        UnsupportedError: it cannot be told.
    """
    check_layout(layout)
    watch, outputs = Watch(image, False, constants=model.buffers()), list[tuple[int | None, tuple[int, ...]]]()
    assert watch.flow is not None
    flow = watch.flow

    def note(_: nn.Module, __: object, output: Tensor) -> None:
        with watch.alone():
            outputs.append((flow.of(output), tuple(output.shape)))

    handle = find_layer(model, layer).register_forward_hook(note)
    try:
        with torch.no_grad(), watch:
            model(image)
    finally:
        handle.remove()
    node, shape = outputs[-1]
    return arrangement_of(flow, node, shape, layout, layer, (image.shape[2], image.shape[3]))


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
