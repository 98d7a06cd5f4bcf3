"""Ways to keep an image natural while it is made, by name, and all of them side by side.

The families are those of Olah et al. 2017: unregularized, frequencies penalized, robust to movements, a learned prior,
and images as they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ibd.errors import ConfigError, DataError, check_once, did_you_mean
from ibd.explain.feature_visualization.decoder import train_decoder
from ibd.explain.feature_visualization.denoiser import DenoisingExpert
from ibd.explain.feature_visualization.experts import GaussianExpert, MixtureExpert
from ibd.explain.feature_visualization.maximize import Visualization, maximize_activation
from ibd.explain.feature_visualization.objectives import Objective
from ibd.explain.feature_visualization.parametrizations import Colors, Fourier, Pixels
from ibd.explain.feature_visualization.penalties import L2, Blur, HighFrequency, TotalVariation
from ibd.explain.feature_visualization.spectrum import FixedSpectrum
from ibd.explain.feature_visualization.transforms import Transforms


class Material(NamedTuple):
    """What recipes are made with.

    Attributes:
        size: H and W of the images that are made.
        images: (N, C, H, W) in [0, 1], of the kind that the model was trained on; None where there are none.
        labels: (N,) classes of these, where they are known.
        classes: class of each image that is made, where it is made for one.
        seed: seed of what is learned.
        progress: whether to show bars.
    """

    size: tuple[int, int]
    images: Tensor | None = None
    labels: Tensor | None = None
    classes: tuple[int, ...] | None = None
    seed: int = 0
    progress: bool = True

    @property
    def colors(self) -> Colors:
        """Colors of the images, or those of photographs."""
        return Colors.natural() if self.images is None else Colors.of(self.images)

    @property
    def known(self) -> Tensor:
        """The images.

        Raises:
            DataError: there are none.
        """
        if self.images is None:
            raise DataError("recipes: this one learns from images, and none are given")
        return self.images


@dataclass(frozen=True)
class Recipe:
    """A way to make an image.

    Attributes:
        name: name to ask for it by.
        family: which of the families it belongs to.
        title: title of its row in a sheet.
        options: material -> options of `maximize_activation`.
        learns: whether it learns from images.
        starts: times that it starts, each from another place; of each image the best is kept.
    """

    name: str
    family: str
    title: str
    options: Callable[[Material], dict[str, Any]]
    learns: bool = False
    starts: int = 1


def make_by_recipes(
    model: nn.Module, objective: Objective, material: Material, recipes: Sequence[str], **options: Any
) -> Iterator[tuple[Recipe, Visualization]]:
    """Yield what comes of each recipe, as it is done.

    Args:
        model: ours, or any of (B, C, H, W) images in [0, 1]; left as it was.
        objective: objective to maximize, the same for all.
        material: what recipes are made with.
        recipes: names, see `RECIPES`.
        options: options of `maximize_activation` for all of them, such as `steps`.

    Raises:
        ConfigError: an unknown name, or one given twice.
        DataError: a recipe learns from images, and there are none.
    """
    for recipe in find_recipes(recipes):
        made = {"seed": material.seed, "progress": material.progress, **recipe.options(material), **options}
        seeds = [made["seed"] + start for start in range(recipe.starts)]
        tried = [maximize_activation(model, objective, material.size, **{**made, "seed": seed}) for seed in seeds]
        yield recipe, best_of(tried)


def best_of(tried: Sequence[Visualization]) -> Visualization:
    """Return of each image the one with the highest objective; of equal ones the first."""
    best = torch.stack([one.value for one in tried]).argmax(0)
    rows = torch.arange(len(best), device=best.device)

    def chosen(values: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(values))[best, rows]

    sure = [one.probability for one in tried if one.probability is not None]
    return dataclasses.replace(
        tried[0],
        image=chosen([one.image for one in tried]),
        value=chosen([one.value for one in tried]),
        trace=chosen([one.trace.t() for one in tried]).t(),
        probability=chosen(sure) if sure else None,
        complete=all(one.complete for one in tried),
    )


def find_recipes(names: Sequence[str]) -> list[Recipe]:
    """Return recipes by name.

    Raises:
        ConfigError: there is none of a name, or it is given twice, or no name is given.
    """
    if not names:
        raise ConfigError(f"recipes: at least one is needed.{did_you_mean('', RECIPES)}")
    check_once("recipes", names)
    for name in names:
        if name not in RECIPES:
            raise ConfigError(f"recipes: there is no '{name}'.{did_you_mean(name, RECIPES)}")
    return [RECIPES[name] for name in names]


def _pixels(spread: float = 0.1, **options: Any) -> Callable[[Material], dict[str, Any]]:
    """Return a recipe of pixels each on its own, as they were before Fourier space."""

    def made(material: Material) -> dict[str, Any]:
        independent = Colors.independent(len(material.colors.mean))
        return {"parametrization": Pixels(independent, spread), "transforms": None, **options}

    return made


def _fourier(material: Material) -> dict[str, Any]:
    return {"parametrization": Fourier(material.colors)}


def _smooth(material: Material) -> dict[str, Any]:
    return {**_fourier(material), "penalties": [TotalVariation()]}


def _spectrum(material: Material) -> dict[str, Any]:
    found = FixedSpectrum.natural(material.size) if material.images is None else FixedSpectrum.of(material.images)
    return {"parametrization": found, "transforms": Transforms(1 / 8, 0.0, (1.0, 1.5))}


def _gaussian(material: Material) -> dict[str, Any]:
    return {**_fourier(material), "penalties": [GaussianExpert.fit(material.known, share=0.5)]}


def _mixture(material: Material) -> dict[str, Any]:
    of_classes = material.labels is not None and material.classes is not None
    labels, classes = (material.labels, material.classes) if of_classes else (None, None)
    expert = MixtureExpert.fit(material.known, labels, classes=classes, seed=material.seed, share=0.5)
    return {**_fourier(material), "penalties": [expert]}


def _denoiser(material: Material) -> dict[str, Any]:
    expert = DenoisingExpert.fit(material.known, seed=material.seed, progress=material.progress, share=0.5)
    return {**_fourier(material), "penalties": [expert]}


def _decoder(material: Material) -> dict[str, Any]:
    made = train_decoder(material.known, material.size, seed=material.seed, progress=material.progress)
    return {"parametrization": made, "lr": 0.05}  # by larger steps fewer classes are reached


_robust = _pixels(transforms=Transforms(1 / 16, 5.0, (0.95, 1.05)), gradient_blur=1.0, lr=0.2)
"""With sharp gradients, fine noise comes up that is right where resampling has smoothed it, and wrong as it is."""
_FREQUENCIES, _LEARNED = "frequencies penalized", "learned prior"

_ALL = (
    Recipe("pixels", "unregularized", "pixels,\nunregularized", _pixels()),
    Recipe("l2", "unregularized", "near gray\n(L2)", _pixels(penalties=[L2()])),
    Recipe("variation", _FREQUENCIES, "total\nvariation", _pixels(penalties=[TotalVariation()])),
    Recipe("blur", _FREQUENCIES, "blur", _pixels(penalties=[Blur()])),
    Recipe("frequency", _FREQUENCIES, "high\nfrequencies", _pixels(penalties=[HighFrequency()])),
    Recipe("gradient_blur", _FREQUENCIES, "gradient\nblurred", _pixels(gradient_blur=(2.0, 0.5))),
    Recipe("robust", "transformation robust", "movements", _robust),
    Recipe("fourier", "transformation robust", "movements,\nFourier space", _fourier),
    Recipe("smooth", "transformation robust", "the same, and\ntotal variation", _smooth),
    Recipe("maco", _LEARNED, "spectrum\nof images", _spectrum),
    Recipe("gaussian", _LEARNED, "Gaussian\nof images", _gaussian, learns=True),
    Recipe("mixture", _LEARNED, "mixture of\neach class", _mixture, learns=True),
    Recipe("denoiser", _LEARNED, "denoiser", _denoiser, learns=True),
    Recipe("decoder", _LEARNED, "codes of\na decoder", _decoder, learns=True, starts=4),
)
DEFAULT = "smooth"
"""The recipe where none is named: each class tried became probable, and little is left but what is needed for that."""
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _ALL}
"""Name -> recipe, by family."""
ALL = tuple(RECIPES)
"""What `recipes=all` means."""
