"""Dissection of layers: planted units, a slow loop, and thresholds that need no maps of all images."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import VisionTransformer

from ibd.data.masked import MaskedImages
from ibd.errors import ConfigError, DataError, UnsupportedError
from ibd.explain.dissection.counts import Combinations
from ibd.explain.dissection.dissect import dissect
from ibd.explain.dissection.regions import TopValues
from ibd.metrics.functional.dissection import quantile_thresholds
from ibd.metrics.functional.forms import combinations, form_iou, nearest_form
from ibd.types import DataSpec, Sample
from tests.mask_makers import squares

PLANTED = {"a": (1.0, 0, 0, 0), "a OR b": (1, 1, 0, 0), "a AND NOT b": (1, -1, 0, 0), "b AND c": (0, 1, 1, -1)}


class Planted(nn.Module):
    """A layer of channels that are what is planted, of images that are masks."""

    def __init__(self):
        super().__init__()
        rows = torch.tensor([*PLANTED.values(), (0, 0, 0, -1.0)])
        self.layer = nn.Sequential(nn.Conv2d(3, len(rows), 1), nn.ReLU())
        self.layer[0].weight.data, self.layer[0].bias.data = rows[:, :3, None, None].clone(), rows[:, 3].clone()

    def forward(self, image):
        return self.layer(image).mean((2, 3))


def test_planted_units_are_found_again():
    found = dissect(Planted(), squares(0), squares(1), ["layer"], share=0.4)
    units = found.of_layer("layer")
    assert [unit.form for unit in units[:4]] == list(PLANTED)
    assert [unit.form_iou for unit in units[:4]] == [1.0] * 4  # on images that the form was not searched in
    assert [unit.kind for unit in units] == ["detector", "polysemantic", "narrowed", "narrowed", "silent"]
    assert units[0].concept == "a"
    assert units[0].iou == units[0].fitted_iou == 1.0
    assert all(unit.iou < 0.95 for unit in units[1:4])
    assert all(unit.form_chance < 0.5 for unit in units)
    assert found.histogram("layer")["a"] >= 2
    assert "layer" in str(found)
    assert found.too_large == []  # each square has 36 of 320 pixels
    assert replace(found, share=0.0044).too_large == list("abc")  # 0.0044 / 0.1125 < 0.04


def test_a_unit_of_no_concept_has_what_chance_has():
    class Elsewhere(Planted):
        def forward(self, image):
            return super().forward(image.roll(1, 0))  # each image's map is that of the one before

    found = dissect(Elsewhere(), squares(0, batch_size=24), squares(1, batch_size=24), ["layer"], share=0.4)
    own = found.layers[0]
    assert own.chance[0, 0] == 1.0
    assert own.iou[0, 0] < 0.3
    assert own.detectors_by_chance() == 4


def test_iou_is_that_of_a_slow_loop_in_double_precision():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 80, 2)).double()
    fitted, unseen = squares(2, noise=1.0), squares(3, noise=1.0)
    for images in (fitted, unseen):
        images.dataset.images = images.dataset.images.double()
    found = dissect(model, fitted, unseen, ["1"], share=0.05).layers[0]
    own, masks = unseen.dataset.images, unseen.dataset.masks
    with torch.no_grad():
        fit, maps = model[:2](fitted.dataset.images).numpy(), model[:2](own)
    large = F.interpolate(maps, (16, 20), mode="bilinear", align_corners=False).numpy()
    for u in range(4):
        values = np.sort(fit[:, u].ravel())[::-1]
        threshold = values[int(0.05 * len(values))]
        assert float(found.thresholds[u]) == threshold
        for c in range(3):
            shared = total = other = either = 0
            for n in range(24):
                above, there, before = large[n, u] > threshold, masks[n, c].numpy(), masks[n - 1, c].numpy()
                shared, total = shared + (above & there).sum(), total + (above | there).sum()
                other, either = other + (above & before).sum(), either + (above | before).sum()
            assert float(found.iou[u, c]) == pytest.approx(shared / total, abs=1e-12)
            assert float(found.chance[u, c]) == pytest.approx(other / either, abs=1e-12)


def test_whatever_the_batches():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(320, 2))
    one, other = (
        dissect(model, squares(2, batch_size=size), squares(3, batch_size=size), ["1"], share=0.05) for size in (24, 5)
    )
    assert [unit.form for unit in one.units] == [unit.form for unit in other.units]
    torch.testing.assert_close(one.layers[0].iou, other.layers[0].iou, atol=2e-3, rtol=0)
    assert torch.equal(one.layers[0].images, other.layers[0].images)
    best = model[:2](squares(3).dataset.images).amax((2, 3))
    assert torch.equal(one.layers[0].images[:, 0], best.argmax(0))


@pytest.mark.parametrize("batch", [1, 4, 30])
def test_streamed_thresholds_are_the_quantiles(batch):
    maps = torch.rand(30, 3, 6, 7, generator=torch.Generator().manual_seed(0))
    kept = TopValues(30, 0.07)
    for some in maps.split(batch):
        kept.update(some, "layer")
    assert torch.equal(kept.thresholds(), quantile_thresholds(maps, 0.07))
    assert kept.exact


def test_thresholds_of_drawn_cells_are_near_and_bounded():
    maps = torch.rand(200, 2, 16, 16, generator=torch.Generator().manual_seed(0))
    found = []
    for batch in (200, 9):
        kept = TopValues(200, 0.1, budget=2000)
        for some in maps.split(batch):
            kept.update(some, "layer")
            assert kept._kept.numel() <= 2 * (2000 + 200)
        found.append(kept.thresholds())
    assert torch.equal(*found)
    assert not kept.exact
    above = (maps > found[0].view(-1, 1, 1)).float().mean((0, 2, 3))
    torch.testing.assert_close(above, torch.full((2,), 0.1), atol=0.01, rtol=0)


def test_more_concepts_than_a_word_has_bits():
    masks = torch.rand(2, 70, 5, 5, generator=torch.Generator().manual_seed(0)) < 0.5
    row, held = combinations(masks)
    assert torch.equal(held[row].movedim(-1, 1), masks)
    known = Combinations(70)
    numbers = torch.cat([known.numbers(masks[:1]), known.numbers(masks), known.numbers(masks[1:])])
    assert torch.equal(known.held()[numbers[1:3]].transpose(1, 2), masks.flatten(2))
    assert torch.equal(numbers[[0, 3]], numbers[1:3])


def test_the_nearest_form_is_the_best_of_all_of_two_concepts():
    g = torch.Generator().manual_seed(5)
    masks, unit = torch.rand(4, 4, 8, 8, generator=g) < 0.3, torch.rand(4, 8, 8, generator=g) < 0.2
    row, held = combinations(masks)
    hits, pixels = torch.bincount(row[unit], minlength=len(held)), torch.bincount(row.flatten())
    found = nearest_form(hits, pixels, held, 2, beam=4)
    best = 0.0
    for a in range(4):
        for b in range(4):
            for mask in (masks[:, a] & masks[:, b], masks[:, a] | masks[:, b], masks[:, a] & ~masks[:, b]):
                best = max(best, float((mask & unit).sum() / (mask | unit).sum()))
    assert found.iou == pytest.approx(best)
    assert form_iou(found.holds(held), hits, pixels) == pytest.approx(best)


def test_a_flat_channel_and_one_at_its_ceiling_are_silent():
    class Flat(nn.Sequential):
        def forward(self, image):
            cells = F.max_pool2d(image, 5, 5)  # brought back with weights that are no binary fractions
            flat = [torch.full_like(cells[:, :1], value) for value in (1 / 3, 0.7, 0.1234567)]
            return self[0](torch.cat([*flat, 0.7 * cells], 1)).mean((2, 3))

    found = dissect(Flat(nn.Identity()), squares(0), squares(1), ["0"], share=0.02)
    assert [unit.kind for unit in found.units] == ["silent"] * 6
    assert int(found.layers[0].unseen.hits.sum()) == 0


def test_tokens_of_a_transformer_are_cells():
    torch.manual_seed(0)
    model = VisionTransformer(16, 4, num_layers=1, num_heads=1, hidden_dim=8, mlp_dim=8, num_classes=2).eval()
    layer, images = "encoder.layers.encoder_layer_0", squares(0, size=(16, 16))
    found = dissect(model, images, images, [layer], share=0.1).layers[0]
    tokens = []
    handle = model.get_submodule(layer).register_forward_hook(lambda _, __, output: tokens.append(output))
    with torch.no_grad():
        model(images.dataset.images[list(images.indices)])
    handle.remove()
    maps = tokens[0][:, 1:].transpose(1, 2).reshape(24, 8, 4, 4)
    torch.testing.assert_close(found.thresholds, quantile_thresholds(maps, 0.1), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.peaks[:, 0], maps.amax((0, 2, 3)), atol=1e-5, rtol=0)
    assert bool((found.unseen.hits.sum(1) > 0).all())


def test_what_cannot_be_dissected_is_said():
    model = Planted()
    with pytest.raises(UnsupportedError, match="no part masks"):
        MaskedImages([Sample(torch.rand(3, 4, 4), 0, torch.zeros(0), 0)], DataSpec(("x",)), (0,))
    with pytest.raises(ConfigError, match="no layer 'nothing'"):
        dissect(model, squares(), squares(), ["nothing"])
    with pytest.raises(ConfigError, match="share: 2"):
        dissect(model, squares(), squares(), ["layer"], share=2)
    model.layer[0].bias.data[0] = torch.nan
    with pytest.raises(DataError, match="'layer' puts out values that are not finite"):
        dissect(model, squares(), squares(), ["layer"])
