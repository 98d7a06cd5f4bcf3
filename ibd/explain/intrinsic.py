"""What a model says about itself: its units' contributions, and where it saw them."""

from __future__ import annotations

from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor, nn

from ibd.backbones.bcos.pixels import PixelPass
from ibd.errors import ConfigError, UnsupportedError, did_you_mean
from ibd.explain.base import Call, Explainer, Explanation, undisturbed
from ibd.explain.boxes import account_of, field_of, placed, seen, spread
from ibd.explain.colors import LINEAR_MAP
from ibd.explain.layers import einsum, precise
from ibd.explain.targets import Target
from ibd.explain.terms import Term, sign_of_one_logit
from ibd.types import Output, Painting, Units


class Intrinsic(Explainer):
    """The model's own explanation, in one pass; to be exact to the pixel, then one back for each target.

    Of a class it is the sum of what each unit adds to its logit, laid out over the positions that the unit's score came
    from (``network.shares``): the map adds up to the logit less its bias where contributions do, over the cells and
    over the pixels. Of a unit it is its map, each pixel with its cell's value, also where both are asked together. Each
    cell is drawn where it looks. Where the network's account is exact to the pixel (a B-cos backbone,
    ``network.account``), both are sums over the pixels, and need no painting; then ``extra["linear_map"]`` of a single
    target is the (B, 6, H, W) map that, times the channels [x, 1 - x], is that of the explanation. A concept's map then
    adds up to what its logit is above the offset (`network.offset`).

    Args:
        painting: way to lay out a contribution: "pooling", by how the network made the unit's score of its map; or, to
            see what hangs on that, "score_sign", "peak", "top" or "minimum" (`ibd.models.painting.paint`), or
            "receptive_field": as "pooling", but evenly over the pixels that a cell sees.

    Raises:
        ConfigError: another painting.
    """

    name = "intrinsic"
    kind = "intrinsic"

    def __init__(self, painting: Painting = "pooling") -> None:
        if painting not in get_args(Painting):
            raise ConfigError(f"intrinsic: unknown painting '{painting}'.{did_you_mean(painting, get_args(Painting))}")
        self.painting: Painting = painting

    def explain(self, call: Call, image: Tensor) -> Explanation:
        """Return maps and contributions.

        Raises:
            UnsupportedError: the model has no units, or what its cells see is not known and is asked for.
        """
        network: nn.Module = getattr(call.model, "network", call.model)
        if not hasattr(network, "contributions") or not hasattr(network, "shares"):
            raise UnsupportedError(
                f"'intrinsic' needs a model that explains itself (units, contributions); {type(network).__name__} does "
                "not: take a post-hoc explainer"
            )
        if call.target.layers:
            raise UnsupportedError(
                "'intrinsic' explains classes and units by the model's own account, which has no hidden layers: take a "
                "post-hoc explainer"
            )
        pixels = _pixel_pass(network, image, self.painting)
        with torch.no_grad():
            output: Output = call.output(image) if pixels is None else _output(call, network, pixels)
            target = call.target.pin(output)
            scores = target.scores(output)
            units: Units = output.units
            contributions: Tensor = network.contributions(units)  # type: ignore[operator]
            asked = _asked(target, contributions, output.logits)
            stacked = asked.contributions + asked.factors
            if pixels is None:
                size = (image.shape[2], image.shape[3])
                heat, weights = _painted(network, units, asked, size, self.painting), None
            else:
                call.cost.backwards += stacked.shape[0] * stacked.shape[1]
                heat, weights = _over_pixels(pixels, asked)
        single = not call.target.many
        return self.answer(
            call,
            heat,
            scores,
            units=stacked[:, 0] if single else stacked,
            unit_names=list(network.unit_names),  # type: ignore[arg-type]
            unit_maps=units.maps,
            extra={LINEAR_MAP: weights[:, 0]} if single and weights is not None else {},
        )


def repaint(model: nn.Module, image: Tensor, contributions: Tensor, painting: Painting) -> Tensor:
    """Return the (B, H, W) map of contributions that are known, painted in another way: one pass to the units.

    Args:
        model: a network of ours, or its module.
        image: (B, 3, H, W), on the model's device.
        contributions: (B, U) of the units, as an explanation of `Intrinsic` has them.
        painting: way to lay out a contribution, as for `Intrinsic`.

    Raises:
        UnsupportedError: what its cells see is not known and is asked for.
    """
    network: Any = getattr(model, "network", model)
    with undisturbed(model), torch.no_grad():
        pixels = _pixel_pass(network, image, painting)
        units = network.encode(image.clone()) if pixels is None else pixels.units
        stacked = precise(contributions).to(units.maps.device).unsqueeze(1)
        asked = _Asked(stacked, torch.zeros_like(stacked))
        if pixels is not None:
            return _over_pixels(pixels, asked)[0][:, 0]
        return _painted(network, units, asked, (image.shape[2], image.shape[3]), painting)[:, 0]


