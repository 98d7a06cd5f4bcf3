"""What lies in a model's layers, of ours and of anybody's: measured of the model alone, and put into a comparison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ibd.comparison.asked import Case
from ibd.comparison.groups.record import Group
from ibd.comparison.groups.relevant_features import RELEVANT
from ibd.comparison.groups.spray import SPRAY
from ibd.comparison.groups.tcav import TCAV
from ibd.comparison.probes.layer_features import LayerAccount, channels_account, concepts_account
from ibd.comparison.probes.strategies import strategies_account
from ibd.comparison.results import Comparison, Curve, SelfConsistency, Skipped
from ibd.errors import DataError, UnsupportedError


def add_layer_features(comparison: Comparison, case: Case) -> None:
    """Add what lies in the layers of a model, as far as it is asked for."""
    wanted = set(comparison.metrics)
    if wanted & set(TCAV.names):
        _add(comparison, case, TCAV, concepts_account)
    if wanted & set(RELEVANT.names):
        _add(comparison, case, RELEVANT, channels_account)
    if wanted & set(SPRAY.names):
        _add(comparison, case, SPRAY, strategies_account)


def _add(comparison: Comparison, case: Case, group: Group, measure: Callable[[Case], LayerAccount]) -> None:
    """Add the figures, the table and the curves of one of the groups."""
    model, name = case.model, case.model.info.name
    key = {"kind": group.name, "model": model.fingerprint, "data": case.images.fingerprint, "seed": case.seed}
    key["split"] = model.asked

    def compute() -> LayerAccount:
        try:
            return measure(case)
        except DataError as error:  # too few images: that is said, and the rest is measured
            raise UnsupportedError(str(error)) from error

    try:
        found = case.cache.get(key, LayerAccount, compute)
    except UnsupportedError as error:
        comparison.skipped.append(Skipped(name, None, group.name, str(error)))
        return
    wanted = {figure.name for figure in group.figures if figure.metric in comparison.metrics}
    before = comparison.self_consistency.get(name, SelfConsistency())
    figures = {figure: value for figure, value in found.figures.items() if figure in wanted}
    comparison.self_consistency[name] = replace(before, figures={**before.figures, **figures})
    comparison.skipped += [Skipped(name, None, metric, why) for metric, why in found.left_out.items()]
    if found.concepts is not None:
        comparison.concept_tests[name] = found.concepts
    if found.clusters:
        comparison.clusters[name] = found.clusters
    for curve in group.curves:
        if curve.name in found.curves and group.names[0] in comparison.metrics:
            drawn = Curve(found.counts, found.curves[curve.name], curve.x_label, curve.y_label)
            comparison.own_curves.setdefault((name, curve.chart), {})[curve.line] = drawn
