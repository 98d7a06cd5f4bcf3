"""What an explanation must leave as it was: a model to its last hook, random states, and modes of torch."""

import random

import numpy as np
import torch
from torch.nn.modules import module as modules
from torch.overrides import _get_current_function_mode_stack
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

PLAIN = (bool, int, float, str, bytes, type(None))


def snapshot(model):
    """Return all of a model, and of the process, that an explanation must leave as it was."""
    parameters, tensors = list(model.parameters()), [*model.parameters(), *model.buffers()]
    return {
        "keys": list(model.state_dict()),
        "ids": [id(each) for each in tensors],
        "versions": [each._version for each in tensors if not each.is_inference()],
        "wanted": [each.requires_grad for each in tensors],
        "leaves": [each.is_leaf for each in tensors],
        "grads": [id(each.grad) for each in parameters],
        "grad values": [None if each.grad is None else each.grad.clone() for each in parameters],
        "modes": [each.training for each in model.modules()],
        "hooks": [_hooks(each) for each in model.modules()],
        "hooks of tensors": [_hooks_of_tensor(each) for each in tensors],
        "hooks of all modules": {name: list(found) for name, found in vars(modules).items() if _is_hooks(name, found)},
        "attributes": [_attributes(module) for module in model.modules()],
        "values": [each.clone() for each in model.state_dict().values()],
        "random numbers": _random(),
        "torch": _torch(),
    }


def check_untouched(model, before):
    """Check that nothing has changed since `snapshot`."""
    after = snapshot(model)
    for key in ("values", "grad values"):
        assert all(_same(*pair) for pair in zip(before[key], after[key], strict=True)), key
    for key in before.keys() - {"values", "grad values"}:
        assert before[key] == after[key], key


def _same(one, other):
    if one is None or other is None:
        return one is other
    return torch.equal(one, other) or torch.equal(one.nan_to_num(nan=17.0), other.nan_to_num(nan=17.0))


def _is_hooks(name, value):
    return "hooks" in name and isinstance(value, dict | set)


def _hooks(module):
    """Return every hook of a module: forward, backward, before these, of its state_dict, whatever there is."""
    found = {name: value for name, value in vars(module).items() if _is_hooks(name, value)}
    return {name: [(key, id(value[key])) for key in value] if isinstance(value, dict) else sorted(value)
            for name, value in found.items()}  # fmt: skip


def _hooks_of_tensor(tensor):
    return [sorted(getattr(tensor, name, None) or {}) for name in ("_backward_hooks", "_post_accumulate_grad_hooks")]


def _attributes(module):
    """Return the attributes of a module: plain values as such, others by identity."""
    return {name: value if isinstance(value, PLAIN) else id(value) for name, value in vars(module).items()}


def _random():
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002  # the one that callers without a generator share
    return bytes(torch.get_rng_state().numpy()), random.getstate(), kind, keys.tobytes(), rest


def _torch():
    """Return the modes that code can leave on by mistake."""
    return {
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "autocast cache": torch.is_autocast_cache_enabled(),
        "anomalies": torch.is_anomaly_enabled(),
        "dtype": torch.get_default_dtype(),
        "functions": [id(mode) for mode in _get_current_function_mode_stack()],
        "dispatch": [id(mode) for mode in _get_current_dispatch_mode_stack()],
        "vmap": torch._C._functorch.maybe_current_level(),
    }
