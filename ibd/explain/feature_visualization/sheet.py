"""A sheet of what units or classes stand for: made from noise, made from an image, and found among images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.errors import ConfigError, DataError, check_range
from ibd.explain.activations import chunked, device_of, network_of
from ibd.explain.base import check_image, undisturbed
from ibd.explain.feature_visualization.maximize import maximize_activation
from ibd.explain.feature_visualization.objectives import Objective, Part
from ibd.explain.feature_visualization.parametrisations import Colours, Fourier
from ibd.explain.feature_visualization.penalties import Penalty, TotalVariation
from ibd.explain.feature_visualization.transforms import Transforms
from ibd.explain.render import grid_figure
from ibd.explain.targets import Target


def visualization_sheet(
    model: nn.Module,
    images: Tensor,
    units: Sequence[int | str] | str | None = None,
    classes: Sequence[int | str] | None = None,
    steps: int = 512,
    penalties: Sequence[Penalty] | None = None,
    path: str | Path | None = None,
    **options: Any,
) -> Figure:
    """Return three rows for some units or classes, a column each. The model is left as it was.

    From noise; from one of the images, the same for all, which has least of them; and the image that has most. What is
    maximised is ``log sigmoid((score - m) / s)``, where m is half way from the median of the images' scores to the
    highest one, and s an eighth of this way: it ends where a score is as high as natural ones get. From there on total
    variation takes away what is not needed.

    Args:
        model: ours, or any classifier of (B, 3, H, W) images in [0, 1].
        images: (N, 3, H, W) of the kind that the model was trained on, some hundred: colours, m and s come from them.
        units: numbers, names, or a pattern such as ``wing::*``.
        classes: numbers or names, in place of units.
        steps: see `maximize_activation`.
        penalties: of each image; None takes a total variation of weight 3.
        path: where to save the figure as PNG.
        options: other options of `maximize_activation`.

    Raises:
        ConfigError: neither or both of units and classes, or one that does not exist.
        DataError: fewer than two images.
        UnsupportedError: the model has no units.
    """
    if (units is None) == (classes is None):
        raise ConfigError("a sheet is of units or of classes: give one of them")
    check_image(images)
    check_range("steps", steps, least=1)
    if len(images) < 2:
        raise DataError("a sheet needs some images of the kind that the model was trained on")
    target = (Target.units(units) if units is not None else Target.classes(classes or [])).resolve(model)
    scores = _scores(model, images, target)
    low, high, count = scores.median(0).values, scores.amax(0), scores.shape[1]
    spread = ((high - low) / 8).clamp(min=1e-6)
    objective = _reaching(target, (low + high) / 2, spread)
    chosen: dict[str, Any] = {
        "transforms": Transforms(1 / 8, 15.0, (0.8, 1.2)),
        "penalties": [TotalVariation(3.0)] if penalties is None else penalties,
        "parametrisation": Fourier(Colours.of(images), spread=0.3),
        "ramp": 0.5,
        **options,
        "steps": steps,
        "batch": count,
    }
    least = int(((scores - high) / spread).amax(1).argmin())
    rows = [
        maximize_activation(model, objective, (images.shape[2], images.shape[3]), **chosen).image,
        maximize_activation(model, objective, start=images[least], **chosen).image,
        images[scores.argmax(0)],
    ]
    titles = _titles(model, target, scores, [_scores_of(model, row, target) for row in rows])
    caption = (
        f"Made from noise; made from one image, which of {len(images)} has least of all these; the image that has most."
        " Numbers: its score; in brackets the median and the highest score of the images."
    )
    pictures = [picture.cpu() for row in rows for picture in row]
    return grid_figure(pictures, titles, count, caption, path=path)


def _scores(model: nn.Module, images: Tensor, target: Target) -> Tensor:
    """Return the (N, K) scores of images, a chunk at a time."""
    with undisturbed(model), torch.no_grad():
        device = device_of(model)
        parts = [target.scores(model(images[part].to(device))) for part in chunked(len(images), 64)]
    return torch.cat(parts).cpu()


def _scores_of(model: nn.Module, images: Tensor, target: Target) -> Tensor:
    """Return for image k score k, (K,)."""
    return _scores(model, images, target).diagonal()


def _reaching(target: Target, middle: Tensor, spread: Tensor) -> Objective:
    """Return the objective of image k having score k as high as natural ones."""
    terms = [parts[0] for parts in target.sums]
    index = tuple(term.index for term in terms if isinstance(term.index, int))
    single = Target((((dataclasses.replace(terms[0], index=index)),),))

    def value(score: Tensor) -> Tensor:
        return F.logsigmoid((score - middle.to(score)) / spread.to(score))

    return Objective((Part("as high as natural", value=value, target=single),))


def _titles(model: nn.Module, target: Target, scores: Tensor, rows: Sequence[Tensor]) -> list[str]:
    """Return a title for each picture: the names in the first row, and what each scores."""
    network, kind = network_of(model), target.sums[0][0].kind
    names = getattr(network, f"{kind}_names", None)
    titles = []
    for number, row in enumerate(rows):
        for k, parts in enumerate(target.sums):
            index = parts[0].index
            name = str(names[int(index)]) if names is not None and isinstance(index, int) else f"{kind} {index}"
            natural = f" ({float(scores[:, k].median()):.1f} to {float(scores[:, k].max()):.1f})"
            head = name.replace("::", "\n") + "\n" if number == 0 else ""
            titles.append(f"{head}{float(row[k]):.1f}{natural if number == 0 else ''}")
    return titles
