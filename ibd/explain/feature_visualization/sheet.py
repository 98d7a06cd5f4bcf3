"""A sheet of what units or classes stand for: made from noise, made from an image, and found among images."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.drawing import PlainFigure, shorten
from ibd.errors import ConfigError, DataError, check_range
from ibd.explain.activations import chunked, network_of
from ibd.explain.base import check_image, undisturbed
from ibd.explain.feature_visualization.maximize import as_input, maximize_activation
from ibd.explain.feature_visualization.objectives import Objective, Part
from ibd.explain.feature_visualization.parametrizations import Colors, Fourier
from ibd.explain.feature_visualization.penalties import Nearness, TotalVariation
from ibd.explain.feature_visualization.transforms import Transforms
from ibd.explain.names import names_of
from ibd.explain.patches import Patches, maximally_activating_patches
from ibd.explain.pixels import pixels_of
from ibd.explain.targets import Target


def visualization_sheet(
    model: nn.Module,
    images: Tensor,
    units: Sequence[int | str] | str | None = None,
    classes: Sequence[int | str] | None = None,
    steps: int = 384,
    path: str | Path | None = None,
    **options: object,
) -> Figure:
    """Return four rows for some units, three for classes, a column each. The model is left as it was.

    Units: a patch made from noise, so that the unit is high in its middle; beside it, at the same scale, the patch of
    the images around the place where it is highest. Classes: an image made from noise. Then for both: one image, the
    same for all, which has least of them, changed as little as needed (`Nearness`); and the image that has most.

    What is maximized is ``log sigmoid((score - m) / s)``, where m is half way from the median of the images' scores to
    the highest one, and s an eighth of this way: it ends where a score is as high as natural ones get. From there on
    total variation takes away what is not needed. The score of a class is its log-odds.

    Args:
        model: ours, or any classifier of (B, C, H, W) images in [0, 1].
        images: (N, C, H, W) of the kind that the model was trained on, some hundred: colors, m and s come from them.
        units: numbers, names, or a pattern such as ``wing::*``.
        classes: numbers or names, in place of units.
        steps: number of steps, see `maximize_activation`.
        path: path of the figure, saved as PNG.
        options: other options of `maximize_activation`, for what is made from noise and from an image.

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
    target = (Target.units(units) if units is not None else Target.classes(classes or [], "log_odds")).resolve(model)
    chosen = {**options, "steps": steps, "batch": len(target.sums)}
    scores = _scores(model, images, target)
    start = _least(scores)
    changed = _made(model, _reaching(target, scores), images, chosen, start=images[start])
    rows = [changed, images[scores.argmax(0)]]
    numbers = [_scores(model, row, target).diagonal() for row in rows]
    if units is not None:
        made, patches, value = _patches(model, images, target, chosen)
        rows, numbers = [made, patches, *rows], [*value, *numbers]
    else:
        made = _made(model, _reaching(target, scores), images, chosen, size=(images.shape[2], images.shape[3]))
        rows, numbers = [made, *rows], [_scores(model, made, target).diagonal(), *numbers]
    texts = ["made from\nnoise", f"changed, of the {len(images)}\nthe one with least", "image that\nhas most"]
    if len(rows) > 3:
        texts = ["patch made\nfrom noise", "patch that\nhas most", *texts[1:]]
    figure = _drawn(rows, numbers, _names(model, target), texts, images[start])
    if path is not None:
        figure.savefig(path, format="png")
    return figure


def _drawn(
    rows: Sequence[Tensor], numbers: Sequence[Tensor], names: Sequence[str], texts: Sequence[str], start: Tensor
) -> Figure:
    """Return rows of pictures with a text before each; before the last but one the image that was changed."""
    figure = PlainFigure(figsize=(1.25 * (1 + len(names)), 1.45 * len(rows) + 0.55), layout="constrained", dpi=150)
    axes = figure.subplots(len(rows), 1 + len(names), squeeze=False)
    for line, (row, values, text) in enumerate(zip(rows, numbers, texts, strict=True)):
        if line == len(rows) - 2:
            axes[line, 0].imshow(pixels_of(start), interpolation="nearest")
            axes[line, 0].set_title(text, fontsize=8)
        else:
            axes[line, 0].text(1, 0.5, text, transform=axes[line, 0].transAxes, fontsize=8, ha="right", va="center")
        for k, (picture, value) in enumerate(zip(row, values.tolist(), strict=True)):
            axes[line, 1 + k].imshow(pixels_of(picture), interpolation="nearest")
            axes[line, 1 + k].set_title(
                f"{shorten(names[k], 20)}\n{value:.1f}" if not line else f"{value:.1f}", fontsize=8
            )
    for axis in axes.flat:
        axis.set_axis_off()
    note = (
        "Number: the score of the image; of a patch, the unit in its middle. "
        if len(rows) > 3
        else "Number: the log-odds of the class, ln(p / (1 - p)). "
    )
    note += "The image before a row was changed as little as is needed to bring each score as high as natural ones get."
    figure.supxlabel(textwrap.fill(note, 18 * (1 + len(names))), fontsize=8, color="#495057")
    return figure


