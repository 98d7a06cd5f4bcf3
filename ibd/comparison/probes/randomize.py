"""A network that loses what it has learned, tensor by tensor: all parameters and all floating-point buffers.

Every tensor is drawn by itself, from a seed of its name and the draw. It keeps its scale, so that signals neither die
nor explode: normal numbers of its own mean and standard deviation, with these exceptions:

- variances of normalization layers are log-normal, of the mean and deviation of their logarithms: always positive;
- a layer with a method ``randomized`` says itself what its tensors become (see `Randomized`): the covariance of a
  whitened layer keeps its eigenvalues and gets random axes, its rotation becomes a random rotation;
- a tensor of equal values gets a deviation of a tenth of their size, or of 0.1 for zeros.

What stays: the tensors of modules that say ``learns_nothing = True`` (the statistics of the input normalization, which
are the unit of the pixels; where prototypes are from), masks and counts (not floating point), and what is NaN
throughout.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from ibd.comparison.probes.seeding import numbers_of
from ibd.errors import check_range
from ibd.explain.activations import network_of
from ibd.models.random_values import Normal, normal_like


@runtime_checkable
class Randomized(Protocol):
    """A module of which some tensors are not any numbers: a rotation, a covariance, a distribution."""

    def randomized(self, name: str, old: Tensor, normal: Normal) -> Tensor | None:
        """Return random values for one of the module's own tensors; None for normal ones of its mean and deviation.

        Args:
            name: name of the tensor in the module.
            old: values before the change, float32 or better.
            normal: function that draws standard normal numbers of a shape and type.
        """


def randomizable(network: nn.Module) -> dict[str, Tensor]:
    """Return name -> tensor of all that is made random, in the order of the state dict; a shared one by its first name.

    Args:
        network: network whose own tensors these are, not copies.
    """
    kept: set[str] = set()
    for path, module in network.named_modules():
        if getattr(module, "learns_nothing", False):
            kept.update(f"{path}.{name}" for name in module.state_dict())
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in network.state_dict(keep_vars=True).items():
        learned = tensor.is_floating_point() and tensor.numel() and not _unknown(tensor)
        learned = learned and not name.endswith("_extra_state")  # settings that a state dict has beside its tensors
        if learned and name not in kept and id(tensor) not in seen:
            tensors[name] = tensor
            seen.add(id(tensor))
    return tensors


def _unknown(tensor: Tensor) -> bool:
    """Return whether all values are NaN; most tensors are told from their first."""
    return bool(tensor.flatten()[0].isnan()) and bool(tensor.isnan().all())


@torch.no_grad()
def randomize(network: nn.Module, names: Iterable[str], draw: int = 0) -> None:
    """Make tensors of a network random, in place.

    Args:
        network: copy of the network, which is changed.
        names: names of `randomizable`.
        draw: number of the draw; another one gives other numbers.
    """
    tensors = randomizable(network)
    for name in names:
        module, _, leaf = name.rpartition(".")
        tensor = tensors[name]
        tensor.copy_(_drawn(network.get_submodule(module), leaf, tensor.detach().cpu(), _normal(name, draw)))


def random_network(model: nn.Module, draw: int = 0) -> nn.Module:
    """Return a copy of a model's network in which everything is random."""
    network = copy.deepcopy(network_of(model)).eval()
    randomize(network, randomizable(network), draw)
    return network


def _normal(name: str, draw: int) -> Normal:
    """Return normal numbers from one seed."""
    generator = torch.Generator().manual_seed(numbers_of([f"randomize {draw} {name}"])[0])
    return lambda shape, dtype: torch.randn(tuple(shape), dtype=dtype, generator=generator)


def _drawn(module: nn.Module, leaf: str, old: Tensor, normal: Normal) -> Tensor:
    """Return random values in the place of a tensor, in float32 or better."""
    old = old.to(torch.promote_types(old.dtype, torch.float32))
    own = module.randomized(leaf, old, normal) if isinstance(module, Randomized) else None
    if own is not None:
        return own
    if leaf == "running_var":
        return normal_like(old.clamp(min=max(1e-3 * float(old.max()), 1e-12)).log(), normal).exp()
    return normal_like(old, normal)


class _FirstUse(TorchFunctionMode):
    """Notes when each of some tensors is first given to an operation."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        self._names = {id(tensor): name for name, tensor in tensors.items()}
        self.when: dict[str, int] = {}
        self.time = 0

    def __torch_function__(
        self, function: Any, types: object, args: tuple[object, ...] = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        self.time += 1
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor) and id(tensor) in self._names:
                self.when.setdefault(self._names[id(tensor)], self.time)
        return function(*args, **(kwargs or {}))


def stages(model: nn.Module, image: Tensor, most: int = 8) -> list[tuple[str, list[str]]]:
    """Return the tensors of a network in the order in which a pass uses them, in stages of as many modules each.

    Those that a module owns itself stay together; those of the network itself (prototypes) are taken one by one. What a
    pass does not use goes with the last stage.

    Args:
        model: ours, or any other; left as it is.
        image: (B, 3, H, W), of which the first is asked.
        most: stages at most.

    Returns:
        Name of the stage and names of its tensors, from the pixels to the logits.

    Raises:
        ConfigError: no stage.
    """
    check_range("stages", most, least=1)
    with torch.inference_mode(False), torch.no_grad():
        network = copy.deepcopy(network_of(model)).eval()
        tensors = randomizable(network)
        first_image = image[:1].clone().to(next((parameter.device for parameter in network.parameters()), image.device))
        with _FirstUse(tensors) as use:
            _note_calls(network, use)
            network(first_image)
    groups: dict[str, list[str]] = {}
    for name in tensors:
        groups.setdefault(name.rpartition(".")[0] or name, []).append(name)
    first = {group: min(use.when.get(name, math.inf) for name in names) for group, names in groups.items()}
    used = sorted((group for group in groups if first[group] < math.inf), key=lambda group: first[group])
    unused = [group for group in groups if first[group] == math.inf]
    count = min(most, len(used))
    cuts = [round(i * len(used) / count) for i in range(count + 1)]
    parts = [used[start:end] for start, end in itertools.pairwise(cuts)]
    titles = [part[0] if len(part) == 1 else f"{part[0]} to {part[-1]}" for part in parts]
    if parts:
        parts[-1] = parts[-1] + unused
    names = [[name for group in part for name in groups[group]] for part in parts]
    return list(zip(titles, names, strict=True))


def _note_calls(network: nn.Module, use: _FirstUse) -> None:
    """Let the call of a module stand for the use of its tensors, where no operation is given these (kept results)."""
    for path, module in network.named_modules():
        own = [f"{path}.{name}" for name in (*module._parameters, *module._buffers)] if path else []

        def note(_: nn.Module, __: object, own: list[str] = own) -> None:
            for name in own:
                use.when.setdefault(name, use.time)

        module.register_forward_pre_hook(note)
