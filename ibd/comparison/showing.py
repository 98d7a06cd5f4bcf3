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
from ibd.comparison.results import Comparison, ShownImage, ShownModel, ShownUnit
from ibd.errors import UnsupportedError
from ibd.explain.boxes import Box
from ibd.models.prediction import Prediction
from ibd.models.protopnet.explanations import find_places, local_explanation, sources_of
from ibd.models.protopnet.lightning import ProtoPNet

Picture = npt.NDArray[np.float32]
_WRONG = 3
"""A third of the images that are drawn may be ones that the model gets wrong."""


def shown_images(
    comparison: Comparison, case: Case, methods: Sequence[Method], attributions: Mapping[str, Attributions], count: int
) -> list[ShownImage]:
    """Return images with what this model and its methods say, added to what is there of other models.

    They are the first ones, and some that the model gets wrong in the place of the last of these, where there are any.
    """
    chosen, model = case.images, case.model.info.name
    positions = _positions(case, count)
    units = [] if case.model.foreign else _units(comparison, case, positions)
    shown = {image.position: image for image in comparison.shown}
    for place, i in enumerate(positions):
        before = shown.get(i)
        maps = {
            m.name: of_method[i].float().numpy() for m in methods if (of_method := _maps(attributions, m)) is not None
        }
        predicted = comparison.class_names[int(case.classes[i])]
        shown[i] = ShownImage(
            position=i,
            image=chosen.pixels[i].permute(1, 2, 0).numpy().astype(np.float32),
            label=comparison.class_names[int(chosen.labels[i])],
            masks=None if chosen.masks is None else chosen.masks[i].numpy(),
            maps={**(before.maps if before else {}), model: maps},
            predicted={**(before.predicted if before else {}), model: predicted},
            units={**(before.units if before else {}), **({model: units[place]} if units else {})},
        )
    return [shown[i] for i in sorted(shown)]


def _positions(case: Case, count: int) -> list[int]:
    """Return which images are drawn of a model."""
    count = min(count, len(case.images))
    wrong = (case.classes != case.images.labels).nonzero().flatten().tolist()[: count // _WRONG]
    first = [i for i in range(len(case.images)) if i not in wrong]
    return sorted([*wrong, *first[: count - len(wrong)]])


def _maps(attributions: Mapping[str, Attributions], method: Method) -> Tensor | None:
    return attributions[method.name].maps if method.name in attributions else None


def _units(comparison: Comparison, case: Case, positions: list[int]) -> list[list[ShownUnit]]:
    """Return for each image what its prediction rests on, the largest contributions first.

    What setting units does is added to the comparison.
    """
    module = case.model.module
    images, classes = case.images.pixels[positions], case.classes[positions]
    with torch.no_grad():
        prediction = module.predict(images)
        values = module.network.readable(prediction.units)
        comparison.shown_models[case.model.info.name] = _shown_model(case, prediction, positions)
    contributions = prediction.contributions[torch.arange(len(images)), :, classes]
    patches = _patches(case, module, images, prediction, classes) if isinstance(module, ProtoPNet) else {}
    units = []
    for i in range(len(images)):
        order = contributions[i].abs().argsort(descending=True, stable=True).tolist()
        units.append(
            [
                ShownUnit(
                    module.network.unit_names[u],
                    float(values[i, u]),
                    float(contributions[i, u]),
                    *patches.get((i, u), ()),
                )
                for u in order
            ]
        )
    return units


def _shown_model(case: Case, prediction: Prediction, positions: list[int]) -> ShownModel:
    """Return the classes of some images, and what setting units does, or why that is not known as numbers."""
    network, sliders, why = prediction.network, None, ""
    try:
        sliders = network.sliders(prediction.units, case.passed)
    except UnsupportedError as error:
        why = str(error)
    return ShownModel(
        positions,
        network.class_names,
        network.class_probabilities(prediction.logits).cpu().double().numpy(),
        {group: [network.unit_names[u] for u in members] for group, members in network.unit_groups.items()},
        sliders,
        why,
    )


def _patches(
    case: Case, module: ProtoPNet, images: Tensor, prediction: Prediction, classes: Tensor
) -> dict[tuple[int, int], tuple[Picture, Picture | None]]:
    """Return (image, prototype) -> the image's patch and the training patch, of the prototypes that count most."""
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
