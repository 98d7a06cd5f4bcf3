"""Models in float64 are explained in float64."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ibd.explain.lrp import LRP
from tests.explainer_makers import APART, EXPLAINERS, explainer, images


class AtFullSize(nn.Module):
    """Whose maps are as large as the image: nothing is enlarged."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.head = nn.Conv2d(3, 5, 3, padding=1), nn.Linear(5, 4)

    def forward(self, image):
        return self.head(F.relu(self.first(image)).mean((2, 3)))


@pytest.mark.parametrize("row", [row for row in EXPLAINERS if row not in ("intrinsic", *APART)])
def test_a_map_is_as_precise_as_the_model(row):
    found = explainer(row)(AtFullSize().double(), images(2).double(), 0)
    for each in (found.map, found.value, *found.extra.values()):
        assert each.dtype == torch.float64
    assert not torch.equal(found.map, found.map.float().double())


@pytest.mark.parametrize("row", ["gradient_input", "integrated_gradients", "smoothgrad", "lrp"])
def test_also_by_a_layer(row):
    found = (LRP(layer="first") if row == "lrp" else type(explainer(row))(layer="first"))(
        AtFullSize().double(), images(1).double(), 1
    )
    assert found.units.dtype == found.unit_maps.dtype == found.map.dtype == torch.float64
    assert not torch.equal(found.units, found.units.float().double())
