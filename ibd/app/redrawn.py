"""What an answer in concepts looks like as an image, and whether the model agrees: toy birds can be drawn again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ibd.data.dataset import ImageDataset
from ibd.data.toybirds.dataset import ToyBirdsDataset
from ibd.data.toybirds.redrawing import changed_parts, is_concept, redraw
from ibd.data.toybirds.render import render
from ibd.data.toybirds.scene import Scene
from ibd.errors import UnsupportedError
from ibd.models.counterfactual import Why
from ibd.models.prediction import Prediction, read_out
from ibd.models.trained import TrainedModel


@dataclass(frozen=True)
class Redrawn:
    """A redrawn image.

    Attributes:
        image: (3, H, W) in [0, 1].
        title: title of its picture.
        lines: lines on it for a person.
        agrees: whether the model takes it for the class that its account in units has.
    """

    image: Tensor
    title: str
    lines: list[str]
    agrees: bool


def redraw_answer(answer: Why, model: TrainedModel, source: tuple[ImageDataset, int] | None) -> Iterator[Redrawn | str]:
    """Yield the change, and what is enough, as images; or why there is none, in a line. Nothing for other data.

    Args:
        answer: the answer.
        model: the model that gave it.
        source: data that its image is of, and the number there.
    """
    if source is None or not isinstance(source[0], ToyBirdsDataset):
        return
    dataset, index = source[0], source[1]
    names = [name for name in (*answer.values, *answer.others) if is_concept(name)]
    if not names:
        yield f"not redrawn: a {answer.before.network.unit_kind} of this model is no part of a bird"
        return
    if answer.after is not None:
        wanted = _turned(answer, answer.values)
        yield from _redrawn("redrawn", dataset, index, wanted, answer.after, model)
    nothing = {name: False for name in answer.others if is_concept(name)}
    if nothing:
        yield from _redrawn("enough, redrawn", dataset, index, nothing, answer.before, model)


def _turned(answer: Why, values: Mapping[str, float]) -> dict[str, bool]:
    """Return the concepts that a change turns on or off: past one half; of axes and activations, up or down."""
    network, after = answer.before.network, answer.after
    assert after is not None
    turned = {}
    for name in filter(is_concept, values):
        unit = network.unit_index(name)
        old, new = (float(network.readable(each.units)[0, unit]) for each in (answer.before, after))
        if not network.truth_values or (old > 0.5) != (new > 0.5):
            turned[name] = new > (0.5 if network.truth_values else old)
    return turned


def _redrawn(
    title: str,
    dataset: ToyBirdsDataset,
    index: int,
    wanted: Mapping[str, bool],
    account: Prediction,
    model: TrainedModel,
) -> Iterator[Redrawn | str]:
    """Draw a scene of which concepts hold, or not, and ask the model about it."""
    before = dataset.scene(index)
    try:
        scene = redraw(before, wanted)
    except UnsupportedError as error:
        yield f"not redrawn: {error}"
        return
    changed = changed_parts(before, scene)
    if not changed:
        yield f"{title}: nothing of what is seen would be otherwise"
        return
    pixels, _ = render(scene, dataset.pictures.size)
    image = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float().div_(255)
    prediction = model.predict(image)
    agrees = bool(prediction.labels[0] == account.labels[0])
    share = 100 * float(prediction.probabilities[0].max())
    said = "agrees with its account in units" if agrees else f"its account in units says {account.classes[0]}"
    lines = [
        f"{title}: {', '.join(changed)}; by the data {_by_data(dataset, scene)}",
        f"  the model takes it for {prediction.classes[0]} {share:.1f} %: {said}",
        f"  it reads there: {_readings(prediction, wanted)}",
    ]
    yield Redrawn(image, f"{title}:\n{prediction.classes[0]}", lines, agrees)


def _by_data(dataset: ToyBirdsDataset, scene: Scene) -> str:
    """Return in words which classes such a bird may be of."""
    names = [dataset.classes.names[c] for c in dataset.classes.consistent(scene.parts)]
    return f"it may be {len(names)} classes" if len(names) > 2 else " or ".join(names) or "it is of no class"


def _readings(prediction: Prediction, names: Mapping[str, bool], most: int = 6) -> str:
    """Return in words what is read of some units: of those that are to hold first."""
    network, values = prediction.network, prediction.unit_values[0]
    order = sorted(names, key=lambda name: not names[name])
    units = [(name, network.unit_index(name)) for name in order[:most]]
    said = [f"{name} {read_out(float(values[unit]), network.quantities.get(unit))}" for name, unit in units]
    return ", ".join(said) + (", ..." if len(names) > most else "")
