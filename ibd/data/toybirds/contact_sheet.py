"""A page for a person: birds of each class, their part masks, and what interventions do to one of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ibd.data.toybirds.dataset import ToyBirdsDataset
from ibd.data.toybirds.parts import BODY, FIRST_DISTRACTOR, FIRST_PART, PARTS, TAG, VARIANTS
from ibd.data.toybirds.render import Index, render
from ibd.data.toybirds.scene import Scene

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MASK_COLORS = {
    "background": (0.93, 0.93, 0.93),
    "body": (0.72, 0.66, 0.60),
    "beak": (0.90, 0.62, 0.00),
    "eye": (0.00, 0.62, 0.45),
    "foot": (0.80, 0.47, 0.65),
    "tail": (0.34, 0.71, 0.91),
    "wing": (0.84, 0.37, 0.00),
    "distractor": (0.80, 0.80, 0.80),
    "tag": (0.10, 0.10, 0.10),
}


def contact_sheet(path: str | Path, data: ToyBirdsDataset, classes: int = 6, columns: int = 4) -> Path:
    """Write a PNG with a row of images for each class, each beside its masks, and a row of interventions.

    Args:
        path: path of the picture; folders are made.
        data: the split to show.
        classes: number of classes to show.
        columns: images per class, at most.

    Returns:
        The path.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # slow to import, and training does without
    from matplotlib.patches import Patch

    from ibd.drawing import PlainFigure

    side, shown = data.pictures.size, range(min(classes, len(data.classes.names)))
    figure = PlainFigure(figsize=(2.5 * columns, 1.28 * (len(shown) + 1) + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(shown) + 1, 2 * columns, squeeze=False)
    for row, cls in zip(grid, shown, strict=False):
        members = [i for i in range(len(data)) if data.scene(i).cls == cls][:columns]
        _class_row(row, [data.scene(i) for i in members], side, data.classes.names[cls], data.classes.relevant(cls))
    _intervention_row(grid[-1], data.scene(0), side)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    handles = [Patch(color=color, label=name) for name, color in MASK_COLORS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=150)
    return target


def _class_row(
    row: npt.NDArray[np.object_], scenes: Sequence[Scene], side: int, name: str, parts: tuple[str, ...]
) -> None:
    row[0].set_ylabel(
        f"{name.replace('_', ' ')}\n({', '.join(parts) if len(parts) < len(PARTS) else 'all parts'})", fontsize=7
    )
    for column, scene in enumerate(scenes):
        image, index = render(scene, side)
        _show(row[2 * column], image)
        _show(row[2 * column + 1], _painted(index))


def _intervention_row(row: npt.NDArray[np.object_], scene: Scene, side: int) -> None:
    """Show the scene and, in turn, one part removed and one part swapped."""
    row[0].set_ylabel("interventions", fontsize=7)
    variants = [(part, next(v for v in VARIANTS[part][::-1] if v != scene.parts[part])) for part in PARTS]
    edits = [("as it was", scene), ("another background", scene.set_background(scene.background.seed + 1))]
    for part, variant in reversed(variants):
        edits += [
            (f"without {part}", scene.remove(part)),
            (f"{part}: {variant.replace('_', ' ')}", scene.replace(part, variant)),
        ]
    for axes, (title, edited) in zip(row, edits, strict=False):
        _show(axes, render(edited, side)[0])
        axes.set_title(title, fontsize=7, pad=2)


def _painted(index: Index) -> npt.NDArray[np.float32]:
    """Return (H, W, 3): every part in its color."""
    numbers = {"body": BODY, **{part: FIRST_PART + i for i, part in enumerate(PARTS)}, "tag": TAG}
    picture = np.full((*index.shape, 3), MASK_COLORS["background"], dtype=np.float32)
    picture[(index >= FIRST_DISTRACTOR) & (index < TAG)] = MASK_COLORS["distractor"]
    for name, number in numbers.items():
        picture[index == number] = MASK_COLORS[name]
    return picture


def _show(axes: Axes, picture: npt.NDArray[np.uint8] | npt.NDArray[np.float32]) -> None:
    axes.imshow(picture, interpolation="nearest")
