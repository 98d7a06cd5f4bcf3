"""A call of a torch function by a model, as a `TorchFunctionMode` sees it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

Function = Callable[..., Any]
Arguments = tuple[Any, ...]
Keywords = dict[str, Any]


@dataclass(frozen=True)
class Call:
    """A function and its arguments.

    Attributes:
        func: function of the call, as `__torch_function__` gets it.
        args: arguments of the call.
        kwargs: arguments that are given by name.
    """

    func: Function
    args: Arguments
    kwargs: Keywords

    @cached_property
    def name(self) -> str:
        """The name of the function; of a property, the property's."""
        return name_of(self.func)

    @property
    def bare(self) -> str:
        """The name without what marks it as private, as an operator or as in-place."""
        return self.name.strip("_")

    @property
    def writes(self) -> bool:
        """Whether the function changes its first argument."""
        name = self.name
        operators = ("__setitem__", "__iadd__", "__imul__", "__isub__", "__itruediv__")
        return name in operators or (name.endswith("_") and not name.endswith("__"))

    @property
    def tensors(self) -> list[Tensor]:
        """All tensors among the arguments."""
        return tensors_in((self.args, self.kwargs))

    def argument(self, position: int, name: str, default: object = None) -> Any:
        """Return an argument by its position, or by its name."""
        return self.args[position] if len(self.args) > position else self.kwargs.get(name, default)

    def run(self) -> Any:
        """Return what the function makes of the arguments as they are."""
        return self.func(*self.args, **self.kwargs)


def name_of(function: object) -> str:
    """Return the name of a function as `__torch_function__` gets it; of a property, the property's."""
    name = getattr(function, "__name__", str(function))
    if name == "__get__":
        name = getattr(getattr(function, "__self__", None), "__name__", name)
    return str(name)


def tensors_in(tree: object) -> list[Tensor]:
    """Return the tensors in nested arguments or results."""
    if isinstance(tree, Tensor):
        return [tree]
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
