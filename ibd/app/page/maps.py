"""Where in an image a unit was seen, as a picture that the page lays over the image."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ibd.explain.boxes import Box, field_of, placed
from ibd.explain.figures import exact_to_pixels, is_bounded, unit_maps
from ibd.explain.render import overlay, smoothed
from ibd.models.prediction import Prediction
from ibd.models.protopnet.explanations import places_of
from ibd.models.protopnet.figures import field_note, heated
from ibd.models.protopnet.network import PrototypeNetwork
from ibd.models.trained import TrainedModel

Picture = NDArray[np.float32]


@dataclass(frozen=True)
class UnitLook:
    """Where a unit was seen.

    Attributes:
        picture: (H, W, 3), the gray image with the map at full strength: laid over `gray` with an opacity, it is the
            picture of a map of that strength.
        box: what is framed: of a prototype the most similar place, else what the strongest cell sees; None where that
            is the whole image, or not known.
        note: what the colors and the frame mean.
    """

    picture: Picture
    box: Box | None
    note: str


def gray(image: Tensor) -> Picture:
    """Return what lies under the maps of a (3, H, W) image, (H, W, 3)."""
    return overlay(image, torch.zeros(image.shape[1:]))


def unit_look(model: TrainedModel, prediction: Prediction, image: Tensor, unit: int, row: int = 0) -> UnitLook:
    """Return where a unit was seen in an image, by the model's own map.

    Args:
        model: the model.
        prediction: its prediction of B images, with nothing edited.
        image: (1, 3, H, W) in [0, 1], one of them.
        unit: number of the unit.
        row: which of the B images it is.
    """
    heat = unit_maps(prediction, image, row, [unit])[0].detach().float().cpu()
    kind = prediction.network.unit_kind
    if exact_to_pixels(prediction, image):
        picture = overlay(image[0], smoothed(heat), normalization="percentile", strength=1.0)
        said = f"Red: what each pixel adds to this {kind}, blue: takes from it (exact, smoothed to be seen)."
        return UnitLook(picture, None, said)
    if isinstance(prediction.network, PrototypeNetwork):
        box = places_of(model, heat[None])[0].box
        said = "Red: how similar, from the least similar place of this image to the most similar, which is framed."
        return UnitLook(heated(image[0], heat, model, strength=1.0), box, f"{said} {field_note(model)}.")
    size = (image.shape[2], image.shape[3])
    field = field_of(prediction.network, heat, size)
    picture = overlay(image[0], placed(heat, size, field), strength=1.0)
    said = f"Red speaks for this {kind}, blue against it; full strength is the map's largest value."
    if not is_bounded(field):
        return UnitLook(picture, None, said)
    box = field.box(*divmod(int(heat.abs().argmax()), heat.shape[1]))
    seen = f"Framed: the {field.size[0]} x {field.size[1]} pixels that the strongest place sees."
    return UnitLook(picture, box, f"{said} {seen}")


def png(picture: Picture) -> bytes:
    """Return a (H, W, 3) picture in [0, 1] as a PNG file."""
    file = io.BytesIO()
    Image.fromarray((255 * picture.clip(0, 1)).round().astype(np.uint8)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def as_address(picture: Picture) -> str:
    """Return a (H, W, 3) picture as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png(picture)).decode()}"


def in_shares(box: Box | None, size: tuple[int, int]) -> list[float] | None:
    """Return (top, left, bottom, right) in pixels as shares of an image of (H, W) pixels, within it; None for None."""
    if box is None:
        return None
    top, left, bottom, right = box
    return [
        max(top, 0) / size[0],
        max(left, 0) / size[1],
        min(bottom, size[0]) / size[0],
        min(right, size[1]) / size[1],
    ]
