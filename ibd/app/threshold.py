"""``ibd threshold``: what the verb reads, writes and says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ibd.app.terminal import options
from ibd.errors import ConfigError, did_you_mean
from ibd.io import find_run
from ibd.metrics.functional.bootstrap import Interval
from ibd.models.loading import load_network
from ibd.models.thresholds import CONFIDENCE, FILE, Threshold, Thresholds
from ibd.training.thresholding import Wishes, set_thresholds

_KEYS = ("precision", "value", "concept", "accuracy", "confidence")


def show_thresholds(run: str, changes: Sequence[str], which: str) -> Iterator[str]:
    """Set thresholds of a run, or say which are set where nothing is asked for; yield lines on it for a person.

    Args:
        run: RUN of the command line.
        changes: ``key=value``, wishes and changes to the data.
        which: "best" or "last" checkpoint.

    Raises:
        ConfigError: an unknown option or concept, or a value that it cannot have.
        DataError: no threshold reaches what is wanted.
    """
    of_data = [text for text in changes if text.startswith(("data.", "data="))]
    asked = [text for text in changes if text not in of_data]
    if not asked:
        yield from _table(load_network(run, which).thresholds)
        return
    found = set_thresholds(run, *of_data, **vars(read_wishes(asked)), which=which)
    yield from _table(found.thresholds)
    yield from (f"no threshold: {line}" for line in found.missed)
    yield f"kept in: {find_run(run) / FILE}; predictions go by it from now on"


def read_wishes(changes: Sequence[str]) -> Wishes:
    """Return the wishes that ``key=value`` strings mean.

    Raises:
        ConfigError: an unknown option, or a value that it cannot have.
    """
    given = options(changes)
    for key in given:
        if key not in _KEYS:
            raise ConfigError(f"threshold: there is no option '{key}'.{did_you_mean(key, _KEYS)}")
    numbers = {key: _number(key, value) for key, value in given.items() if key != "concept"}
    names = given.get("concept")
    if names is not None and not isinstance(names, list):
        names = [name.strip() for name in str(names).split(",")]
    return Wishes(**numbers, concepts=None if names is None else tuple(map(str, names)))


def _number(key: str, value: Any) -> float | None:
    if value is None or (isinstance(value, float | int) and not isinstance(value, bool)):
        return None if value is None else float(value)
    raise ConfigError(f"threshold: {key}: '{value}' given, a number such as 0.95 is needed, or null")


def _table(thresholds: Thresholds | None) -> Iterator[str]:
    """Yield the lines of a table of thresholds."""
    if thresholds is None:
        always = "a class is answered whatever its confidence"
        yield f"no threshold is set: a concept is called present above 0.5, and {always}"
        return
    rows = list(thresholds.concepts.items())
    if thresholds.confidence is not None:
        rows.insert(0, (CONFIDENCE, thresholds.confidence))
    width = max(len(name) for name, _ in rows)
    yield f"{'':<{width}}  from    precision              recall                 on {thresholds.split} images"
    yield from (_row(name, width, threshold) for name, threshold in rows)


def _row(name: str, width: int, threshold: Threshold) -> str:
    shares = f"{_said(threshold.precision)}  {_said(threshold.recall)}"
    wanted = "" if threshold.wanted is None else f", chosen for {threshold.wanted:g}"
    return f"{name:<{width}}  {threshold.value:.4f}  {shares}  {threshold.called} of {threshold.images} called{wanted}"


def _said(share: Interval) -> str:
    text = f"{share.mean:.3f} [{share.low:.3f}, {share.high:.3f}]" if share.n else "-"
    return f"{text:<21}"
