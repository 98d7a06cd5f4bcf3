"""``ibd curve RUN noise=0.1``: the intervention curve, and how often whoever corrects errs, or does not know."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ibd.app.terminal import save_figure, writing
from ibd.config.sources import read_yaml
from ibd.data.base import Split
from ibd.errors import ConfigError
from ibd.io import find_run, load_run
from ibd.training.origin import save_origin

KEYS = ("noise", "unknown")


def show_curve(
    run: str, changes: Sequence[str], policies: Sequence[str], trials: int, split: Split, out: Path | None, seed: int
) -> str:
    """Measure the curve of a run, write its table and figure, and return it and where they are.

    Args:
        run: run folder or checkpoint.
        changes: changes to its data, and rates, see `take_rates`.
        policies: names of policies.
        trials: number of trials.
        split: the images to measure on.
        out: folder to write into; None takes that of the run's figures.
        seed: seed of orders and answers.
    """
    from ibd.models.cbm.intervention import intervention_curve

    rates, rest = take_rates(changes)
    model, data = load_run(run, *rest)
    result = intervention_curve(model, data, policies, trials, split, seed, **rates)
    table = (out or find_run(run) / "figures") / "intervention_curve.csv"
    with writing(table):
        result.save_csv(table)
        save_origin(table, model, split, changes)
    save_figure(result.figure(), table.with_suffix(".png"))
    return f"{result}\nfigure: {table.with_suffix('.png')}\ntable:  {table}"


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
