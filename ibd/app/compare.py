"""``ibd compare``: runs, explainers and metrics from the command line or a file; the report on disk and in W&B."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ibd.app.terminal import options
from ibd.comparison.compare import compare
from ibd.comparison.report import Report
from ibd.config import build
from ibd.config.sources import read_yaml
from ibd.errors import ConfigError, did_you_mean
from ibd.metrics.functional.random_effects import two_level_interval
from ibd.printing import shown
from ibd.training.loggers import wandb_mode
from ibd.training.settings import LoggerSettings

_HERE = ("config", "data", "logger")
"""Options of the verb beside those of `ibd.compare`."""


def compare_runs(runs: Sequence[str], changes: Sequence[str], out: str | None) -> Iterator[str]:
    """Compare what explanations of runs are worth; yield lines on it for a person.

    Args:
        runs: RUN of the command line, any number; none where the file says which.
        changes: ``key=value`` options of `ibd.compare`, lists by commas; ``data.key=value`` for the data of the runs;
            ``config=FILE`` for a YAML file of the same options, ``logger.mode=online`` to log to W&B.
        out: folder of the report; by default ``comparison``.

    Raises:
        ConfigError: an unknown option, or what `ibd.compare` raises.
    """
    asked, data = read_options(changes)
    settings = _logger(asked.pop("logger", {}))
    given = [*runs, *asked.pop("runs", [])]
    folder = Path(out or asked.pop("output", None) or "comparison")
    asked.pop("output", None)
    report = compare(given, output=folder, overrides=data, **asked)
    yield summary(report)
    if asked.get("images", 0) > (there := len(report.comparison.image_ids)):
        yield f"images:  {asked['images']} asked for, the {report.comparison.settings['split']} split has {there}"
    if (mode := wandb_mode(settings)) != "disabled":
        yield f"W&B:     {log_to_wandb(report, folder, settings, mode)}"
    yield f"scores:  {folder / 'scores.csv'}"
    yield f"report:  {folder / 'index.html'}"


def _logger(given: Mapping[str, Any]) -> LoggerSettings:
    settings = build("logger", {"mode": "disabled", **given})
    assert isinstance(settings, LoggerSettings)
    return settings


def read_options(changes: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the options of `ibd.compare` that ``key=value`` strings mean, and the changes to the data among them.

    Raises:
        ConfigError: an unknown option, or a file that cannot be read.
    """
    data = [text for text in changes if text.startswith("data.")]
    rest = [text for text in changes if not text.startswith("data.")]
    for text in rest:
        if "=" not in text:
            raise ConfigError(f"'{text}': no such run, and no key=value")
    given = options(rest)
    file = given.pop("config", None)
    merged: dict[str, Any] = {**({} if file is None else _file(file)), **given}
    known = [*(set(inspect.signature(compare).parameters) - {"overrides", "trust"}), *_HERE]
    for key in merged:
        if key not in known:
            raise ConfigError(f"compare: there is no option '{key}'.{did_you_mean(str(key), known)}")
    for key in ("explainers", "metrics", "runs"):
        if isinstance(merged.get(key), str):
            merged[key] = [each.strip() for each in merged[key].split(",") if each.strip()]
    _check_types(merged)
    return merged, [*_data_changes(merged.pop("data", {})), *data]


def _data_changes(block: Mapping[str, object]) -> list[str]:
    """Return a file's block of options of the data as ``data.key=value``."""
    plain = {key: value if isinstance(value, str) else json.dumps(value) for key, value in block.items()}
    return [f"data.{key}={value}" for key, value in plain.items()]


def _file(path: object) -> dict[str, object]:
    content = OmegaConf.create(read_yaml(Path(str(path))))
    try:
        return {str(key): value for key, value in dict(OmegaConf.to_container(content, resolve=True)).items()}  # type: ignore[arg-type]
    except OmegaConfBaseException as error:
        raise ConfigError(f"compare: '{path}': {' '.join(str(error).split())}") from None


_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    **dict.fromkeys(("images", "seed", "probe_images", "shown"), ((int,), "a whole number is needed")),
    **dict.fromkeys(("explainers", "metrics", "runs"), ((list, type(None)), "a list is needed")),
    **dict.fromkeys(("split", "device", "output"), ((str, type(None)), "a name is needed")),
    "progress": ((bool,), "true or false is needed"),
    "data": ((dict,), "a block is needed, such as data.seed=0"),
    "logger": ((dict,), "a block is needed, such as logger.mode=offline"),
}


def _check_types(given: Mapping[str, object]) -> None:
    """Check what the command line cannot know the type of."""
    for key, (types, needed) in _TYPES.items():
        value = given.get(key)
        if key not in given or (isinstance(value, types) and (bool in types or not isinstance(value, bool))):
            continue
        raise ConfigError(f"compare: {key}: {value!r} given, {needed}")


def summary(report: Report) -> str:
    """Return the verdict on each family, as text."""
    lines = []
    for family in report.views:
        for view in family.views:
            lines += [view.headline, f"  {view.standing}"]
    return "\n".join(map(shown, lines))


def log_to_wandb(report: Report, folder: Path, settings: LoggerSettings, mode: str) -> str:
    """Log the scores as a table, their means as summary, and the figures as images; return where that is.

    Raises:
        ConfigError: W&B cannot start a run.
    """
    import wandb

    try:
        place: dict[str, Any] = {"project": settings.project, "entity": settings.entity, "dir": str(folder)}
        quiet = wandb.Settings(silent=True)
        run: Any = wandb.init(**place, mode=cast(Any, mode), job_type="compare", settings=quiet)
    except Exception as error:  # whatever W&B, or the network, raises
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"logger: W&B cannot start a run ({reason}); logger.mode=offline goes without") from error
    comparison = report.comparison
    table = wandb.Table(columns=["model", "method", "metric", "mean", "low", "high", "images"])
    for (model, method, metric), values in comparison.scores.items():
        interval = two_level_interval(torch.from_numpy(values).unsqueeze(0))
        table.add_data(model, method, metric, interval.mean, interval.low, interval.high, interval.n)
        run.summary[f"compare/{model}/{method}/{metric}"] = interval.mean
    run.log({"compare/scores": table})
    pictures = sorted((folder / "figures").glob("*.png"))
    run.log({f"compare/{path.stem}": wandb.Image(str(path)) for path in pictures})
    run.config.update({"models": [each.run for each in comparison.models], **comparison.settings})
    where = str(run.dir if mode == "offline" else run.url)  # asked for a url, W&B warns offline
    run.finish()
    return where
