"""Whether exported files compute what the model in memory does, for one image and several, also with units set."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ibd.app.exporting.edits import edit_kinds
from ibd.app.exporting.formats import Run
from ibd.app.exporting.parts import NEW, WHOLE
from ibd.app.exporting.programs import random_images
from ibd.errors import UnsupportedError
from ibd.explain.intrinsic import Intrinsic
from ibd.explain.targets import Target
from ibd.models.base import InterpretableNetwork
from ibd.models.lightning import InterpretableModule
from ibd.models.prediction import Prediction

TOLERANCE = 1e-4
"""How far a number may be off, as a share of the largest one of its kind, or of 1."""
_COUNTS = (1, 3)
_EDITS = 4
_MOST_SET = 40


@torch.no_grad()
def check(model: InterpretableModule, runs: Mapping[str, Run]) -> float:
    """Compare what was exported with the model; return how far the logits differ at most.

    Args:
        model: model in memory.
        runs: "whole", or the parts, each as what runs it; "encode" is one of them.

    Raises:
        UnsupportedError: they are not the same.
    """
    network = copy.deepcopy(model.network).cpu().eval()
    largest = 0.0
    for count in _COUNTS:
        images = random_images(model, count)
        logits, units = network(images)
        unset = torch.zeros_like(units.scores, dtype=torch.bool)
        prediction = Prediction(network, units, logits, unset, calibration=model.calibration)
        found = _run(runs, {"image": images, "class_index": prediction.labels})
        expected = _named(prediction) | _account(network, images, prediction, found)
        difference = _compared(model, f"for {count} image{'s' * (count > 1)}", found, expected)
        for seed in range(_EDITS) if "edit" in runs else ():
            difference = max(difference, _check_edit(model, runs, found, prediction, seed))
        largest = max(largest, difference)
    return largest


def _run(runs: Mapping[str, Run], given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what comes out for images: of the whole, or of the parts one after the other."""
    made: dict[str, Tensor] = {}
    for name in (each for each in (WHOLE, "encode", "decode", "explain") if each in runs):
        made |= runs[name]({**given, **made})
    return made


def _named(prediction: Prediction) -> dict[str, Tensor]:
    """Return what a prediction says, by the names of outputs."""
    return {
        "logits": prediction.logits,
        "probabilities": prediction.probabilities,
        "abstains": prediction.abstains,
        "values": prediction.unit_values,
        "scores": prediction.units.scores,
        "maps": prediction.units.maps,
    }


def _account(
    network: InterpretableNetwork, images: Tensor, prediction: Prediction, found: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Return the account of the predicted class, if `found` has one."""
    made: dict[str, Tensor] = {}
    if "contributions" in found:
        classes = prediction.labels
        made["contributions"] = prediction.contributions[torch.arange(len(classes)), :, classes]
        if "class_map" in found:
            heat = Intrinsic()(network, images, Target.cls(classes)).map
            assert heat is not None
            made["class_map"] = heat
    return made


def _check_edit(
    model: InterpretableModule, runs: Mapping[str, Run], read: Mapping[str, Tensor], before: Prediction, seed: int
) -> float:
    """Compare an intervention; return how far the logits differ."""
    values, chosen = example_values(before.network, before.units.scores, seed)
    mask = torch.zeros_like(before.edited)
    mask[:, chosen] = True
    after = before.intervene({unit: values[:, unit] for unit in chosen})
    made = runs["edit"]({**read, "values": values, "mask": mask})
    found = {name.removeprefix(NEW): tensor for name, tensor in made.items()}
    if "decode" in runs:
        found |= runs["decode"]({**read, **found})
    when = f"for {len(mask)} image{'s' * (len(mask) > 1)} with units set by hand"
    if not bool(made["edited"][mask].all()):  # of others a sibling may count that moved by rounding alone
        raise UnsupportedError(f"what was exported is not {type(model).__name__}: {when} some of these are not edited")
    return _compared(model, when, found, _named(after))


def example_values(network: InterpretableNetwork, scores: Tensor, seed: int) -> tuple[Tensor, list[int]]:
    """Return values that units may be set to, (B, U), and some units to set to these: none for the first seed.

    Args:
        network: network.
        scores: (B, U), whose shape and type the values are of.
        seed: seed; odd ones have truth values of 0 and 1 alone.
    """
    source = torch.Generator().manual_seed(seed)
    random = torch.rand(scores.shape, generator=source).to(scores.dtype)
    kinds = edit_kinds(network)
    able = [unit for unit, kind in enumerate(kinds) if kind != "none"]
    order = [able[place] for place in torch.randperm(len(able), generator=source).tolist()]
    values = random * 2
    truth = random.round() if seed % 2 else random
    for unit, kind in enumerate(kinds):
        if kind == "truth":
            values[:, unit] = truth[:, unit]
        elif kind == "quantity":
            quantity = network.quantities[unit]
            values[:, unit] = quantity.mean + quantity.deviation * (2 * random[:, unit] - 1)
    for group in network.exclusive_groups if "truth" in kinds else ():
        highest = random[:, group].argmax(1, keepdim=True)
        one = torch.zeros_like(random[:, group]).scatter(1, highest, 1.0)
        values[:, group] = one if seed % 2 else random[:, group] / len(group)
    return values, sorted(order[: min(_MOST_SET, seed * (1 + len(able) // 4))])


def _compared(model: InterpretableModule, when: str, found: Mapping[str, Tensor], expected: Mapping[str, Any]) -> float:
    """Compare outputs by name; return how far the logits differ.

    Raises:
        UnsupportedError: one differs too much, or what is expected is no number.
    """
    for name in (each for each in expected if each in found):
        new, old = found[name].double(), expected[name].double()
        if not bool(old.isfinite().all()):
            raise UnsupportedError(
                f"{type(model).__name__} itself gives {name} that are no finite numbers, {when}: there is nothing to "
                "compare a file with; are its weights from a training that diverged?"
            )
        difference = float((new - old).abs().max()) if new.shape == old.shape else float("nan")
        if not difference <= TOLERANCE * max(1.0, float(old.abs().max())):
            raise UnsupportedError(
                f"what was exported is not {type(model).__name__}: {when} its {name} differ by {difference:.1g}"
            )
    if "logits" not in found:
        return 0.0
    return float((found["logits"].double() - expected["logits"].double()).abs().max())
