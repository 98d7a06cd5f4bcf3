"""Testing with concept activation vectors: does a class rest on a concept, at a layer of any model (Kim et al. 2018)?

The slope of a class's logit along a concept's direction tells, image by image, whether more of the concept speaks for
the class. The share of the class's images where it does is the TCAV score. Directions between images that were put on
either side at random have slopes, too: a concept counts where its own lies far outside of theirs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ibd.distributed import progress
from ibd.errors import ConfigError, DataError, UnsupportedError, check_range, did_you_mean
from ibd.explain.activations import device_of
from ibd.explain.base import Call, undisturbed
from ibd.explain.cav import Examples, Fit, choose_examples, chosen_concepts, fit_vector, held_out_scores
from ibd.explain.layer_features import LayerFeatures, Pooling, batch_of, feature_layer, pooled, read_features
from ibd.explain.layers import LayerCut, precise
from ibd.explain.layouts import Layout
from ibd.explain.scalars import Scalar
from ibd.explain.targets import Target
from ibd.explain.tcav_results import Slopes, Tcav, against_random

_FEWEST_RANDOM = 10
_MOST_DRAWS = 10**6
"""Draws that belong to one seed."""


@dataclass(frozen=True)
class ClassGradients:
    """The gradient of each image's own class by a layer, (N, D), summed over the cells where those are pooled."""

    values: Tensor
    labels: Tensor


def tcav(
    model: nn.Module,
    examples: Iterable[object],
    images: Iterable[object],
    names: Sequence[str],
    class_names: Sequence[str],
    layer: str | None = None,
    concepts: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    pooling: Pooling = "mean",
    fit: Fit | None = None,
    runs: int = 10,
    random: int = 30,
    scalar: Scalar = "logit",
    layout: Layout = "auto",
) -> Tcav:
    """Return whether classes rest on concepts, by a layer, with a test of significance.

    Every concept gets several vectors, from the same images with it and others without it each time. So do sets of
    images that were drawn at random, as large as those of the concept.

    Args:
        model: ours, or any classifier of (B, 3, H, W) images in [0, 1]; it is left as it was.
        examples: loader of a `Batch` with concepts, which vectors are fitted on: training images.
        images: loader of a `Batch` whose classes' slopes are taken: images that no vector was fitted on.
        names: names of the K concepts of a batch.
        class_names: names of the classes, in the order of the logits.
        layer: name of a layer that puts out a map or a vector; None is the model's ``backbone``.
        concepts: names of concepts, or of groups of them; None takes all.
        classes: names of classes; None takes all that there are images of.
        pooling: "mean", where a slope is that of moving every cell along the vector; or "flat", as published.
        fit: way in which a vector is fitted; its ``examples`` are those on either side.
        runs: vectors of each concept.
        random: random sets; more of them make the test stronger, by little from 30 on.
        scalar: what of a class's logit is asked about, see `Target.cls`.
        layout: axis of the layer's output that holds the channels; "auto" tells it, or refuses.

    Raises:
        ConfigError: no such layer, concept, class or option.
        DataError: no images of a class, or too few with or without any of the concepts.
        UnsupportedError: the layer puts out neither a map nor a vector, or the logits do not depend on it.
    """
    check_range("runs", runs, least=2)
    check_range("random", random, least=_FEWEST_RANDOM)
    where = feature_layer(model, layer)
    chosen_concepts(names, concepts)
    wanted = chosen_classes(class_names, classes)
    read = read_features(model, examples, [where], lambda maps: pooled(maps, pooling), layout)
    gradients = class_gradients(model, images, where, wanted, pooling, scalar, layout)
    return tcav_of(read, gradients, names, class_names, where, concepts, fit, runs, random)


def class_gradients(
    model: nn.Module,
    data_loader: Iterable[object],
    layer: str,
    classes: Sequence[int] | None = None,
    pooling: Pooling = "mean",
    scalar: Scalar = "logit",
    layout: Layout = "auto",
) -> ClassGradients:
    """Return the gradient of the logit of each image's own class by a layer. The model is left as it was.

    Args:
        model: ours, or any classifier of (B, 3, H, W) images in [0, 1].
        data_loader: loader of a `Batch`.
        layer: name of a layer that puts out a map or a vector.
        classes: classes whose images are asked about; None are all.
        pooling: "mean": gradients are summed over the cells, which is the slope of moving all of them alike; or "flat".
        scalar: what of the logit is asked about.
        layout: axis of the layer's output that holds the channels.

    Raises:
        ConfigError: no such layer, or another pooling.
        DataError: no images of these classes.
        UnsupportedError: the logits do not depend on the layer.
    """
    if pooling not in ("mean", "flat"):
        raise ConfigError(f"pooling: '{pooling}' is not one of mean, flat, along which a logit has a slope")
    values, labels = [], []
    with undisturbed(model):
        for batch in progress(data_loader, "gradients of classes"):
            kept = batch_of(batch)
            if classes is not None:
                kept = kept.select(torch.isin(kept.label, torch.tensor(list(classes))))
            if not len(kept):
                continue
            target = Target.cls(kept.label.tolist(), scalar)
            at = LayerCut(Call(model, target, layout), kept.image.to(device_of(model)), layer)
            gradient = precise(at.gradients())[:, 0]
            if gradient.dim() not in (2, 4):
                raise UnsupportedError(f"layer '{layer}' puts out neither a map nor a vector for each image")
            values.append((gradient.flatten(2).sum(2) if pooling == "mean" else gradient.flatten(1)).cpu())
            labels.append(kept.label)
    if not values:
        raise DataError("there are no images of the classes that are asked about")
    return ClassGradients(torch.cat(values), torch.cat(labels))


