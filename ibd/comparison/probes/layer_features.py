"""Measures what lies in a model's layers, by training images: labelled concepts, and channels that tell classes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from ibd.comparison.asked import Case
from ibd.comparison.images import fitted_split, some_images
from ibd.comparison.results import ConceptTests, Floats, ShownCluster
from ibd.comparison.self_consistency.redrawing import chunks
from ibd.data.masked import concept_masks, load_batch
from ibd.errors import UnsupportedError
from ibd.explain.activations import network_of
from ibd.explain.concept_slopes import class_gradients, tcav_of
from ibd.explain.feature_ablation import ablation_curve
from ibd.explain.feature_coverage import semantic_coverage
from ibd.explain.feature_selection import RelevantFeatures, rectified_layers, relevant_features
from ibd.explain.layer_features import LayerFeatures, pooled, read_features
from ibd.explain.tcav_results import Tcav
from ibd.metrics.axes import auc_matrix
from ibd.types import Batch

SELECTED = 5
"""Channels of a class that are taken out for the figure."""
_FITTED = 2000
"""Training images that are read."""
_COUNTS = (0, 1, 2, 3, SELECTED, 8, 12)
_RUNS = 5


@dataclass(frozen=True)
class LayerAccount:
    """What was measured.

    Attributes:
        figures: name -> figure.
        concepts: which classes rest on which concepts.
        counts: (n,) channels that were taken out.
        curves: "ablation_selected" (C, n), by class, and "ablation_random" (R, n), by draw -> accuracies.
        left_out: metric -> why it was not measured.
        clusters: the strangest clusters of relevance maps.
    """

    figures: dict[str, float]
    concepts: ConceptTests | None = None
    counts: Floats = field(default_factory=lambda: np.zeros(0))
    curves: dict[str, Floats] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    clusters: list[ShownCluster] = field(default_factory=list)


def concepts_account(case: Case) -> LayerAccount:
    """Return which classes rest on which concepts, by the backbone, or by the last layer of a network without.

    Raises:
        DataError: no concept has enough images.
        UnsupportedError: the logits do not depend on the layer.
    """
    model, spec = case.model.module, case.model.data.spec
    own = hasattr(network_of(model), "backbone")
    layer = "backbone" if own else rectified_layers(model, case.images.pixels[:2])[-1]
    loader = some_images(case.model.data, fitted_split(case.model.data), _FITTED, case.seed)
    read = read_features(model, loader, [layer], lambda maps: pooled(maps, "mean"))
    gradients = class_gradients(model, _batches(case), layer)
    truths = [spec.concept_names[k] for k in spec.truths]
    found = tcav_of(read, gradients, spec.concept_names, spec.class_names, layer, truths, runs=_RUNS)
    figures = {
        "tcav_significant": float(found.significant.double().mean()),
        "tcav_truth": _truth(found, read, list(spec.concept_names), list(spec.class_names)),
        "tcav_auroc": float(found.auroc.mean()),
    }
    return LayerAccount(
        figures,
        ConceptTests(
            layer=layer,
            concepts=list(found.concepts),
            classes=list(found.classes),
            scores=found.scores.numpy(),
            p_values=found.p_values.numpy(),
        ),
    )


def channels_account(case: Case) -> LayerAccount:
    """Return which channels tell the classes, what is lost without them, and how well they meet masks.

    Raises:
        DataError: the images that are read are all of one class.
        UnsupportedError: the model has no layers with maps.
    """
    model, data = case.model.module, case.model.data
    loader = some_images(data, fitted_split(data), _FITTED, case.seed)
    found = relevant_features(model, loader, data.spec.class_names)
    curve = ablation_curve(model, found, _batches(case), _COUNTS, seed=case.seed)
    place = curve.counts.index(SELECTED)
    figures = {
        "relevant_accuracy": found.accuracy,
        "relevant_ablated": float(curve.selected[place]),
        "relevant_ablated_random": float(curve.random[:, place].mean()),
        "relevant_units": float((found.weights != 0).sum(1).double().mean()),
    }
    left_out = {}
    try:
        figures |= _coverage(case, found)
    except UnsupportedError as error:
        left_out["relevant_coverage"] = str(error)
    kept = curve.classes[:, ~curve.classes.isnan().all(0)].t().numpy()
    curves = {"ablation_selected": kept, "ablation_random": curve.random.numpy()}
    return LayerAccount(figures, None, np.array(curve.counts, dtype=np.float64), curves, left_out)


def _coverage(case: Case, found: RelevantFeatures) -> dict[str, float]:
    """Return the semantic coverage of the selected channels, and that of others."""
    dataset, spec = case.model.data.dataset(case.images.split), case.model.data.spec
    names: list[str] = []
    batches: list[tuple[Tensor, Tensor]] = []
    for some in chunks(case.images.index.tolist(), case.model.data.batch_size):
        batch = load_batch(dataset, some, masks=True)
        names, masks = concept_masks(batch, dataset, spec)
        batches.append((batch.image, masks))
    coverage = semantic_coverage(case.model.module, found, batches, names, seed=case.seed)
    return {"relevant_coverage": coverage.covered, "relevant_coverage_random": float(coverage.random.mean())}


def _batches(case: Case) -> list[Batch]:
    """Return the compared images as batches."""
    chosen = case.images
    every = Batch(chosen.pixels, chosen.labels, torch.zeros(len(chosen), 0), torch.arange(len(chosen)))
    parts = chunks(range(len(chosen)), case.model.data.batch_size)
    return [every.select(torch.tensor(list(some))) for some in parts]


def _truth(found: Tcav, read: LayerFeatures, concept_names: list[str], class_names: list[str]) -> float:
    """Return the AUROC of slopes for which classes have which concepts; NaN where all or none have."""
    slopes = found.own.slope.mean(2)
    holds = torch.full_like(slopes, torch.nan)
    for k, concept in enumerate(found.concepts):
        column = read.concepts[:, concept_names.index(concept)]
        for c, name in enumerate(found.classes):
            known = column[read.labels == class_names.index(name)]
            holds[k, c] = known.nanmean()
    return float(auc_matrix(slopes.reshape(-1, 1), holds.reshape(-1, 1)))
