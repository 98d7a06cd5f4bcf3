"""What a configuration may say: the options of a class, read from its constructor and its docstring."""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import re
import types
from collections.abc import Collection, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from omegaconf import MISSING

from ibd.registry import COMMON, SETTINGS, load_class

SUPPLIED = {"trainer": ("logger", "callbacks", "default_root_dir", "use_distributed_sampler")}
"""Arguments that the program gives to a class that is not ours; our own list them in ``config_excludes``."""


@dataclass(frozen=True)
class Block:
    """Marks a constructor parameter, ``Annotated[dict[str, Any], Block("backbones")]``, as a block of options.

    Args:
        kind: a registry kind, whose blocks have a `name` and that class's arguments, or a key of ``SETTINGS``.
        filled: whether a block that is left out, or null, means the defaults of that class, and not that there is none.
    """

    kind: str
    filled: bool = False


@dataclass(frozen=True, kw_only=True)
class Config:
    """The top level of a configuration file; ``base:``, a path or a list of them, is merged under the file.

    Args:
        name: Name of the run, in <output>/<name>/<time>; by default that of the file.
        seed: Seed of weights, shuffles and augmentation.
        output: Folder for runs.
        model: The network and how it learns.
        data: The images and what is known of them.
        optimizer: Optimizer and schedule.
        trainer: Arguments of Lightning's Trainer.
        logger: Place for curves and pictures.
        checkpoint: Choice of the weights that are kept.
        early_stopping: Rule for stopping before the last epoch; null never does.
        compile: Whether torch.compile compiles the backbone for the steps of the training: minutes at the first step.
        resume: Run folder to go on from; on the command line only.
    """

    name: str
    seed: int = 0
    output: str = "runs"
    model: Annotated[dict[str, Any], Block("models")]
    data: Annotated[dict[str, Any], Block("datasets")]
    optimizer: Annotated[dict[str, Any], Block("optimizer")] = field(default_factory=dict)
    trainer: Annotated[dict[str, Any], Block("trainer")] = field(default_factory=dict)
    logger: Annotated[dict[str, Any], Block("logger")] = field(default_factory=dict)
    checkpoint: Annotated[dict[str, Any], Block("checkpoint")] = field(default_factory=dict)
    early_stopping: Annotated[dict[str, Any] | None, Block("early_stopping")] = None
    compile: bool = False
    resume: str | None = None


@dataclass(frozen=True)
class Option:
    """One constructor parameter.

    Attributes:
        name: the key in the configuration.
        hint: annotation of the parameter, for people.
        type: type of the parameter as far as OmegaConf can check it, else Any.
        default: MISSING where one must be given, OMITTED where the default is no value that YAML can hold.
        block: block of the configuration that the value is, if it is one.
        doc: first sentence of its description in the docstring.
    """

    name: str
    hint: str
    type: Any
    default: Any
    block: Block | None
    doc: str

    @property
    def optional(self) -> bool:
        """Whether null is a value."""
        return self.type is Any or type(None) in get_args(self.type)

    @property
    def help(self) -> str:
        """What it does and, if there are only a few, its values."""
        literals = [hint for hint in (self.type, *get_args(self.type)) if get_origin(hint) is Literal]
        choices = [str(choice) for choice in get_args(literals[0])] if literals else []
        if len(choices) > 10 or all(choice in self.doc for choice in choices) or choices == ["True", "False"]:
            return self.doc
        return f"{self.doc} One of {', '.join(choices)}.".strip()


OMITTED = object()


def block_options(kind: str, cls: type[Any], exclude: Iterable[str] = ()) -> dict[str, Option]:
    """Return the keys of a block: `name`, where the registry has several classes for its kind, and their arguments.

    Those of `common_options` come last.
    """
    if kind in SETTINGS:
        return options(cls, {*exclude, *SUPPLIED.get(kind, ())})
    name = Option("name", "str", str, MISSING, None, first_sentence(cls.__doc__))
    return {"name": name, **options(cls, {*exclude, "name"}), **common_options(kind, exclude)}


def common_options(kind: str, exclude: Iterable[str] = ()) -> dict[str, Option]:
    """Return the options that every block of a kind has, whatever its class."""
    return options(load_class(COMMON[kind]), exclude) if kind in COMMON else {}


def options(cls: type[Any], exclude: Iterable[str] = ()) -> dict[str, Option]:
    """Return the options of a class in the order of its constructor.

    A constructor with ``**kwargs`` has its parent's options too.

    Args:
        cls: any class whose constructor is annotated.
        exclude: parameters that are no options, beside those in ``cls.config_excludes``.
    """
    hidden = {*exclude, *getattr(cls, "config_excludes", ())}
    return {name: option for name, option in _constructor(cls).items() if name not in hidden}  # type: ignore[arg-type]


