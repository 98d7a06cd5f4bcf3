"""Values against options: every mistake is one error that names the place, the key, what was given, what is allowed."""

from __future__ import annotations

import functools
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import make_dataclass
from typing import Any, Literal, get_args, get_origin

from omegaconf import MISSING, DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from ibd.config.schema import OMITTED, Option, block_options
from ibd.config.sources import Sources, first_line
from ibd.errors import ConfigError, did_you_mean
from ibd.registry import REGISTRY, SETTINGS, load_class, locate, names

_log = logging.getLogger(__name__)

Path = tuple[str, ...]
"""The keys that lead to a value."""


def fill(
    owner: str, allowed: Mapping[str, Option], given: Mapping[str, object], sources: Sources, path: Path = ()
) -> DictConfig:
    """Check values and return them together with the defaults of the options that were not given.

    A null drops an option of a lower layer that this class does not have. Everything on this level is checked before a
    class is imported for a block inside it.

    Args:
        owner: the class whose options they are, as an error names it.
        allowed: options of that class.
        given: values that were given.
        sources: places where the values were written.
        path: the keys that lead to them.

    Raises:
        ConfigError: the first mistake.
    """
    unfit = [str(key) for key in given if key not in allowed and not sources.dropped((*path, str(key)))]
    if unfit:
        raise sources.error(
            (*path, unfit[0]), f"Key '{unfit[0]}' not in '{owner}'.{_advice(unfit, allowed, sources, path)}"
        )
    values = {name: given.get(name, option.default) for name, option in allowed.items()}
    values = {name: value for name, value in values.items() if value is not OMITTED}
    fields = [(name, Any if allowed[name].block else allowed[name].type) for name in values]
    node: DictConfig = OmegaConf.structured(_structure(owner, tuple(fields)))
    for name, value in values.items():
        if allowed[name].block is None:
            _assign(node, allowed[name], value, sources, path)
    _fill_blocks(node, allowed, values, sources, path)
    return node


@functools.cache
def _structure(owner: str, fields: tuple[tuple[str, Any], ...]) -> type[Any]:
    """Return the dataclass by which OmegaConf checks values."""
    return make_dataclass(owner, [(name, hint, MISSING) for name, hint in fields])


def as_mapping(kind: str, value: object, sources: Sources, path: Path) -> dict[str, object]:
    """Return a block as a dict, also if it was written as a bare name."""
    if isinstance(value, str) and value != MISSING and kind in REGISTRY:
        return {"name": value}
    if value == MISSING:
        return {}
    if not isinstance(value, dict):
        raise sources.error(path, f"{_shown(value)} given, a block with options is needed")
    return value


def location(kind: str, values: Mapping[str, Any], sources: Sources, path: Path) -> str:
    """Return "module:Class" of a block, without importing it."""
    if kind in SETTINGS:
        return SETTINGS[kind]
    where = (*path, "name")
    try:
        name = sources.interpolate(values.get("name", MISSING))
    except OmegaConfBaseException as error:
        raise sources.error(where, first_line(error)) from None
    if not isinstance(name, str) or name == MISSING:
        message = "missing" if name == MISSING else f"{_shown(name)} is no name"
        raise sources.error(where, f"{message}.{did_you_mean('', names(kind))}", missing=name == MISSING)
    try:
        return locate(kind, name)
    except ConfigError as error:
        raise type(error)(str(sources.error(where, str(error)))) from None


def _fill_blocks(
    node: DictConfig, allowed: Mapping[str, Option], values: Mapping[str, object], sources: Sources, path: Path
) -> None:
    """Fill the blocks inside a block; all of their names are looked up before the first class is imported."""
    blocks: dict[str, tuple[str, str, dict[str, Any]]] = {}
    for key, value in values.items():
        option, where = allowed[key], (*path, key)
        if option.block is None:
            continue
        if value is None and option.block.filled:
            value = {}
        if value is None and option.optional:
            node[key] = None
            continue
        kind = option.block.kind
        block = as_mapping(kind, value, sources, where)
        default = {} if option.default is None else as_mapping(kind, option.default, sources, where)
        if block.get("name", default.get("name")) == default.get("name"):
            block = {**default, **block}
        blocks[key] = kind, location(kind, block, sources, where), block
    for key, (kind, place, block) in blocks.items():
        try:
            cls = load_class(place, kind)
        except ConfigError as error:
            raise sources.error((*path, key, "name"), str(error)) from None
        allowed_inside = block_options(kind, cls)
        if kind == "backbones":
            block = _without_inherited(cls.__name__, allowed_inside, block, sources, (*path, key))
        inner = fill(cls.__name__, allowed_inside, block, sources, (*path, key))
        with flag_override(node, "no_deepcopy_set_nodes", True):  # nobody else has it
            node[key] = inner


