"""Setting units by hand inside of an exported graph: what ``network.edit`` does, with tensors in the place of names.

Shapes: B images, U units, K concepts.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ibd.app.exporting.dependent import marginals
from ibd.errors import UnsupportedError
from ibd.models.base import InterpretableNetwork
from ibd.models.baseline.network import BaselineNetwork
from ibd.models.cbm.concepts import ConceptNetwork
from ibd.models.cbm.groups import complete
from ibd.models.concept_whitening.network import ConceptWhiteningNetwork
from ibd.models.posthoc_cbm.network import PosthocNetwork
from ibd.models.prototypes import LinearPrototypes
from ibd.models.scbm.network import StochasticConceptBottleneckNetwork
from ibd.types import Units

Kind = Literal["truth", "quantity", "value", "factor", "none"]
"""What a unit is set to: a truth value from 0 to 1; a number in its unit; a value of its own scale; a factor that
multiplies what is there; or nothing, as it has no name."""
_ABOVE_ONE = 1e-6
"""By how much truth values that exclude each other may add up to more than 1, as in `ConceptNetwork.told`."""


def edit_kinds(network: InterpretableNetwork) -> list[Kind]:
    """Return what each unit is set to.

    Raises:
        UnsupportedError: the network is of a family of its own.
    """
    count = len(network.unit_names)
    if isinstance(network, LinearPrototypes):
        return ["factor"] * count
    if isinstance(network, BaselineNetwork | ConceptWhiteningNetwork):
        return ["value"] * count
    if not isinstance(network, ConceptNetwork):
        raise UnsupportedError(
            f"edit: how units are set is known of the families of ibd, and {type(network).__name__} is none of them: "
            "leave the part out"
        )
    posthoc = isinstance(network, PosthocNetwork)
    concepts: list[Kind] = [
        "quantity" if unit in network.quantities else "truth" if network.truth_values else "value"
        for unit in range(network.concept_count)
    ]
    rest: Kind = "value" if posthoc else "none"
    return concepts + [rest] * (count - network.concept_count)


def refused(network: InterpretableNetwork, values: Tensor, mask: Tensor) -> Tensor:
    """Return for which images ``network.edit`` would refuse the values, (B,) bool.

    Args:
        network: network.
        values: (B, U).
        mask: (B, U) bool: which units are set.
    """
    kinds = edit_kinds(network)
    truth, unnamed = (torch.tensor([kind == which for kind in kinds]) for which in ("truth", "none"))
    outside = ~((values >= 0) & (values <= 1)) & truth
    wrong = (mask & (outside | ~values.isfinite() | unnamed)).any(1)
    told = torch.where(mask, values, 0.0)
    for group in network.exclusive_groups if "truth" in kinds else ():
        wrong = wrong | (told[:, group].sum(1) > 1 + _ABOVE_ONE)
    return wrong


def edited(network: InterpretableNetwork, units: Units, values: Tensor, mask: Tensor) -> Units:
    """Return the units with some of them set, as ``network.edit`` does.

    Args:
        network: network.
        units: units of B images.
        values: (B, U), of the kinds that `edit_kinds` says.
        mask: (B, U) bool: which units are set; other values are ignored.
    """
    if isinstance(network, ConceptWhiteningNetwork):
        maps = torch.where(mask[..., None, None], values[..., None, None], units.state[0])
        return Units(network.pool(maps), maps, (maps, *units.state[1:]))
    if isinstance(network, LinearPrototypes):
        return Units(torch.where(mask, units.scores * values, units.scores), units.maps, units.state)
    if not isinstance(network, ConceptNetwork) or not network.truth_values:
        return Units(torch.where(mask, values, units.scores), units.maps, units.state)
    count = network.concept_count
    truth, known = complete(values[:, :count], mask[:, :count], network.exclusive_groups)
    if isinstance(network, StochasticConceptBottleneckNetwork):
        truth = torch.where(known, truth, units.state[1])
        scores = network.told_scores(units, truth, marginals(network, units, truth))
        return Units(scores, units.maps, (units.state[0], truth, *units.state[2:]))
    told = network.given(units, truth.masked_fill(~known, torch.nan))
    rest = torch.where(mask[:, count:], values[:, count:], units.scores[:, count:])
    return Units(torch.cat([told.scores[:, :count], rest], 1), told.maps, told.state)