@functools.cache  # a configuration asks for the same twenty classes each time
def _constructor(cls: type[Any]) -> Mapping[str, Option]:
    """Return the parameters of a class's constructor, of which some may not be for a configuration."""
    docs = _argument_docs(cls)
    by_key: dict[str, Option] = {}
    for init in [vars(klass)["__init__"] for klass in cls.__mro__[:-1] if "__init__" in vars(klass)]:
        _, *parameters = inspect.signature(init).parameters.values()
        for parameter in parameters:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                option = _option(cls, init, parameter, docs.get(parameter.name, ""))
                by_key.setdefault(option.name, option)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return types.MappingProxyType(by_key)


def first_sentence(text: str | None) -> str:
    """Return the first sentence of a docstring on one line."""
    paragraph = inspect.cleandoc(text or "").split("\n\n", 1)[0]
    return re.split(r"(?<=[.!?])(?<!\bal\.)\s+(?=[A-Z`])", " ".join(paragraph.split()), maxsplit=1)[0]


def _option(cls: type[Any], init: Any, parameter: inspect.Parameter, doc: str) -> Option:
    default = parameter.default
    if default is inspect.Parameter.empty:
        default = MISSING
    elif dataclasses.is_dataclass(cls) and not _is_plain(default):  # the marker of a default factory
        factories = {f.name: f.default_factory for f in dataclasses.fields(cls)}
        factory = factories.get(parameter.name, dataclasses.MISSING)
        default = OMITTED if factory is dataclasses.MISSING else factory()
    if default is not MISSING and not _is_plain(default):
        default = OMITTED
    hint = _evaluate(init, parameter)
    marks = [mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Block)]
    shown = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    checked = _checkable(shown | None if default is None else shown)
    return Option(
        name=parameter.name,
        hint=re.sub(r"\b(?:typing|pathlib|collections\.abc)\.", "", inspect.formatannotation(shown)),
        type=Any if checked is _UNCHECKABLE else checked,
        default=default,
        block=marks[0] if marks else None,
        doc=doc,
    )


def _evaluate(init: Any, parameter: inspect.Parameter) -> Any:
    """Return a parameter's annotation as an object; Any where there is none or it only exists for type checkers."""
    if parameter.annotation is parameter.empty:
        return Any
    holder = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        hints = get_type_hints(holder, globalns=inspect.unwrap(init).__globals__, include_extras=True)
    except NameError:
        return Any
    return hints[parameter.name]


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(_is_plain(item) for item in value.values())
    return value is None or isinstance(value, bool | int | float | str | Path | enum.Enum)


_UNCHECKABLE = object()
_SCALARS = (str, int, float, Path, Any, type(None))
_LISTS = (list, Sequence, Iterable, Collection)
_DICTS = (dict, Mapping, MutableMapping)


def _checkable(hint: Any) -> Any:
    """Translate an annotation to one that OmegaConf checks, less what no YAML value could satisfy."""
    origin, args = get_origin(hint) or hint, get_args(hint)
    if hint is bool:
        return Literal[True, False]  # OmegaConf's own bool takes 2 for true
    if origin is Literal or origin in _SCALARS or (inspect.isclass(hint) and issubclass(hint, enum.Enum)):
        return hint
    if origin in (Union, types.UnionType):
        return _checkable_union([_checkable(arg) for arg in args])
    if origin is Annotated:
        return _checkable(args[0])
    inner = [arg if arg is ... else _checkable(arg) for arg in args]
    if _UNCHECKABLE in inner:
        return _UNCHECKABLE
    if origin in _LISTS:
        return list[inner[0] if inner else Any]  # type: ignore[misc]
    if origin is tuple:
        return tuple[tuple(inner) if args else (Any, ...)]  # type: ignore[misc]
    if origin in _DICTS:
        return dict[tuple(inner) if args else (str, Any)]  # type: ignore[misc]
    return _UNCHECKABLE


def _checkable_union(members: list[Any]) -> Any:
    members = [member for member in members if member is not _UNCHECKABLE]
    choices = [choice for member in members if get_origin(member) is Literal for choice in get_args(member)]
    others = [member for member in members if get_origin(member) is not Literal]
    if choices:
        others.append(Literal[tuple(choices)])
    if Any in others or not set(map(str, others)) - {str(type(None))}:
        return _UNCHECKABLE
    return Union[tuple(others)]  # noqa: UP007


_SECTION = re.compile(r"^(?:Args|Arguments|Attributes):\s*\n((?:[ \t]+.*\n?|\s*\n)+)", re.MULTILINE)
_ENTRY = re.compile(r"^(\w+)(?: ?\([^)]*\))?:[ \t]*(.*(?:\n(?:[ \t]+.*)?)*)", re.MULTILINE)


def _argument_docs(cls: type[Any]) -> dict[str, str]:
    """Return option -> first sentence from the Google-style docstrings of a class and its parents."""
    docs: dict[str, str] = {}
    for klass in cls.__mro__[:-1]:
        for text in (klass.__doc__, vars(klass).get("__init__", klass).__doc__):
            for section in _SECTION.findall(inspect.cleandoc(text or "") + "\n"):
                for name, doc in _ENTRY.findall(inspect.cleandoc("\n" + section)):
                    docs.setdefault(name, first_sentence(doc))
    return docs
