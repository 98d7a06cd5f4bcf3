"""Comparisons made up of scores alone."""

import numpy as np

from ibd.comparison.results import Comparison, ExplainerInfo, ModelInfo

KINDS = {"intrinsic": "intrinsic", "gradcam": "posthoc", "lrp": "posthoc", "noise": "reference", "oracle": "oracle"}


def made(scores, kinds=KINDS, models=("m",), images=40, accuracy=0.9, classes=("a",), asked=0, majority=0.0, **more):
    """Return a comparison of one family; scores: {(explainer, metric): (N,) or number}, the same for every model.

    The models classify `accuracy` of `asked` images rightly, of which `majority` are of one class.
    """
    rng = np.random.default_rng(0)
    values = {}
    for (explainer, metric), value in scores.items():
        for model in models:
            noise = 0.05 * rng.normal(size=images)
            values[model, explainer, metric] = value + noise if np.isscalar(value) else np.asarray(value, dtype=float)
    return Comparison(
        settings={},
        class_names=[*classes],
        part_names=[],
        models=[
            ModelInfo(model, "cbm", "run", i, accuracy, "concept", images=asked, majority=majority)
            for i, model in enumerate(models)
        ],
        explainers=[ExplainerInfo(name, kind) for name, kind in kinds.items()],
        metrics=list(dict.fromkeys(metric for _, metric in scores)),
        image_ids=[str(i) for i in range(images)],
        labels=np.zeros(images, dtype=np.int64),
        scores=values,
        **more,
    )
