"""What an exported file computes: the whole model, or one of the parts that it is cut into.

Shapes: B images, U units, C classes, h x w the cells of a map, H x W the pixels of an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ibd.app.exporting.edits import edited, refused
from ibd.errors import UnsupportedError
from ibd.explain.boxes import field_of
from ibd.metrics.parts import upsampling
from ibd.models.base import InterpretableNetwork
from ibd.models.calibration.calibration import Calibration
from ibd.models.prediction import ranked
from ibd.types import Units

PartName = Literal["encode", "edit", "decode", "explain"]
PARTS: tuple[PartName, ...] = ("encode", "edit", "decode", "explain")
WHOLE = "whole"
NEW = "new_"
"""What the names of edited tensors begin with: a graph has each name once."""


@dataclass(frozen=True)
class Wiring:
    """By which names the tensors of `Units` go from part to part.

    Attributes:
        count: U.
        state: name of each entry of ``Units.state``; "maps" where it is the same tensor.
    """

    count: int
    state: tuple[str, ...]

    @classmethod
    def of(cls, units: Units) -> Wiring:
        """Return the wiring of a network that encodes to such units."""
        state = tuple("maps" if part is units.maps else f"state_{k}" for k, part in enumerate(units.state))
        return cls(units.scores.shape[1], state)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all tensors, each once."""
        return ("scores", "maps", *(name for name in self.state if name != "maps"))

    def tensors(self, units: Units) -> dict[str, Tensor]:
        """Return units as tensors by name."""
        return {"scores": units.scores, **dict(zip(self.state, units.state, strict=True)), "maps": units.maps}

    def units(self, tensors: Mapping[str, Tensor]) -> Units:
        """Return the units of tensors by name; those that are missing are nothing: nobody reads them."""
        first = next(iter(tensors.values()))
        scores = tensors.get("scores", first.new_zeros(first.shape[0], self.count))
        nothing = first.new_zeros(first.shape[0], self.count, 1, 1)
        state = tuple(tensors.get(name, nothing) for name in self.state)
        return Units(scores, tensors.get("maps", nothing), state)


