"""A model's own account laid out over pixels by LRP: what its units contribute, and what each of them rests on."""

from __future__ import annotations

import dataclasses

from torch import Tensor

from ibd.explain.base import Call, Explainer, Explanation
from ibd.explain.intrinsic import Intrinsic
from ibd.explain.lrp import LRP
from ibd.explain.names import require_names
from ibd.explain.targets import Target


class UnitRelevance(Explainer):
    """What the units of one of our models contribute, each passed down to the pixels by LRP, summed.

    `Intrinsic` lays a contribution out over the cells of the unit's map; here it goes on from there through the
    backbone, at the resolution of the image: concept relevance propagation over all units (Achtibat et al. 2023). Units
    and their contributions are those of `Intrinsic`; ``extra["conservation"]`` is that of the part below the units. For
    a network whose logits are a sum over its units.

    Args:
        lrp: name of the composite of rules, see `LRP`.
        bias: what biases of the backbone do with their part, see `LRP`.
    """

    name = "unit_relevance"
    kind = "intrinsic"

    def __init__(self, lrp: str = "epsilon_plus", bias: str = "absorb") -> None:
        self.lrp = LRP(lrp, bias)  # type: ignore[arg-type]  # checked there

    def explain(self, call: Call, image: Tensor) -> Explanation:
        """Return (B, H, W) relevance, and the units' contributions.

        Raises:
            UnsupportedError: the model has no units, its logits are no sum over them, or LRP cannot explain it; the
                target is a probability.
        """
        count = len(require_names(call.model, "unit"))
        own = Intrinsic().explain(Call(call.model, call.target, call.layout), image)
        of_class = all(term.kind != "unit" for terms in call.target.sums for term in terms)
        asked: Target = call.target.through(list(range(count))) if of_class else call.target
        below = self.lrp.explain(Call(call.model, asked, call.layout), image)
        for part in (own, below):
            call.cost.forwards += part.cost.forwards
            call.cost.backwards += part.cost.backwards
        return dataclasses.replace(
            own,
            map=below.map,
            unit_maps=None,
            extra=below.extra,
            target=own.target,
            kind=self.kind,
            method=self.name,
            cost=call.cost,
        )