def _without_inherited(
    owner: str, allowed: Mapping[str, Option], block: dict[str, Any], sources: Sources, path: Path
) -> dict[str, Any]:
    """Return a block without what a lower layer gives to another class, over which this one was set; which is told."""
    left_out = [key for key in block if key not in allowed and sources.older_than_name(path, key)]
    for key in left_out:
        if not sources.dropped((*path, key)):
            _log.warning("%s is left out: '%s' has no such option", ".".join((*path, key)), owner)
    return {key: value for key, value in block.items() if key not in left_out}


def _advice(unfit: list[str], allowed: Mapping[str, Option], sources: Sources, path: Path) -> str:
    """Return what to do about keys that a class does not have: drop them, where they were meant for another one."""
    inherited = [key for key in unfit if sources.older_than_name(path, key)]
    if unfit[0] not in inherited:
        return did_you_mean(unfit[0], allowed).replace("mean '", "mean: '")
    drop = " ".join(f"{'.'.join((*path, key))}=null" for key in inherited)
    return f" It belongs to another {'.'.join(path)}.name, over which this one was set; drop it with {drop}"


def _assign(node: DictConfig, option: Option, value: object, sources: Sources, path: Path) -> None:
    where = (*path, option.name)
    if isinstance(value, str) and value == MISSING:
        if sources.incomplete:
            return
        message = f"missing, '{node._metadata.object_type.__name__}' needs it ('{option.hint}')"
        raise sources.error(where, message, missing=True)
    value = _word(value, option)
    mismatch = f"{_shown(value)} given, {_wanted(option.hint)} is needed"
    if value is None and not option.optional:
        raise sources.error(where, mismatch)
    if isinstance(value, bool | float) and option.type in (str, str | None):
        raise sources.error(where, mismatch)  # OmegaConf would make the run's name `on` a 'True'
    if _is_nan(value, option):
        raise sources.error(where, "nan given, a number is needed")
    try:
        OmegaConf.update(node, option.name, value, merge=False)
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        message, inner = first_line(error), getattr(error, "full_key", None) or option.name
        clear = "could not be converted" in message or message.startswith("Invalid value '")
        if not clear or (inner == option.name and isinstance(value, list | tuple | dict)):
            message = mismatch
        raise sources.error(where, message, shown=".".join((*path, inner))) from None


def _word(value: object, option: Option) -> object:
    """Return the word that YAML reads as a truth value, where it is one of an option's: `off`, which becomes False."""
    literals = [hint for hint in (option.type, *get_args(option.type)) if get_origin(hint) is Literal]
    choices = [choice for hint in literals for choice in get_args(hint)]
    if isinstance(value, bool) and value not in choices:
        return next((word for word in (("on",) if value else ("off",)) if word in choices), value)
    return value


def _is_nan(value: object, option: Option) -> bool:
    """Return whether a value is, or would become, the float that is no number."""
    if isinstance(value, str) and float in (option.type, *get_args(option.type)):
        return value.strip().lower() in ("nan", "+nan", "-nan")
    return isinstance(value, float) and math.isnan(value)


def _wanted(hint: str) -> str:
    """Return an annotation as a person would say it: "one of 'a', 'b'" for a `Literal`."""
    plain = re.sub(r"Literal\[([^]]*)\]", r"one of \1", hint)
    return plain if plain != hint else f"'{hint}'"


def _shown(value: object) -> str:
    return "null" if value is None else f"Value '{value}' of type '{type(value).__name__}'"
