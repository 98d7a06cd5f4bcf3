"""How right a model is without the units that have a name, and with these alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ibd.comparison.self_consistency.reading import encoded, require_network
from ibd.comparison.self_consistency.redrawing import chunks
from ibd.data.dataset import ImageDataset
from ibd.data.masked import load_batch
from ibd.models.base import evaluating
from ibd.models.bypass import reduced_logits, require_names, typical_units


def bypass_figures(
    model: nn.Module, dataset: ImageDataset, train: ImageDataset, indices: Sequence[int], batch_size: int = 64
) -> dict[str, float]:
    """Return accuracies by name: "accuracy_whole", and "accuracy_" with what `ibd.models.bypass.reduced_logits` names.

    Args:
        model: a module of ours.
        dataset: split of the data.
        train: the training split, whose images say what units are on average.
        indices: indices of the images in `dataset`.
        batch_size: images in a pass.

    Raises:
        UnsupportedError: its units have no names, or the classes are sums over them alone.
    """
    network = require_network(model)
    require_names(network)
    typical = typical_units(network, train, batch_size=batch_size)
    right: dict[str, int] = {}
    with evaluating(model), torch.inference_mode():
        for some in chunks(indices, batch_size):
            logits, units = encoded(model, load_batch(dataset, some).image)
            label = dataset.labels[list(some)].to(logits.device)
            for name, reduced in {"whole": logits, **reduced_logits(network, units, typical)}.items():
                right[name] = right.get(name, 0) + int((reduced.argmax(1) == label).sum())
    return {f"accuracy_{name}": count / len(indices) for name, count in right.items()}
