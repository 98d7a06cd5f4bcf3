"""``ibd compare``: runs, explainers and metrics from the command line or a file; the report on disk and in W&B."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, cast

import torch

from ibd.app.foreign import ForeignSettings, find_model, is_place, short_name
from ibd.comparison.compare import compare, compare_part
from ibd.comparison.options import CompareOptions
from ibd.comparison.report import Report
from ibd.config import Block, build, plain_values
from ibd.config.files import find_config
from ibd.config.sources import Sources, parse_override, read_file
from ibd.errors import ConfigError
from ibd.metrics.functional.random_effects import two_level_interval
from ibd.printing import shown
from ibd.training.loggers import wandb_mode
from ibd.training.settings import LoggerSettings


def compare_runs(runs: Sequence[str], changes: Sequence[str], out: str | None) -> Iterator[str]:
    """Compare what explanations of runs are worth; yield lines on it for a person.

    Args:
        runs: RUN of the command line, any number, or ``package.module:make_model`` of a network of anybody's; none
            where the file says which.
        changes: ``key=value`` options of `ibd.compare`, lists by commas; ``data.key=value`` for the data of the runs;
            ``config=FILE`` for a YAML file of the same options, ``logger.mode=online`` to log to W&B. For networks of
            anybody's also ``model.key=value`` (see `ibd.app.foreign.ForeignSettings`) and, without runs, ``data=`` a
            folder of images or a config file.
        out: folder of the report; by default ``comparison``.

    Raises:
        ConfigError: an unknown option, or what `ibd.compare` raises.
    """
    asked = read_options(changes)
    settings = build("logger", asked.logger)
    folder = Path(out or asked.output or "comparison")
    given = [*runs, *asked.runs]
    places = [str(place) for place in given if isinstance(place, str) and is_place(place)]
    other = isinstance(asked.contrast, str) and is_place(asked.contrast)
    if not places and not other and asked.model:
        raise ConfigError("compare: model: options of a network package.module:make_model, and there is none")
    settings_of = ForeignSettings(**(asked.model or {}))
    networks = {short_name(place): find_model(place, settings_of) for place in places}
    if len(networks) < len(places):
        raise ConfigError(
            f"compare: two networks are called {short_name(places[0])}: compare them in Python, by models="
        )
    options: dict[str, Any] = {
        "runs": [run for run in given if run not in places],
        "models": networks or None,
        "data": asked.data,
        "label": asked.model.get("label") if asked.model else None,
        "explainers": asked.explainers,
        "metrics": asked.metrics,
        "images": asked.images,
        "split": asked.split,
        "seed": asked.seed,
        "probe_images": asked.probe_images,
        "shown": asked.shown,
        "output": folder,
        "overrides": asked.overrides,
        "progress": asked.progress,
        "device": asked.device,
        "contrast": find_model(asked.contrast, settings_of) if other else asked.contrast,
    }
    if asked.part is not None:
        yield compare_part(asked.part, **options)
        yield f"pieces:  {folder / 'cache'}; when all parts are there, the same command without part= makes the report"
        return
    report = compare(**options)
    yield summary(report)
    if asked.images != CompareOptions.images and asked.images > (there := len(report.comparison.image_ids)):
        yield f"images:  {asked.images} asked for, the {asked.split} split has {there}"
    if (mode := wandb_mode(settings)) != "disabled":
        yield f"W&B:     {log_to_wandb(report, folder, settings, mode)}"
    yield f"scores:  {folder / 'scores.csv'}"
    yield f"report:  {folder / 'index.html'}"


@dataclass(frozen=True)
class CompareCommand(CompareOptions):
    """The options of the verb: those of `ibd.compare`, and a block for W&B.

    Attributes:
        logger: settings of the logger; it is off unless a mode is given.
        data: changes to the data of the runs, a block; without runs a folder of images or a config file.
        model: way to ask networks of anybody's.
        part: part i of n of the work, ``i/n``, for this process: it keeps finished pieces, and makes no report.
    """

    config_excludes = ("overrides", "models", "preprocess", "label")
    logger: Annotated[dict[str, Any], Block("logger")] = field(default_factory=lambda: {"mode": "disabled"})
    data: Any = None
    model: Annotated[dict[str, Any] | None, Block("foreign")] = None
    part: str | None = None


def read_options(changes: Sequence[str]) -> CompareCommand:
    """Return the options that ``key=value`` strings mean, those of the file that ``config=FILE`` names among them.

    Raises:
        ConfigError: an unknown option, a value that it cannot have, or a file that cannot be read.
    """
    data = [text for text in changes if text.startswith("data.")]
    rest = [text for text in changes if not text.startswith("data.")]
    for text in rest:
        if "=" not in text:
            raise ConfigError(f"'{text}': no such run, and no key=value")
    files = [text.removeprefix("config=") for text in rest if text.startswith("config=")]
    layers = [layer for file in files[-1:] for layer in read_file(find_config(Path(file)))]
    layers += [parse_override(text) for text in rest if not text.startswith("config=")]
    sources = Sources("compare", [replace(layer, values=_listed(layer.values)) for layer in layers])
    given = plain_values(CompareCommand, sources)
    block = given.pop("data")
    if isinstance(block, dict) and "name" not in block:  # changes to the data of runs
        return CompareCommand(**given, overrides=[*_data_changes(block), *data])
    if block is not None and not isinstance(block, str | dict):
        raise ConfigError(f"compare: data: {block!r} given, a folder, a config file or a block of changes is needed")
    return CompareCommand(**given, data=block, overrides=data)


def _listed(values: Mapping[str, object]) -> dict[str, Any]:
    """Return values, of which lists may be written by commas."""
    return {
        key: [part.strip() for part in value.split(",") if part.strip()]
        if key in ("explainers", "metrics", "runs") and isinstance(value, str)
        else value
        for key, value in values.items()
    }


def _data_changes(block: Mapping[str, object]) -> list[str]:
    """Return a file's block of options of the data as ``data.key=value``."""
    plain = {key: value if isinstance(value, str) else json.dumps(value) for key, value in block.items()}
    return [f"data.{key}={value}" for key, value in plain.items()]


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
        raise ConfigError(f"logger: W&B cannot start a run ({reason}); logger.mode=offline avoids this") from error
    comparison = report.comparison
    table = wandb.Table(columns=["model", "method", "metric", "mean", "low", "high", "images"])
    for (model, method, metric), values in comparison.scores.items():
        interval = two_level_interval(torch.from_numpy(values).unsqueeze(0))
        table.add_data(model, method, metric, interval.mean, interval.low, interval.high, interval.n)
        run.summary[f"compare/{model}/{method}/{metric}"] = interval.mean
    run.log({"compare/scores": table})
    pictures = sorted((folder / "figures").glob("*.png"))
    run.log({f"compare/{path.stem}": wandb.Image(str(path)) for path in pictures})
    run.config.update({"models": [model.run for model in comparison.models], **comparison.settings})
    where = str(run.dir if mode == "offline" else run.url)  # asked for a url, W&B warns offline
    run.finish()
    return where
