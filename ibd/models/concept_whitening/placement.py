"""Which batch normalizations of a backbone give way to whitening."""

from __future__ import annotations

import copy
import fnmatch
from collections.abc import Sequence

from torch import nn

from ibd.backbones.bcos.fading_layers import FadingNorm
from ibd.backbones.bcos.layers import UncenteredNorm2d
from ibd.errors import ConfigError, did_you_mean
from ibd.models.concept_whitening.layer import ConceptWhiteningLayer
from ibd.models.concept_whitening.whitening import Whitening

_NORMS = (nn.BatchNorm2d, UncenteredNorm2d, FadingNorm)


def choose_layers(backbone: nn.Module, wanted: Sequence[str] | None) -> list[str]:
    """Return the names of the batch normalizations to replace.

    Args:
        backbone: backbone with all its batch normalizations in place.
        wanted: names as in ``backbone.named_modules()``, or patterns such as ``layer4.*.bn1``; None takes that of the
            last block: of a ResNet ``bn1`` of the last residual block, as published, else the last one there is.

    Raises:
        ConfigError: a name or pattern that fits none, or no batch normalization at all.
    """
    known = [name for name, module in backbone.named_modules() if _replaceable(module)]
    kind = getattr(backbone, "name", type(backbone).__name__)
    if not known:
        raise ConfigError(
            f"model.backbone: {kind} has no batch normalization for concept whitening to replace (norm: batch?)"
        )
    if wanted is None:
        blocks = [name for name, module in backbone.named_modules() if _is_residual_block(module)]
        return [f"{blocks[-1]}.bn1" if blocks and f"{blocks[-1]}.bn1" in known else known[-1]]
    if not wanted:
        raise ConfigError(f"model.layers: at least one is needed.{did_you_mean('', known)}")
    chosen = []
    for pattern in wanted:
        matching = fnmatch.filter(known, pattern)
        if not matching:
            raise ConfigError(
                f"model.layers: {kind} has no batch normalization '{pattern}'.{did_you_mean(pattern, known)}"
            )
        chosen += [name for name in matching if name not in chosen]
    return chosen


def _is_residual_block(module: nn.Module) -> bool:
    """Return whether a module is a block of torchvision's ResNets, which is imported where there is one."""
    places = {f"{cls.__module__}.{cls.__qualname__}" for cls in type(module).__mro__}
    return bool(places & {"torchvision.models.resnet.BasicBlock", "torchvision.models.resnet.Bottleneck"})


def _replaceable(module: nn.Module) -> bool:
    """Return whether a module is a normalization and nothing more: those of timm may hold the activation, too."""
    inside = (getattr(module, part, None) for part in ("act", "drop"))
    return isinstance(module, _NORMS) and all(part is None or isinstance(part, nn.Identity) for part in inside)


def replace_layers(backbone: nn.Module, layers: Sequence[str], concepts: int, settings: Whitening) -> None:
    """Put whitening in the place of batch normalizations; their scales and shifts are dropped, as published.

    Args:
        backbone: backbone to change in place.
        layers: names of batch normalizations.
        concepts: number of axes that have a meaning.
        settings: settings of the whitening.

    Raises:
        ConfigError: a layer is too narrow, or cannot be divided into the groups.
    """
    for name in layers:
        norm = backbone.get_submodule(name)
        assert isinstance(norm, _NORMS)
        replace_module(backbone, name, ConceptWhiteningLayer(norm.num_features, concepts, settings))


def without_whitening(backbone: nn.Module) -> nn.Module:
    """Return the backbone; a copy without whitening, which cannot run without numbers and moves nothing."""
    whitened = [name for name, layer in backbone.named_modules() if isinstance(layer, ConceptWhiteningLayer)]
    if not whitened:
        return backbone
    plain = copy.deepcopy(backbone)
    for name in whitened:
        replace_module(plain, name, nn.Identity())
    return plain


def replace_module(parent: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of the one that goes by a dotted name."""
    path, _, last = name.rpartition(".")
    setattr(parent.get_submodule(path), last, module)
