"""What a shortcut does to a model, and which methods show it: on drawn images that have tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ibd.comparison.asked import Case
from ibd.comparison.attributions import CHUNK, ask
from ibd.comparison.methods import Method
from ibd.comparison.reference_maps import reference_maps
from ibd.comparison.results import Comparison
from ibd.comparison.self_consistency import shortcut_figures, tagged
from ibd.errors import UnsupportedError


@dataclass(frozen=True)
class Shortcut:
    """Name -> figure; see `ibd.comparison.self_consistency.shortcut_figures`."""

    figures: dict[str, float]


def add_shortcut(comparison: Comparison, case: Case, methods: Sequence[Method]) -> None:
    """Add accuracies with the tag of the class, without, with another's, and what methods' maps show of it.

    Nothing where the images have no tags. All images are given the tag of their class, and explained so.
    """
    chosen, model = case.images, case.model
    indices = chosen.index.tolist()
    try:
        images, _ = tagged(model.data.dataset(chosen.split), indices)
    except UnsupportedError:
        return
    classes = case.predictor.predicted(images).cpu()

    def compute() -> Shortcut:
        maps = {"noise": reference_maps("noise", images, chosen.ids, case.seed)}
        for method in (method for method in methods if method.explainer is not None):
            try:
                parts = [
                    ask(model.module, method, images[rows], classes[rows]).map
                    for rows in torch.split(torch.arange(len(images)), CHUNK)
                ]
            except UnsupportedError:
                continue
            known = [part for part in parts if part is not None]
            if len(known) == len(parts):
                maps[method.name] = torch.cat(known).cpu()
        figures, _ = shortcut_figures(model.module, model.data, indices, maps, split=chosen.split)
        return Shortcut(figures)

    key = {"kind": "shortcut", "model": model.fingerprint, "data": chosen.fingerprint, "seed": case.seed}
    kept = case.cache.get(key | {"methods": [method.key for method in methods]}, Shortcut, compute)
    comparison.shortcut[model.info.name] = kept.figures
