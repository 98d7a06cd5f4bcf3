"""Whether explanations show that an image was changed to fool: each explainer on the clean and on the fooled image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ibd.distributed import progress
from ibd.errors import ConfigError, UnsupportedError
from ibd.explain.base import Explainer
from ibd.explain.fooling.attacks import Fooled, sizes
from ibd.explain.targets import Target
from ibd.metrics.functional.agreement import map_spearman

COLUMNS = ("noise", "fooled", "seen", "classes")
"""What two maps are compared; see `Seen`."""


@dataclass(frozen=True)
class Seen:
    """How maps change where an image is changed to fool, for B images of which each was predicted as another class.

    Attributes:
        names: names of the E explainers.
        correlation: (E, 4, B) Spearman's correlation over the pixels of two maps, by `COLUMNS`. "noise": of the first
            class, without and with noise of the same size: how steady maps are. "fooled": of the first class, on the
            clean and on the fooled image. "seen": what a person is shown, the map of the class that is predicted of
            each. "classes": of both classes on the clean image: what of that is the other question alone.
        clean: (E, B, H, W) maps of the first class on the clean images.
        changed: (E, B, H, W) maps of the predicted class on the fooled images.
        left_out: why an explainer is not among them.
    """

    names: list[str]
    correlation: Tensor
    clean: Tensor
    changed: Tensor
    left_out: list[str] = field(default_factory=list)

    def table(self) -> str:
        """Return the mean correlations as text."""
        wide = max(9, *(len(name) for name in self.names))
        rows = [f"{'explainer':<{wide}} {'noise':>8} {'fooled':>8} {'seen':>8} {'classes':>8}"]
        for name, values in zip(self.names, self.correlation.nanmean(2).tolist(), strict=True):
            rows.append(" ".join([f"{name:<{wide}}", *(f"{value:>8.2f}" for value in values)]))
        return "\n".join(rows)


def explanations_fooled(model: nn.Module, fooled: Fooled, explainers: Sequence[Explainer], seed: int = 0) -> Seen:
    """Return how the maps of explainers change where images were changed to fool.

    Five maps of each image by each explainer. The model is left as it was.

    Args:
        model: the model.
        fooled: changed images; those that are not fooled are left out.
        explainers: explainers, of which those without a map are left out.
        seed: seed of the noise: of random signs, of the largest or the same size as each change.

    Raises:
        ConfigError: no explainer.
        UnsupportedError: no image is fooled, or no explainer has maps of this model.
    """
    if not explainers:
        raise ConfigError("fool: at least one explainer is needed")
    keep = fooled.fooled
    if not bool(keep.any()):
        raise UnsupportedError("no image is fooled within this budget: there is nothing to compare")
    clean, image = fooled.clean[keep], fooled.image[keep]
    before, after = Target.cls(fooled.before[keep].tolist()), Target.cls(fooled.after[keep].tolist())
    noisy = _noisy(fooled, seed)[keep]
    asked = ((clean, before), (noisy, before), (image, before), (image, after), (clean, after))
    names, rows, left_out, first, last = list[str](), list[Tensor](), list[str](), list[Tensor](), list[Tensor]()
    for explainer in progress(explainers, "explainers"):
        try:
            maps = [_map(explainer, model, pixels, target) for pixels, target in asked]
        except UnsupportedError as error:
            left_out.append(f"{explainer.name}: {error}")
            continue
        own, with_noise, same, shown, other = maps
        rows.append(torch.stack([map_spearman(own, m) for m in (with_noise, same, shown, other)]).cpu())
        names.append(explainer.name)
        first.append(own.float().cpu())
        last.append(shown.float().cpu())
    if not names:
        raise UnsupportedError(f"no explainer has maps of this model: {left_out[0]}")
    return Seen(names, torch.stack(rows), torch.stack(first), torch.stack(last), left_out)


def _map(explainer: Explainer, model: nn.Module, image: Tensor, target: Target) -> Tensor:
    found = explainer(model, image, target).map
    if found is None:
        raise UnsupportedError("it has no map of this model")
    return found


def _noisy(fooled: Fooled, seed: int) -> Tensor:
    """Return the clean images with noise of random signs, as large in the norm as the change of each."""
    clean = fooled.clean
    signs = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed)).sign().to(clean)
    scale = fooled.size / sizes(signs, fooled.norm)
    return (clean + signs * scale.view(-1, 1, 1, 1)).clamp(0, 1)
