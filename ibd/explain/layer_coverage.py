"""How much of what is annotated the relevant channels of a layer respond to, as more and more of them are taken."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ibd.errors import ConfigError, check_range
from ibd.explain.feature_coverage import channel_iou
from ibd.explain.layer_ablation import ablation_steps
from ibd.metrics.functional.dissection import weighted_iou


@dataclass(frozen=True)
class UnitCoverage:
    """Semantic coverage of channels of a layer: the mean over masks, by area, of the IoU of the best of them.

    More channels never cover less, whatever they are: what tells is the distance to as many at random.

    Attributes:
        layer: name of the layer.
        counts: (n,) channels that are taken, from 1.
        most: (n,) coverage of the most relevant ones.
        least: (n,) of the least relevant ones.
        random: (R, n) of random ones.
        names: names of the C masks.
        iou: (D, C) of every channel with every mask.
    """

    layer: str
    counts: tuple[int, ...]
    most: Tensor
    least: Tensor
    random: Tensor
    names: tuple[str, ...]
    iou: Tensor

    def __str__(self) -> str:
        """Return the curve as text."""
        lines = [f"{'channels':>8} {'most':>6} {'least':>6} {'random':>6}  least and largest draw"]
        for place, count in enumerate(self.counts):
            drawn = self.random[:, place]
            lines += [
                f"{count:>8} {float(self.most[place]):>6.3f} {float(self.least[place]):>6.3f} "
                f"{float(drawn.mean()):>6.3f}  {float(drawn.min()):.3f} to {float(drawn.max()):.3f}"
            ]
        return "\n".join(lines)


def unit_coverage(
    model: nn.Module,
    scores: Tensor,
    batches: Iterable[tuple[Tensor, Tensor]],
    names: Sequence[str],
    layer: str,
    counts: Sequence[int] | None = None,
    draws: int = 20,
    seed: int = 0,
) -> UnitCoverage:
    """Return how well annotated masks are met by the relevant channels of a layer; the model is left as it was.

    After Behzadi-Khormouji and Oramas (2023); IoU as of `ibd.explain.feature_coverage.Coverage`. One pass over the
    images; their maps of the layer are held in memory.

    Args:
        model: ours, or any of (B, 3, H, W) images in [0, 1].
        scores: (D,) relevance of each channel.
        batches: images (B, 3, H, W), and masks (B, C, H, W) bool.
        names: names of the C masks.
        layer: name of a layer with maps.
        counts: numbers of channels that are taken; by default powers of 2, and all.
        draws: random orders.
        seed: seed of these.

    Raises:
        ConfigError: scores of another shape, or counts that there are not.
        DataError: no images.
    """
    check_range("draws", draws, least=1)
    if scores.dim() != 1:
        raise ConfigError(f"scores of shape {tuple(scores.shape)} given, (D,) is needed")
    total = len(scores)
    steps = ablation_steps(total, counts)[1:]
    iou, area = channel_iou(model, [(layer, channel) for channel in range(total)], batches, names)
    rng = np.random.default_rng(seed)
    by_score = scores.detach().double().cpu()
    orders = [by_score.argsort(descending=True, stable=True), by_score.argsort(stable=True)]
    orders += [torch.from_numpy(rng.permutation(total)) for _ in range(draws)]
    best = [_running(iou[order]) for order in orders]
    curves = torch.stack([torch.stack([weighted_iou(rows[count - 1], area) for count in steps]) for rows in best])
    return UnitCoverage(layer, steps, curves[0], curves[1], curves[2:], tuple(names), iou)


def _running(iou: Tensor) -> Tensor:
    """Return (D, C): the best IoU of the first channels, 1 to D of them; NaN of a mask without pixels."""
    best = iou.nan_to_num(-1.0).cummax(0).values
    return best.where(best >= 0, torch.nan)
