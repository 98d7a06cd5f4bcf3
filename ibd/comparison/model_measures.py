"""Measurements that ask the model, or the explainer, again: pixels taken away, changed images, randomised networks."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ibd.comparison.asked import Asked
from ibd.comparison.cells import Arrays
from ibd.comparison.nulls import NULLS, NullExplainer
from ibd.comparison.probes.robustness import SHIFTS, changed_maps
from ibd.comparison.probes.sanity import sanity as check_sanity
from ibd.comparison.probes.units import completeness, encoded, interpretable, unit_tables
from ibd.comparison.results import Sanity
from ibd.metrics.functional.curves import ablation_gain, abpc, aopc, deletion_auc, insertion_auc, road, selectivity
from ibd.metrics.functional.robustness import continuity, local_lipschitz, max_sensitivity, translation_equivariance


def pixels(asked: Asked) -> Arrays:
    """Return what happens to the prediction while pixels, and regions, are taken away by a map.

    Deletion and insertion are of the probability, pixel by pixel; AOPC and selectivity of the centred logit, by
    regions.
    """
    probe = asked.case.pixels
    single, region = probe.pixels(asked.maps), probe.regions(asked.maps)
    deletion, insertion = single.morf.probability, single.insertion.probability
    morf, lerf = region.morf.centred, region.lerf.centred
    scores = {
        "deletion": deletion_auc(deletion, single.fractions),
        "insertion": insertion_auc(insertion, single.inserted),
        "aopc_morf": aopc(morf),
        "aopc_lerf": aopc(lerf),
        "abpc": abpc(morf, lerf),
        "selectivity": selectivity(morf, region.fractions),
    }
    curves = {"deletion": deletion, "insertion": insertion, "aopc_morf": morf, "aopc_lerf": lerf}
    x = {
        "deletion": single.fractions,
        "insertion": single.inserted,
        "aopc_morf": region.fractions,
        "aopc_lerf": region.fractions,
    }
    return _plain(scores) | _plain(curves, "curve:") | _plain(x, "x:")


def road_scores(asked: Asked) -> Arrays:
    """Return what is left of the accuracy where pixels are imputed, the highest or the lowest."""
    tables = asked.case.pixels.road(asked.maps)
    return _plain({"road": road(tables.morf.kept, tables.fractions, tables.lerf.kept)})


def robustness(asked: Asked) -> Arrays:
    """Return how much an explanation moves where image and prediction hardly do, and whether it goes with a shift."""
    case, count = asked.case, asked.case.probe_images
    maps, module, classes = asked.maps[:count], case.subject.module, case.classes[:count]
    noise, moved = case.changed
    noisy = changed_maps(_explainer(asked), module, classes, noise)
    shifted = changed_maps(_explainer(asked), module, classes, moved)
    return _plain(
        {
            "local_lipschitz": local_lipschitz(maps, noisy, noise.distance, noise.valid),
            "continuity": continuity(maps, noisy, noise.distance, noise.valid),
            "max_sensitivity": max_sensitivity(maps, noisy, noise.valid),
            "translation_equivariance": translation_equivariance(maps, shifted, SHIFTS, moved.valid),
        }
    )


def sanity(asked: Asked) -> Arrays:
    """Return whether an explanation depends on what the model learned, on the class and on the image."""
    case, count = asked.case, asked.case.probe_images
    questions = case.questions.first(count)
    found = check_sanity(
        _explainer(asked),
        case.subject.module,
        questions.images,
        case.classes[:count],
        ids=questions.ids,
        maps=asked.maps[:count],
        class_count=len(case.subject.module.network.class_names),
        most=case.stages,
        seed=case.seed,
    )
    plain: dict[str, Any] = asdict(found)
    arrays: Arrays = {name: plain.pop(name) for name in ("similarity", "low", "high")}
    return arrays | {"sanity": np.array(json.dumps(plain))}


def as_sanity(arrays: Arrays) -> Sanity:
    """Return what `sanity` has written down."""
    plain: dict[str, Any] = json.loads(str(arrays["sanity"]))
    return Sanity(**plain, similarity=arrays["similarity"], low=arrays["low"], high=arrays["high"])


def units(asked: Asked) -> Arrays:
    """Return how much sooner a prediction falls where the units go that the model says it rests on.

    A unit is set to its mean over the images.
    """
    assert asked.answers.units is not None
    case = asked.case
    network, encodings = interpretable(case.predictor), encoded(case.predictor, case.questions.images)
    means = network.passed(encodings).mean(0)
    ids = case.questions.ids
    found = unit_tables(case.predictor, encodings, asked.answers.units, case.classes, ids, value=means, seed=case.seed)
    ordered, random = found.ordered.centred, found.random.centred
    scores = {
        "unit_ablation": ablation_gain(ordered, random, found.fractions),
        "unit_completeness": completeness(network, encodings, case.classes),
    }
    curves = {
        "unit_ablation": ordered,
        "unit_ablation_random": random,
        "unit_ablation_reversed": found.reversed.centred,
    }
    return _plain(scores) | _plain(curves, "curve:") | _plain(dict.fromkeys(curves, found.fractions), "x:")


def _explainer(asked: Asked) -> Any:
    """Return what explains again: the explainer, or for a null one that makes its maps of any image."""
    if asked.method.explainer is not None:
        return asked.method.explainer
    assert asked.method.name in NULLS
    return NullExplainer(asked.method.name, asked.case.seed)


def _plain(values: dict[str, Tensor], prefix: str = "") -> Arrays:
    return {prefix + name: torch.as_tensor(value).double().cpu().numpy() for name, value in values.items()}
