"""What is measured, and what is not and why, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ibd.comparison.groups import GROUPS, METRICS
from ibd.comparison.groups.record import Need
from ibd.comparison.images import ComparedImages
from ibd.comparison.results import Skipped
from ibd.errors import ConfigError, check_once, did_you_mean

_OWN_SPLIT = "its threshold is chosen on the validation split, and that split is measured here"
_NO_SPLIT = "its threshold is chosen on validation images, and the data has none"


@dataclass(frozen=True)
class Plan:
    """What is measured.

    Attributes:
        metrics: names of the metrics, in the order of a report.
        skipped: metrics that were left out, and why.
    """

    metrics: list[str]
    skipped: list[Skipped]

    @property
    def validated(self) -> bool:
        """Whether a threshold is to be chosen on validation images."""
        return any(METRICS[name].validated for name in self.metrics)

    def groups(self) -> list[str]:
        """Return the groups that have something to measure."""
        return [name for name, group in GROUPS.items() if set(group.names) & set(self.metrics)]


def make_plan(
    named: Sequence[str] | None,
    chosen: ComparedImages,
    concepts: bool,
    units: bool = True,
    validation: bool = True,
    networks: Mapping[Need, str] = MappingProxyType({}),
) -> Plan:
    """Return what is measured.

    Args:
        named: metrics, or groups of them; None takes all that the data allows, "all" also the slow ones.
        chosen: images, which have masks and scenes or do not.
        concepts: whether the images have concepts.
        units: whether any of the models has units.
        validation: whether there are validation images.
        networks: networks beside the models that there are not, and what to say of it.

    Raises:
        ConfigError: an unknown name, none, or a metric that was asked for by name and needs what the data has not.
    """
    missing = _missing(chosen, concepts, units) | dict(networks)
    asked = expanded(named)
    kept, skipped = [], []
    for name, metric in METRICS.items():
        if name not in asked:
            continue
        why = next((said for need, said in missing.items() if need in metric.needs.split()), None)
        if why is None:
            kept.append(name)
        elif asked[name]:
            raise ConfigError(f"metrics: '{name}' cannot be measured: {why}")
        else:
            skipped.append(Skipped(None, None, name, why))
    if chosen.split == "val" or not validation:
        why = _OWN_SPLIT if validation else _NO_SPLIT
        skipped += [Skipped(None, None, name, why) for name in kept if METRICS[name].validated]
        kept = [name for name in kept if not METRICS[name].validated]
    if not kept:
        raise ConfigError(f"metrics: none of the requested ones can be measured: {skipped[0].why}")
    return Plan(kept, skipped)


def _missing(chosen: ComparedImages, concepts: bool, units: bool) -> dict[Need, str]:
    """Return what the data, or the models, have not, and what to say of it."""
    missing: dict[Need, str] = {}
    if not units:
        missing["units"] = "no model here has units that are known"
    if not concepts:
        missing["concepts"] = "the data has no concepts"
    if chosen.masks is None:
        missing["masks"] = "the data has no masks of parts"
    if not chosen.scenes:
        missing["scene"] = "the images cannot be drawn again without some of their parts (only those of ToyBirds can)"
    return missing


def expanded(named: Sequence[str] | None) -> dict[str, bool]:
    """Return metric -> whether it, or its group, was asked for by name.

    Raises:
        ConfigError: an unknown name, one that comes twice, or none.
    """
    if named is None or list(named) == ["all"]:
        groups = [group for group in GROUPS.values() if group.by_default or named is not None]
        return {name: False for group in groups for name in group.names}
    check_once("metrics", named)
    if not named:
        raise ConfigError(f"metrics: at least one is needed.{did_you_mean('', [*GROUPS, *METRICS])}")
    metrics: dict[str, bool] = {}
    for name in named:
        if name in GROUPS:
            metrics |= dict.fromkeys(GROUPS[name].names, True)
        elif name in METRICS:
            metrics[name] = True
        else:
            raise ConfigError(f"unknown metric '{name}'.{did_you_mean(name, [*GROUPS, *METRICS])}")
    return metrics
