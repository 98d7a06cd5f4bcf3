"""An explanation times a positive number has the same scores, but for those that are about its very unit."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ibd.comparison.groups import GROUPS, METRICS
from ibd.comparison.probes.network import Predictor
from ibd.comparison.probes.pasted import Pasted
from ibd.comparison.probes.pixels import CELLS, PixelProbe
from ibd.comparison.probes.robustness import matched, noisy, translated
from ibd.explain.gradients import GradientTimesInput
from ibd.explain.targets import Target
from ibd.metrics.functional.agreement import map_spearman, ssim, top_k_iou
from ibd.metrics.functional.dissection import dissection_counts, quantile_thresholds
from tests.unit.comparison.probes.makers import Convolutions

COUNT, SIZE, PARTS = 6, 16, 3
SCALES = (1e-30, 1e-6, 3.0, 1e6, 1e30)
"""Squares of the first and the last are 0 and infinite in float32, which maps come in."""
MAPS = [each for each in METRICS.values() if "map" in each.needs.split() or each.name in GROUPS["parts"].names]


class Scaled:
    """Gradient times input, in other numbers."""

    name, kind = "scaled", "posthoc"

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, model, image, target):
        found = GradientTimesInput()(model, image, target)
        return SimpleNamespace(map=self.scale * found.map, value=found.value)


@pytest.fixture(scope="module")
def case():
    """Return what the measures read of a small network and images with three parts."""
    g = torch.Generator().manual_seed(0)
    images, model = torch.rand(COUNT, 3, SIZE, SIZE, generator=g), Convolutions()
    masks = torch.zeros(COUNT, PARTS, SIZE, SIZE, dtype=torch.bool)
    masks[:, 0, 1:4, 2:8] = masks[:, 1, 8:13, 1:6] = masks[:, 2, 5:9, 10:14] = True
    predictor = Predictor(model, images)
    classes = predictor.predicted(images)
    table = torch.randn(COUNT, 2**PARTS, generator=g, dtype=torch.float64)
    kept = torch.rand(COUNT, 2**PARTS, generator=g) < 0.6
    kept[:, -1], kept[:, 0] = True, False
    chosen = SimpleNamespace(pixels=images, masks=masks, ids=list(range(COUNT)))
    chosen.first = lambda count: chosen
    chosen.drawings = SimpleNamespace(masks=masks)
    model.class_names = ["a", "b", "c"]
    other = Convolutions()
    pasted = Pasted(
        model, other, images, images.roll(3, 3), images.flip(3), masks[:, 1], classes, classes.flip(0),
        *[torch.ones(COUNT, dtype=torch.bool)] * 3,
    )  # fmt: skip
    changed = [matched(predictor, images, classes, each) for each in (noisy(images, chosen.ids), translated(images))]
    return SimpleNamespace(
        images=chosen, truth=masks[:, :2].any(1), parts=table, kept=kept, predictor=predictor, classes=classes,
        pixels=PixelProbe(predictor, images, classes), model=SimpleNamespace(module=model), changed=tuple(changed),
        probe_images=COUNT, stages=2, seed=0, unit_parts=None, pasted=pasted,
        object_values=torch.randn(COUNT, PARTS, generator=g, dtype=torch.float64),
        cell_values=torch.randn(COUNT, CELLS * CELLS, generator=g, dtype=torch.float64),
    )  # fmt: skip


def measured(case, scale):
    """Return name -> values of every metric that reads a map."""
    explainer = Scaled(scale)
    found = explainer(case.model.module, case.images.pixels, Target.cls(case.classes))
    others = torch.randn(COUNT, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    attributions = SimpleNamespace(maps=found.map, value=found.value, units=None)
    method = SimpleNamespace(name="scaled", explainer=explainer)
    asked = SimpleNamespace(
        case=case,
        method=method,
        attributions=attributions,
        maps=found.map,
        validation=(found.map.flip(0), case.truth.flip(0)),
    )
    arrays = {}
    for group in ("parts", "objects", "pixels", "road", "localization", "robustness", "properties", "bim"):
        results = GROUPS[group].measure(asked)
        arrays |= results.scores | {f"curve {name}": curve.values for name, curve in results.curves.items()}
    sane = GROUPS["sanity"].measure(asked).sanity
    arrays |= {f"agreement_{n}": f(found.map, others) for n, f in
               (("spearman", map_spearman), ("top", top_k_iou), ("ssim", ssim))}  # fmt: skip
    arrays["energy_share"] = arrays["curve energy"]
    arrays["randomization"] = np.array([*sane.values.values(), sane.band])
    return arrays


@pytest.fixture(scope="module")
def scores(case):
    return {scale: measured(case, scale) for scale in (1.0, *SCALES)}


@pytest.mark.parametrize("entry", MAPS, ids=lambda entry: entry.name)
def test_a_multiple_of_a_map_scores_the_same(scores, entry):
    whole = np.asarray(scores[1.0][entry.name], dtype=float)
    assert np.isfinite(whole).any()
    same = [np.allclose(scores[c][entry.name], whole, rtol=1e-4, atol=1e-6, equal_nan=True) for c in SCALES]
    assert all(same) if entry.scale_free else not any(same), same


def test_only_sums_are_about_their_unit():
    assert [each.name for each in METRICS.values() if not each.scale_free] == ["conservation", "unit_completeness"]


def test_units_are_cut_where_their_own_values_say():
    maps = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    masks = maps[:, :2] > 0.5
    counts = dissection_counts(maps, quantile_thresholds(maps, 0.1), masks)
    for scale in SCALES:
        found = dissection_counts(scale * maps, quantile_thresholds(scale * maps, 0.1), masks)
        assert all(torch.equal(one, other) for one, other in zip(found, counts, strict=True))
