"""Images for the report: pictures, maps, and what predictions rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ibd.comparison.asked import Case
from ibd.comparison.attributions import Attributions
from ibd.comparison.methods import Method
from ibd.comparison.results import Comparison, ShownImage, ShownUnit
from ibd.explain.boxes import Box
from ibd.models.prediction import Prediction
from ibd.models.protopnet.explanations import find_places, local_explanation, sources_of
from ibd.models.protopnet.lightning import ProtoPNet

Picture = npt.NDArray[np.float32]
_UNITS = 12
"""Units that are shown of a model without a linear head, and prototypes with their patches."""


def shown_images(
    comparison: Comparison, case: Case, methods: Sequence[Method], attributions: Mapping[str, Attributions], count: int
) -> list[ShownImage]:
    """Return the first images with what this model and its methods say, added to what is there of other models."""
    chosen, model = case.images, case.model.info.name
    count = min(count, len(chosen))
    units = [] if case.model.foreign else _units(case, count, with_all=model in comparison.heads)
    shown = []
    for i in range(count):
        before = comparison.shown[i] if i < len(comparison.shown) else None
        maps = {
            m.name: of_method[i].float().numpy() for m in methods if (of_method := _maps(attributions, m)) is not None
        }
        predicted = comparison.class_names[int(case.classes[i])]
        shown.append(
            ShownImage(
                position=i,
                image=chosen.pixels[i].permute(1, 2, 0).numpy().astype(np.float32),
                label=comparison.class_names[int(chosen.labels[i])],
                masks=None if chosen.masks is None else chosen.masks[i].numpy(),
                maps={**(before.maps if before else {}), model: maps},
                predicted={**(before.predicted if before else {}), model: predicted},
                units={**(before.units if before else {}), **({model: units[i]} if units else {})},
            )
        )
    return shown


def _maps(attributions: Mapping[str, Attributions], method: Method) -> Tensor | None:
    return attributions[method.name].maps if method.name in attributions else None


def _units(case: Case, count: int, with_all: bool) -> list[list[ShownUnit]]:
    """Return for each image what its prediction rests on, the largest contributions first."""
    module = case.model.module
    images, classes = case.images.pixels[:count], case.classes[:count]
    prediction = module.predict(images)
    contributions = prediction.contributions[torch.arange(count), :, classes]
    network = module.network
    values = (
        network.slider_values(prediction.units) if with_all else network.readable(prediction.units)
    )  # what sliders compute with
    patches = _patches(case, module, prediction, classes) if isinstance(module, ProtoPNet) else {}
    units = []
    for i in range(count):
        order = contributions[i].abs().argsort(descending=True, stable=True).tolist()
        units.append(
            [
                ShownUnit(
                    network.unit_names[u],
                    float(values[i, u]),
                    float(contributions[i, u]),
                    *patches.get((i, u), ()),
                )
                for u in (order if with_all else order[:_UNITS])
            ]
        )
    return units


def _patches(
    case: Case, module: ProtoPNet, prediction: Prediction, classes: Tensor
) -> dict[tuple[int, int], tuple[Picture, Picture | None]]:
    """Return (image, prototype) -> the image's patch and the training patch, of the prototypes that count most."""
    images = case.images.pixels
    sources, train = sources_of(module), case.model.trained_on.dataset("train")
    names = [module.network.class_names[c] for c in classes.tolist()]
    titles = [str(i) for i in range(len(classes))]
    rows = local_explanation(module, prediction, classes=names, top=4, names=titles)
    wanted = sorted({row.prototype for row in rows if row.prototype in sources})
    places = {}
    if wanted:
        training = torch.stack([train[sources[p].index].image for p in wanted])
        pixels = dict(zip(wanted, training, strict=True))
        found_places = find_places(module, training, wanted)
        places = {p: _cut(pixels[p], place.box) for p, place in zip(wanted, found_places, strict=True)}
    return {
        (int(row.image), row.prototype): (_cut(images[int(row.image)], row.box), places.get(row.prototype))
        for row in rows
    }


def _cut(image: Tensor, box: Box) -> Picture:
    top, left, bottom, right = box
    return image[:, top:bottom, left:right].permute(1, 2, 0).numpy().astype(np.float32)
