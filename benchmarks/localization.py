"""What it costs to say where maps lie: everything from one sorting, against one metric after the other."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.timing import Row, side_by_side
from ibd.metrics.functional import localization, properties

SINGLE = ("mass_accuracy", "rank_accuracy", "pointing_game", "roc_auc", "iou_at_size", "iou_curve", "box_hits")
QUANTUS = ("RelevanceMassAccuracy", "RelevanceRankAccuracy", "PointingGame", "AUC", "TopKIntersection")
QUANTUS_PROPERTIES = ("Sparseness", "Complexity")


def measure(repetitions: int = 14, images: int = 16, size: int = 224) -> list[Row]:
    """Return the rows of the table; those against Quantus only where that is installed."""
    rows: list[Row] = []
    for kind, maps in maps_of(images, size).items():
        timed = side_by_side(candidates(maps, mask_of(images, size)), repetitions)
        shapes = f"{images} {kind} maps of {size} x {size}"
        for what, above, below, bar in (
            ("ours one by one / all in one pass, with boxes", "one by one", "all", ""),
            ("Quantus one by one / all in one pass, with boxes", "quantus", "all", ""),
            ("Quantus one by one / the same in one pass", "quantus", "without boxes", ">= 10"),
            ("Quantus' sparseness and complexity / ours", "quantus properties", "properties", ""),
        ):
            if above in timed:
                ratio = timed[above].ratio(timed[below])
                rows.append(Row(what, shapes, f"{timed[above]} / {timed[below]}", *ratio, bar))
    return rows


def maps_of(images: int, size: int) -> dict[str, Tensor]:
    """Return positive maps: of noise, which have the most components, and smooth as those of Grad-CAM."""
    generator = torch.Generator().manual_seed(0)
    cells = torch.rand(images, 1, 7, 7, generator=generator)
    smooth = F.interpolate(cells, (size, size), mode="bilinear", align_corners=False)[:, 0]
    return {"noise": torch.rand(images, size, size, generator=generator), "smooth": smooth}


def mask_of(images: int, size: int) -> Tensor:
    """Return masks of a sixth of the image."""
    mask = torch.zeros(images, size, size, dtype=torch.bool)
    mask[:, size // 4 : 2 * size // 3, size // 4 : 2 * size // 3] = True
    return mask


def candidates(maps: Tensor, mask: Tensor) -> dict[str, Callable[[], object]]:
    """Return name -> call: ours, and Quantus where it is installed."""
    return {
        "all": lambda: localization.localize(maps, mask),
        "without boxes": lambda: localization.localize(maps, mask, box_thresholds=()),
        "one by one": lambda: [getattr(localization, name)(maps, mask) for name in SINGLE],
        "properties": lambda: (properties.sparseness(maps), properties.complexity(maps)),
        **_peers(maps, mask),
    }


def _peers(maps: Tensor, mask: Tensor) -> dict[str, Callable[[], object]]:
    try:
        quantus = importlib.import_module("quantus")
    except ImportError:
        return {}
    images, size = len(maps), maps.shape[1]
    model = nn.Sequential(nn.Flatten(), nn.Linear(size * size, 2))
    arguments = {
        "model": model,
        "x_batch": torch.zeros(images, 1, size, size).numpy(),
        "y_batch": torch.zeros(images, dtype=torch.int64).numpy(),
        "a_batch": maps.unsqueeze(1).numpy(),
        "s_batch": mask.unsqueeze(1).float().numpy(),
        "device": "cpu",
    }

    def run(names: tuple[str, ...]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name in names:
                getattr(quantus, name)(disable_warnings=True, display_progressbar=False)(**arguments)

    return {"quantus": lambda: run(QUANTUS), "quantus properties": lambda: run(QUANTUS_PROPERTIES)}
