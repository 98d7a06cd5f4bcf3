"""Dissection: sums over the data set, and forms that are found again."""

import numpy as np
import pytest
import torch

from ibd.errors import ConfigError
from ibd.metrics.functional import dissection as dis
from ibd.metrics.functional.forms import compositional_form


def case(images=6, units=3, concepts=4, size=(8, 9), seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(images, units, *size, generator=g), torch.rand(images, concepts, *size, generator=g) < 0.3


@pytest.mark.parametrize("share", [0.005, 0.1, 0.37])
def test_thresholds_leave_their_share_above(share):
    maps, _ = case()
    found = dis.quantile_thresholds(maps, share)
    above = (maps > found.view(-1, 1, 1)).sum((0, 2, 3))
    assert above.tolist() == [int(share * 6 * 72)] * 3
    maps[0, 1, 0, 0] = torch.nan
    assert dis.quantile_thresholds(maps, share).isnan().tolist() == [False, True, False]
    assert (dis.quantile_thresholds(torch.ones(2, 1, 3, 3)) == 1).all()  # nothing is above
    with pytest.raises(ConfigError, match="share in"):
        dis.quantile_thresholds(maps, 1.0)


def test_iou_is_one_of_sums():
    maps, masks = case()
    masks[0, 1] = False
    thresholds = torch.tensor([0.5, 1.0, 99.0])
    counts = [dis.dissection_counts(maps[i], thresholds, masks[i]) for i in (slice(0, 2), slice(2, 6))]
    shared, units, concepts = (torch.cat(each).sum(0) for each in zip(*counts, strict=True))
    found = dis.dissection_iou(shared, units, concepts)
    for u in range(3):
        for c in range(4):
            above, there = (maps[:, u] > thresholds[u]).numpy(), masks[:, c].numpy()
            assert found[u, c].item() == pytest.approx((above & there).sum() / (above | there).sum())
    assert dis.dissection_iou(torch.zeros(1, 1), torch.zeros(1), torch.zeros(1)).isnan().all()


def test_detectors():
    iou = torch.tensor([[0.01, 0.2, 0.1], [0.3, 0.2, torch.nan], [0.5, 0.0, 0.0], [0.03, 0.02, 0.01]]).double()
    found = dis.detectors(iou)
    assert found.concept.tolist() == [1, 0, 0, -1]
    assert found.unique == 2
    assert found.iou.tolist() == [0.2, 0.3, 0.5, 0.03] or np.allclose(found.iou, [0.2, 0.3, 0.5, 0.03])
    weighted = dis.weighted_iou(iou[1], torch.tensor([3.0, 1, 5]))
    assert weighted.item() == pytest.approx((3 * 0.3 + 0.2) / 4)
    assert dis.weighted_iou(iou, torch.zeros(3)).isnan().all()


NAMES = ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("make", "length", "text"),
    [
        (lambda m: m[:, 2], 3, "c"),
        (lambda m: m[:, 0] & m[:, 3], 2, "a AND d"),
        (lambda m: m[:, 0] | m[:, 3], 2, "a OR d"),
        (lambda m: m[:, 1] & ~m[:, 3], 2, "b AND NOT d"),
        (lambda m: (m[:, 1] | m[:, 2]) & ~m[:, 0], 3, "(b OR c) AND NOT a"),
    ],
)
def test_forms_are_found_again(make, length, text):
    _, masks = case(seed=2)
    found = compositional_form(make(masks), masks, length)
    assert found.describe(NAMES) == text
    assert found.iou == 1.0


def test_a_beam_of_one_takes_the_best_step():
    _, masks = case(seed=4)
    unit = masks[:, 0] | masks[:, 1] & ~masks[:, 2]
    found = compositional_form(unit, masks, 2, beam=1)
    best = max(
        ((mask & unit).sum() / (mask | unit).sum()).item()
        for c in range(4)
        for mask in (masks[:, 0] & masks[:, c], masks[:, 0] | masks[:, c], masks[:, 0] & ~masks[:, c])
    )
    assert found.first == 0
    assert found.iou == pytest.approx(best)


def test_longer_forms_are_never_worse_and_the_figure_is_theirs():
    maps, masks = case(seed=3)
    unit = maps[:, 0] > 0.7
    forms = [compositional_form(unit, masks, length) for length in (1, 2, 3, 5)]
    assert [form.iou for form in forms] == sorted(form.iou for form in forms)
    assert forms[-1].iou > forms[0].iou
    mask = masks[:, forms[-1].first]
    for word, concept in forms[-1].rest:
        new = masks[:, concept]
        mask = {"AND": mask & new, "OR": mask | new, "AND NOT": mask & ~new}[word]
    assert forms[-1].iou == pytest.approx(((mask & unit).sum() / (mask | unit).sum()).item())
    counts = dis.dissection_counts(maps[:, :1], torch.tensor([0.7]), masks)
    assert forms[0].iou == pytest.approx(dis.dissection_iou(*(each.sum(0) for each in counts)).max().item())
    with pytest.raises(ConfigError, match="0 concepts"):
        compositional_form(unit, masks[:, :0])
    assert compositional_form(unit & False, masks).iou == 0.0
