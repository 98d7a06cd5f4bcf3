"""The CAMs that weigh a channel by what happens to the score when it alone is taken away, or left."""

from __future__ import annotations

import torch
from torch import Tensor

from ibd.distributed import progress
from ibd.errors import check_range
from ibd.explain.baselines import warn_of_scale
from ibd.explain.cam import formulas
from ibd.explain.cam.base import CamExplainer, affine_gradients
from ibd.explain.layers import LayerCut, einsum, precise
from ibd.explain.layouts import Layout
from ibd.explain.render import upsample


class AblationCAM(CamExplainer):
    """``relu(sum_c (y - y without c) / |y| A_c)`` (Ramaswamy & Desai 2020).

    Only what comes after the layer runs again, once for each channel; where that is affine, the drops are
    ``sum_ij(G_c A_c)``, exactly, and nothing runs again. The published weight divides by y, which turns the map of a
    negative score over; here its size alone divides.

    Args:
        layer: name of a module that puts out a map; None finds the last, see `CamExplainer`.
        relu: whether only what speaks for the score is kept, as published.
        relative: whether drops are divided by the size of the score, as published.
        layout: axis of the map that holds the channels, see `CamExplainer`.
    """

    name = "ablationcam"
    replays = True

    def __init__(
        self, layer: str | None = None, relu: bool = True, relative: bool = True, layout: Layout = "auto"
    ) -> None:
        super().__init__(layer, relu, layout)
        self.relative = relative

    def maps(self, at: LayerCut) -> Tensor:
        """Return the maps."""
        value, scores = precise(at.value), precise(at.scores)
        gradients = affine_gradients(at)
        if gradients is not None:
            drops = einsum("bkchw,bchw->bkc", gradients, value)
        else:
            drops = scores.unsqueeze(2) - self._without(at).permute(1, 2, 0)
        if self.relative:
            size = scores.abs().unsqueeze(2)
            drops = drops / torch.where(size > 0, size, 1.0)
        return formulas.weighted(drops, value)

    @staticmethod
    def _without(at: LayerCut) -> Tensor:
        """Return the scores without each channel, (C, B, K)."""
        value = at.value.detach()

        def change(start: int, stop: int) -> Tensor:
            changed = value.expand(stop - start, *value.shape).clone()
            for index in range(start, stop):
                changed[index - start, :, index] = 0
            return changed

        return precise(at.many(change, value.shape[1]))


class ScoreCAM(CamExplainer):
    """``relu(sum_c w_c A_c)``, w the softmax over channels of the scores of images masked by them (Wang et al. 2020).

    A mask is the channel brought to the image's size and scaled to [0, 1]; it multiplies the image in [0, 1], so that
    what is masked is black. One pass of the model for each channel that is not the same everywhere.

    Args:
        layer: name of a module that puts out a map; None finds the last, see `CamExplainer`.
        relu: whether only what speaks for the score is kept, as published.
        chunk: masked images that are run at a time.
        layout: axis of the map that holds the channels, see `CamExplainer`.
    """

    name = "scorecam"

    def __init__(self, layer: str | None = None, relu: bool = True, chunk: int = 16, layout: Layout = "auto") -> None:
        super().__init__(layer, relu, layout)
        check_range("chunk", chunk, least=1)
        self.chunk = chunk

    def check_scale(self, image: Tensor) -> None:
        """Warn where what is masked is not black."""
        warn_of_scale(self.name, image, "black", "")

    @torch.no_grad()
    def maps(self, at: LayerCut) -> Tensor:
        """Return the maps."""
        value = precise(at.value)
        rows = [self._scores(at, value, row) for row in range(len(value))]
        return formulas.weighted(torch.stack(rows).transpose(1, 2).softmax(2), value)

    def _scores(self, at: LayerCut, value: Tensor, row: int) -> Tensor:
        """Return the scores of an image masked by each of its channels, (C, K)."""
        image, target = at.image[row : row + 1], at.target.select(slice(row, row + 1))
        maps = value[row]
        flat = maps.flatten(1)
        live = (flat.amax(1) > flat.amin(1)).nonzero().flatten()
        black = precise(at.call.scores(torch.zeros_like(image), target))
        scores = black.repeat(len(maps), 1)
        parts = torch.split(live, self.chunk)
        for part in progress(parts, "Score-CAM"):
            masks = formulas.scale_to_one(upsample(maps[part].unsqueeze(0), (image.shape[2], image.shape[3]))[0])
            masked = image * masks.unsqueeze(1).to(image.dtype)
            scores[part] = precise(at.call.scores(masked, target.repeat(len(part))))
        return scores
