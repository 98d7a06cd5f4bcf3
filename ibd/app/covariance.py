"""``ibd covariance RUN``: a run of a plain bottleneck becomes one of a stochastic bottleneck, beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from ibd import config as configuration
from ibd.app.terminal import writing
from ibd.errors import ConfigError
from ibd.io import find_run, load_run

if TYPE_CHECKING:
    from ibd.models.scbm.lightning import StochasticConceptBottleneck


def add_covariance(
    run: str, changes: Sequence[str], out: Path | None, which: str = "best", **options: Any
) -> Iterator[str]:
    """Fit the covariance of a run's concepts, write a new run that has it, and yield lines on it for a person.

    Args:
        run: run of a plain bottleneck, or a checkpoint in one.
        changes: changes to its data.
        out: folder of the new run; None takes that of the run, its name with ``-scbm``.
        which: checkpoint, "best" or "last".
        options: options of `ibd.fit_covariance`.

    Raises:
        ConfigError: no run, or there is one in that folder already, or it cannot be written to.
    """
    from ibd.models.scbm.fitting import fit_covariance

    source = find_run(run).resolve()
    if not (source / "config.yaml").exists():
        raise ConfigError(f"'{run}' is in no run: a run's config.yaml tells which data it is of")
    folder = out or source.parent.with_name(f"{source.parent.name}-scbm") / source.name
    if (folder / "checkpoints").exists():
        raise ConfigError(f"'{folder}' is a run already: name another folder by --out")
    model, data = load_run(run, *changes, which=which)
    made = fit_covariance(model, data, **options)
    settings = configuration.load_saved_config(source / "config.yaml", *changes)
    with writing(folder / "config.yaml"):
        configuration.save_config(_settings(settings, made), folder / "config.yaml")
    made.save(folder / "checkpoints" / "best.ckpt")
    yield f"fitted on {made.fitted_on}"
    yield f"done: {folder}"


def _settings(settings: Any, made: StochasticConceptBottleneck) -> Any:
    """Return the config of a run with the model that was made of it."""
    plain = configuration.to_plain(settings)
    own = {key: value for key, value in made.hparams.items() if key not in ("spec", "optimizer", "backbone")}
    plain["model"] = {"name": "scbm", "backbone": plain["model"]["backbone"], **own}
    plain["name"] = f"{plain['name']}-scbm"
    return OmegaConf.create(plain)
