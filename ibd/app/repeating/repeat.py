"""Several trainings of one config, by one command."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ibd.app.repeating.outcome import lines_of, read_rows, save_rows
from ibd.app.repeating.plan import Kind, Plan, new_plan, read_plan, values_of
from ibd.app.repeating.running import check_alone, run_plan
from ibd.app.terminal import writing
from ibd.errors import ConfigError
from ibd.registry import trusted, trusting

_RESUME = "resume="


def repeat(words: Sequence[str], seeds: str | None, folds: int | None) -> Iterator[str]:
    """Train and test a config with several seeds, or on folds, and say what is sure; yield lines for a person.

    Args:
        words: a config and changes to it; or ``resume=FOLDER`` alone.
        seeds: ``--seeds``, see `ibd.app.repeating.plan.values_of`.
        folds: ``--folds``.

    Raises:
        ConfigError, DataError: the user's mistakes, before anything is trained.
        IbdError: a training failed.
        KeyboardInterrupt: Ctrl-C; the message says how to go on.
    """
    check_alone()
    resumed = [word.removeprefix(_RESUME) for word in words if word.startswith(_RESUME)]
    plan = _resumed(words, resumed, seeds, folds) if resumed else _new(words, seeds, folds)
    with trusting(trusted() or not resumed):  # what is in a new one, the user has named
        yield from run_plan(plan)
    rows = read_rows(plan)
    yield ""
    yield from lines_of(rows, plan)
    with writing(plan.folder / "repeat.csv"):
        files = save_rows(rows, plan)
    yield from (f"written: {path}" for path in files)


def _resumed(words: Sequence[str], resumed: list[str], seeds: str | None, folds: int | None) -> Plan:
    if len(words) > 1 or seeds is not None or folds is not None:
        raise ConfigError("repeat: resume=FOLDER goes on with what was begun, and takes nothing else")
    return read_plan(Path(resumed[0]))


def _new(words: Sequence[str], seeds: str | None, folds: int | None) -> Plan:
    files = [word for word in words if "=" not in word]
    if len(files) != 1:
        said = f"one config file at a time, not {len(files)}: {', '.join(files)}" if files else "which config?"
        raise ConfigError(f"repeat: {said} (for example: ibd repeat toybirds/tiny --seeds 5)")
    if (seeds is None) == (folds is None):
        raise ConfigError("repeat: --seeds or --folds is needed, one of them, such as --seeds 5")
    kind: Kind = "seed" if folds is None else "fold"
    values = values_of(seeds, "--seeds") if folds is None else list(range(folds))
    return new_plan(files[0], [word for word in words if "=" in word], kind, values)
