"""Models of anybody's in a comparison: their fingerprints, and whether they are fed as they were trained."""

from __future__ import annotations

import copy
import hashlib
import inspect
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ibd.comparison.images import balanced
from ibd.comparison.models import ComparedModel
from ibd.comparison.results import ModelInfo, Skipped
from ibd.comparison.same_data import fingerprint_of
from ibd.data.base import ImageDataModule, Split
from ibd.errors import ConfigError
from ibd.metrics.functional.student import at_least
from ibd.models.foreign import ForeignModel, Preprocess, PreprocessName, preprocessing
from ibd.models.lightning import InterpretableModule

_log = logging.getLogger(__name__)
_LOOKED_AT = 64
"""Images on which a network is fed in other ways, too."""
_SURE = 0.01
_TELLING = (ForeignModel, InterpretableModule)
"""Models that say themselves how they are fed."""
_OTHERS: dict[PreprocessName, str] = {
    "unit": "pixels in [0, 1]",
    "imagenet": "ImageNet's mean and deviation",
    "half": "a mean and deviation of 0.5",
}


def foreign_models(
    models: Mapping[str, Any],
    data: ImageDataModule,
    split: Split,
    preprocess: Preprocess | None,
    device: torch.device,
) -> list[ComparedModel]:
    """Return models that are given as networks.

    Args:
        models: name -> a `ForeignModel`, any ``nn.Module``, one of our training modules, or a list of several, which
            are trainings of one kind.
        data: data that they are asked about.
        split: split of it.
        preprocess: what is done to images before an ``nn.Module``, see `ForeignModel`.
        device: device for the models, which are copied.

    Raises:
        ConfigError: what is given is no network, or is not told how images are fed to it.
    """
    listed = [
        (name, network, seed)
        for name, given in models.items()
        for seed, network in enumerate(given if isinstance(given, list | tuple) else [given])
    ]
    if preprocess is not None and all(isinstance(network, _TELLING) for _, network, _ in listed):
        raise ConfigError("compare: preprocess: these models say themselves how they are fed")
    return [_compared(name, network, seed, data, split, preprocess, device) for name, network, seed in listed]


def _compared(
    name: str,
    network: Any,
    seed: int,
    data: ImageDataModule,
    split: Split,
    preprocess: Preprocess | None,
    device: torch.device,
) -> ComparedModel:
    if isinstance(network, InterpretableModule):
        module: nn.Module = _copied(name, network)
        body, kind, words = type(network.network).__name__, network.network.unit_kind, "given in Python"
    else:
        asked = _wrapped(name, network, preprocess)
        module, body, kind = asked, type(asked.model).__name__, ""
    says = b""
    module.to(device).eval()
    if isinstance(module, ForeignModel):
        try:
            module.for_classes(data.spec.class_names)
            images, labels = _some(data, split)
            module.check(images.to(device), data.spec.class_names)
            words = feeding(name, module, images.to(device), labels)
            says = answers(module, images.to(device))
        except ConfigError as error:
            raise ConfigError(f"'{name}': {error}") from None
    info = ModelInfo(name, name, words, seed, float("nan"), kind, body)
    asked_about = ", ".join(fingerprint_of(data, split).values())
    return ComparedModel(info, module, data, data, fingerprint(module, says), asked_about)


def _wrapped(name: str, network: Any, preprocess: Preprocess | None) -> ForeignModel:
    if isinstance(network, ForeignModel):
        own: ForeignModel = _copied(name, network)
        return own
    if not isinstance(network, nn.Module):
        raise ConfigError(f"compare: models: '{name}' is a {type(network).__name__}, a torch.nn.Module is needed")
    if preprocess is None:
        raise ConfigError(
            f"compare: models: how is '{name}' fed? Say preprocess='unit' if it takes pixels in [0, 1], 'imagenet' if "
            "these less ImageNet's mean and over its deviation, or {'mean': (r, g, b), 'std': (r, g, b)}"
        )
    return ForeignModel(_copied(name, network), preprocess)


def _copied(name: str, network: Any) -> Any:
    """Return a copy: evaluation mode, device and gradients of what a caller goes on using stay as they are."""
    try:
        return copy.deepcopy(network)
    except Exception as error:  # whatever a stranger's network raises
        reason = " ".join(str(error).split())[:160]
        raise ConfigError(f"compare: models: '{name}' cannot be copied by copy.deepcopy: {reason}") from error


def _some(data: ImageDataModule, split: Split) -> tuple[Tensor, Tensor]:
    """Return a few images of a split, and their labels."""
    dataset = data.dataset(split)
    samples = [dataset[index] for index in balanced(dataset.labels, _LOOKED_AT, seed=0)]
    return torch.stack([s.image for s in samples]), torch.tensor([s.label for s in samples])


