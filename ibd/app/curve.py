"""``ibd curve RUN noise=0.1``: how often whoever corrects errs, or does not know, on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ibd.config.sources import read_yaml
from ibd.errors import ConfigError

KEYS = ("noise", "unknown")


def take_rates(changes: Sequence[str]) -> tuple[dict[str, float | dict[str, float]], list[str]]:
    """Return the rates among ``key=value`` words, by "noise" and "unknown", and the other words.

    ``noise=0.1`` is that of all groups, ``noise.wing=0.1`` of one, and ``noise=rates.yaml`` a file of ``group: rate``.

    Raises:
        ConfigError: what is no rate and no file, or a rate that is given twice.
    """
    rates: dict[str, float | dict[str, float]] = {}
    rest: list[str] = []
    for word in changes:
        name, equals, value = word.partition("=")
        key, _, group = name.partition(".")
        if key not in KEYS or not equals:
            rest.append(word)
            continue
        given = rates.get(key, {})
        if not isinstance(given, dict) or (given and not group) or group in given:
            raise ConfigError(f"'{word}': {key} is given twice")
        if group:
            rates[key] = {**given, group: _number(word, value)}
        else:
            rates[key] = _of_file(key, value) if value.endswith((".yaml", ".yml")) else _number(word, value)
    return rates, rest


def _number(word: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ConfigError(f"'{word}': a rate from 0 to 1 is needed, or a YAML file of group: rate") from None


def _of_file(key: str, file: str) -> dict[str, float]:
    rates = {}
    for group, rate in read_yaml(Path(file)).items():
        if isinstance(rate, bool) or not isinstance(rate, int | float):
            raise ConfigError(f"'{file}': {group}: {rate!r} given, a rate from 0 to 1 is needed for {key}")
        rates[str(group)] = float(rate)
    return rates
