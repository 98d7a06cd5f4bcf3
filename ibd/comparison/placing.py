"""Where the compared images lie by what a model makes of them: a map of codes for the report."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from ibd.comparison.asked import Case
from ibd.comparison.attributions import CHUNK
from ibd.comparison.results import Comparison, PlacedImages
from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.explain.activations import chunked, device_of, spatial_layers
from ibd.explain.code_map import lay_out, read_codes, same_class
from ibd.explain.code_map_figures import shown_thumbnails, thumbnail
from ibd.explain.layer_features import feature_layer
from ibd.types import Batch

LEAST, SHOWN, SIDE = 30, 70, 24
"""Images of the smallest map, and how many of them are drawn, with so many pixels along a side."""


def add_placed(comparison: Comparison, case: Case) -> None:
    """Add where the images lie by the backbone, or by the last map of a network without; nothing for a few images."""
    if len(case.images) < LEAST:
        return
    key = {"kind": "places", "model": case.model.fingerprint, "data": case.images.fingerprint, "seed": case.seed}
    try:
        placed = case.cache.get(key, PlacedImages, lambda: _placed(case))
    except UnsupportedError:  # no map and no vector, or all images alike: there is nothing to see
        return
    comparison.placed[case.model.info.name] = placed


def _placed(case: Case) -> PlacedImages:
    model, chosen = case.model.module, case.images
    first = chosen.pixels[:1].to(device_of(model))
    try:
        layer = feature_layer(model, None)
    except ConfigError:
        maps = list(spatial_layers(model, first))
        if not maps:
            raise UnsupportedError("no layer puts out a map") from None
        layer = maps[-1]
    codes = read_codes(model, _batches(case), layer, title="places")
    try:
        found = lay_out(codes.values, "tsne", case.seed)
    except DataError as error:
        raise UnsupportedError(str(error)) from error
    shown = shown_thumbnails(found.places, SHOWN)
    pictures = torch.stack([thumbnail(chosen.pixels[number], SIDE) for number in shown])
    return PlacedImages(
        layer=layer,
        method=found.method,
        places=found.places.double().numpy(),
        predicted=case.classes.cpu().numpy().astype(np.int64),
        kept=found.kept,
        same_class=same_class(codes.values, codes.labels, found.neighbours),
        neighbours=found.neighbours,
        shown=np.array(shown, dtype=np.int64),
        thumbnails=(pictures.permute(0, 2, 3, 1) * 255).round().to(torch.uint8).numpy(),
    )


def _batches(case: Case) -> Iterator[Batch]:
    """Yield the compared images."""
    chosen = case.images
    for rows in chunked(len(chosen), CHUNK):
        concepts = torch.empty(rows.stop - rows.start, 0)
        yield Batch(chosen.pixels[rows], chosen.labels[rows], concepts, chosen.index[rows])
