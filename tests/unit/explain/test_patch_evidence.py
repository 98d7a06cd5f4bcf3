"""Where a cell sees a patch, what a model says of an image is a sum over patches: each number of it by hand."""

import pytest
import torch

from ibd.backbones import build_backbone
from ibd.explain.intrinsic import Intrinsic
from ibd.explain.targets import Target
from ibd.models.baseline.network import BaselineNetwork
from ibd.models.cbm.network import ConceptBottleneckNetwork
from tests.model_makers import SPEC

SIZE = (43, 50)
BACKBONES = {
    "bagnet9": {"name": "bagnet9", "width": 4, "blocks": [1, 1, 1, 1]},
    "small_cnn": {"name": "small_cnn", "width": 4, "depth": 4, "field": 15},
}
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4}


def make(model, backbone, dtype):
    """Return a network with large random weights, images, and the last features' (D, h, w) map of each."""
    torch.manual_seed(0)
    trunk = build_backbone(BACKBONES[backbone])
    classes = SPEC.class_names
    network = (
        BaselineNetwork(trunk, classes) if model == "baseline" else ConceptBottleneckNetwork(trunk, SPEC, "logits")
    )
    network = network.to(dtype).eval()
    for name, weight in network.named_parameters():
        if not name.startswith("backbone."):
            torch.nn.init.normal_(weight)
    image = torch.rand(2, 3, *SIZE, dtype=dtype)
    return network, image


def cells_by_hand(network, image, label):
    """Return what each cell adds to a logit, (B, h, w): weights times features, over the number of cells."""
    with torch.no_grad():
        maps = network.backbone(image)
        if isinstance(network, ConceptBottleneckNetwork):
            weight, bias = network.concepts.weight[:, :, 0, 0], network.concepts.bias
            maps = torch.einsum("kd,bdhw->bkhw", weight, maps) + bias.view(-1, 1, 1)
        return torch.einsum("u,buhw->bhw", network.head.weight[label], maps) / (maps.shape[2] * maps.shape[3])


def patch(backbone, row, column):
    """Return the rows and columns of an image that a cell sees: 9 pixels from 8i on, or 15 around 8i."""
    if backbone == "bagnet9":
        return slice(8 * row, 8 * row + 9), slice(8 * column, 8 * column + 9)
    return slice(max(0, 8 * row - 7), 8 * row + 8), slice(max(0, 8 * column - 7), 8 * column + 8)


cases = pytest.mark.parametrize(
    ("model", "backbone", "dtype"),
    [
        (model, backbone, dtype)
        for model in ("baseline", "cbm")
        for backbone in BACKBONES
        for dtype in (torch.float64, torch.float32)
    ],
)


@cases
def test_the_logit_is_a_sum_over_patches(model, backbone, dtype):
    network, image = make(model, backbone, dtype)
    wanted, most = cells_by_hand(network, image, 1), TOLERANCE[dtype]
    with torch.no_grad():
        logits, units = network(image)
        found = torch.einsum("bu,buhw->bhw", network.contributions(units)[..., 1], network.shares(units))
    torch.testing.assert_close(found, wanted, rtol=most, atol=most)
    torch.testing.assert_close(wanted.sum((1, 2)) + network.head.bias[1], logits[:, 1], rtol=most, atol=most)
    for painting in ("pooling", "receptive_field"):
        heat = Intrinsic(painting)(network, image, Target.classes([0, 1])).map
        torch.testing.assert_close(heat.sum((2, 3)), logits[:, :2] - network.head.bias[:2], rtol=most, atol=most)


@cases
def test_the_evidence_of_a_cell_lies_evenly_over_its_patch_and_nowhere_else(model, backbone, dtype):
    network, image = make(model, backbone, dtype)
    cells = cells_by_hand(network, image, 2)
    wanted = torch.zeros(2, *SIZE, dtype=dtype)
    for row in range(cells.shape[1]):
        for column in range(cells.shape[2]):
            rows, columns = patch(backbone, row, column)
            pixels = wanted[:, rows, columns]
            pixels += cells[:, row, column].view(-1, 1, 1) / pixels[0].numel()
    heat = Intrinsic("receptive_field")(network, image, 2).map
    torch.testing.assert_close(heat, wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    if backbone == "bagnet9":  # 43 = 8 * 4 + 9 + 2 pixels, and 50 = 8 * 5 + 9 + 1
        assert float(heat[:, 41:].abs().max()) == 0
        assert float(heat[:, :, 49:].abs().max()) == 0


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("model", ["baseline", "cbm"])
def test_another_image_around_its_patch_leaves_the_evidence_of_a_cell(model, backbone):
    network, image = make(model, backbone, torch.float64)
    rows, columns = patch(backbone, 2, 3)
    other = torch.rand_like(image)
    other[:, :, rows, columns] = image[:, :, rows, columns]

    def evidence(picture):
        with torch.no_grad():
            units = network.encode(picture)
            return torch.einsum("bu,buhw->bhw", network.contributions(units)[..., 0], network.shares(units))

    before, after = evidence(image), evidence(other)
    torch.testing.assert_close(after[:, 2, 3], before[:, 2, 3], rtol=1e-9, atol=1e-12)
    assert bool(((after - before).abs().flatten(1) > 1e-6).sum(1).min() >= 10)
