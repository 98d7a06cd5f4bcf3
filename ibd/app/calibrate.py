"""``ibd calibrate``: what the verb reads, writes and says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ibd.app.terminal import writing
from ibd.config.loading import plain_values
from ibd.config.sources import Sources, parse_override
from ibd.errors import ConfigError
from ibd.io import find_run
from ibd.models.calibration.choosing import NEVER_ON_TEST, Choices
from ibd.models.calibration.wording import summary
from ibd.training.calibrating import calibrate_run, remove_calibration
from ibd.training.hints import command


def show_calibration(run: str, changes: Sequence[str], which: str) -> Iterator[str]:
    """Calibrate a run, and yield lines on it for a person.

    Args:
        run: RUN of the command line.
        changes: ``key=value``, options of `Choices` and changes to the data.
        which: "best" or "last" checkpoint.

    Raises:
        ConfigError: an unknown option, or a value that it cannot have.
    """
    overrides = tuple(text for text in changes if text.startswith(("data.", "data=")))
    choices = read_choices([text for text in changes if text not in overrides])
    if choices.nothing:
        yield f"the calibration of {remove_calibration(run, which)} is taken away: it predicts as it was trained"
        return
    found = calibrate_run(run, overrides, choices, which)
    yield from summary(found.calibration).splitlines()
    if choices.split == "val":
        yield "the val split may have picked the checkpoint, too: docs/uncertainty.md says what that means"
    picture = find_run(run) / "figures" / f"reliability_{choices.split}.png"
    with writing(picture):
        found.save_figure(picture)
    yield f"figure: {picture}"
    yield f"kept in: {found.checkpoint}; what it is worth on the test split: {command('test', find_run(run))}"


def read_choices(changes: Sequence[str]) -> Choices:
    """Return the options that ``key=value`` strings mean.

    Raises:
        ConfigError: an unknown option, or a value that it cannot have.
    """
    for text in changes:
        if "=" not in text:
            raise ConfigError(f"'{text}': key=value is needed, such as coverage=0.9")
        if text == "split=test":
            raise ConfigError(NEVER_ON_TEST)
    return Choices(**plain_values(Choices, Sources("calibrate", [parse_override(text) for text in changes])))
