"""What a comparison measures by asking a model again, called as Quantus calls its metrics."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ibd.comparison.probes.explaining import maps_of, unrectified
from ibd.comparison.probes.network import Predictor
from ibd.comparison.probes.pixels import Baseline, PixelProbe
from ibd.comparison.probes.robustness import changed_maps, matched, noisy
from ibd.comparison.probes.sanity import Reference, cascade
from ibd.errors import ConfigError, DataError, did_you_mean
from ibd.explain.base import Explanation, check_image
from ibd.explain.quantus import METHOD, made, quantus_explain
from ibd.explain.targets import Target
from ibd.metrics import maps as of_maps
from ibd.metrics.functional.curves import deletion_auc, insertion_auc
from ibd.metrics.functional.robustness import max_sensitivity
from ibd.models.base import InterpretableNetwork
from ibd.models.logits import Logits

ExplainFunction = Callable[..., NDArray[Any]]
"""``explain_func(model=, inputs=, targets=, **explain_func_kwargs)`` of Quantus: (B, H, W) or (B, C, H, W) maps."""


@dataclass(frozen=True)
class _Question:
    """What Quantus hands to a metric, as tensors.

    Attributes:
        measure: name of the measure, for messages.
        model: classifier that returns logits.
        images: (B, C, H, W) in [0, 1], on the model's device.
        classes: (B,) int64 that are explained.
        given: (B, H, W) maps, or None where they are asked for.
        function: what explains, or None.
        options: its further arguments.
    """

    measure: str
    model: nn.Module
    images: Tensor
    classes: Tensor
    given: Tensor | None
    function: ExplainFunction | None
    options: dict[str, Any]

    @property
    def maps(self) -> Tensor:
        """(B, H, W) maps: those that are given, else what the function explains."""
        return maps_of(self, self.model, self.images, self.classes) if self.given is None else self.given

    def signed(self) -> _Question:
        """Return the same with explanations that keep what speaks against the class, as a comparison's sanity does.

        Only an explainer of ours can be told to keep it; then the maps are asked for anew.
        """
        if self.function is not quantus_explain:
            return self
        own = {name: value for name, value in self.options.items() if name not in ("method", "device", "scalar")}
        explainer = made(self.options.get("method", METHOD), own)
        signed = unrectified(explainer)
        if signed is explainer:
            return self
        others = {name: value for name, value in self.options.items() if name not in own}
        return replace(self, given=None, options=others | {"method": signed})

    def __call__(self, model: nn.Module, images: Tensor, target: Target) -> Explanation:
        """Return the maps of images, of the classes of a target, as an explainer does."""
        if self.function is None:
            raise ConfigError(f"{self.measure}: an explain_func is needed, which explains other images and networks")
        (term,) = target.sums[0]
        found = self.function(
            model=Logits(model) if isinstance(model, InterpretableNetwork) else model,
            inputs=images.to(torch.promote_types(images.dtype, torch.float32)).cpu().numpy(),
            targets=np.asarray(term.index),
            **self.options,
        )
        maps = _maps(self.measure, found, images)
        return Explanation(maps, maps.new_full((len(maps),), torch.nan), target, "posthoc", self.measure)


def _deletion(asked: _Question, steps: int = 16, baseline: Baseline = "blur") -> Tensor:
    table = _probe(asked, steps).pixels(asked.maps, baseline)
    return deletion_auc(table.morf.probability, table.fractions)


def _insertion(asked: _Question, steps: int = 16, baseline: Baseline = "blur") -> Tensor:
    table = _probe(asked, steps).pixels(asked.maps, baseline)
    return insertion_auc(table.insertion.probability, table.inserted)


def _probe(asked: _Question, steps: int) -> PixelProbe:
    predictor = Predictor(asked.model, asked.images[:4])
    return PixelProbe(predictor, asked.images, asked.classes, steps=steps)


def _max_sensitivity(asked: _Question, draws: int = 4, sigma: float = 0.05, seed: int = 0) -> Tensor:
    predictor, images = Predictor(asked.model, asked.images[:4]), asked.images
    noise = noisy(images, range(len(images)), draws, sigma, seed)
    changed = matched(predictor, images, predictor.predicted(images), noise)
    return max_sensitivity(asked.maps, changed_maps(asked, asked.model, asked.classes, changed), changed.valid)


def _randomization(asked: _Question, stages: int = 4, draw: int = 0) -> Tensor:
    signed = asked.signed()
    found = cascade(signed, asked.model, asked.images, asked.classes, Reference(signed.maps), most=stages, draw=draw)
    return found.similarity[-1]


MEASURES: dict[str, Callable[..., Tensor]] = {
    "deletion": _deletion,
    "insertion": _insertion,
    "max_sensitivity": _max_sensitivity,
    "randomization": _randomization,
}
"""name -> measure that asks the model; of maps alone are those of `ibd.metrics.MapScore`."""


def quantus_metric(measure: str, **options: Any) -> Callable[..., list[float]]:
    """Return a measure of ours that is called as a metric of Quantus is, in ``quantus.evaluate`` too.

    ``quantus_metric("deletion")(model=model.logits, x_batch=x, y_batch=y, a_batch=maps)``. It returns a score for every
    image, the figure that `ibd.compare` gives for the class and the maps, NaN where it is not defined. Maps are taken
    as they are, neither made absolute nor normalized. The images are pixels in [0, 1], and the model returns logits:
    `ibd.ForeignModel` makes such a one of any network, with what is done to pixels before it.

    Args:
        measure: of maps alone, the names that `ibd.metrics.MapScore` has; or
            "deletion", "insertion": area under the probability of the class while the highest pixels are replaced by a
            ``baseline`` ("blur" or "pull_push"), or put into it, in ``steps`` (16);
            "max_sensitivity": largest relative change of the map under noise of ``sigma`` (0.05), of ``draws`` (4) that
            leave the prediction as it was; random by ``seed`` and an image's place;
            "randomization": Spearman's correlation of the map's absolute values with those of the network in which
            everything is random, in ``stages`` (4) from the logits on, each on top of the ones before; - lower is
            better. An explainer of ours that rectifies its maps is asked for them before that.
            The last two explain again, by ``explain_func``.
        **options: options of the measure, as named there.

    Raises:
        ConfigError: no such measure or option.
    """
    if measure not in MEASURES:
        _check_options(measure, options, ())
        _check_known(measure)
        return of_maps.quantus_metric(measure)
    compute = MEASURES[measure]
    _check_options(measure, options, tuple(inspect.signature(compute).parameters)[1:])

    def metric(
        model: nn.Module,
        x_batch: NDArray[Any],
        y_batch: NDArray[Any],
        a_batch: NDArray[Any] | None = None,
        s_batch: NDArray[Any] | None = None,
        device: str | torch.device | None = None,
        explain_func: ExplainFunction | None = None,
        explain_func_kwargs: dict[str, Any] | None = None,
        channel_first: bool | None = None,
        **others: object,
    ) -> list[float]:
        """Return a score for every image; what Quantus hands over besides is not needed."""
        if channel_first is False:
            raise ConfigError(f"{measure}: channel_first=False: images (B, C, H, W) are needed")
        if a_batch is None and explain_func is None:
            raise ConfigError(f"{measure}: explanations (a_batch) or an explain_func are needed")
        images, classes = _images(measure, model, x_batch, device), _classes(measure, y_batch, len(x_batch))
        maps = None if a_batch is None else _maps(measure, a_batch, images)
        asked = _Question(measure, model, images, classes, maps, explain_func, explain_func_kwargs or {})
        scores: list[float] = compute(asked, **options).tolist()
        return scores

    return metric


def _images(measure: str, model: nn.Module, given: Any, device: str | torch.device | None) -> Tensor:
    """Return the images as a tensor where the model is."""
    weight = next(model.parameters(), torch.zeros(()))
    if device is not None and torch.device(device).type != weight.device.type:
        raise ConfigError(f"{measure}: device: '{device}' given, the model is on {weight.device}: move it there")
    images = torch.as_tensor(np.asarray(given), dtype=weight.dtype, device=weight.device)
    check_image(images)
    lowest, highest = (float(end) for end in images.aminmax())
    if lowest < 0 or highest > 1:
        raise DataError(
            f"{measure}: x_batch ranges from {lowest:.3g} to {highest:.3g}, pixels in [0, 1] are needed: "
            "ibd.ForeignModel(model, preprocess=...) is the model with what is done to pixels before it"
        )
    return images


def _classes(measure: str, given: Any, count: int) -> Tensor:
    """Return the classes as a tensor, (B,) int64."""
    classes = np.asarray(given)
    if classes.shape != (count,) or not np.issubdtype(classes.dtype, np.integer):
        raise DataError(f"{measure}: y_batch: the numbers of classes of {count} images are needed, not "
                        f"{classes.shape} of {classes.dtype}")  # fmt: skip
    return torch.from_numpy(classes.astype(np.int64))


def _maps(measure: str, given: Any, images: Tensor) -> Tensor:
    """Return maps as a tensor (B, H, W), where the images are."""
    maps = of_maps.as_maps(measure, torch.as_tensor(np.asarray(given)))
    if maps.shape != (len(images), *images.shape[2:]):
        raise DataError(f"{measure}: maps of shape {tuple(maps.shape)} given for images of {tuple(images.shape)}")
    return maps.to(images.device)


def _check_options(measure: str, options: dict[str, Any], known: tuple[str, ...]) -> None:
    for name in options:
        if name not in known:
            said = f"its options are {', '.join(known)}" if known else "it has no options"
            raise ConfigError(f"{measure}: there is no option '{name}': {said}.{did_you_mean(name, known)}")


def _check_known(measure: str) -> None:
    known = [*MEASURES, *of_maps.LOCALIZATION, *of_maps.PROPERTIES]
    if measure not in known:
        raise ConfigError(f"there is no measure '{measure}'.{did_you_mean(measure, known)}")