def tcav_of(
    examples: LayerFeatures,
    gradients: ClassGradients,
    names: Sequence[str],
    class_names: Sequence[str],
    layer: str,
    concepts: Sequence[str] | None = None,
    fit: Fit | None = None,
    runs: int = 10,
    random: int = 30,
) -> Tcav:
    """Return the same from features and gradients that were read before; see `tcav`."""
    fit, features = fit or Fit(), examples.values[layer]
    if features.shape[1] != gradients.values.shape[1]:
        raise ConfigError(
            f"layer '{layer}': {features.shape[1]} features and {gradients.values.shape[1]} gradients: images of one "
            "size, pooled in the same way, are needed"
        )
    classes = sorted(set(gradients.labels.tolist()))
    own, aurocs, sizes = list[Slopes](), list[float](), list[int]()
    every, left_out = _with_examples(examples.concepts, names, chosen_concepts(names, concepts), fit)
    for k, whole in progress(every.items(), "concepts"):
        chosen = whole._replace(positives=whole.positives[: _round_size(len(whole.positives), fit.examples)])
        vectors, auroc = _own_vectors(features, examples.concepts[:, k], chosen, names[k], fit, runs)
        own.append(_slopes(vectors, gradients, classes))
        aurocs.append(auroc)
        sizes.append(len(chosen.positives))
    by_size = {size: _random_slopes(features, gradients, classes, size, fit, runs, random) for size in set(sizes)}
    return against_random(
        layer=layer,
        concepts=[names[k] for k in every],
        classes=[class_names[c] for c in classes],
        images=[int((gradients.labels == c).sum()) for c in classes],
        own=Slopes.stack(own),
        random=[by_size[size] for size in sizes],
        auroc=aurocs,
        examples=sizes,
        left_out=left_out,
    )


def _with_examples(
    concepts: Tensor, names: Sequence[str], wanted: Sequence[int], fit: Fit
) -> tuple[dict[int, Examples], list[str]]:
    """Return the images of each concept that has enough of them, and why others are left out.

    Raises:
        DataError: no concept has.
    """
    found, left_out = dict[int, Examples](), list[str]()
    for k in wanted:
        try:
            found[k] = choose_examples(concepts[:, k], names[k], fit.examples, fit.seed)
        except DataError as error:
            left_out.append(str(error))
    if not found:
        raise DataError(left_out[0])
    return found, left_out


def _round_size(count: int, most: int) -> int:
    """Return the nearest size from below of a few: the most, and each 0.7 of the one before.

    Random sets must be as large as a concept's; of few sizes there are few random sets to make.
    """
    size = float(most)
    while size > count:
        size *= 0.7
    return int(size)


def chosen_classes(class_names: Sequence[str], wanted: Sequence[str] | None) -> list[int] | None:
    """Return the positions of classes by name; None, which are all, as it is.

    Raises:
        ConfigError: an unknown name.
    """
    for name in wanted or ():
        if name not in class_names:
            raise ConfigError(f"classes: there is no class '{name}'.{did_you_mean(name, class_names)}")
    return None if wanted is None else [list(class_names).index(name) for name in wanted]


def _own_vectors(
    features: Tensor, holds: Tensor, chosen: Examples, name: str, fit: Fit, runs: int
) -> tuple[Tensor, float]:
    """Return the (runs, D) vectors of a concept, each with other images without it, and their mean held-out AUROC."""
    positives = features[chosen.positives]
    pool = (holds < 0.5).nonzero().flatten()
    pool = pool[~torch.isin(pool, chosen.held_negatives)]
    vectors, total = [], 0.0
    for run in range(runs):
        vector, offset = fit_vector(positives, features[_drawn(pool, len(positives), fit.seed, run)], fit, name)
        total += held_out_scores(vector, offset, features, chosen)["auroc"]
        vectors.append(vector)
    return torch.stack(vectors), total / runs


def _random_slopes(
    features: Tensor, gradients: ClassGradients, classes: Sequence[int], size: int, fit: Fit, runs: int, random: int
) -> Slopes:
    """Return the slopes along vectors between images that were drawn at random: (M, C, runs)."""
    found = []
    for number in progress(range(random), "random sets"):
        order = _drawn(torch.arange(len(features)), len(features), fit.seed, runs + number)
        ends, pool = features[order[:size]], order[size:]
        drawn = (features[_drawn(pool, size, fit.seed, run)] for run in range(runs))
        vectors = [fit_vector(ends, others, fit, f"random set {number}")[0] for others in drawn]
        found.append(_slopes(torch.stack(vectors), gradients, classes))
    return Slopes.stack(found)


def _drawn(pool: Tensor, count: int, seed: int, number: int) -> Tensor:
    """Return some of a pool at random, other ones for each number."""
    generator = torch.Generator().manual_seed(seed * _MOST_DRAWS + number)
    return pool[torch.randperm(len(pool), generator=generator)[:count]]


def _slopes(vectors: Tensor, gradients: ClassGradients, classes: Sequence[int]) -> Slopes:
    """Return what the slopes of classes along (R, D) vectors come to, (C, R) each."""
    slopes = gradients.values.double() @ vectors.t()
    return Slopes.stack([Slopes.of(slopes[gradients.labels == c]) for c in classes])