class Part(nn.Module):
    """Some tensors, by name, to others.

    Attributes:
        inputs: names of what goes in.
        outputs: names of what comes out.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def __init__(self, network: InterpretableNetwork, calibration: Calibration | None, wiring: Wiring) -> None:
        super().__init__()
        self.network, self.calibration, self.wiring = network, calibration, wiring

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Return the `outputs` of the `inputs`."""
        made = self.compute(dict(zip(self.inputs, tensors, strict=True)))
        return tuple(made[name] for name in self.outputs)

    def compute(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return at least the outputs, by name, of the inputs."""
        raise NotImplementedError

    def read(self, units: Units) -> Tensor:
        """Return the (B, U) values that a person reads, as ``Prediction.unit_values`` has them."""
        return (
            self.network.readable(units) if self.calibration is None else self.calibration.values(self.network, units)
        )

    def judged(self, units: Units) -> dict[str, Tensor]:
        """Return logits, probabilities, and, where that may be, whether there is no answer."""
        logits = self.network.decode(units)
        if self.calibration is None:
            probabilities = self.network.class_probabilities(logits)
        else:
            probabilities = self.calibration.probabilities(self.network, logits).to(logits.dtype)
        made = {"logits": logits, "probabilities": probabilities}
        if "abstains" in self.outputs:
            silent = self.network.abstains(logits)
            if self.calibration is not None:
                silent = self.calibration.abstains(self.network, logits)
            made["abstains"] = silent
        return made


class Encode(Part):
    """Image -> units."""

    inputs = ("image",)

    def compute(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of the units, and their values."""
        units = self.network.encode(given["image"])
        return {**self.wiring.tensors(units), "values": self.read(units)}


class Edit(Part):
    """Units, (B, U) values, (B, U) bool mask -> units in which those of the mask are set to the values."""

    def compute(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors of the units, their values, and which are set or followed from that."""
        network, before, mask = self.network, self.wiring.units(given), given["mask"]
        after = edited(network, before, given["values"], mask)
        still, read = (network.unmoved(units) or units for units in (after, before))
        changed = mask | (still.scores != read.scores)
        values = network.readable(after)
        if self.calibration is not None:
            values = torch.where(changed, values, self.read(after))
        made = {**self.wiring.tensors(after), "values": values}
        wrong = refused(network, given["values"], mask)
        for name, tensor in made.items():
            if tensor is not given.get(name):
                made[name] = torch.where(wrong.view(-1, *[1] * (tensor.dim() - 1)), torch.nan, tensor)
        return {**{NEW + name: tensor for name, tensor in made.items()}, "edited": changed}


class Decode(Part):
    """Units -> classes."""

    def compute(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return logits, probabilities, and whether there is no answer."""
        return self.judged(self.wiring.units(given))


class Explain(Part):
    """Units, (B,) class -> what each unit adds to its logit, and where: as the explainer `Intrinsic` paints it."""

    def __init__(
        self, network: InterpretableNetwork, calibration: Calibration | None, wiring: Wiring, painting: Painting | None
    ) -> None:
        super().__init__(network, calibration, wiring)
        self.painting = painting

    def compute(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the contributions to the class, and its map."""
        return self.account(self.wiring.units(given), given["class_index"])

    def account(self, units: Units, classes: Tensor) -> dict[str, Tensor]:
        """Return the (B, U) contributions to a class of each image, (B,), and its (B, H, W) map."""
        every = self.network.contributions(units)
        own = every.gather(2, classes.view(-1, 1, 1).expand(-1, every.shape[1], 1)).squeeze(2)
        if self.painting is None:
            return {"contributions": own}
        return {"contributions": own, "class_map": self.painting(own, self.network.shares(units))}


class Whole(Explain):
    """Image -> everything at once; the account is of the predicted class."""

    inputs = ("image",)

    def ranking(self, logits: Tensor) -> Tensor:
        """Return what (B, C) logits are ranked by, as in a prediction."""
        return ranked(self, logits)  # type: ignore[arg-type]  # it has the network and the calibration of one

    def compute(self, given: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return classes, values, maps, and the account."""
        units = self.network.encode(given["image"])
        made = {**self.judged(units), "values": self.read(units), "maps": units.maps}
        if "contributions" in self.outputs:
            made |= self.account(units, self.ranking(made["logits"]).argmax(1))
        return made


class Painting(nn.Module):
    """Lays contributions out over the pixels, each cell where it looks, with the same sum: `ibd.explain.boxes.spread`.

    Args:
        network: network, for what its cells see.
        maps: (B, U, h, w) of some images.
        size: (H, W) of an image.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, network: InterpretableNetwork, maps: Tensor, size: tuple[int, int]) -> None:
        super().__init__()
        field = field_of(network, maps, size)
        sides = (weights / weights.sum(0) for weights in upsampling(maps.shape[-2:], size, "bilinear", field))
        for name, weights in zip(("rows", "columns"), sides, strict=True):
            self.register_buffer(name, weights.to(torch.promote_types(maps.dtype, torch.float32)))

    def forward(self, contributions: Tensor, shares: Tensor) -> Tensor:
        """Return the (B, H, W) map of (B, U) contributions whose (B, U, h, w) shares are known."""
        cells = (contributions[:, :, None, None] * shares).sum(1)
        return F.linear(F.linear(cells, self.columns).mT, self.rows).mT


def accounted(network: InterpretableNetwork) -> bool:
    """Return whether what each unit adds to a class comes without a pass of the network for every unit."""
    return network.additive or network.truth_values


def painted(network: InterpretableNetwork) -> bool:
    """Return whether the map of a class is made of the maps of units: not where it is exact to the pixel (B-cos)."""
    return accounted(network) and network.account != "pixels"


def check_explains(network: InterpretableNetwork) -> None:
    """Check that a network has an account that can be exported.

    Raises:
        UnsupportedError: it has none.
    """
    if not accounted(network):
        raise UnsupportedError(
            f"explain: what {network.article} {network.unit_kind} adds to a class takes a pass of the rest of the "
            f"network for each of the {len(network.unit_names)}: leave the part out"
        )


def abstaining(network: InterpretableNetwork, calibration: Calibration | None) -> bool:
    """Return whether there may be no answer."""
    rule = type(network).abstains is not InterpretableNetwork.abstains
    return rule or (calibration is not None and calibration.abstention is not None)


def judged_names(network: InterpretableNetwork, calibration: Calibration | None) -> Sequence[str]:
    """Return the names of what is said of classes."""
    return ("logits", "probabilities", *(("abstains",) if abstaining(network, calibration) else ()))


def account_names(network: InterpretableNetwork) -> Sequence[str]:
    """Return the names of what a class's account is; none where there is none."""
    if not accounted(network):
        return ()
    return ("contributions", "class_map") if painted(network) else ("contributions",)
