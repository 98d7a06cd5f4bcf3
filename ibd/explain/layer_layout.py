"""Which axis of what a layer puts out holds the channels, where the layer is only read."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibd.explain.activations import Reader, find_layer, no_map, unknown_layout
from ibd.explain.layouts import Layout, check_layout, to_first
from ibd.explain.tape import Watch


def puts_last(model: nn.Module, image: Tensor, layer: str, layout: Layout = "auto") -> bool:
    """Return whether a layer that puts out (B, ., ., .) has its channels last; told by a pass of its own.

    Raises:
        ConfigError: there is no such layer or layout.
        UnsupportedError: it cannot be told.
    """
    if check_layout(layout) != "auto":
        return layout == "channels_last"
    watch, layouts = Watch(image, False, constants=model.buffers()), list[tuple[int | None, tuple[int, ...]]]()
    assert watch.flow is not None
    flow = watch.flow

    def note(_: nn.Module, __: object, output: Tensor) -> None:
        with watch.alone():
            layouts.append((flow.of(output), tuple(output.shape)))

    handle = find_layer(model, layer).register_forward_hook(note)
    try:
        with torch.no_grad(), watch:
            model(image)
    finally:
        handle.remove()
    node, shape = layouts[-1]
    axis = None if node is None else flow.links.channels(node, shape, (image.shape[2], image.shape[3]))
    if axis is None:
        raise unknown_layout(layer, shape)
    return axis == 3


def read_map(model: nn.Module, image: Tensor, layer: str, layout: Layout = "auto") -> Tensor:
    """Return the (B, D, h, w) output of a layer, without gradients, whatever the layer's own layout is.

    Raises:
        ConfigError: there is no such layer or layout.
        UnsupportedError: it puts out no map; the message names layers that do. Or its layout cannot be told.
    """
    with torch.no_grad():
        output = Reader(model, [layer])(image)[layer]
    if output.dim() != 4:
        raise no_map(model, image, layer, output)
    return to_first(output) if puts_last(model, image, layer, layout) else output
