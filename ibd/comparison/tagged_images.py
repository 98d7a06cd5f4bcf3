"""What a shortcut does to a model, and which methods show it: on drawn images that have tags."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ibd.comparison.asked import Case
from ibd.comparison.attributions import CHUNK, ask
from ibd.comparison.groups.record import FigureOf
from ibd.comparison.methods import Method
from ibd.comparison.reference_maps import reference_maps
from ibd.comparison.results import Comparison, ModelFigures
from ibd.comparison.self_consistency import shortcut_figures, tagged
from ibd.errors import UnsupportedError

FIGURES = (
    FigureOf("accuracy_aligned", "Accuracy with the tag of the class."),
    FigureOf("accuracy_absent", "Accuracy without a tag. The lower it is, the more the model rests on the tag."),
    FigureOf("accuracy_flipped", "Accuracy with the tag of another class."),
    FigureOf("flip_rate", "Share of predictions that change when the tag is removed."),
    FigureOf("follows_tag", "Share of images that the model assigns to the class of the tag that they are given."),
    FigureOf(
        "tag_area",
        "Share of the image that the tag covers: a map of noise has this share of its energy on the tag.",
    ),
    FigureOf("energy_on_tag", "Share of the positive part of a method's map that lies on the tag."),
    FigureOf(
        "reveals_tag",
        "Does the energy on the tag show which predictions change without it (AUROC)? 0.5: chance.",
    ),
    FigureOf(
        "input_dependence",
        "Share of images in which a meaningless shape gets less attribution than the same place without it. 0.5 "
        "by chance.",
    ),
)
"""What the table of a shortcut shows."""


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

    def compute() -> ModelFigures:
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
        return figures

    key = {"kind": "shortcut", "model": model.fingerprint, "data": chosen.fingerprint, "seed": case.seed}
    kept = case.cache.get(key | {"methods": [method.key for method in methods]}, ModelFigures, compute)
    comparison.shortcut[model.info.name] = kept
