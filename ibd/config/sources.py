"""Where the values of a configuration were written: files, the files they are based on, and overrides."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import yaml
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ibd.config.files import find_config, shipped_config, shipped_names
from ibd.errors import ConfigError, did_you_mean, no_file


@dataclass(frozen=True)
class Layer:
    """Values from one place, and that place as an error names it.

    Attributes:
        label: the place.
        values: the values.
        override: whether it is no file, but what the user says now.
    """

    label: str
    values: dict[str, Any]
    override: bool = False


class Sources:
    """Layers of values, each merged over the ones before.

    Args:
        main: name of the place for an error about a value that nobody gave.
        layers: layers of configuration, lowest first.
        incomplete: whether "???" is left where a value that must be given is missing, in place of an error.
    """

    def __init__(self, main: str = "", layers: Sequence[Layer] = (), incomplete: bool = False) -> None:
        self.main, self.incomplete = main, incomplete
        self.layers: list[Layer] = list(layers)
        self.merged: dict[str, Any] = reduce(_merge, (layer.values for layer in layers), {})

    def error(self, path: Sequence[str], message: str, shown: str | None = None, missing: bool = False) -> ConfigError:
        """Return an error that names the file or override that a value came from.

        Args:
            path: the keys that lead to the value.
            message: sentence that says what is wrong.
            shown: the key to show, if not `path`.
            missing: whether the value was not given, so that the file that should have it is named.
        """
        origin = self.main if missing else self._origin(path)
        return ConfigError(": ".join(filter(None, [origin, shown or ".".join(path), message])))

    def interpolate(self, value: object) -> object:
        """Return a value, such as a name, that has to be known before the configuration is complete."""
        if isinstance(value, str) and "${" in value:
            return OmegaConf.create({**self.merged, "value": value})["value"]
        return value

    def dropped(self, path: Sequence[str]) -> bool:
        """Return whether the last word on a key is null, over something that a lower layer says."""
        values = [_get(layer.values, path) for layer in self.layers if _has(layer.values, path)]
        return len(values) > 1 and values[-1] is None and any(value is not None for value in values)

    def older_than_name(self, path: Sequence[str], key: str) -> bool:
        """Return whether a key of a block was set in a lower layer than the block's name, and by files alone.

        What the user says now is meant for the class that he says now, in whatever order.
        """
        given = [index for index, layer in enumerate(self.layers) if _has(layer.values, (*path, key))]
        named = [index for index, layer in enumerate(self.layers) if _says(layer.values, (*path, "name"))]
        if not path or not given or not named or self.layers[max(given)].override:
            return False
        return max(given) < max(named)

    def _origin(self, path: Sequence[str]) -> str:
        for length in range(len(path), 0, -1):
            for layer in reversed(self.layers):
                if _says(layer.values, path[:length]):
                    return layer.label
        return self.main


def read_sources(
    source: str | Path | Mapping[str, Any] | DictConfig, overrides: Sequence[str], saved: bool = False
) -> Sources:
    """Read a configuration, what it is based on, and overrides ``key=value``.

    Args:
        source: a YAML file, or its content as a mapping.
        overrides: changes to the content, ``key=value``.
        saved: whether the file was written by `ibd.config.save_config`, whole and resolved: it may read nothing else.

    Raises:
        ConfigError: a file is missing or no YAML, or an override is malformed.
    """
    if saved:
        check_saved(Path(str(source)))
    if isinstance(source, str | Path):
        main, layers = str(source), read_file(find_config(Path(source)))
    else:
        main, layers = "config", _with_bases("config", Path(), _plain(OmegaConf.create(dict(source))), ())
    return Sources(main, [*layers, *map(parse_override, overrides)])


def read_file(path: Path, opened: tuple[Path, ...] = (), asked_by: str = "") -> list[Layer]:
    """Return the layers of a file: those of its bases, then its own.

    Args:
        path: a YAML file.
        opened: the files that are based on it.
        asked_by: last of them, as an error names it.
    """
    prefix = f"{asked_by}: base: " if asked_by else ""
    if (kind := no_file(path)) is not None:
        raise ConfigError(f"{prefix}'{path}' is {kind}, a YAML file is needed")
    if not path.is_file():
        siblings = {sibling.stem: sibling.name for sibling in sorted(path.parent.glob("*.y*ml"))}
        near = [siblings[stem] for stem in difflib.get_close_matches(path.stem, siblings)] or siblings.values()
        near = near or difflib.get_close_matches(str(path.with_suffix("")), shipped_names())
        raise ConfigError(f"{prefix}no config file '{path}'.{did_you_mean(path.name, near)}")
    if path.resolve() in opened:
        raise ConfigError(f"{prefix}'{path}' is itself based on this file")
    return _with_bases(str(path), path.parent, read_yaml(path), (*opened, path.resolve()))


def check_saved(path: Path) -> None:
    """Check that a run's config reads nothing but itself: no other file, no environment variable.

    Raises:
        ConfigError: it would, or repeats parts of itself by aliases, a few of which make gigabytes.
    """
    _refuse_special(path)
    plain = f"{path}: the config of a run is saved with all its values, but this one"
    try:
        tokens = list(yaml.scan(path.read_text(encoding="utf-8"), yaml.SafeLoader))
    except (OSError, ValueError, yaml.YAMLError):
        tokens = []  # what reads it next says why
    if any(isinstance(token, yaml.AliasToken) for token in tokens):
        raise ConfigError(f"{plain} repeats some of them by an alias (*name)")
    content = read_yaml(path)
    if "base" in content:
        raise ConfigError(f"{plain} is based on another file (base)")
    for text in _texts(content):
        if "${" in text:
            raise ConfigError(f"{plain} refers to something else: {text[:60]!r}")


def _texts(value: object) -> Iterator[str]:
    """Return every key and text in a value."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str):
        yield value


