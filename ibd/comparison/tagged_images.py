"""What a shortcut does to a model, and which methods show it: on drawn images that have tags."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import torch

from ibd.comparison.answers import CHUNK, ask
from ibd.comparison.asked import Case
from ibd.comparison.cells import Arrays
from ibd.comparison.honesty import shortcut_figures, tagged
from ibd.comparison.methods import Method
from ibd.comparison.nulls import null_maps
from ibd.comparison.results import Comparison
from ibd.errors import UnsupportedError


def add_shortcut(found: Comparison, case: Case, methods: Sequence[Method]) -> None:
    """Add accuracies with the tag of the class, without, with another's, and what methods' maps show of it.

    Nothing where the images have no tags. All images are given the tag of their class, and explained so.
    """
    questions, subject = case.questions, case.subject
    indices = questions.index.tolist()
    try:
        images, _ = tagged(subject.data.dataset(questions.split), indices)
    except UnsupportedError:
        return
    classes = case.predictor.predicted(images).cpu()

    def compute() -> Arrays:
        maps = {"noise": null_maps("noise", images, questions.ids, case.seed)}
        for method in (each for each in methods if each.explainer is not None):
            try:
                parts = [
                    ask(subject.module, method, images[rows], classes[rows]).map
                    for rows in torch.split(torch.arange(len(images)), CHUNK)
                ]
            except UnsupportedError:
                continue
            known = [each for each in parts if each is not None]
            if len(known) == len(parts):
                maps[method.name] = torch.cat(known).cpu()
        figures, _ = shortcut_figures(subject.module, subject.data, indices, maps, split=questions.split)
        return {"figures": np.array(json.dumps(figures))}

    key = {"kind": "shortcut", "model": subject.fingerprint, "data": questions.fingerprint, "seed": case.seed}
    arrays = case.cells.get(key | {"methods": [each.key for each in methods]}, compute)
    found.shortcut[subject.info.name] = json.loads(str(arrays["figures"]))
