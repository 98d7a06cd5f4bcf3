"""Configurations: YAML files and ``key=value`` overrides, checked against the constructors they are given to.

The signature of a class is the schema of its block: its annotations are what is allowed, its defaults are filled in,
its docstring is the help. See `ibd.config.schema.Config` for the top level.
"""

from __future__ import annotations

import enum
import inspect
import json
import os
import textwrap
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ibd.config.schema import Config, Option, block_options, options
from ibd.config.sources import Sources, first_line, read_sources
from ibd.config.validation import as_mapping, fill, location
from ibd.registry import REGISTRY, load_class, loading, locate, trusted, trusting

_LONGEST = 200
"""Bytes of a run's name, of the 255 that file systems allow."""


def load_config(
    source: str | Path | Mapping[str, Any] | DictConfig, *overrides: str, trust: bool = False
) -> DictConfig:
    """Return a complete, checked configuration.

    Args:
        source: a YAML file, or its content as a mapping. It is yours: classes that it names are imported. But that of
            a run (``config.yaml`` beside ``checkpoints/``) may have been written by anybody: see `load_saved_config`.
        overrides: ``key=value``, such as "model.backbone=resnet18", applied in order.
        trust: read also the config of a run as if it were yours.

    Returns:
        The configuration with every option of every block; assignments to it are checked, too.

    Raises:
        ConfigError: one line that names the file or override, the key, what was given and what is allowed.
    """
    with trusting(trust):
        if _of_a_run(source) and not trusted():
            return load_saved_config(source, *overrides)
        return _load(source, read_sources(source, overrides))


def load_saved_config(file: Any, *overrides: str) -> DictConfig:
    """Return the configuration of a run, which somebody else may have written.

    It was saved with all its values: what would read another file or an environment variable is refused, and so is,
    unless `ibd.registry.trusting`, a class that is none of ours.

    Args:
        file: ``config.yaml`` of a run.
        overrides: ``key=value``, applied in order.

    Raises:
        ConfigError: as of `load_config`, or one of these.
    """
    with loading():
        config = _load(file, read_sources(file, overrides, saved=True))
        for name in config.logger.get("explainers") or []:
            locate("explainers", name)
    return config


def _of_a_run(source: Any) -> bool:
    """Return whether a configuration is a file that a run has left."""
    if not isinstance(source, str | Path) or Path(source).name != "config.yaml":
        return False
    return any((Path(source).parent / "checkpoints" / f"{name}.ckpt").exists() for name in ("last", "best"))


def _load(source: str | Path | Mapping[str, Any] | DictConfig, sources: Sources) -> DictConfig:
    name = Path(source).stem if isinstance(source, str | Path) else "run"
    config = fill("Config", options(Config), {"name": name, **sources.merged}, sources)
    try:
        OmegaConf.to_container(config, resolve=True)
    except OmegaConfBaseException as error:
        raise sources.error((error.full_key or "").split("."), first_line(error)) from None
    if wrong := _no_folder_name(str(config.name)):
        raise sources.error(("name",), f"{str(config.name)[:80]!r} {wrong}; a run is written to OUTPUT/NAME/TIME")
    return config


def _no_folder_name(name: str) -> str | None:
    """Return why a text is not the name of one folder, None where it is."""
    if not name.strip() or name.strip(".") == "":
        return "is no name"
    if "/" in name or "\\" in name:
        return "is a path, the name of one folder is needed"
    if not name.isprintable():
        return "has characters that cannot be seen"
    return f"is longer than {_LONGEST} bytes" if len(os.fsencode(name)) > _LONGEST else None


def save_config(config: DictConfig, path: str | Path) -> None:
    """Write a configuration, interpolations resolved, so that loading the file gives it again (less `resume`)."""
    plain = to_plain(config)
    plain.pop("resume", None)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(plain)), encoding="utf-8")


def to_plain(config: DictConfig | Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration or block as dicts, lists, strings and numbers, interpolations resolved."""
    plain = _plain(_container(config))
    assert isinstance(plain, dict)
    return plain


def build(kind: str, block: DictConfig | Mapping[str, Any] | str, **supplied: Any) -> Any:
    """Instantiate the class that a block describes; blocks inside it are passed on as plain dicts.

    A constructor with a parameter `name` is given the block's.

    Args:
        kind: "models", "backbones", "datasets", ... or a block with one class: "optimizer", "trainer", ...
        block: a block of a loaded configuration, a plain dict (it is checked, too), or a bare name.
        supplied: arguments that are no options or that take the place of the block's.

    Raises:
        ConfigError: the block does not fit the class, or the class finds its arguments wrong.
    """
    cls, given = check(kind, block, supplied)
    if kind in REGISTRY and "name" not in inspect.signature(cls).parameters:
        del given["name"]
    return cls(**given, **supplied)


def check(
    kind: str, block: DictConfig | Mapping[str, Any] | str, supplied: Collection[str] = ()
) -> tuple[type[Any], dict[str, Any]]:
    """Return the class that a block describes, and the block with all of its options, without calling it.

    Args:
        kind: as of `build`.
        block: as of `build`.
        supplied: arguments that are no options, or that do not count.

    Raises:
        ConfigError: the block does not fit the class.
    """
    sources, path = Sources(), ({"models": "model", "datasets": "data"}.get(kind, kind.removesuffix("s")),)
    values = as_mapping(kind, block if isinstance(block, str) else _container(block), sources, path)
    values = {key: value for key, value in values.items() if key not in supplied}
    cls = load_class(location(kind, values, sources, path), kind)
    return cls, _container(fill(cls.__name__, block_options(kind, cls, supplied), values, sources, path))


def describe(source: str | Path | Mapping[str, Any] | DictConfig, *overrides: str) -> str:
    """Return a configuration as YAML in which each option is followed by the sentence its class says about it.

    What must still be given stands as "???".
    """
    if _of_a_run(source) and not trusted():
        config = to_plain(load_saved_config(source, *overrides))
    else:
        sources = read_sources(source, overrides)
        sources.incomplete = True
        config = to_plain(_load(source, sources))
    if config["resume"] is None:
        del config["resume"]
    return "\n".join(_describe(options(Config), config)) + "\n"


def _container(config: Any) -> dict[str, Any]:
    if isinstance(config, DictConfig):
        config = OmegaConf.to_container(config, resolve=True)
    return dict(config)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.name
    return str(value) if isinstance(value, Path) else value


def _describe(allowed: Mapping[str, Option], values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for key, option in allowed.items():
        if key not in values:
            continue
        value = values[key]
        if option.block is None or value is None:
            yield from _commented(indent, _yaml_line(key, value), option.help)
        else:
            yield from _commented(indent, f"{key}:", option.doc)
            kind = option.block.kind
            cls = load_class(location(kind, value, Sources(), (key,)))
            yield from _describe(block_options(kind, cls), value, indent + "  ")


def _yaml_line(key: str, value: Any) -> str:
    if isinstance(value, dict | list):
        return f"{key}: {json.dumps(value, ensure_ascii=False)}"
    return OmegaConf.to_yaml(OmegaConf.create({key: value})).rstrip("\n")


def _commented(indent: str, text: str, comment: str, column: int = 36, width: int = 120) -> Iterator[str]:
    lines = textwrap.indent(text, indent)
    beside = f"{lines:<{column}}  # {comment}" if comment else lines
    if len(beside) <= width and "\n" not in lines:
        yield beside
    else:
        yield from textwrap.wrap(comment, width, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        yield lines
