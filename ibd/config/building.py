"""The classes that the blocks of a configuration describe."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

from omegaconf import DictConfig

from ibd.config.plain import container
from ibd.config.schema import block_options, common_options, options
from ibd.config.sources import Sources
from ibd.config.validation import as_mapping, fill, location
from ibd.registry import REGISTRY, load_class


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
        kind: kind of the block, as of `build`.
        block: block of the configuration, as of `build`.
        supplied: names of arguments that are no options, or that do not count.

    Raises:
        ConfigError: the block does not fit the class.
    """
    supplied = {*supplied, *common_options(kind)}  # which are for who builds the model
    sources, path = Sources(), ({"models": "model", "datasets": "data"}.get(kind, kind.removesuffix("s")),)
    values = as_mapping(kind, block if isinstance(block, str) else container(block), sources, path)
    values = {key: value for key, value in values.items() if key not in supplied}
    cls = load_class(location(kind, values, sources, path), kind)
    return cls, container(fill(cls.__name__, block_options(kind, cls, supplied), values, sources, path))


def check_options(cls: type[Any], values: Mapping[str, Any], supplied: Collection[str] = ()) -> None:
    """Check arguments of a class that is no block of a configuration against its constructor.

    Args:
        cls: class whose constructor is annotated.
        values: arguments by name.
        supplied: names of arguments that do not count.

    Raises:
        ConfigError: an argument that there is not, or a value of another type.
    """
    given = {key: value for key, value in values.items() if key not in supplied}
    fill(cls.__name__, options(cls, supplied), given, Sources())