def _made(model: nn.Module, objective: Objective, images: Tensor, chosen: dict[str, Any], **given: Any) -> Tensor:
    """Return what is made from noise, or from an image to start from."""
    start = given.get("start")
    usual: dict[str, Any] = {
        "transforms": Transforms(1 / 16, 15.0, (0.8, 1.2)) if start is None else Transforms(1 / 8, 15.0, (0.8, 1.2)),
        "penalties": [TotalVariation(weight=3.0) if start is None else Nearness(start, weight=3.0)],
        "parametrization": Fourier(Colors.of(images), spread=0.3),
        "ramp": 0.5 if start is None else 0.0,
        "lr": 0.05,
    }
    return maximize_activation(model, objective, **{**usual, **given, **chosen}).image.cpu()


def _patches(
    model: nn.Module, images: Tensor, target: Target, chosen: dict[str, Any]
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Return patches made and found, (K, 3, s, s), and how high the units are in the middle of each, (K,)."""
    index = [int(terms[0].index) for terms in target.sums]  # type: ignore[arg-type]
    best = maximally_activating_patches(model, torch.split(as_input(model, images), 64), channels=index, k=1)
    maps = _maps(model, images, index)
    middles, span = _middles(best, images, maps)

    def middle(output: Any) -> Tensor:
        units = output.units.maps[torch.arange(len(index)), index]
        return units[:, units.shape[1] // 2, units.shape[2] // 2]  # type: ignore[no-any-return]

    values = maps.transpose(0, 1).flatten(1)
    objective = _reaching(Target.of(middle), values.t())
    made = _made(model, objective, images, chosen, size=span)
    with undisturbed(model), torch.no_grad():
        reached = middle(model(as_input(model, made))).cpu()
    padded = F.pad(images, (span[1], span[1], span[0], span[0]), value=0.5)
    patches = [
        padded[number, :, y + span[0] - span[0] // 2 :, x + span[1] - span[1] // 2 :][:, : span[0], : span[1]]
        for number, (y, x) in zip(best.image[:, 0].tolist(), middles, strict=True)
    ]
    return made, torch.stack(patches).cpu(), (reached, best.score[:, 0])


def _middles(best: Patches, images: Tensor, maps: Tensor) -> tuple[list[list[int]], tuple[int, int]]:
    """Return the middle of each patch in pixels, and how large patches are drawn: half as large again as is seen."""
    size, cells = images.shape[2:], maps.shape[2:]
    middles = [
        [int((place + 0.5) * side / count) for place, side, count in zip(position, size, cells, strict=True)]
        for position in best.position[:, 0].tolist()
    ]
    seen = (best.box[:, 0, 2:] - best.box[:, 0, :2]).amax(0).tolist()
    span = [min(side, 8 * -(-3 * part // 16)) if best.exact else side for part, side in zip(seen, size, strict=True)]
    return middles, (span[0], span[1])


def _maps(model: nn.Module, images: Tensor, index: Sequence[int]) -> Tensor:
    """Return the (N, K, h, w) maps of units."""
    network: Any = network_of(model)
    with undisturbed(model), torch.no_grad():
        parts = [network.encode(as_input(model, images[part])).maps[:, index] for part in chunked(len(images), 64)]
    return torch.cat(parts).float().cpu()


def _least(scores: Tensor) -> int:
    """Return the image that has least of all scores, as shares of how far each goes."""
    low, high = scores.median(0).values, scores.amax(0)
    return int(((scores - high) / (high - low).clamp(min=1e-6)).amax(1).argmin())


def _scores(model: nn.Module, images: Tensor, target: Target) -> Tensor:
    """Return the (N, K) scores of images, a chunk at a time."""
    with undisturbed(model), torch.no_grad():
        parts = [target.scores(model(as_input(model, images[part]))) for part in chunked(len(images), 64)]
    return torch.cat(parts).float().cpu()


def _reaching(target: Target, natural: Tensor) -> Objective:
    """Return the objective of image k having score k as high as natural ones, (N, K) of which are given."""
    low, high = natural.median(0).values, natural.amax(0)
    middle, spread = (low + high) / 2, ((high - low) / 8).clamp(min=1e-6)
    if target.many:
        terms = [parts[0] for parts in target.sums]
        index = tuple(term.index for term in terms if isinstance(term.index, int))
        target = Target((((dataclasses.replace(terms[0], index=index)),),))

    def value(score: Tensor) -> Tensor:
        return F.logsigmoid((score - middle.to(score)) / spread.to(score))

    return Objective((Part("as high as natural", value=value, target=target),))


def _names(model: nn.Module, target: Target) -> list[str]:
    """Return the name of each unit or class, group and value in a line each."""
    kind: Literal["class", "unit"] = "unit" if target.sums[0][0].kind == "unit" else "class"
    names = {index: name for name, index in (names_of(model, kind) or {}).items()}
    index = [int(terms[0].index) for terms in target.sums]  # type: ignore[arg-type]
    return [names.get(number, f"{kind} {number}").replace("::", "\n") for number in index]