def _with_bases(label: str, folder: Path, values: dict[str, Any], opened: tuple[Path, ...]) -> list[Layer]:
    bases = values.pop("base", [])
    if isinstance(bases, str):
        bases = [bases]
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{label}: base: Value '{bases}' is neither a path nor a list of paths")
    layers = []
    for base in bases:
        asked = Path(os.path.normpath(folder / Path(base).expanduser()))
        layers += read_file(asked if asked.exists() else shipped_config(Path(base)) or asked, opened, label)
    return [*layers, Layer(label, values)]


def read_yaml(path: Path) -> dict[str, object]:
    """Return what a YAML file holds, its interpolations as they are written.

    Raises:
        ConfigError: it cannot be read, is no YAML, or no mapping.
    """
    _refuse_special(path)
    try:
        content = OmegaConf.load(path)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        said = f"{path}: {_TOO_DEEP}" if _is_too_deep(error) else f"{path}{line}: no valid YAML: {error.problem}"
        raise ConfigError(said) from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{path}: {error.full_key}: {first_line(error)}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text, which YAML needs") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {first_line(error)}") from None
    except RecursionError:
        raise ConfigError(f"{path}: {_TOO_DEEP}") from None
    if not isinstance(content, DictConfig):
        raise ConfigError(f"{path}: this is a list, but keys with values are needed, such as 'model:'")
    if "resume" in content:
        raise ConfigError(f"{path}: resume: belongs on the command line, as resume=RUN")
    return _plain(content)


def _refuse_special(path: Path) -> None:
    if (kind := no_file(path)) is not None:
        raise ConfigError(f"'{path}' is {kind}, a YAML file is needed")


_TOO_DEEP = "lists or blocks are nested hundreds deep, which no option needs"


def _is_too_deep(error: yaml.MarkedYAMLError) -> bool:
    """Return whether the parser itself has stopped at its depth, as from PyYAML 6.0.4 on; before, Python did."""
    return "nesting depth" in str(error.problem)


def parse_override(text: str) -> Layer:
    """Return the value that ``key=value`` sets.

    Raises:
        ConfigError: it has no ``=``, or the value is no YAML.
    """
    label = f"override '{text}'"
    key, equals, _ = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"{label}: write key=value, for example trainer.max_epochs=20")
    try:
        return Layer(label, _plain(OmegaConf.from_dotlist([text])), override=True)
    except yaml.MarkedYAMLError as error:
        too_deep = _is_too_deep(error)  # of which the text is not shown
        said = f"override '{key}=...': {_TOO_DEEP}" if too_deep else f"{label}: no valid YAML: {error.problem}"
        raise ConfigError(said) from None
    except (OmegaConfBaseException, ValueError, TypeError, yaml.YAMLError) as error:
        raise ConfigError(f"{label}: {first_line(error)}") from None
    except RecursionError:
        raise ConfigError(f"override '{key}=...': {_TOO_DEEP}") from None


def _plain(content: DictConfig) -> dict[str, Any]:
    values = OmegaConf.to_container(content)
    assert isinstance(values, dict)
    return {str(key): value for key, value in values.items()}


def first_line(error: Exception) -> str:
    """Return an error's message without the details that OmegaConf adds below it."""
    return str(error).split("\n", 1)[0]


_NAMED = (("model",), ("data",), ("model", "backbone"))
"""Blocks that may be written as a bare name."""


def _merge(below: Any, above: Any, path: tuple[str, ...] = ()) -> Any:
    """Merge mappings by key; every other value replaces what was below, but a block's bare name only its name."""
    if path in _NAMED and isinstance(above, str) and above != MISSING and isinstance(below, dict):
        above = {"name": above}
    if not isinstance(above, dict):
        return above
    if isinstance(below, str) and path[0] in ("model", "data"):
        below = {"name": below}  # the short form of a block
    if not isinstance(below, dict):
        return above
    return below | {key: _merge(below.get(key), value, (*path, str(key))) for key, value in above.items()}


def _get(values: object, path: Sequence[str]) -> object:
    return reduce(lambda inner, key: inner.get(key) if isinstance(inner, dict) else None, path, values)


def _has(values: object, path: Sequence[str]) -> bool:
    for key in path:
        if not isinstance(values, dict) or key not in values:
            return False
        values = values[key]
    return True


def _says(values: object, path: Sequence[str]) -> bool:
    """Return whether values have a key, also a block's name where the block was written as a bare one."""
    return _has(values, path) or (path[-1] == "name" and isinstance(_get(values, path[:-1]), str))