@torch.no_grad()
def feeding(name: str, model: ForeignModel, images: Tensor, labels: Tensor) -> str:
    """Return in words how a network is fed, and how many images it then tells rightly; warn if another way is better.

    Args:
        name: name of the model.
        model: network, on the device of the images.
        images: (B, 3, H, W) in [0, 1].
        labels: (B,).
    """
    given = model.preprocess_name
    right = _right(model, images, labels)
    words = f"takes {_OTHERS[given] if given in _OTHERS else _statistics(model.preprocess)}"
    words += f", right for {int(right.sum())} of {len(labels)} images"
    if given is None and not hasattr(model.preprocess, "std"):
        return words  # a module of its own may do anything: there is nothing to put in its place
    found = {other: _right(_fed(model, other, images.device), images, labels) for other in _OTHERS if other != given}
    other = max(found, key=lambda name: int(found[name].sum()))
    gained, lost = int((found[other] & ~right).sum()), int((right & ~found[other]).sum())
    if gained + lost and at_least(gained, gained + lost, 0.5) < _SURE:  # a sign test of the images that differ
        words += f"; fed with {_OTHERS[other]} it would be for {int(found[other].sum())}: is its preprocess right?"
        _log.warning("'%s' %s", name, words)
    return words


def _fed(model: ForeignModel, name: PreprocessName, device: torch.device) -> ForeignModel:
    """Return the same network, fed in another way."""
    fed = copy.copy(model)
    fed._modules = {**model._modules, "preprocess": preprocessing(name).to(device)}
    return fed


def _right(model: ForeignModel, images: Tensor, labels: Tensor) -> Tensor:
    right: Tensor = model(images).argmax(1).cpu() == labels
    return right


def _statistics(preprocess: nn.Module) -> str:
    values = [value for name in ("mean", "std") if isinstance(value := getattr(preprocess, name, None), Tensor)]
    if len(values) < 2:
        return "what a function of its own makes of pixels"
    mean, std = (", ".join(f"{x:.3g}" for x in value.flatten().tolist()) for value in values)
    return f"pixels less ({mean}) over ({std})"


@torch.no_grad()
def answers(model: ForeignModel, images: Tensor) -> bytes:
    """Return what a network says of images, to a thousandth of the largest logit: rounding does not reach that."""
    logits = model(images).double().cpu()
    steps = (1000 * logits / logits.abs().max().clamp_min(torch.finfo(torch.float64).tiny)).round()
    return bytes(steps.to(torch.int16).numpy().tobytes())


def fingerprint(model: nn.Module, says: bytes = b"") -> str:
    """Return what changes where a network does: code as far as it can be read, form, weights, attributes, answers.

    Args:
        model: network.
        says: what it says of some images: what cannot be read elsewhere, such as the variables of a closure.
    """
    digest = hashlib.sha256(repr(model).encode() + says)
    for text in _sources(model):
        digest.update(text.encode())
    buffers = {f"buffer {name}": value for name, value in model.named_buffers()}  # also those that are not persistent
    for name, entry in {**model.state_dict(), **buffers}.items():
        digest.update(name.encode())
        for value in tree_leaves(entry):  # of quantized layers they are packed
            if isinstance(value, Tensor):
                plain = value.detach().dequantize() if value.is_quantized else value.detach()
                digest.update(plain.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    for path, part in model.named_modules():
        own = {k: v for k, v in vars(part).items() if k[0] != "_" and isinstance(v, bool | int | float | str | tuple)}
        digest.update(f"{path} {sorted(own.items())}".encode())
    if isinstance(model, ForeignModel):
        digest.update(repr((model.output if isinstance(model.output, str) else "", model.label, model.chosen)).encode())
    return digest.hexdigest()[:16]


def _sources(model: nn.Module) -> Iterator[str]:
    """Yield the code of a network's classes and functions that are not PyTorch's."""
    found: list[Any] = [type(part) for part in model.modules()]
    if isinstance(model, ForeignModel):
        found += [model.output, getattr(model.preprocess, "function", None)]
    for kind in dict.fromkeys(item for item in found if callable(item)):
        if not str(getattr(kind, "__module__", "")).startswith("torch."):
            try:
                yield inspect.getsource(kind)
            except (OSError, TypeError):  # typed in at a prompt, or no Python
                yield repr(getattr(kind, "__qualname__", ""))


def no_accounts(models: Sequence[ComparedModel]) -> list[Skipped]:
    """Return that networks of anybody's have no row of their own account."""
    why = "this network gives no account of itself that is known here"
    return [Skipped(model.info.name, "intrinsic", None, why) for model in models if model.foreign]


def names_of(models: Mapping[str, Any] | None) -> Sequence[str]:
    """Return the names that models are given by.

    Raises:
        ConfigError: no mapping of names to models, or a name that is none.
    """
    if models is None:
        return []
    if not isinstance(models, Mapping):
        raise ConfigError(
            f"compare: models: {type(models).__name__} given, names and networks are needed: models={{'mine': network}}"
        )
    for name in models:
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(f"compare: models: {name!r} given, a name is needed")
        if isinstance(models[name], list | tuple) and not models[name]:
            raise ConfigError(f"compare: models: '{name}' is an empty list, a network is needed")
    return list(models)
