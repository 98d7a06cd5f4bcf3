"""Explainers called as other libraries call theirs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.targets import Target

Asked = Target | int | str | Sequence[int] | Tensor | None
Images = TypeVar("Images", Tensor, tuple[Tensor])


class _Explainer(Protocol):
    """What `ibd.explain.base.Explainer` is to this file."""

    def __call__(self, model: nn.Module, image: Tensor, target: Target | int | str | None = None) -> Any: ...


class Asking:
    """An explainer of one model, called as captum's are.

    Args:
        explainer: explainer.
        model: ours, or any classifier of (B, 3, H, W) images.
    """

    def __init__(self, explainer: _Explainer, model: nn.Module) -> None:
        self.explainer, self.model = explainer, model

    def attribute(self, inputs: Images, target: Asked = None) -> Images:
        """Return the maps, (B, 1, H, W): one value for the colors of a pixel, which fits the (B, 3, H, W) images.

        Args:
            inputs: (B, 3, H, W) float, on the model's device; or a tuple of these alone, as captum's metrics give them,
                for which a tuple of the maps is returned.
            target: target of one score; a number or name is that class, several numbers are one for each image, None is
                the predicted class.

        Raises:
            UnsupportedError: the method has no map, or cannot explain this model.
            ConfigError: a target of several scores, no such class, or several inputs.
        """
        if isinstance(inputs, tuple):
            if len(inputs) != 1:
                raise ConfigError(f"attribute: {len(inputs)} inputs given, a model of images has one")
            return (self._maps(inputs[0], target),)
        return self._maps(inputs, target)

    def _maps(self, image: Tensor, target: Asked) -> Tensor:
        plain = target if target is None or isinstance(target, Target | int | str) else Target.cls(target)
        found = self.explainer(self.model, image, plain)
        if found.target.many:
            raise ConfigError("attribute: a target of one score is needed; call the explainer itself for several")
        if found.map is None:
            raise UnsupportedError(f"attribute: '{found.method}' has no map here; call the explainer itself")
        maps: Tensor = found.map.unsqueeze(1)
        return maps


def layer_among(modules: Sequence[nn.Module]) -> str:
    """Return the name of a layer in a model as an option is written; "..." where it is not known.

    Args:
        modules: what was given: a model, and a layer of it.
    """
    model, *others = modules
    names = [name for name, part in model.named_modules() if name and any(part is other for other in others)]
    return f'"{names[0]}"' if len(names) == 1 else "..."
