"""Whether the units account for a prediction, how much of it units with a name carry, and how many it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ibd.comparison.self_consistency.reading import check_indices, encoded, require_network
from ibd.comparison.self_consistency.redrawing import chunks
from ibd.data.dataset import ImageDataset
from ibd.data.masked import load_batch
from ibd.metrics.compactness import explanation_size
from ibd.metrics.functional.checks import double, ratio
from ibd.metrics.functional.self_consistency import unit_completeness
from ibd.models.base import InterpretableNetwork, evaluating

SHARE = 0.9
"""Share of what all units together add for and against that the counted ones make up."""


@dataclass(frozen=True)
class UnitAccount:
    """What the prediction of each of N images rests on.

    Attributes:
        error: (N,) |bias + sum of contributions - logit| of the predicted class; NaN where the network has no bias that
            the units leave over.
        named: (N,) share, in [0, 1], of what speaks for and against the predicted class rather than the others that is
            of units with a name, the bias counted among what has none; NaN where nothing does.
        needed: (N,) how many units make up 90 % of what units add for and against.
        units: number of all units.
    """

    error: Tensor
    named: Tensor
    needed: Tensor
    units: int

    def figures(self) -> dict[str, float]:
        """Return the largest error, and the means."""
        known = self.error[~self.error.isnan()]
        return {
            "completeness_error": float(known.max()) if len(known) else float("nan"),
            "named_share": float(self.named.nanmean()),
            "units_for_90": float(self.needed.nanmean()),
            "units": float(self.units),
        }


def unit_account(model: nn.Module, dataset: ImageDataset, indices: Sequence[int], batch_size: int = 64) -> UnitAccount:
    """Return how far the contributions of units add up to the predictions, and how they are shared out.

    Shares are of contributions to the predicted class less their mean over all classes: what a unit adds to every class
    decides nothing. Named are concepts, prototypes, and the axes that stand for a concept; channels are not.

    Args:
        model: a module of ours, or its network.
        dataset: split of the data.
        indices: indices of the images in it.
        batch_size: images in a pass.
    """
    check_indices(indices)
    network = require_network(model)
    with evaluating(model), torch.inference_mode():
        parts = [_account(network, load_batch(dataset, some).image) for some in chunks(indices, batch_size)]
    error, named, needed = (torch.cat(part) for part in zip(*parts, strict=True))
    return UnitAccount(error, named, needed, len(network.unit_names))


def _account(network: InterpretableNetwork, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    logits, units = encoded(network, image)
    contributions = network.contributions(units)
    predicted = logits.argmax(1)
    row = torch.arange(len(logits), device=logits.device)
    value, added = logits[row, predicted], contributions[row, :, predicted]
    rest = network.bias()
    error = torch.full((len(value),), torch.nan, dtype=torch.float64)
    if network.has_bias or network.additive:
        error = unit_completeness(rest[predicted], added, value).cpu()
    unaccounted = (double(rest) - double(rest).mean())[predicted].abs().cpu()
    deciding = double(contributions) - double(contributions).mean(2, keepdim=True)
    size = deciding[row, :, predicted].abs().cpu()
    share = ratio(size[:, network.named_units()].sum(1), size.sum(1) + unaccounted)
    return error, share, explanation_size(deciding, predicted, SHARE).cpu().double()
