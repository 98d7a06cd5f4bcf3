"""The CAMs that one pass and one gradient give."""

from __future__ import annotations

from torch import Tensor

from ibd.errors import UnsupportedError
from ibd.explain.cam import formulas
from ibd.explain.cam.base import CamExplainer, GradientCam, affine_gradients, evenly
from ibd.explain.layers import Formula, LayerCut, precise
from ibd.explain.layouts import Layout

_CANCELLED = 1e-3
"""Share of what is added up in a cell that is no more than rounding, and the constant of a normalization."""


class CAM(CamExplainer):
    """``sum_c w_c A_c`` with the weights of the linear layer after a mean over positions (Zhou et al. 2016).

    Exact, so that the map's mean and the bias are the score; refused where the head is anything else. That is tried,
    not read off: it needs no name of a layer.

    Args:
        layer: name of a module that puts out a map; None finds the last, see `CamExplainer`.
        relu: whether only what speaks for the score is kept; as published it is not.
        layout: axis of the map that holds the channels, see `CamExplainer`.
    """

    name = "cam"
    replays = True

    def maps(self, at: LayerCut) -> Tensor:
        """Return the maps.

        Raises:
            UnsupportedError: the score is no mean over positions followed by a linear layer.
        """
        gradients = affine_gradients(at)
        if gradients is None or not evenly(gradients):
            what = "is not linear in the map" if gradients is None else "does not weigh all positions alike"
            raise UnsupportedError(
                f"'cam' needs a mean over positions and a linear layer after the map, but this score {what}: use "
                "'gradcam' or 'hirescam', which give the same result wherever 'cam' works"
            )
        cells = at.value.shape[2] * at.value.shape[3]
        return cells * formulas.gradcam(precise(at.value), gradients)


class _Positive(GradientCam):
    """Maps of which, as published, only what speaks for the score is kept; arguments as of `CamExplainer`."""

    def __init__(self, layer: str | None = None, relu: bool = True, layout: Layout = "auto") -> None:
        super().__init__(layer, relu, layout)


class GradCAM(_Positive):
    """``relu(sum_c mean_ij(G_c) A_c)`` (Selvaraju et al. 2017)."""

    name = "gradcam"
    formula = staticmethod(formulas.gradcam)


class HiResCAM(GradientCam):
    """``sum_c G_c A_c``, cell by cell; adds up to the score less its bias for a linear head (Draelos & Carin 2020).

    Args:
        layer: name of a module that puts out a map; None finds the last, see `CamExplainer`.
        relu: whether only what speaks for the score is kept; as published it is not.
        layout: axis of the map that holds the channels, see `CamExplainer`.
    """

    name = "hirescam"
    formula = staticmethod(formulas.hirescam)

    @classmethod
    def formulas(cls) -> dict[str, Formula]:
        """Return the formula, and that of how much is added up."""
        return {**super().formulas(), "hirescam size": formulas.hirescam_size}

    def maps(self, at: LayerCut) -> Tensor:
        """Return the maps.

        Raises:
            UnsupportedError: they are 0 but for rounding, as where a normalization of each cell is all that follows:
                what a cell is multiplied by makes no difference then.
        """
        maps, size = super().maps(at), at.maps("hirescam size", self.formulas())
        cancelled = (maps.abs() <= _CANCELLED * size).flatten(2).all(2)[size.flatten(2).any(2)]
        if len(cancelled) and bool(cancelled.all()):
            raise UnsupportedError(
                f"'hirescam': gradient times activation cancels in every cell of '{at.described}', which a "
                "normalization of each cell follows: name a layer behind that, or use 'gradcam'"
            )
        return maps


class GradCAMPlusPlus(_Positive):
    """Grad-CAM with the positive gradients weighted so that every object counts (Chattopadhay et al. 2018)."""

    name = "gradcam++"
    formula = staticmethod(formulas.gradcam_plus_plus)


class XGradCAM(_Positive):
    """Grad-CAM with gradients weighted by activations (Fu et al. 2020)."""

    name = "xgradcam"
    formula = staticmethod(formulas.xgradcam)


class LayerCAM(_Positive):
    """``relu(sum_c relu(G_c) A_c)``, cell by cell; for any layer (Jiang et al. 2021)."""

    name = "layercam"
    formula = staticmethod(formulas.layercam)


class EigenCAM(CamExplainer):
    """The first principal component of the cells: the same map for every score (Muhammad & Yeasin 2020).

    Its sign is that by which it agrees with where the activations are large.

    Args:
        layer: name of a module that puts out a map; None finds the last, see `CamExplainer`.
        relu: whether only the positive part is kept; as published it is not.
        layout: axis of the map that holds the channels, see `CamExplainer`.
    """

    name = "eigencam"

    def maps(self, at: LayerCut) -> Tensor:
        """Return the maps."""
        maps = formulas.eigencam(precise(at.value))
        return maps.unsqueeze(1).expand(-1, at.scores.shape[1], -1, -1)
