"""Everything that can be said of a model's own account of itself, beside its maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch

from ibd.comparison.results import ModelFigures, SelfConsistency, Skipped
from ibd.comparison.self_consistency.bypass import bypass_figures
from ibd.comparison.self_consistency.consistency import bottleneck_against_pixels
from ibd.comparison.self_consistency.dissection import FORM_UNITS, dissect
from ibd.comparison.self_consistency.leakage import concept_leakage
from ibd.comparison.self_consistency.locality import part_locality
from ibd.comparison.self_consistency.prototypes import misalignment, prototype_parts
from ibd.comparison.self_consistency.reading import RedrawnReading, check_indices, read_redrawn, require_network
from ibd.comparison.self_consistency.redrawing import require_scenes
from ibd.comparison.self_consistency.shortcut import tag_effects
from ibd.comparison.self_consistency.units import unit_account
from ibd.data.base import ImageDataModule, Split
from ibd.errors import UnsupportedError
from ibd.models.lightning import InterpretableModule

LEAKAGE_IMAGES = 500
"""Leakage, and accuracies, are measured on at least so many images, where the split has them: information from few is
understated."""


@runtime_checkable
class _BrokenDown(Protocol):
    def breakdown(self) -> dict[str, dict[str, float]]: ...


class _Measuring:
    """Collects figures and what is left out."""

    def __init__(self, name: str | None) -> None:
        self.name = name
        self.figures: dict[str, float] = {}
        self.breakdown: dict[str, dict[str, float]] = {}
        self.skipped: list[Skipped] = []

    def add(self, metric: str, measure: Callable[[], Any]) -> Any:
        """Add the figures of a measure, and return it; None and a reason where it does not apply.

        A figure that is NaN is said to be undefined.
        """
        try:
            measured = measure()
        except UnsupportedError as error:
            self.skipped.append(Skipped(self.name, None, metric, str(error)))
            return None
        self.figures |= measured if isinstance(measured, dict) else measured.figures()
        if isinstance(measured, _BrokenDown):
            self.breakdown |= measured.breakdown()
        return measured


def self_consistency(
    model: InterpretableModule,
    data: ImageDataModule,
    indices: Sequence[int],
    name: str | None = None,
    split: Split = "test",
    batch_size: int = 64,
    seed: int = 0,
    form_units: int = FORM_UNITS,
) -> tuple[SelfConsistency, list[Skipped]]:
    """Return what applies to a model and its data of: locality, consistency, leakage, units, prototypes, dissection.

    How to read each figure is in `ibd.comparison.groups.FIGURES`.

    Args:
        model: a module of ours.
        data: the data; toy birds for what draws images anew.
        indices: images of the split.
        name: name of the model, for what is skipped.
        split: split of the data.
        batch_size: pictures in a pass.
        seed: seed of the variants that parts are replaced by.
        form_units: for how many units a form of several concepts is searched.

    Returns:
        The figures, with the locality matrix where there is one; and what was left out, with the reason.

    Raises:
        ConfigError: no images.
    """
    check_indices(indices)
    dataset, network, measuring = data.dataset(split), require_network(model), _Measuring(name)
    given = model, dataset, indices, batch_size
    many = range(min(LEAKAGE_IMAGES, len(dataset))) if len(indices) < LEAKAGE_IMAGES else indices
    local: Any = None
    if network.unit_scale() is not None:
        redrawn: list[RedrawnReading] = []

        def once() -> RedrawnReading:
            """Read the changed images once for both measures, and not before one needs them."""
            require_scenes(dataset)
            if not redrawn:
                redrawn.append(read_redrawn(*given, seed=seed))
            return redrawn[0]

        local = measuring.add("locality", lambda: part_locality(*given, reading=once()))
        measuring.add("intervention_consistency", lambda: bottleneck_against_pixels(*given, reading=once()))
        measuring.add("leakage", lambda: concept_leakage(model, dataset, many, batch_size))
    if network.perfect_score() is not None:
        local = measuring.add("prototype_alignment", lambda: misalignment(*given, seed=seed))
        measuring.add("prototype_parts", lambda: prototype_parts(*given))
    account = measuring.add("units", lambda: unit_account(*given))
    measuring.add("bypass", lambda: bypass_figures(model, dataset, data.dataset("train"), many, batch_size))
    if bool(account.error.isnan().all()):
        why = f"the {network.unit_plural} leave no bias over: the layers after them are not linear"
        measuring.skipped.append(Skipped(name, None, "completeness_error", why))
    measuring.add("dissection", lambda: dissect(model, dataset, data.spec, indices, batch_size, form_units))
    matrix = None if local is None else (local.matrix() if callable(local.matrix) else local.matrix)
    return (
        SelfConsistency(
            figures=measuring.figures,
            breakdown=measuring.breakdown,
            matrix=None if matrix is None else matrix.numpy(),
            rows=[] if local is None else list(local.rows),
            columns=[] if local is None else list(local.columns),
        ),
        measuring.skipped,
    )


def shortcut_figures(
    model: InterpretableModule,
    data: ImageDataModule,
    indices: Sequence[int],
    maps: Mapping[str, torch.Tensor] | None = None,
    name: str | None = None,
    split: Split = "test",
    batch_size: int = 64,
) -> tuple[ModelFigures, list[Skipped]]:
    """Return the figures of `tag_effects`, or why there are none.

    Args:
        model: a module of ours.
        data: toy birds, with tags where there are to be figures.
        indices: images of the split.
        maps: name of a method -> (N, H, W) maps of ``tagged(data.dataset(split), indices)[0]``.
        name: name of the model, for what is skipped.
        split: split of the data.
        batch_size: pictures in a pass.
    """
    measuring = _Measuring(name)
    measuring.add("shortcut", lambda: tag_effects(model, data.dataset(split), indices, maps, batch_size))
    return ModelFigures(measuring.figures, measuring.breakdown), measuring.skipped
