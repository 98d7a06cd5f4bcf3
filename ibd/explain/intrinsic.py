"""What a model says about itself: its units' contributions, and where it saw them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ibd.errors import UnsupportedError
from ibd.explain.base import Call, Explainer, Explanation
from ibd.explain.layers import einsum, precise
from ibd.explain.targets import Term
from ibd.types import Units


class Intrinsic(Explainer):
    """The model's own explanation, in one pass.

    Of a class it is the sum of what each unit adds to its logit, laid out over the positions where that unit was seen
    (``network.shares``): the map adds up to the logit less its bias where contributions do. Of a unit it is its map.
    """

    name = "intrinsic"
    kind = "intrinsic"

    def explain(self, call: Call, image: Tensor) -> Explanation:
        """Return maps and contributions.

        Raises:
            UnsupportedError: the model has no units.
        """
        network: nn.Module = getattr(call.model, "network", call.model)
        if not hasattr(network, "contributions") or not hasattr(network, "shares"):
            raise UnsupportedError(
                f"'intrinsic' needs a model that explains itself (units, contributions); {type(network).__name__} does "
                "not: take a post-hoc explainer"
            )
        with torch.no_grad():
            output = call.output(image)
            target = call.target.pin(output)
            scores = target.scores(output)
            units: Units = output.units
            contributions: Tensor = network.contributions(units)  # type: ignore[operator]
            parts = [sum((_parts(term, contributions) for term in terms), torch.zeros(())) for terms in target.sums]
            stacked = precise(torch.stack(parts, 1))  # (B, K, U)
            heat = einsum("bku,buhw->bkhw", stacked, network.shares(units).to(stacked.dtype))  # type: ignore[operator]
            for k, terms in enumerate(target.sums):
                if all(term.kind == "unit" for term in terms):
                    heat[:, k] = einsum("bu,buhw->bhw", stacked[:, k], units.maps.to(stacked.dtype))
        single = not call.target.many
        return self.answer(
            call,
            heat,
            scores,
            size=(image.shape[2], image.shape[3]),
            units=stacked[:, 0] if single else stacked,
            unit_names=list(network.unit_names),  # type: ignore[arg-type]
            unit_maps=units.maps,
        )


def _parts(term: Term, contributions: Tensor) -> Tensor:
    """Return what each unit has to do with a term, (B, U)."""
    batch, units, _ = contributions.shape
    index = torch.as_tensor(term.index if not isinstance(term.index, str) else 0, device=contributions.device)
    index = index.expand(batch)
    if term.kind == "unit":
        one = torch.zeros(batch, units, dtype=contributions.dtype, device=contributions.device)
        return term.weight * one.scatter(1, index.unsqueeze(1), 1.0)
    if term.kind != "class" or term.scalar != "logit":
        raise UnsupportedError("'intrinsic' explains logits of classes and scores of units")
    return term.weight * contributions.gather(2, index.view(-1, 1, 1).expand(-1, units, 1)).squeeze(2)
