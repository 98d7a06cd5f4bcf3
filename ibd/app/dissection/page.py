"""The page of a dissection: what layers detect, a card of each channel that is drawn, and a table of all."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import torch
from matplotlib.figure import Figure

from ibd.comparison.report.environment import page_environment
from ibd.comparison.report.pictures import data_uri, outlined
from ibd.explain.dissection.figures import histogram_figure, net2vec_figure
from ibd.explain.dissection.found import Dissection, Unit
from ibd.explain.dissection.net2vec import ConceptWeights
from ibd.explain.dissection.pictures import Shown
from ibd.metrics.functional.dissection import DETECTS


@dataclass(frozen=True)
class Sheet:
    """A channel with the images in which it is highest."""

    unit: Unit
    images: Sequence[Shown]

    @property
    def pictures(self) -> list[tuple[str, str]]:
        """Addresses of the pictures, and what each shows."""
        return [(_picture(shown), shown.name) for shown in self.images]


def render(found: Dissection, sheets: Sequence[Sheet], weights: Sequence[ConceptWeights]) -> str:
    """Return the page as HTML; it holds its pictures, and needs no other file."""
    environment = page_environment("ibd.app.dissection", number=lambda value: "-" if value != value else f"{value:.3f}")
    return environment.get_template("index.html.j2").render(
        style=files("ibd.app.discovery").joinpath("templates", "style.css").read_text(encoding="utf-8"),
        found=found,
        detects=DETECTS,
        kinds={layer.layer: Counter(unit.kind for unit in found.of_layer(layer.layer)) for layer in found.layers},
        histogram=_figure(histogram_figure(found)),
        weights=[(each, _figure(net2vec_figure(each))) for each in weights],
        sheets={layer.layer: [s for s in sheets if s.unit.layer == layer.layer] for layer in found.layers},
    )


def _picture(shown: Shown) -> str:
    """Return an image, what is annotated outlined in blue, the channel's region in orange, and the rest darker."""
    pixels = shown.image.permute(1, 2, 0).float().numpy()
    dimmed = pixels * np.where(shown.region.numpy()[..., None], np.float32(1), np.float32(0.5))
    return data_uri(outlined(dimmed, torch.stack([shown.annotated, shown.region]).numpy()))


def _figure(figure: Figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")
