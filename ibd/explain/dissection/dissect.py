"""What every channel of layers of any model detects: network dissection, and forms of several concepts.

After Bau et al. (2017): a channel is above the value that 0.5 % of its cells pass, its map is brought to the image, and
IoU over the data set says which of the annotated concepts it meets. After Mu and Andreas (2020), forms of concepts with
AND, OR and AND NOT say what a single concept does not. Thresholds, concepts and forms are chosen on some images, and
scored on others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from ibd.data.masked import MaskedImages
from ibd.distributed import progress
from ibd.errors import ConfigError, check_range
from ibd.explain.base import undisturbed
from ibd.explain.dissection.counts import Combinations, Counting, Counts
from ibd.explain.dissection.found import Dissection, LayerDissection
from ibd.explain.dissection.regions import Regions, TopValues
from ibd.explain.feature_selection import rectified_layers
from ibd.explain.layouts import Layout
from ibd.explain.patches import merged
from ibd.metrics.functional.dissection import SHARE
from ibd.metrics.functional.forms import Form, nearest_form

_KEPT = 2**26
"""Highest values that are kept for the thresholds of all layers together: 256 MiB."""
_BEST = tuple[Tensor, ...]


def dissect(
    model: nn.Module,
    fitted: MaskedImages,
    unseen: MaskedImages,
    layers: Sequence[str] | None = None,
    share: float = SHARE,
    length: int = 3,
    beam: int = 5,
    shown: int = 6,
    layout: Layout = "auto",
) -> Dissection:
    """Return what each channel of layers detects. The model is left as it was.

    It takes two passes over the images that things are chosen by, and one over those that they are scored on. Memory is
    that of a batch, of the highest values of each channel (0.5 % of its cells, at most 256 MiB in all), and of the
    counts: channels times the combinations of concepts that pixels have.

    Args:
        model: ours, or any of (B, 3, H, W) images in [0, 1].
        fitted: images by which thresholds, concepts and forms are chosen, in an order that mixes the classes: the mask
            of the image before each stands for chance.
        unseen: other images, on which these are scored.
        layers: names of layers that put out maps; None takes all in whose maps nothing is negative, see
            `ibd.explain.feature_selection.rectified_layers`.
        share: share of the cells that a channel's threshold leaves above.
        length: the most concepts in a form; 1 searches none of several.
        beam: forms that are extended in every round of the search.
        shown: images that are kept of each channel, those with its highest values.
        layout: axis of a layer's output that holds the channels; "auto" tells it, or refuses.

    Raises:
        ConfigError: no such layer or option, or images with other masks.
        DataError: maps that are not finite.
        UnsupportedError: a layer puts out no map, or no layer was found.
    """
    check_range("length", length, least=1)
    check_range("beam", beam, least=1)
    check_range("shown", shown, least=1)
    if not 0 < share < 1:
        raise ConfigError(f"share: {share} given, a share of the cells above 0 and below 1 is needed")
    if fitted.names != unseen.names:
        raise ConfigError("dissection: the two sets of images have masks of different concepts")
    chosen = list(layers) if layers else default_layers(model, fitted)
    with undisturbed(model), torch.no_grad():
        regions = Regions(model, list(dict.fromkeys(chosen)), layout)
        thresholds, exact = _thresholds(regions, fitted, share)
        counted, _ = _counted(regions, thresholds, fitted, "counting", shown)
        scored, best = _counted(regions, thresholds, unseen, "scoring", shown)
    found = [
        LayerDissection(
            layer=layer,
            thresholds=thresholds[layer],
            fitted=counted[layer],
            unseen=scored[layer],
            forms=tuple(_forms(counted[layer], length, beam, layer)),
            images=best[layer][1],
            peaks=best[layer][0],
            exact=exact[layer],
        )
        for layer in regions.layers
    ]
    return Dissection(tuple(fitted.names), tuple(found), len(fitted), len(unseen), share)


def default_layers(model: nn.Module, images: MaskedImages) -> list[str]:
    """Return the layers that are dissected where none is named, see `rectified_layers`.

    Raises:
        UnsupportedError: there are no layers with maps.
    """
    return rectified_layers(model, images.take(range(min(4, len(images))))[0])


def ordered_pairs(images: MaskedImages, concepts: Combinations) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield batches of images, and which combination of concepts their pixels have, and those of the image before each.

    Before the first image is the last one, so that the masks of all count once.

    Args:
        images: images with masks.
        concepts: numbers the combinations.

    Yields:
        (B, 3, H, W), (B, H * W) and (B, H * W).
    """
    before = concepts.numbers(images.take([len(images) - 1])[1])
    for image, masks in images.batches():
        own = concepts.numbers(masks)
        yield image, own, torch.cat([before, own[:-1]])
        before = own[-1:]


def _thresholds(regions: Regions, images: MaskedImages, share: float) -> tuple[dict[str, Tensor], dict[str, bool]]:
    """Return the (U,) thresholds of each layer, and whether they are exact."""
    budget = _KEPT // len(regions.layers)
    kept = {layer: TopValues(len(images), share, budget) for layer in regions.layers}
    for image, _ in progress(images.batches(), "thresholds", -(-len(images) // images.batch_size)):
        for layer, maps in regions.maps(image).items():
            kept[layer].update(maps, layer)
    return {layer: top.thresholds() for layer, top in kept.items()}, {layer: top.exact for layer, top in kept.items()}


def _counted(
    regions: Regions, thresholds: dict[str, Tensor], images: MaskedImages, title: str, shown: int
) -> tuple[dict[str, Counts], dict[str, _BEST]]:
    """Return the counts of each layer, and the images with the highest values of each of its channels."""
    concepts, pixels = Combinations(len(images.names)), torch.zeros(0, dtype=torch.int64)
    counting = {layer: Counting(layer, len(limits)) for layer, limits in thresholds.items()}
    best: dict[str, _BEST | None] = dict.fromkeys(thresholds)
    seen = 0
    for image, own, others in progress(ordered_pairs(images, concepts), title, -(-len(images) // images.batch_size)):
        known = len(concepts)
        pixels = _grown(pixels, torch.bincount(own.flatten(), minlength=known))
        size = (image.shape[2], image.shape[3])
        for layer, maps in regions.maps(image).items():
            best[layer] = merged(best[layer], maps.float().cpu(), torch.arange(seen, seen + len(image)), shown)
            for first, above in regions.above(layer, maps, thresholds[layer], size):
                counting[layer].update(first, above, own, others, known)
        seen += len(image)
    held = concepts.held()
    return (
        {layer: each.counts(held, pixels) for layer, each in counting.items()},
        {layer: kept for layer, kept in best.items() if kept is not None},
    )


def _grown(total: Tensor, counts: Tensor) -> Tensor:
    """Return the sum of counts, of which the second may know more combinations."""
    counts[: len(total)] += total
    return counts


def _forms(counts: Counts, length: int, beam: int, layer: str) -> Iterator[Form]:
    """Yield the form that is nearest to each channel."""
    for hits in progress(counts.hits, f"forms of {layer}"):
        yield nearest_form(hits, counts.pixels, counts.held, length, beam)