class _Asked(NamedTuple):
    """What units have to do with K questions, both (B, K, U)."""

    contributions: Tensor
    """To logits of classes."""
    factors: Tensor
    """Times the units' own scores."""


def _asked(target: Target, contributions: Tensor, logits: Tensor) -> _Asked:
    none = torch.zeros_like(contributions[..., 0])
    both = []
    for of_unit in (False, True):
        sums = [[term for term in terms if (term.kind == "unit") == of_unit] for terms in target.sums]
        parts = [sum((_parts(term, contributions, logits) for term in terms), none) for terms in sums]
        both.append(precise(torch.stack(parts, 1)))
    return _Asked(*both)


def _pixel_pass(network: Any, image: Tensor, painting: Painting) -> PixelPass | None:
    """Return a pass by which maps are those of the network's exact account; None where that, or a painting, is not."""
    if painting != "pooling" or account_of(network) != "pixels":
        return None
    passed: PixelPass = network.pixel_pass(image.to(next(network.parameters()).dtype))
    return passed


def _output(call: Call, network: Any, pixels: PixelPass) -> Output:
    """Return what the model returns, by a pass that is already made."""
    call.cost.forwards += len(pixels.units.scores)
    return Output(network.decode(pixels.units), pixels.units)


def _over_pixels(pixels: PixelPass, asked: _Asked) -> tuple[Tensor, Tensor | None]:
    """Return the (B, K, H, W) maps of K questions, and the (B, 1, 6, H, W) linear map of a single one."""
    heat, weights = pixels.lay_out(*asked, weights=asked.factors.shape[1] == 1)
    return precise(heat), None if weights is None else precise(weights)


def _painted(network: Any, units: Units, asked: _Asked, size: tuple[int, int], painting: Painting) -> Tensor:
    """Return the (B, K, H, W) maps of K questions: of contributions by their shares, of units their maps."""
    field = field_of(network, units.maps, size)
    as_maps = painting == "pooling"
    stacked = asked.contributions
    if not as_maps:  # a score is laid out as what it contributes is
        stacked = stacked + asked.factors * units.scores.unsqueeze(1).to(stacked.dtype)
    shares = network.shares(units, painting).to(stacked.dtype)
    cells = einsum("bku,buhw->bkhw", stacked, shares)
    if painting == "receptive_field":
        if field is None:
            raise UnsupportedError(
                "'intrinsic': the part of the image that a cell of this backbone's maps sees is unknown"
            )
        return seen(cells, size, field)
    heat = spread(cells, size, field)
    if as_maps:
        for k in (k for k in range(heat.shape[1]) if bool(asked.factors[:, k].any())):
            own = einsum("bu,buhw->bhw", asked.factors[:, k], units.maps.to(stacked.dtype))
            heat[:, k] += placed(own, size, field)
    return heat


def _parts(term: Term, contributions: Tensor, logits: Tensor) -> Tensor:
    """Return what each unit has to do with a term, (B, U)."""
    batch, units, classes = contributions.shape
    if term.through:
        wanted = torch.zeros(units, 1, dtype=contributions.dtype, device=contributions.device)
        wanted[[unit for unit in term.through if isinstance(unit, int)]] = 1.0
        contributions = contributions * wanted
    if term.kind != "unit" and classes == 1 and term.scalar in ("logit", "centered_logit", "log_odds"):
        return term.weight * contributions[..., 0] * sign_of_one_logit(logits, term).unsqueeze(1)
    index = torch.as_tensor(term.index if not isinstance(term.index, str) else 0, device=contributions.device)
    index = index.expand(batch)
    if term.kind == "unit":
        one = torch.zeros(batch, units, dtype=contributions.dtype, device=contributions.device)
        return term.weight * one.scatter(1, index.unsqueeze(1), 1.0)
    if term.kind != "class" or term.scalar not in ("logit", "centered_logit"):
        raise UnsupportedError("'intrinsic' explains logits of classes, also centered ones, and scores of units")
    own = contributions.gather(2, index.view(-1, 1, 1).expand(-1, units, 1)).squeeze(2)
    return term.weight * (own - contributions.mean(2) if term.scalar == "centered_logit" else own)
