"""A configuration as YAML in which each option is followed by what it means."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ibd.config.loading import load, load_saved_config, of_a_run
from ibd.config.plain import to_plain
from ibd.config.schema import Config, Option, block_options, options
from ibd.config.sources import Sources, read_sources
from ibd.config.validation import location
from ibd.registry import load_class, trusted


def describe(source: str | Path | Mapping[str, object] | DictConfig, *overrides: str) -> str:
    """Return a configuration as YAML in which each option is followed by the sentence its class says about it.

    What must still be given stands as "???".
    """
    if of_a_run(source) and not trusted():
        config = to_plain(load_saved_config(source, *overrides))
    else:
        sources = read_sources(source, overrides)
        sources.incomplete = True
        config = to_plain(load(source, sources))
    if config["resume"] is None:
        del config["resume"]
    return "\n".join(_describe(options(Config), config)) + "\n"


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


def _yaml_line(key: str, value: object) -> str:
    if isinstance(value, dict | list):
        return f"{key}: {json.dumps(value, ensure_ascii=False)}"
    return OmegaConf.to_yaml(OmegaConf.create({key: value})).rstrip("\n")


_COLUMN, _WIDTH = 36, 120
"""Where comments begin, and lines end."""


def _commented(indent: str, text: str, comment: str) -> Iterator[str]:
    lines = textwrap.indent(text, indent)
    beside = f"{lines:<{_COLUMN}}  # {comment}" if comment else lines
    if len(beside) <= _WIDTH and "\n" not in lines:
        yield beside
    else:
        yield from textwrap.wrap(comment, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
        yield lines
