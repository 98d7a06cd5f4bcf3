"""Where a model of ours is wrong, by what it has put out for a whole split."""

from __future__ import annotations

import torch
from torch import Tensor

from ibd.metrics.functional.where_wrong import WhereWrong, where_wrong
from ibd.models.calibration.calibration import class_scores, known_values
from ibd.models.calibration.reading import ReadOutputs
from ibd.models.trained import TrainedModel
from ibd.types import Units


@torch.no_grad()
def where_model_wrong(model: TrainedModel, read: ReadOutputs) -> WhereWrong:
    """Return where a model is wrong, by class, by concept and image by image; calibrated where the model is.

    An image counts as silent where the network itself has no prediction, as in its accuracy; one of which a calibrated
    model is not sure enough to answer does not.

    Args:
        model: the model, in evaluation mode.
        read: what it has put out for the images, on its device.

    Raises:
        DataError: it has put out no numbers.
    """
    network, names = model.network, model.network.unit_names
    said, truth = _concepts(model, read)
    silent = network.abstains(read.logits)
    probabilities = _scores(model, read).softmax(1)
    if said is None or truth is None:
        return where_wrong(probabilities, read.labels, network.class_names, silent)
    units = network.named_units().nonzero().flatten().tolist()
    quantities = {units.index(unit): quantity for unit, quantity in network.quantities.items() if unit in units}
    called = [names[unit] for unit in units]
    return where_wrong(
        probabilities, read.labels, network.class_names, silent, said[:, units], truth[:, units], called, quantities
    )


def _scores(model: TrainedModel, read: ReadOutputs) -> Tensor:
    if model.calibration is None:
        return class_scores(model.network, read.logits)
    return model.calibration.scaled(model.network, read.logits)


def _concepts(model: TrainedModel, read: ReadOutputs) -> tuple[Tensor | None, Tensor | None]:
    """Return what the model says of its units, (N, U) float64, and what is known; None where they are no concepts."""
    truth = known_values(model.network, read.concepts)
    if truth is None:
        return None, None
    exact = (
        read.scores if read.scores.device.type == "mps" else read.scores.double()
    )  # which tells what is all but sure
    units = Units(exact, exact.new_zeros(*exact.shape, 1, 1))
    if model.calibration is None:
        return model.network.readable(units), truth
    return model.calibration.values(model.network, units), truth
