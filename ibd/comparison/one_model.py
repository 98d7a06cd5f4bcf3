"""All that is measured of one model: its accuracy, what every method says of it, and what that is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ibd.comparison import measuring
from ibd.comparison.asked import Asked, Case
from ibd.comparison.attributions import Attributions, explain_all, with_metric_seconds
from ibd.comparison.cache import Cache
from ibd.comparison.cases import make_case, oracle_maps
from ibd.comparison.groups import GROUPS
from ibd.comparison.groups.agreement import add_agreement
from ibd.comparison.groups.self_consistency import add_self_consistency
from ibd.comparison.images import ComparedImages
from ibd.comparison.layer_accounts import add_layer_features
from ibd.comparison.methods import ORACLE, ORACLE_SUM, OTHER, UNITS, Method
from ibd.comparison.models import Accuracy, ComparedModel, accuracy
from ibd.comparison.paintings import add_paintings
from ibd.comparison.placing import add_placed
from ibd.comparison.plan import Plan
from ibd.comparison.reference_maps import REFERENCE_MAPS, other_image, reference_maps
from ibd.comparison.results import Comparison, CostInfo, Skipped
from ibd.comparison.showing import shown_images
from ibd.comparison.tagged_images import add_shortcut
from ibd.errors import UnsupportedError

Truth = tuple[Tensor, Tensor]
"""(N, H, W) maps and truth masks."""


@dataclass(frozen=True)
class Work:
    """What is the same for all models.

    Attributes:
        images: images that all are asked about.
        methods: the rows of the tables.
        plan: plan of what is measured.
        cache: cache of finished pieces.
        probe_images: number of images that are explained again and again.
        seed: seed of all random numbers.
        shown: number of images of a model that the report may draw, up to a third of which it gets wrong.
        contrast: of pasted pictures the network of the other labels; None without one.
    """

    images: ComparedImages
    methods: Sequence[Method]
    plan: Plan
    cache: Cache
    probe_images: int
    seed: int
    shown: int
    contrast: ComparedModel | None = None

    @property
    def pieces(self) -> int:
        """How many steps of a progress bar a model is."""
        return 2 + len(self.methods) * (1 + len(self.plan.groups()))


class OneModel:
    """The measurement of one model.

    Args:
        work: work that is the same for all models.
        model: the model.
        comparison: comparison that the results go into.
        bar: bar of progress.
    """

    def __init__(self, work: Work, model: ComparedModel, comparison: Comparison, bar: Any) -> None:
        self.work, self.model, self.comparison, self.bar = work, model, comparison, bar
        self.name = model.info.name
        self.attributions: dict[str, Attributions] = {}

    def measure(self) -> None:
        """Measure all methods, and the model's own account of itself."""
        work, comparison = self.work, self.comparison
        self.bar.set_postfix_str(self.name)
        self._add_accuracy()
        case = self._case()
        self.bar.update()
        for method in work.methods:
            if self.model.foreign and method.info.kind == "intrinsic":  # said once, for the model
                self.bar.update(1 + len(work.plan.groups()))
            else:
                self._measure_method(case, method)
        add_agreement(comparison, case, work.methods, self.attributions)
        add_paintings(comparison, case, work.methods, self.attributions, work.plan)
        self.bar.update()
        if not self.model.foreign:
            add_self_consistency(comparison, case)
        add_layer_features(comparison, case)
        add_placed(comparison, case)
        add_shortcut(comparison, case, work.methods)
        comparison.shown[:] = shown_images(comparison, case, work.methods, self.attributions, work.shown)

    def measure_part(self, methods: Sequence[Method], whole: bool) -> None:
        """Measure some of the methods, so that their pieces are kept; what needs all of them is left out.

        Args:
            methods: methods to explain and measure.
            whole: whether to measure what is asked of the model itself, too.
        """
        self._add_accuracy()
        case = self._case()
        for method in methods:
            self._measure_method(case, method)
        if whole and not self.model.foreign:
            add_self_consistency(self.comparison, case)
        if whole:
            add_layer_features(self.comparison, case)

    def _case(self) -> Case:
        work = self.work
        case = make_case(self.model, work.images, work.cache, work.plan, work.probe_images, work.seed)
        case.contrast = work.contrast
        return case

    def _add_accuracy(self) -> None:
        model, chosen = self.model, self.work.images
        key = {"kind": "accuracy", "model": model.fingerprint, "data": chosen.fingerprint, "split": model.asked}
        right = self.work.cache.get(key, Accuracy, lambda: accuracy(model.module, model.data, chosen.split))
        info = replace(model.info, accuracy=right.share, images=right.images, majority=right.majority)
        self.comparison.models.append(info)

    def _measure_method(self, case: Case, method: Method) -> None:
        """Compute the attributions of a method, and run the groups of metrics that apply."""
        end = self.bar.n + 1 + len(self.work.plan.groups())
        self.bar.set_postfix_str(f"{self.name}, {method.name}")
        try:
            self.attributions[method.name] = self._attributions_of(case, method, self.attributions)
        except UnsupportedError as error:
            self.comparison.skipped.append(Skipped(self.name, method.name, None, str(error)))
        else:
            asked = Asked(case, method, self.attributions[method.name], self._validation(case, method))
            self.bar.update()
            self.comparison.costs[self.name, method.name] = self._measure_groups(asked)
        self.bar.update(end - self.bar.n)

    def _measure_groups(self, asked: Asked) -> CostInfo:
        """Run the groups of metrics that apply; return the cost with the seconds that each took."""
        seconds: dict[str, float] = {}
        for group in map(GROUPS.__getitem__, self.work.plan.groups()):
            if group.measure is None:
                continue
            why = group.why_not(asked)
            if why is None:
                self.bar.set_postfix_str(f"{self.name}, {asked.method.name}, {group.name}")
                try:
                    results = measuring.measured(group, asked)
                except UnsupportedError as error:
                    why = str(error)
                else:
                    seconds[group.name] = results.seconds
                    measuring.add(self.comparison, asked, group, results, self.work.plan)
                    self.bar.update()
            if why:
                self.comparison.skipped.append(Skipped(self.name, asked.method.name, group.name, why))
        return with_metric_seconds(asked.attributions.cost, seconds)

    def _attributions_of(self, case: Case, method: Method, attributions: Mapping[str, Attributions]) -> Attributions:
        """Return a method's maps of all images, or what the model's own units contribute."""
        chosen, count = case.images, len(case.images)
        free, nothing = CostInfo(0, 0, 0, 0), torch.full((count,), torch.nan, dtype=torch.float64)
        if method.explainer is not None:
            return explain_all(case.model, method, chosen, case.classes, case.cache)
        if method.name == UNITS:
            return self._own_units(case, attributions)
        if method.name in (ORACLE, ORACLE_SUM):
            return Attributions(oracle_maps(case, summed=method.name == ORACLE_SUM), nothing, None, free)
        if method.name in REFERENCE_MAPS:
            return Attributions(reference_maps(method.name, chosen.pixels, chosen.ids, case.seed), nothing, None, free)
        first = next((given for given in attributions.values() if given.maps is not None), None)
        if first is None or first.maps is None:
            raise UnsupportedError("there is no map of another image")
        if len(set(chosen.labels.tolist())) < 2:
            raise UnsupportedError("there is no image of another class")
        return Attributions(other_image(first.maps, chosen.labels), nothing, None, free)

    def _own_units(self, case: Case, attributions: Mapping[str, Attributions]) -> Attributions:
        own = next(method.name for method in self.work.methods if method.info.kind == "intrinsic")
        if case.unit_parts is None or case.images.masks is None:
            kind = case.model.info.unit_kind
            raise UnsupportedError(f"the {kind}s of this model are not named after the parts of the images")
        if own not in attributions or attributions[own].units is None:
            raise UnsupportedError("the model gives no contributions of its own")
        return Attributions(None, attributions[own].value, attributions[own].units, attributions[own].cost)

    def _validation(self, case: Case, method: Method) -> Truth | None:
        """Return maps and truth masks of validation images, by which thresholds are chosen; None without any."""
        other, attributions = case.validation, self.attributions
        if other is None or other.truth is None or attributions[method.name].maps is None:
            return None
        first = next(m for m in self.work.methods if m.name in attributions and attributions[m.name].maps is not None)
        wanted = [first, method] if method.name == OTHER else [method]
        on_validation: dict[str, Attributions] = {}
        try:
            for explained in wanted:
                on_validation[explained.name] = self._attributions_of(other, explained, on_validation)
        except UnsupportedError:
            return None
        maps = on_validation[method.name].maps
        return None if maps is None else (maps, other.truth)
